"""What a program and what a person is told where the proxy answers by itself, and that it does so only then."""

import http.client
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from tests.nginx.conftest import SITE, NginxWith
from tests.nginx.nginx_under_test import Answer, NginxUnderTest, answer_of, send_head
from tests.support.echo_backend import EchoBackend

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
JSON = "application/json"
TRIES = 2
CONNECTIONS = 10

PROGRAMS = {
    "the API": ("/api/break", "*/*"),
    "the API, by a browser": ("/api/break", BROWSER),
    "Ollama": ("/ollama/break", "*/*"),
    "OpenAI": ("/openai/break", "*/*"),
    "accepts JSON": ("/break", JSON),
    "accepts JSON or anything": ("/oauth/break", f"{JSON}, text/plain, */*"),
    "an API's error by its path, however it is written": ("//api/%62reak", "*/*"),
}
PERSONS = {
    "a page": ("/c/break", BROWSER),
    "a page by a client that says nothing": ("/break", ""),
    "a page by curl": ("/break", "*/*"),
    "a page in favour of JSON": ("/break", f"text/html, {JSON};q=0.9"),
    "a file": ("/static/break", "image/webp,*/*"),
    "something like the API": ("/apis/break", "*/*"),
}


@pytest.mark.parametrize(("path", "accept"), PROGRAMS.values(), ids=PROGRAMS)
def test_program_is_told_in_json_that_the_application_broke_off(nginx: NginxUnderTest, path: str, accept: str) -> None:
    answer = nginx.ask(path, headers=[("Accept", accept)])
    assert answer.status == 503
    assert "does not answer" in answer.json()["detail"]
    assert_comes_back(answer, after="5")


@pytest.mark.parametrize(("path", "accept"), PERSONS.values(), ids=PERSONS)
def test_person_is_told_on_a_page_that_the_application_broke_off(nginx: NginxUnderTest, path: str, accept: str) -> None:
    answer = nginx.ask(path, headers=[("Accept", accept)])
    assert answer.status == 503
    assert_page(answer, "One moment", refreshed=True)
    assert_comes_back(answer, after="5")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("path", ["/api/break", "/break"])
def test_what_may_change_something_is_never_sent_twice(
    nginx: NginxUnderTest, backend: EchoBackend, path: str, method: str
) -> None:
    # Over a kept connection too, where Nginx would ask again with any other method.
    assert nginx.ask("/headers").status == 200
    assert nginx.ask(path, method=method, body=b"{}").status == 503
    assert backend.requests == ["GET /headers", f"{method} {path}"]


@pytest.mark.parametrize("path", ["/api/half", "/half"])
def test_answer_that_broke_off_is_not_passed_off_as_whole(nginx: NginxUnderTest, path: str) -> None:
    with pytest.raises(http.client.IncompleteRead) as broken:
        nginx.ask(path)
    assert broken.value.partial == b"hello"


@pytest.mark.parametrize("accept", [BROWSER, JSON])
@pytest.mark.parametrize(
    "path", ["/", "/api/", "/ollama/", "/openai/", "/oauth/", "/cache/", "/api/v1/terminals/", "/kept/"]
)
def test_application_s_own_errors_pass_as_they_are(limited: NginxUnderTest, path: str, accept: str) -> None:
    for status in (400, 401, 403, 404, 413, 429, 500, 502, 503, 504):
        answer = limited.ask(f"{path}status/{status}", headers=[("Accept", accept)])
        assert (answer.status, answer.body, answer.header("X-Own")) == (status, b"the backend's own words", "yes")
        assert answer.header("Retry-After") is None


@pytest.mark.parametrize(
    ("path", "accept"), [("/upload", BROWSER), ("/c/upload", "*/*"), ("/oauth/upload", f"text/html, {JSON}")]
)
def test_person_is_told_on_a_page_what_is_too_large(
    nginx: NginxUnderTest, backend: EchoBackend, path: str, accept: str
) -> None:
    with nginx.exchange() as client:
        headers = [("Host", nginx.domain), ("Accept", accept)]
        send_head(client, "POST", path, headers, length=(1 << 20) + 1)
        answer = answer_of(client.getresponse())
    assert answer.status == 413
    assert_page(answer, "Too large", refreshed=False)
    assert answer.header("Retry-After") is None
    assert backend.requests == []


@pytest.fixture(scope="module")
def limiting(nginx_with: NginxWith, shared_backend: EchoBackend) -> NginxUnderTest:
    """Nginx with low limits, and another service."""
    limits = {"sign_in": {"per_minute": 1, "burst": TRIES}, "connections_per_client": CONNECTIONS}
    here = f"http://{shared_backend.address}:{shared_backend.port}"
    return nginx_with(site=SITE, proxy={"limits": limits, "locations": {"/kept/": {"url": here}}})


@pytest.fixture
def limited(limiting: NginxUnderTest, backend: EchoBackend) -> NginxUnderTest:
    del backend
    return limiting


def test_who_comes_too_often_is_told_when_to_come_back(limited: NginxUnderTest, backend: EchoBackend) -> None:
    tried = [limited.ask("/api/v1/auths/signin", method="POST", body=b"{}") for _ in range(TRIES + 2)]
    assert [answer.status for answer in tried] == [200] * (TRIES + 1) + [429]
    refused = tried[-1]
    assert "Too many requests" in refused.json()["detail"]
    assert_comes_back(refused, after="60")
    assert len(backend.requests) == TRIES + 1


@pytest.mark.parametrize(("path", "accept"), [("/api/slow", BROWSER), ("/slow", JSON), ("/slow", BROWSER)])
def test_who_has_too_many_connections_is_told_so(
    limited: NginxUnderTest, backend: EchoBackend, path: str, accept: str
) -> None:
    headers = [("Host", limited.domain), ("Accept", accept)]
    with ExitStack() as open_:
        for number in range(1, CONNECTIONS + 1):
            client = open_.enter_context(limited.exchange())
            send_head(client, "GET", "/api/slow", headers)
            backend.wait_for_requests(number)
        answer = limited.ask(path, headers=headers[1:])
        assert answer.status == 429
        if path == "/slow" and accept == BROWSER:
            assert_page(answer, "Too many requests", refreshed=True)
        else:
            assert "Too many requests" in answer.json()["detail"]
        assert len(backend.requests) == CONNECTIONS
    backend.wait_for("gone")


@pytest.fixture(scope="module")
def maintained(nginx_with: NginxWith) -> NginxUnderTest:
    """Nginx while This site is being worked on."""
    return nginx_with(site=SITE, proxy={"maintenance": True})


@pytest.fixture
def maintenance(maintained: NginxUnderTest, backend: EchoBackend) -> NginxUnderTest:
    del backend
    return maintained


ANYTHING: dict[str, tuple[str, str, Sequence[tuple[str, str]]]] = {
    "a page": ("GET", "/c/42", []),
    "a file": ("GET", "/static/a.png", []),
    "a hashed file": ("GET", "/_app/immutable/a.js", []),
    "the API": ("POST", "/api/chat/completions", []),
    "health": ("GET", "/health", []),
    "a sign-in": ("POST", "/api/v1/auths/signin", []),
    "an upload": ("POST", "/api/v1/files/", [("Content-Length", str(10 << 30))]),
    "a preflight": (
        "OPTIONS",
        "/api/x",
        [("Origin", "https://localhost:8443"), ("Access-Control-Request-Method", "GET")],
    ),
    "a socket": ("GET", "/ws/socket.io/", [("Upgrade", "websocket"), ("Connection", "Upgrade")]),
}


@pytest.mark.parametrize(("method", "path", "headers"), ANYTHING.values(), ids=ANYTHING)
def test_everything_is_answered_by_the_page_during_maintenance(
    maintenance: NginxUnderTest, backend: EchoBackend, method: str, path: str, headers: Sequence[tuple[str, str]]
) -> None:
    with maintenance.exchange() as client:
        send_head(client, method, path, [("Host", maintenance.domain), ("Accept", BROWSER), *headers])
        answer = answer_of(client.getresponse())
    assert answer.status == 503
    assert_comes_back(answer, after="30")
    if path.startswith(("/api/", "/ws/")):
        assert "being worked on" in answer.json()["detail"]
    else:
        assert_page(answer, "Back soon", refreshed=True)
    assert backend.requests == []


def test_names_are_still_told_apart_during_maintenance(maintenance: NginxUnderTest) -> None:
    assert maintenance.ask("/", host="evil.example.com").status == 421
    assert maintenance.ask("/x", host="chat.example.com").header("Location") == "https://localhost:8443/x"
    assert maintenance.ask("/x", scheme="http").status == 308


def assert_page(answer: Answer, heading: str, *, refreshed: bool) -> None:
    """A page for people, in one piece, that needs nothing else."""
    assert answer.header("Content-Type") == "text/html"
    assert answer.body.startswith(b"<!doctype html>")
    assert f"<h1>{heading}</h1>".encode() in answer.body
    assert (b'http-equiv="refresh"' in answer.body) == refreshed
    assert b"src=" not in answer.body
    assert answer.header("Cache-Control") == "no-store"
    assert answer.header("Content-Security-Policy") is not None


def assert_comes_back(answer: Answer, *, after: str) -> None:
    """A refused client learns when to retry, and no cache stores the refusal."""
    assert answer.header("Retry-After") == after
    assert answer.header("Cache-Control") == "no-store"
