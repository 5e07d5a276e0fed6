"""What the application is told about a client, and what a client is told about the application."""

import pytest

from open_webui_edge.components.reverse_proxy.headers import KNOWN_STRIPPED_HEADERS
from tests.nginx.conftest import Workshop
from tests.nginx.nginx_under_test import NginxUnderTest
from tests.support.echo_backend import EchoBackend, arrived

LOCATIONS = ["/", "/api/", "/api/v1/terminals/", "/ollama/", "/openai/", "/oauth/", "/static/", "/_app/"]
FORGED = [
    ("X-Forwarded-For", "6.6.6.6"),
    ("x-forwarded-for", "7.7.7.7, 8.8.8.8"),
    ("X-Real-IP", "6.6.6.6"),
    ("X-Forwarded-Proto", "http"),
    ("X-Forwarded-Host", "evil.example.com"),
    ("X-Forwarded-Port", "1"),
    ("Forwarded", "for=6.6.6.6;host=evil.example.com;proto=http"),
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_forged_forwarded_headers_are_overwritten(
    nginx: NginxUnderTest, shared_workshop: Workshop, location: str
) -> None:
    received = arrived(nginx.ask(f"{location}headers", headers=FORGED, host="localhost:1").body)
    assert {name: received.get(name) for name in received if name in {key.lower() for key, _ in FORGED} | {"host"}} == {
        "host": ["localhost:8443"],
        # The engine's network shows published connections under the address of its gateway.
        "x-forwarded-for": [shared_workshop.gateway],
        "x-real-ip": [shared_workshop.gateway],
        "x-forwarded-proto": ["https"],
        "x-forwarded-host": ["localhost:8443"],
        "x-forwarded-port": ["8443"],
    }


@pytest.mark.parametrize("location", LOCATIONS)
def test_identity_that_a_client_claims_never_arrives(nginx: NginxUnderTest, location: str) -> None:
    claims = [(written, "admin@example.com") for name in KNOWN_STRIPPED_HEADERS for written in (name, name.lower())]
    received = arrived(nginx.ask(f"{location}headers", headers=claims).body)
    assert set(received) & {name.lower() for name in KNOWN_STRIPPED_HEADERS} == set()


def test_identity_in_a_name_with_underscores_never_arrives(nginx: NginxUnderTest) -> None:
    claims = [("X_Forwarded_Email", "admin@example.com"), ("Remote_User", "admin")]
    received = arrived(nginx.ask("/api/headers", headers=claims).body)
    assert not [name for name in received if "_" in name or name in {"x-forwarded-email", "remote-user"}]


def test_what_a_client_may_say_arrives_unchanged(nginx: NginxUnderTest) -> None:
    said = [("Authorization", "Bearer x"), ("Cookie", "token=y"), ("Accept-Encoding", "br"), ("Origin", "https://a.b")]
    received = arrived(nginx.ask("/api/headers?q=%2F&r=a+b", headers=said).body)
    assert {name: received[name.lower()] for name, _ in said} == {name: [value] for name, value in said}


def test_path_and_query_arrive_as_they_were_written(nginx: NginxUnderTest) -> None:
    path = "/api/v1/files/%C3%BC%2F%2e/a%20b/headers?q=%2F&r=a+b&s=%00"
    assert f'"path": "{path}"' in nginx.ask(path).body.decode()


def test_connections_to_the_application_are_kept(nginx: NginxUnderTest) -> None:
    received = arrived(nginx.ask("/api/headers", headers=[("Connection", "close, X-Real-IP"), ("TE", "trailers")]).body)
    assert "connection" not in received
    assert "upgrade" not in received
    assert '"version": "1.1"' in nginx.ask("/api/headers").body.decode()


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("what", ["headers", "status/404", "status/500", "status/503"])
def test_each_header_of_an_answer_comes_once_and_tells_no_version(
    nginx: NginxUnderTest, location: str, what: str
) -> None:
    answer = nginx.ask(f"{location}{what}")
    names = [name.lower() for name, _ in answer.headers]
    assert sorted(names) == sorted(set(names))
    assert answer.header("Server") == "nginx"
    assert "x-process-time" not in names


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 500, 502, 503, 504])
def test_errors_of_the_application_pass_as_they_are(nginx: NginxUnderTest, status: int) -> None:
    answer = nginx.ask(f"/api/status/{status}")
    assert (answer.status, answer.body) == (status, b"the backend's own words")
    assert answer.header("X-Own") == "yes"


@pytest.mark.parametrize("header", ["X-Accel-Redirect:/static/text", "X-Accel-Limit-Rate:1", "X-Accel-Charset:koi8-r"])
def test_answer_cannot_steer_nginx(nginx: NginxUnderTest, backend: EchoBackend, header: str) -> None:
    answer = nginx.ask(f"/api/text?type=text/plain&size=5&header={header}")
    assert (answer.status, answer.body) == (200, b"xxxxx")
    assert answer.header("Content-Type") == "text/plain"
    assert backend.requests == ["GET /api/text"]


@pytest.mark.parametrize(
    ("type_", "size", "encoding", "compressed"),
    [
        ("application/json", 5000, "", True),
        ("text/html", 5000, "", True),
        ("text/css", 5000, "", True),
        ("application/json", 500, "", False),
        ("image/png", 5000, "", False),
        ("text/event-stream", 5000, "", False),
        ("application/x-ndjson", 5000, "", False),
        ("text/plain", 5000, "", False),
        ("application/json", 5000, "br", False),
    ],
)
def test_only_what_the_application_left_uncompressed_is_compressed(
    nginx: NginxUnderTest, type_: str, size: int, encoding: str, *, compressed: bool
) -> None:
    path = f"/api/text?type={type_}&size={size}" + (f"&encoding={encoding}" if encoding else "")
    answer = nginx.ask(path, headers=[("Accept-Encoding", "gzip")])
    assert answer.header("Content-Encoding") == ("gzip" if compressed else encoding or None)
    assert (len(answer.body) < size) == compressed


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_methods_that_only_an_attacker_sends_are_refused(
    nginx: NginxUnderTest, backend: EchoBackend, method: str
) -> None:
    assert nginx.ask("/api/headers", method=method).status in {400, 405}
    assert backend.requests == []


def test_logs_hold_no_secret_of_a_client(nginx: NginxUnderTest) -> None:
    secret = "hunter22"
    headers = [
        ("Authorization", f"Bearer {secret}"),
        ("Cookie", f"token={secret}"),
        ("Referer", f"https://a/?t={secret}"),
    ]
    answer = nginx.ask(f"/api/headers?token={secret}", headers=headers)
    assert nginx.line_about(answer)["path"] == "/api/headers"
    assert secret not in nginx.access_log()
    assert secret not in nginx.error_log()
