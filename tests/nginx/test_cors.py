"""Which pages of other origins may talk to the application, and who says so."""

import pytest
from aiohttp import web
from multidict import CIMultiDict

from tests.nginx.conftest import Variants
from tests.nginx.nginx_under_test import Answer, NginxUnderTest, answer_of, send_head
from tests.support.echo_backend import EchoBackend

OWN, PORTAL = "https://localhost:8443", "https://portal.example.com:444"
PROXY = {"cors": {"allowed_origins": [PORTAL, "http://127.0.0.1:3000"]}, "limits": {"max_upload": "1MiB"}}
ALLOWED = [OWN, "https://127.0.0.1:8443", "https://chat.example.com:8443", PORTAL, "http://127.0.0.1:3000"]
STRANGE = {
    "another name": "https://evil.example.com",
    "no port": "https://portal.example.com",
    "another port": "https://portal.example.com:443",
    "another scheme": "http://portal.example.com:444",
    "a slash at its end": f"{PORTAL}/",
    "a path": f"{PORTAL}/chat",
    "a name below": "https://a.portal.example.com:444",
    "a name that begins alike": "https://portal.example.com:4440",
    "a name that ends alike": "https://evilportal.example.com:444",
    "a dot at its end": "https://portal.example.com.:444",
    "a frame without an origin": "null",
    "two of them": f"{PORTAL} https://evil.example.com",
    "a list": f"{PORTAL}, https://evil.example.com",
    "a user": "https://portal.example.com:444@evil.example.com",
    "an expression": "~.*",
    "a blank before": f"x {PORTAL}",
}
PATHS = ["/api/headers", "/headers", "/static/headers", "/oauth/headers", "/cache/headers", "/api/config", "/ready"]
SOCKETS = ["/ws/socket.io/?EIO=4&transport=websocket", "/api/v1/audio/realtime", "/api/v1/terminals/a/b"]
UPGRADE = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
KEY = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
CORS = (
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Max-Age",
    "Access-Control-Expose-Headers",
)


@pytest.fixture
def open_nginx(variants: Variants) -> NginxUnderTest:
    """Nginx whose settings name two origins."""
    return variants.of(proxy=PROXY)


def said(answer: Answer) -> dict[str, str | None]:
    """Return what an answer says of origins; each comes once at most."""
    return {name: value for name in CORS if (value := answer.header(name)) is not None}


def ask_from(nginx: NginxUnderTest, path: str, origin: str, method: str = "GET") -> Answer:
    return nginx.ask(path, method=method, headers=[("Origin", origin)])


def preflight(nginx: NginxUnderTest, path: str, origin: str | None, method: str = "POST") -> Answer:
    headers = [("Access-Control-Request-Method", method), ("Access-Control-Request-Headers", "authorization, x-own")]
    return nginx.ask(path, method="OPTIONS", headers=[*headers, *([("Origin", origin)] if origin else [])])


@pytest.mark.parametrize("origin", ALLOWED)
def test_allowed_origin_is_named_and_may_use_the_session(open_nginx: NginxUnderTest, origin: str) -> None:
    for path in PATHS:
        answer = ask_from(open_nginx, path, origin)
        assert answer.status == 200
        assert said(answer) == {CORS[0]: origin, CORS[1]: "true"}, path
        assert answer.header("Vary") == "Accept-Encoding, Origin"


@pytest.mark.parametrize("origin", STRANGE.values(), ids=STRANGE)
def test_stranger_is_told_nothing(open_nginx: NginxUnderTest, origin: str) -> None:
    for path in PATHS:
        answer = ask_from(open_nginx, path, origin)
        assert answer.status == 200
        assert said(answer) == {}, path
        assert answer.header("Vary") == "Accept-Encoding, Origin"


def test_request_without_an_origin_is_told_nothing(open_nginx: NginxUnderTest) -> None:
    assert said(open_nginx.ask("/api/headers")) == {}


def test_origin_in_another_case_is_answered_with_the_one_that_browsers_write(open_nginx: NginxUnderTest) -> None:
    # Nginx compares without case; a browser always writes lower case, and compares what it gets exactly.
    assert said(ask_from(open_nginx, "/api/headers", PORTAL.upper()))[CORS[0]] == PORTAL


@pytest.mark.parametrize("origin", [PORTAL, "https://evil.example.com"])
def test_application_has_no_say(open_nginx: NginxUnderTest, backend: EchoBackend, origin: str) -> None:
    # By itself it lets everybody in, with the session.
    backend.answers["/api/x"] = reflects
    received = said(ask_from(open_nginx, "/api/x", origin))
    assert received == ({CORS[0]: PORTAL, CORS[1]: "true"} if origin == PORTAL else {})


async def reflects(request: web.Request) -> web.StreamResponse:
    origin = request.headers["Origin"]
    headers = CIMultiDict((name, "*") for name in CORS for _ in range(2))
    headers.add("Access-Control-Allow-Origin", origin)
    return web.Response(text="{}", headers=headers)


@pytest.mark.parametrize("path", [*PATHS, "/ws/", "/api/v1/terminals/x"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_question_beforehand_is_answered_here(
    open_nginx: NginxUnderTest, backend: EchoBackend, path: str, method: str
) -> None:
    answer = preflight(open_nginx, path, PORTAL, method)
    assert (answer.status, answer.body) == (204, b"")
    received = said(answer)
    assert method in (received.pop(CORS[2]) or "").split(", ")
    assert received == {CORS[0]: PORTAL, CORS[1]: "true", CORS[3]: "authorization, x-own", CORS[4]: "600"}
    assert answer.header("Vary") == "Accept-Encoding, Origin"
    assert backend.requests == []


@pytest.mark.parametrize("origin", [*STRANGE.values(), None], ids=[*STRANGE, "none"])
def test_question_of_a_stranger_is_refused(
    open_nginx: NginxUnderTest, backend: EchoBackend, origin: str | None
) -> None:
    answer = preflight(open_nginx, "/api/x", origin)
    assert answer.status == 403
    assert b"proxy.cors.allowed_origins" in answer.body
    assert said(answer) == {}
    assert backend.requests == []


def test_other_options_request_is_the_application_s(open_nginx: NginxUnderTest, backend: EchoBackend) -> None:
    answer = ask_from(open_nginx, "/api/headers", PORTAL, method="OPTIONS")
    assert answer.status == 200
    assert backend.requests == ["OPTIONS /api/headers"]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/api/status/500", "GET", 500),
        ("/api/die", "GET", 503),
        ("/api/v1/files/upload", "POST", 413),
        ("/ws/", "GET", 400),
    ],
)
def test_page_can_read_an_error_too(open_nginx: NginxUnderTest, path: str, method: str, status: int) -> None:
    body = b"x" * ((2 << 20) + 1) if method == "POST" else None
    with open_nginx.exchange() as client:
        send_head(client, method, path, [("Host", open_nginx.domain), ("Origin", PORTAL)], length=body)
        answer = answer_of(client.getresponse())
    assert answer.status == status
    assert said(answer) == {CORS[0]: PORTAL, CORS[1]: "true"}


@pytest.mark.parametrize("origin", ["null", "https://evil.example.com", PORTAL])
def test_python_for_frames_without_an_origin_may_be_read_by_all(open_nginx: NginxUnderTest, origin: str) -> None:
    # The application runs code of a model in a sandboxed frame, whose origin is "null".
    received = said(ask_from(open_nginx, "/pyodide/headers", origin))
    assert received == ({CORS[0]: PORTAL, CORS[1]: "true"} if origin == PORTAL else {CORS[0]: "*"})


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("origin", STRANGE.values(), ids=STRANGE)
def test_socket_of_a_stranger_is_refused(
    open_nginx: NginxUnderTest, backend: EchoBackend, path: str, origin: str
) -> None:
    answer = open_nginx.ask_upgrade(path, [*UPGRADE, KEY, ("Origin", origin)])
    assert answer.status == 403
    assert b"proxy.cors.allowed_origins" in answer.body
    assert backend.requests == []


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("origin", [*ALLOWED, None])
def test_socket_of_an_allowed_page_or_a_program_passes(
    open_nginx: NginxUnderTest, path: str, origin: str | None
) -> None:
    headers = [*UPGRADE, KEY, *([("Origin", origin)] if origin else [])]
    assert open_nginx.ask_upgrade(path, headers).status == 101


@pytest.mark.parametrize(
    ("origins", "policy", "old"),
    [
        ([], "frame-ancestors 'self'", "SAMEORIGIN"),
        (
            ["https://intranet.example.com", "https://wiki.example.com:444"],
            "frame-ancestors 'self' https://intranet.example.com https://wiki.example.com:444",
            None,
        ),
    ],
    ids=["none", "two"],
)
def test_who_may_show_the_site_in_a_frame(variants: Variants, origins: list[str], policy: str, old: str | None) -> None:
    nginx = variants.of(proxy={**PROXY, "embedding": {"allowed_origins": origins}})
    for path in ("/", "/api/headers", "/api/status/500", "/ws/"):
        answer = nginx.ask(path)
        assert answer.header("Content-Security-Policy") == policy
        # It could not name another origin.
        assert answer.header("X-Frame-Options") == old
        # To show it is not to read it.
        assert said(ask_from(nginx, path, "https://intranet.example.com")) == {}
