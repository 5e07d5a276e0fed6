"""Security headers: each exactly once on every response, whatever its source."""

import pytest
from aiohttp import web
from multidict import CIMultiDict

from open_webui_edge.components.reverse_proxy.headers import STRIPPED_RESPONSE_HEADERS
from tests.nginx.conftest import Variants
from tests.nginx.frontend_file import FrontendFile
from tests.nginx.nginx_under_test import Answer, NginxUnderTest, answer_of, send_head
from tests.support.echo_backend import EchoBackend

HSTS = "max-age=31536000"
PROXY = {
    "headers": {"hsts": {"enabled": True}},
    "limits": {"max_upload": "1MiB", "sign_in": {"per_minute": 1, "burst": 1}},
}
SECURITY = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "Permissions-Policy": (
        "camera=(self), display-capture=(self), geolocation=(self), microphone=(self), payment=(), usb=()"
    ),
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}


@pytest.fixture
def strict(variants: Variants, backend: EchoBackend) -> NginxUnderTest:
    """Nginx with all of them, before a backend that says each header that the proxy owns, twice."""
    nginx = variants.of(proxy=PROXY)
    backend.otherwise = contradicts
    return nginx


async def contradicts(request: web.Request) -> web.StreamResponse:
    await request.read()
    headers = CIMultiDict((name, "the application's own") for name in STRIPPED_RESPONSE_HEADERS for _ in range(2))
    headers.add("Server", "uvicorn/0.30")
    folder, _, name = request.path.rpartition("/")
    status = int(name) if folder.endswith("/status") else 200
    return web.Response(status=status, headers=headers, body=b"" if status in {204, 304} else b"body")


def assert_security_headers_once(answer: Answer, *, encrypted: bool = True) -> None:
    expected = {**SECURITY, **({"Strict-Transport-Security": HSTS} if encrypted else {})}
    assert {name: answer.all(name) for name in expected} == {name: [value] for name, value in expected.items()}
    assert len(answer.all("X-Request-ID")) == 1
    assert answer.all("Server") == ["nginx"]
    if not encrypted:
        assert answer.all("Strict-Transport-Security") == []
    # How long it lasts the application may say, once.
    assert len(answer.all("Cache-Control")) <= 1
    rest = [f"{name}: {value}" for name, value in answer.headers if name.lower() != "cache-control"]
    text = "\n".join([*rest, answer.body.decode(errors="replace")])
    assert "the application's own" not in text
    assert "nginx/" not in text
    assert "uvicorn" not in text


OF_THE_APPLICATION = [200, 201, 204, 206, 301, 302, 304, 400, 401, 403, 404, 405, 413, 418, 429, 500, 502, 503, 504]


@pytest.mark.parametrize("status", OF_THE_APPLICATION)
def test_each_comes_once_with_whatever_the_application_answers(strict: NginxUnderTest, status: int) -> None:
    for location in ("/", "/api/", "/static/", "/oauth/", "/cache/", "/api/v1/terminals/"):
        answer = strict.ask(f"{location}status/{status}")
        assert answer.status == status
        assert_security_headers_once(answer)


ASKED = {
    "206 of what is kept": (206, "GET", "/_app/immutable/part.js", [("Range", "bytes=0-1")]),
    "304 of what is kept": (304, "GET", "/_app/immutable/part.js", [("If-None-Match", "*")]),
    "416": (416, "GET", "/_app/immutable/part.js", [("Range", "bytes=999-")]),
    "204 to a question beforehand": (
        204,
        "OPTIONS",
        "/api/x",
        [("Origin", "https://localhost:8443"), ("Access-Control-Request-Method", "GET")],
    ),
    "301 to a folder": (301, "GET", "/ws", []),
    "308 from an alias": (308, "GET", "/x", [("Host", "chat.example.com")]),
    "400 without Upgrade": (400, "GET", "/ws/", []),
    "400 to what climbs": (400, "GET", "/a/../b", []),
    "400 to two names": (400, "GET", "/", [("Host", "localhost"), ("Host", "evil.example.com")]),
    "400 to a head that is too large": (400, "GET", "/", [("X-Large", "x" * 40_000)]),
    "414": (414, "GET", f"/{'x' * 40_000}", []),
    "403 to a strange socket": (403, "GET", "/ws/", [("Origin", "https://evil.example.com")]),
    "403 to POST of a health check": (403, "POST", "/health", []),
    "405": (405, "TRACE", "/", []),
    "421": (421, "GET", "/", [("Host", "evil.example.com")]),
    "501": (501, "POST", "/api/x", [("Transfer-Encoding", "gzip")]),
    "503 without an answer": (503, "GET", "/api/die", []),
    "503 for a person": (503, "GET", "/die", [("Accept", "text/html")]),
}


@pytest.mark.parametrize(("status", "method", "path", "headers"), ASKED.values(), ids=ASKED)
def test_each_comes_once_with_whatever_the_proxy_answers_itself(  # noqa: PLR0913, PLR0917 - a row of a table
    strict: NginxUnderTest,
    backend: EchoBackend,
    status: int,
    method: str,
    path: str,
    headers: list[tuple[str, str]],
) -> None:
    backend.otherwise = None
    backend.answers["/_app/immutable/part.js"] = FrontendFile()
    strict.ask("/_app/immutable/part.js")
    host = [] if "Host" in dict(headers) else [("Host", strict.domain)]
    with strict.exchange() as client:
        send_head(client, method, path, [*host, *headers])
        answer = answer_of(client.getresponse())
    assert answer.status == status
    assert_security_headers_once(answer)


def test_each_comes_once_with_413(strict: NginxUnderTest) -> None:
    for path in ("/api/x", "/x"):
        with strict.exchange() as client:
            send_head(client, "POST", path, [("Host", strict.domain)], length=1 << 30)
            answer = answer_of(client.getresponse())
        assert answer.status == 413
        assert_security_headers_once(answer)


def test_each_comes_once_with_429(strict: NginxUnderTest) -> None:
    answers = [strict.ask("/api/v1/auths/signin", method="POST", body=b"{}") for _ in range(4)]
    assert answers[-1].status == 429
    assert_security_headers_once(answers[-1])


@pytest.mark.parametrize("host", ["localhost", "chat.example.com", "evil.example.com"])
def test_plain_http_says_nothing_of_https_for_ever(strict: NginxUnderTest, host: str) -> None:
    answer = strict.ask("/", scheme="http", host=host)
    assert answer.status == (421 if host == "evil.example.com" else 308)
    assert_security_headers_once(answer, encrypted=False)


def test_each_comes_once_over_http_2(strict: NginxUnderTest) -> None:
    with strict.client("h2") as client:
        for path in ("/api/status/200", "/static/status/404", "/ws/", "/a/%2e%2e/b"):
            answer = client.get(path, extensions={"sni_hostname": strict.domain})
            assert_security_headers_once(Answer(answer.status_code, answer.headers.multi_items(), answer.content))


POLICY = "default-src 'self'; img-src * data:;"


@pytest.mark.parametrize(
    ("mode", "enforced", "reported"),
    [
        ("off", "frame-ancestors 'self'", None),
        ("report-only", "frame-ancestors 'self'", POLICY),
        ("enforce", "default-src 'self'; img-src * data:; frame-ancestors 'self'", None),
    ],
)
def test_content_security_policy_is_what_its_mode_says(
    variants: Variants, mode: str, enforced: str, reported: str | None
) -> None:
    nginx = variants.of(proxy={"headers": {"content_security_policy": {"mode": mode, "policy": POLICY}}})
    for path in ("/headers", "/api/status/404", "/ws/"):
        answer = nginx.ask(path)
        assert answer.header("Content-Security-Policy") == enforced
        assert answer.header("Content-Security-Policy-Report-Only") == reported
