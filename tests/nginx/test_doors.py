"""A door in front of Open WebUI's own: client certificates, or another service that is asked about each request."""

import asyncio
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.nginx.authorities import Issued, issue
from tests.nginx.conftest import Variants, Workshop
from tests.nginx.frontend_file import FrontendFile
from tests.nginx.nginx_under_test import Answer, NginxUnderTest, answer_of, send_head
from tests.support.echo_backend import EchoBackend, arrived, dies

PATHS = ["/", "/api/headers", "/api/config", "/static/headers", "/_app/immutable/headers", "/ws/", "/oauth/headers"]
HEALTH = ["/health", "/health/db", "/ready"]
BROWSER = ("Accept", "text/html,*/*;q=0.8")


# Client certificates


@pytest.fixture(scope="module")
def authority() -> Issued:
    """The authority that the settings name."""
    return issue("Ours", authority=True)


@pytest.fixture
def certified(variants: Variants, authority: Issued) -> NginxUnderTest:
    """Nginx that lets in whom this authority vouches for."""
    mode = {"mode": "client-certificates", "client_certificates": {"authorities": authority.pem, "depth": 1}}
    return variants.of(proxy={"authentication": mode})


def ask_with(nginx: NginxUnderTest, path: str, context: ssl.SSLContext, host: str | None = None) -> Answer:
    with nginx.connection(context=context) as connected:
        connected.sendall(f"GET {path} HTTP/1.1\r\nHost: {host or nginx.domain}\r\n\r\n".encode())
        return nginx.answer_from(connected)


def test_client_with_a_certificate_is_let_in(certified: NginxUnderTest, authority: Issued, tmp_path: Path) -> None:
    context = issue("Alice", authority).shown_by(certified.trust(), tmp_path)
    for path in PATHS:
        assert ask_with(certified, path, context).status == (400 if path == "/ws/" else 200)
    assert b"Upgrade" in ask_with(certified, "/ws/", context).body


@pytest.mark.parametrize("path", [*PATHS, *HEALTH])
def test_client_without_a_certificate_stays_outside(certified: NginxUnderTest, backend: EchoBackend, path: str) -> None:
    answer = certified.ask(path)
    assert answer.status == 400
    assert b"No required SSL certificate was sent" in answer.body
    assert backend.requests == []


def strangers(authority: Issued) -> dict[str, Issued]:
    other = issue("Other", authority=True)
    same_name = issue("Ours", authority=True)
    between = issue("Between", authority, authority=True)
    no_authority = issue("Bob", authority)
    return {
        "of another authority": issue("Alice", other),
        "of an authority of the same name": issue("Alice", same_name),
        "of itself": issue("Alice"),
        "that has ended": issue("Alice", authority, ended=True),
        "of a client who is no authority": issue("Alice", no_authority),
        "too far from the root": issue("Alice", issue("Further", between, authority=True)),
    }


@pytest.mark.parametrize("which", list(strangers(issue("Ours", authority=True))))
def test_client_with_a_wrong_certificate_stays_outside(
    certified: NginxUnderTest, backend: EchoBackend, authority: Issued, tmp_path: Path, which: str
) -> None:
    # What OpenSSL leaves behind of a signature that is not the authority's.
    certified.announced.append("ignoring stale global SSL error")
    context = strangers(authority)[which].shown_by(certified.trust(), tmp_path)
    answer = ask_with(certified, "/api/headers", context)
    assert answer.status == 400
    assert b"The SSL certificate error" in answer.body
    assert backend.requests == []


def test_one_authority_between_is_as_deep_as_the_settings_allow(
    certified: NginxUnderTest, authority: Issued, tmp_path: Path
) -> None:
    between = issue("Between", authority, authority=True)
    context = issue("Alice", between).shown_by(certified.trust(), tmp_path)
    assert ask_with(certified, "/api/headers", context).status == 200


@pytest.mark.parametrize("first", ["chat.example.com", "evil.example.com"])
def test_another_name_in_the_handshake_is_no_way_round(
    certified: NginxUnderTest, backend: EchoBackend, first: str
) -> None:
    # The server of that name asks for no certificate.
    context = certified.trust()
    context.check_hostname = False
    with certified.connection(context=context, server_name=first) as connected:
        assert isinstance(connected, ssl.SSLSocket)
        connected.sendall(f"GET /api/headers HTTP/1.1\r\nHost: {certified.domain}\r\n\r\n".encode())
        assert certified.answer_from(connected).status in {400, 421}
        session = connected.session
    # Nor is its session.
    with certified.connection(context=context, session=session) as connected:
        connected.sendall(f"GET /api/headers HTTP/1.1\r\nHost: {certified.domain}\r\n\r\n".encode())
        assert certified.answer_from(connected).status == 400
    assert backend.requests == []


def test_websocket_needs_a_certificate_as_well(certified: NginxUnderTest, authority: Issued, tmp_path: Path) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError, match="400"):
        asyncio.run(echo_through(certified, certified.trust()))
    context = issue("Alice", authority).shown_by(certified.trust(), tmp_path)
    assert asyncio.run(echo_through(certified, context)) == "hello"


def test_http_2_needs_a_certificate_as_well(certified: NginxUnderTest) -> None:
    with certified.client("h2") as client:
        assert client.get("/api/headers", extensions={"sni_hostname": certified.domain}).status_code == 400


async def echo_through(nginx: NginxUnderTest, context: ssl.SSLContext, **headers: str) -> str:
    url = f"https://127.0.0.1:{nginx.https_port}/ws/"
    said = {"Host": nginx.domain, **headers}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url, ssl=context, server_hostname=nginx.domain, headers=said) as websocket,
    ):
        await websocket.send_str("hello")
        return await websocket.receive_str()


# Another service that is asked


class Authenticator:
    """Admits clients with its cookie, sets their identity, and records its requests."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.body = 0
        self.answers: Any = None
        """What it answers whatever it is asked, in place of that."""

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.headers))
        self.body += len(await request.read())
        if self.answers is not None:
            return await self.answers(request)
        if request.headers.get("Cookie") != "door=open":
            return web.Response(status=401, text="the authenticator's own words", headers={"Set-Cookie": "try=1"})
        email = {"Remote-Email": "alice@example.com", "Remote-Name": "Alice"}
        return web.Response(status=204, headers=email)


@pytest.fixture(scope="module")
def service(shared_workshop: Workshop) -> Iterator[EchoBackend]:
    """Where the authenticator listens."""
    with EchoBackend(shared_workshop.gateway) as running:
        yield running


@pytest.fixture
def authenticator(service: EchoBackend) -> Authenticator:
    """A new one each time."""
    service.forget()
    service.answers["/check"] = made = Authenticator()
    return made


def asking(variants: Variants, service: EchoBackend, **more: object) -> NginxUnderTest:
    external = {
        "url": f"http://{service.address}:{service.port}/check",
        "identity": {"X-User-Email": "Remote-Email"},
        **more,
    }
    environment = {"WEBUI_AUTH_TRUSTED_EMAIL_HEADER": "X-User-Email", "WEBUI_AUTH_TRUSTED_NAME_HEADER": "X-User-Name"}
    authentication = {"mode": "external", "external": external}
    return variants.of(proxy={"authentication": authentication}, open_webui={"environment": environment})


@pytest.fixture
def guarded(variants: Variants, service: EchoBackend, authenticator: Authenticator) -> NginxUnderTest:
    """Nginx that asks it."""
    del authenticator
    return asking(variants, service)


@pytest.fixture
def leading(variants: Variants, service: EchoBackend, authenticator: Authenticator) -> NginxUnderTest:
    """Nginx that asks it, and sends browsers where they can sign in."""
    del authenticator
    return asking(variants, service, sign_in_url="https://auth.example.com/?theme=dark")


OPEN = ("Cookie", "door=open")


@pytest.mark.parametrize("path", PATHS)
def test_who_is_known_is_let_in(guarded: NginxUnderTest, authenticator: Authenticator, path: str) -> None:
    answer = guarded.ask(path, headers=[OPEN])
    assert answer.status == (400 if path == "/ws/" else 200)
    assert len(authenticator.asked) == (0 if path == "/ws/" else 1)


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/ws/"])
def test_who_is_not_known_sees_why(guarded: NginxUnderTest, backend: EchoBackend, path: str) -> None:
    page = guarded.ask(path, headers=[BROWSER])
    assert (page.status, page.header("Cache-Control")) == (401, "no-store")
    answer = guarded.ask(path, headers=[("Accept", "application/json")])
    assert answer.status == 401
    assert "authenticator" in answer.json()["detail"]
    assert (page.header("Content-Type") == "text/html") == (not path.startswith("/api/"))
    assert backend.requests == []


@pytest.mark.parametrize(
    ("path", "required"),
    [
        ("/", "/"),
        ("/c/42", "/c/42"),
        ("/c/%C3%BC?q=%22&token=x", "/c/%C3%BC"),
        ("//evil.example.com/", "//evil.example.com/"),
        ("/oauth/google/callback?code=hunter22", "/oauth/google/callback"),
    ],
)
def test_browser_that_is_not_known_is_sent_where_it_can_sign_in(
    leading: NginxUnderTest, backend: EchoBackend, path: str, required: str
) -> None:
    answer = leading.ask(path, headers=[BROWSER])
    assert answer.status == 302
    assert answer.header("Location") == f"https://auth.example.com/?theme=dark&rd=https://localhost:8443{required}"
    assert answer.header("Cache-Control") == "no-store"
    assert backend.requests == []


def test_program_that_is_not_known_is_told_in_json(leading: NginxUnderTest) -> None:
    for path in ("/api/headers", "/ollama/api/tags", "/openai/models"):
        answer = leading.ask(path, headers=[BROWSER])
        assert answer.status == 401
        assert "authenticator" in answer.json()["detail"]


def test_who_is_known_but_may_not_is_refused(
    guarded: NginxUnderTest, backend: EchoBackend, authenticator: Authenticator
) -> None:
    async def forbids(_: web.Request) -> web.StreamResponse:
        return web.Response(status=403)

    authenticator.answers = forbids
    for path in ("/", "/api/headers"):
        assert guarded.ask(path, headers=[OPEN]).status == 403
    assert backend.requests == []


async def breaks(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def leads(_: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "https://auth.example.com/"})


async def is_not_there(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404)


@pytest.mark.parametrize("fault", [dies, breaks, leads, is_not_there])
def test_nobody_gets_in_while_the_authenticator_is_in_trouble(
    guarded: NginxUnderTest, backend: EchoBackend, authenticator: Authenticator, fault: Any
) -> None:
    authenticator.answers = fault
    answer = guarded.ask("/api/headers", headers=[OPEN])
    assert (answer.status, answer.header("Retry-After")) == (503, "5")
    assert answer.json()["detail"]
    page = guarded.ask("/static/headers", headers=[OPEN, BROWSER])
    assert (page.status, page.header("Content-Type")) == (503, "text/html")
    assert guarded.ask_upgrade("/ws/", [*HANDSHAKE, OPEN]).status == 503
    assert backend.requests == []


def test_nobody_gets_in_while_the_authenticator_is_not_there(variants: Variants, free_port: int) -> None:
    gone = EchoBackend(variants.workshop.gateway, free_port)
    nginx = asking(variants, gone)
    assert nginx.ask("/api/headers", headers=[OPEN]).status == 503
    assert variants.backend.requests == []


def test_own_errors_of_the_application_pass_as_they_are(guarded: NginxUnderTest) -> None:
    for status in (401, 403, 500):
        answer = guarded.ask(f"/api/status/{status}", headers=[OPEN])
        assert (answer.status, answer.body) == (status, b"the backend's own words")


def test_identity_comes_from_the_authenticator_and_never_from_the_client(
    guarded: NginxUnderTest, authenticator: Authenticator
) -> None:
    claims = [("X-User-Email", "admin@example.com"), ("X-User-Name", "Admin"), ("Remote-Email", "admin@example.com")]
    for path in ("/api/headers", "/headers", "/oauth/headers", "/api/v1/terminals/headers"):
        received = arrived(guarded.ask(path, headers=[OPEN, *claims]).body)
        assert received["x-user-email"] == ["alice@example.com"]
        assert not {"x-user-name", "remote-email", "remote-name"} & set(received)
    # Nor is the authenticator told what the client claims.
    assert not [head for head in authenticator.asked if "admin@example.com" in head.values()]

    async def knows_nobody(_: web.Request) -> web.StreamResponse:
        return web.Response(status=200)

    authenticator.answers = knows_nobody
    assert "x-user-email" not in arrived(guarded.ask("/api/headers", headers=[OPEN, *claims]).body)


def test_authenticator_is_told_where_the_request_was_going(
    guarded: NginxUnderTest, variants: Variants, authenticator: Authenticator
) -> None:
    forged = [("X-Original-URL", "https://x/"), ("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Method", "GET")]
    guarded.ask("/api/headers?q=%20", method="PUT", body=b"{}", headers=[OPEN, *forged, ("Authorization", "Bearer x")])
    (asked,) = authenticator.asked
    expected = {
        "Host": f"{variants.workshop.gateway}:{service_port(guarded)}",
        "X-Original-URL": "https://localhost:8443/api/headers?q=%20",
        "X-Original-Method": "PUT",
        "X-Forwarded-Method": "PUT",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "localhost:8443",
        "X-Forwarded-Uri": "/api/headers?q=%20",
        "X-Forwarded-For": variants.workshop.gateway,
        "Cookie": "door=open",
        "Authorization": "Bearer x",
    }
    assert {name: asked.get(name) for name in expected} == expected


def service_port(nginx: NginxUnderTest) -> int:
    external = nginx.settings.proxy.authentication.external
    assert external is not None
    return int(external.url.rsplit(":", 1)[1].split("/")[0])


def test_upload_goes_to_the_application_and_not_to_the_authenticator(
    guarded: NginxUnderTest, backend: EchoBackend, authenticator: Authenticator
) -> None:
    with guarded.exchange() as client:
        send_head(client, "POST", "/api/upload", [("Host", guarded.domain), OPEN], length=200_000)
        client.send(b"x" * 100_000)
        backend.wait_for_upload_of(100_000)
        client.send(b"x" * 100_000)
        assert answer_of(client.getresponse()).json() == {"bytes": 200_000}
    assert (len(authenticator.asked), authenticator.body) == (1, 0)


@pytest.mark.parametrize("path", HEALTH)
def test_health_is_open(guarded: NginxUnderTest, authenticator: Authenticator, path: str) -> None:
    assert guarded.ask(path).status == 200
    assert authenticator.asked == []


HANDSHAKE = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


@pytest.mark.parametrize("path", ["/ws/", "/api/v1/audio/realtime", "/api/v1/terminals/a/b"])
def test_websocket_is_asked_about_as_well(guarded: NginxUnderTest, backend: EchoBackend, path: str) -> None:
    assert guarded.ask_upgrade(path, HANDSHAKE).status == 401
    assert backend.requests == []
    assert guarded.ask_upgrade(path, [*HANDSHAKE, OPEN]).status == 101
    assert asyncio.run(echo_through(guarded, guarded.trust(), Cookie="door=open")) == "hello"


def test_what_is_kept_is_behind_the_door_too(guarded: NginxUnderTest, backend: EchoBackend) -> None:
    path = "/static/behind-the-door.css"
    file = backend.answers[path] = FrontendFile()
    assert [guarded.ask(path, headers=[OPEN]).header("X-Cache-Status") for _ in range(2)] == ["MISS", "HIT"]
    assert "cookie" not in file.asked[0]
    assert guarded.ask(path).status == 401
    # Whatever the question did, the answer says of itself what it should.
    answer = guarded.ask(path, headers=[OPEN])
    assert (answer.header("Cache-Control"), answer.header("Vary")) == ("no-cache", "Accept-Encoding, Origin")


def test_where_it_is_asked_is_no_address_for_clients(guarded: NginxUnderTest, authenticator: Authenticator) -> None:
    assert guarded.ask("/_edge/authenticate", headers=[OPEN]).status == 404
    assert json.dumps(authenticator.asked).count("/_edge/authenticate") <= 1
