"""How long the proxy waits for whom, each by a short value. All wait at the same time, so that it takes ten seconds."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.settings.stack import StackSettings
from tests.nginx.conftest import SITE, UPSTREAM, NginxWith, StartBackend, Workshop
from tests.nginx.nginx_under_test import Answer, NginxUnderTest, answer_of, send_head, settings_of
from tests.support.echo_backend import EchoBackend

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
MEBIBYTE = 1 << 20
TIMEOUTS = {
    "connect": "1s",
    "read": "10s",
    "send": "11s",
    "client_header": "6s",
    "client_body": "7s",
    "client_send": "8s",
    "keepalive": "5s",
}
LATE = 10.0
"""Seconds by which a busy machine may be late; the default of most of these is 60s."""
PATIENCE = 30.0


@dataclass(frozen=True)
class Ended:
    """How a wait ended."""

    seconds: float
    answer: Answer | None
    """None where the connection ended without one."""


@pytest.fixture(scope="module")
def hasty(nginx_with: NginxWith, shared_workshop: Workshop) -> NginxUnderTest:
    """Nginx that has no time. It looks for another service at an unused address."""
    unused = ip_network(f"{shared_workshop.gateway}/24", strict=False)[-2]
    return nginx_with(
        site=SITE,
        proxy={
            "timeouts": TIMEOUTS,
            "limits": {"max_upload": "64MiB", "request_header": "16KiB", "answer_header": "8KiB"},
            "locations": {"/nowhere/": {"url": f"http://{unused}"}},
        },
    )


@pytest.fixture(scope="module")
def waits(hasty: NginxUnderTest, shared_backend: EchoBackend) -> Iterator[Mapping[str, Future[Ended]]]:
    """All waits, begun at once."""
    del shared_backend
    kinds: dict[str, Callable[[NginxUnderTest], Answer | None]] = {
        "read": lambda nginx: _asked(nginx, "/api/slow"),
        "read by a browser": lambda nginx: _asked(nginx, "/slow"),
        "send": _body_that_nobody_takes,
        "connect": lambda nginx: _asked(nginx, "/nowhere/x"),
        "client_header": _head_that_stops,
        "client_body": _body_that_stops,
        "client_send": _answer_that_nobody_takes,
        "keepalive": _nothing_after_an_answer,
    }
    with ThreadPoolExecutor(len(kinds)) as pool:
        yield {name: pool.submit(_timed, hasty, wait) for name, wait in kinds.items()}


def _timed(nginx: NginxUnderTest, wait: Callable[[NginxUnderTest], Answer | None]) -> Ended:
    began = time.monotonic()
    answer = wait(nginx)
    return Ended(time.monotonic() - began, answer)


def _asked(nginx: NginxUnderTest, path: str) -> Answer:
    with nginx.exchange(patience=PATIENCE) as client:
        send_head(client, "GET", path, [("Host", nginx.domain), ("Accept", BROWSER)])
        return answer_of(client.getresponse())


def _body_that_nobody_takes(nginx: NginxUnderTest) -> Answer:
    with nginx.exchange(patience=PATIENCE) as client:
        send_head(client, "POST", "/api/slow", [("Host", nginx.domain)], length=32 * MEBIBYTE)
        client.send(b"x" * (32 * MEBIBYTE))
        return answer_of(client.getresponse())


def _head_that_stops(nginx: NginxUnderTest) -> None:
    with nginx.connection(patience=PATIENCE) as connected:
        connected.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        assert connected.recv(1) == b""


def _body_that_stops(nginx: NginxUnderTest) -> None:
    with nginx.connection(patience=PATIENCE) as connected:
        connected.sendall(b"POST /api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
        assert connected.recv(1) == b""


def _answer_that_nobody_takes(nginx: NginxUnderTest) -> None:
    size = 32 * MEBIBYTE
    with nginx.exchange() as client:
        send_head(client, "GET", f"/text?type=text/plain&size={size}", [("Host", nginx.domain)])
        # What was sent before fills the connection, so its end cannot be seen from here.
        line = wait_until(lambda: _logged(nginx, "/text"), what="a line in the log", deadline=PATIENCE, every=0.5)
    assert line["bytes"] < size


def _logged(nginx: NginxUnderTest, path: str) -> dict[str, Any]:
    lines = [json.loads(line) for line in nginx.access_log().splitlines()]
    return next((line for line in lines if line["path"] == path), {})


def _nothing_after_an_answer(nginx: NginxUnderTest) -> None:
    with nginx.connection(patience=PATIENCE) as connected:
        connected.sendall(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connected.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert connected.recv(1) == b""


def seconds_of(setting: str) -> float:
    return float(TIMEOUTS[setting].removesuffix("s"))


@pytest.mark.parametrize("setting", list(TIMEOUTS))
def test_wait_ends_when_its_setting_says(waits: Mapping[str, Future[Ended]], setting: str) -> None:
    waited = waits[setting].result(PATIENCE).seconds
    assert seconds_of(setting) - 0.1 <= waited <= seconds_of(setting) + LATE


def test_api_caller_is_told_in_json_that_the_time_is_over(waits: Mapping[str, Future[Ended]]) -> None:
    answer = waits["read"].result(PATIENCE).answer
    assert answer is not None
    assert answer.status == 504
    assert "said nothing for 10s" in answer.json()["detail"]
    assert answer.header("Cache-Control") == "no-store"
    for name in ("Content-Security-Policy", "Permissions-Policy", "Referrer-Policy", "X-Content-Type-Options"):
        assert len(answer.all(name)) == 1, name
    assert len(answer.all("X-Request-ID")) == 1


def test_person_is_told_on_a_page_that_the_time_is_over(waits: Mapping[str, Future[Ended]]) -> None:
    answer = waits["read by a browser"].result(PATIENCE).answer
    assert answer is not None
    assert (answer.status, answer.header("Content-Type")) == (504, "text/html")
    assert b"<h1>No answer</h1>" in answer.body
    assert b"refresh" not in answer.body


def test_upload_that_nobody_takes_ends_in_504(waits: Mapping[str, Future[Ended]]) -> None:
    answer = waits["send"].result(PATIENCE).answer
    assert answer is not None
    assert answer.status == 504
    assert answer.json()["detail"]


def test_nobody_at_the_address_is_no_silence_but_absence(waits: Mapping[str, Future[Ended]]) -> None:
    answer = waits["connect"].result(PATIENCE).answer
    assert answer is not None
    assert (answer.status, answer.header("Retry-After")) == (503, "5")
    assert b'<meta http-equiv="refresh"' in answer.body


@pytest.mark.parametrize(("size", "status"), [(15 << 10, 200), (17 << 10, 400)])
def test_head_of_a_request_may_be_as_large_as_its_setting_says(hasty: NginxUnderTest, size: int, status: int) -> None:
    assert hasty.ask("/api/headers", headers=[("Cookie", "x" * size)]).status == status


@pytest.mark.parametrize(("size", "status"), [(7 << 10, 200), (9 << 10, 503)])
def test_head_of_an_answer_may_be_as_large_as_its_setting_says(hasty: NginxUnderTest, size: int, status: int) -> None:
    assert hasty.ask(f"/api/text?type=text/plain&size=1&header=X-A:{'x' * size}").status == status


def test_silent_socket_is_closed_when_its_setting_says(shared_workshop: Workshop, shared_backend: EchoBackend) -> None:
    shared_workshop.names.addresses[UPSTREAM] = shared_workshop.gateway
    # Less than a stack file may say, for the sake of those who wait for this test; the long one below says 30s.
    settings = with_idle_timeout(settings_of(site=SITE), timedelta(seconds=2))
    nginx = shared_workshop.nginx(settings, port=shared_backend.port)
    assert 1.9 <= asyncio.run(silence_on(nginx, at_most=PATIENCE)) <= 2 + LATE


def with_idle_timeout(settings: StackSettings, duration: timedelta) -> StackSettings:
    websocket = settings.proxy.websocket.model_copy(update={"idle_timeout": duration})
    return settings.model_copy(update={"proxy": settings.proxy.model_copy(update={"websocket": websocket})})


async def silence_on(nginx: NginxUnderTest, *, at_most: float, opened: asyncio.Event | None = None) -> float:
    """Open a socket, say nothing, and return after how many seconds the proxy closed it; `at_most` if it did not."""
    url = f"https://127.0.0.1:{nginx.https_port}/ws/"
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            url, ssl=nginx.trust(), server_hostname=nginx.domain, headers={"Host": nginx.domain}
        ) as websocket,
    ):
        began = time.monotonic()
        if opened is not None:
            opened.set()
        try:
            async with asyncio.timeout(at_most):
                message = await websocket.receive()
        except TimeoutError:
            await websocket.send_str("still there?")
            assert await websocket.receive_str() == "still there?"
            return at_most
        assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR}
        return time.monotonic() - began


@pytest.mark.long
def test_sockets_live_as_long_as_the_settings_say(
    workshop: Workshop, start_backend: StartBackend, free_port: int
) -> None:
    workshop.names.addresses[UPSTREAM] = workshop.gateway
    start_backend(free_port)
    by_default = workshop.nginx(settings_of(site=SITE), port=free_port)
    short = workshop.nginx(settings_of(site=SITE, proxy={"websocket": {"idle_timeout": "30s"}}), port=free_port)
    reloaded = workshop.nginx(settings_of(site=SITE, proxy={"timeouts": {"shutdown": "1m"}}), port=free_port)

    async def all_silent() -> list[float]:
        opened = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            silent = [
                tasks.create_task(silence_on(by_default, at_most=80)),
                tasks.create_task(silence_on(short, at_most=80)),
                tasks.create_task(silence_on(reloaded, at_most=90, opened=opened)),
            ]
            await opened.wait()
            changed = settings_of(site=SITE, proxy={"timeouts": {"shutdown": "1m", "read": "31m"}})
            await asyncio.to_thread(reloaded.reload, changed)
        return [task.result() for task in silent]

    default, closed, cut = asyncio.run(all_silent())
    # Longer than any time-out that Nginx has by itself, the connection's keep-alive (75s) being the longest.
    assert default == 80
    assert 29.9 <= closed <= 30 + LATE
    # Connections of an earlier configuration; by `shutdown` after the reload.
    assert 59 <= cut <= 70
