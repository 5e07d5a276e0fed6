"""WebSockets, and what only looks like one."""

import asyncio

import aiohttp
import pytest

from tests.nginx.conftest import SITE, UPSTREAM, StartBackend, Workshop
from tests.nginx.nginx_under_test import NginxUnderTest, settings_of
from tests.support.echo_backend import EchoBackend, arrived
from tests.support.load import Http1, Http2, Load, WebSocketEcho

SOCKETS = [
    "/ws/socket.io/?EIO=4&transport=websocket",
    "/ws/",
    "/api/v1/audio/realtime?model=a",
    "/api/v1/terminals/server/api/terminals/session",
]
HANDSHAKE = [
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
UPGRADES = ["websocket", "WebSocket", "WEBSOCKET", "h2c, websocket", "websocket , h2c"]
NO_UPGRADES: dict[str, list[tuple[str, str]]] = {
    "nothing": [],
    "only Connection": [("Connection", "Upgrade")],
    "empty": [("Upgrade", "")],
    "h2c": [("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA")],
    "something like it": [("Upgrade", "websockets")],
    "something like it in a list": [("Upgrade", "h2c, xwebsocket")],
}


async def echo_of(nginx: NginxUnderTest, path: str, text: str, upgrade: str = "websocket") -> str:
    url = f"https://127.0.0.1:{nginx.https_port}{path}"
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            url,
            ssl=nginx.trust(),
            server_hostname=nginx.domain,
            headers={"Host": nginx.domain, "Upgrade": upgrade},
        ) as websocket,
    ):
        await websocket.send_str(text)
        return await websocket.receive_str()


@pytest.mark.parametrize("path", SOCKETS)
def test_websocket_passes_both_ways(nginx: NginxUnderTest, path: str) -> None:
    assert asyncio.run(echo_of(nginx, path, "how are you?")) == "how are you?"


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("upgrade", UPGRADES)
def test_websocket_may_be_asked_for_in_any_case_and_in_a_list(nginx: NginxUnderTest, path: str, upgrade: str) -> None:
    answer = nginx.ask_upgrade(path, [("Upgrade", upgrade), *HANDSHAKE])
    assert answer.status == 101
    assert (answer.header("Upgrade") or "").lower() == "websocket"


@pytest.mark.parametrize("path", ["/ws/socket.io/?EIO=4&transport=polling", "/ws/", "/ws/x.css", "//ws/"])
@pytest.mark.parametrize("headers", NO_UPGRADES.values(), ids=NO_UPGRADES)
def test_websocket_without_upgrade_is_refused_with_400(
    nginx: NginxUnderTest, backend: EchoBackend, path: str, headers: list[tuple[str, str]]
) -> None:
    answer = nginx.ask(path, headers=headers)
    assert answer.status == 400
    detail = answer.json()["detail"]
    assert "Upgrade: websocket" in detail
    assert "proxy or load balancer" in detail
    assert backend.requests == []


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD"])
def test_websocket_by_another_method_is_refused_with_400(
    nginx: NginxUnderTest, backend: EchoBackend, method: str
) -> None:
    assert nginx.ask("/ws/", method=method, headers=[("Upgrade", "websocket"), *HANDSHAKE]).status == 400
    assert backend.requests == []


def test_websocket_over_http_1_0_is_refused_with_400(nginx: NginxUnderTest, backend: EchoBackend) -> None:
    head = b"GET /ws/ HTTP/1.0\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    assert nginx.ask_in_bytes(head).status == 400
    assert backend.requests == []


def test_websocket_path_over_http_2_is_refused_with_400(nginx: NginxUnderTest, backend: EchoBackend) -> None:
    # Browsers know: Nginx does not offer RFC 8441, so that a socket takes an HTTP/1.1 connection of its own.
    with nginx.client("h2") as client:
        answer = client.get("/ws/socket.io/?EIO=4&transport=websocket", extensions={"sni_hostname": nginx.domain})
    assert (answer.http_version, answer.status_code) == ("HTTP/2", 400)
    assert backend.requests == []


@pytest.mark.parametrize("upgrade", ["websocket", "h2c", "TLS/1.0, HTTP/1.1"])
@pytest.mark.parametrize("path", ["/headers", "/api/headers", "/static/headers", "/ollama/headers", "/oauth/headers"])
def test_nothing_is_upgraded_where_there_is_no_socket(nginx: NginxUnderTest, path: str, upgrade: str) -> None:
    settings = [("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA")]
    answer = nginx.ask(path, headers=[("Upgrade", upgrade), ("Connection", "Upgrade, HTTP2-Settings"), *settings])
    assert answer.status == 200
    assert not {"upgrade", "connection"} & set(arrived(answer.body))


@pytest.mark.parametrize("path", SOCKETS)
def test_h2c_is_never_forwarded(nginx: NginxUnderTest, backend: EchoBackend, path: str) -> None:
    del backend
    answer = nginx.ask(path, headers=[("Upgrade", "h2c"), ("Connection", "Upgrade, HTTP2-Settings")])
    assert answer.status == 400 or "upgrade" not in arrived(answer.body)


def test_changed_timeout_costs_no_request_and_no_socket(
    workshop: Workshop, start_backend: StartBackend, free_port: int
) -> None:
    workshop.names.addresses[UPSTREAM] = workshop.gateway
    start_backend(free_port)
    nginx = workshop.nginx(settings_of(site=SITE), port=free_port)
    url = f"https://localhost:{nginx.https_port}"
    with Load(
        url,
        nginx.ca_file,
        Http1(path="/headers"),
        Http2(path="/headers"),
        WebSocketEcho(path="/ws/", origin="https://localhost:8443"),
    ) as load:
        for read in ("31m", "32m"):
            nginx.reload(settings_of(site=SITE, proxy={"timeouts": {"read": read}}))
    assert load.failures == [], str(load)
    assert load.requests > 50, str(load)
