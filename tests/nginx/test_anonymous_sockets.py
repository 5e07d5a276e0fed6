"""WebSockets of visitors that are not signed in: few of each address, and few of all."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.nginx.conftest import Variants
from tests.nginx.nginx_under_test import NginxUnderTest
from tests.nginx.test_sockets import SOCKETS
from tests.support.echo_backend import EchoBackend

OF_ONE, OF_ALL = 3, 8
GOOD = {"Cookie": "token=good"}
"""What the application knows."""


@pytest.fixture
def limited(variants: Variants) -> NginxUnderTest:
    """Nginx behind a trusted proxy, which is this machine: clients are who it says they are."""
    nginx = variants.of(
        proxy={
            "trusted_proxies": [f"{variants.workshop.gateway}/32"],
            "limits": {"anonymous_sockets_per_client": OF_ONE, "connections_per_client": 40},
        },
        # A quarter of it holds eight messages of 16 MiB.
        open_webui={"memory": "512MiB"},
    )
    variants.backend.status_of.update({"": 401, "invented": 401, "restricted": 403})
    return nginx


def handshakes(nginx: NginxUnderTest, *attempts: tuple[str, dict[str, str]], path: str = SOCKETS[0]) -> list[int]:
    """Open a socket for each client, which is there until all have tried; return the statuses."""

    async def open_all() -> list[int]:
        statuses: list[int] = []
        async with AsyncExitStack() as held:
            http = await held.enter_async_context(aiohttp.ClientSession())
            for client, headers in attempts:
                try:
                    opened = await held.enter_async_context(connected(http, nginx, path, client, headers))
                    await opened.send_str("hello")
                    assert await opened.receive_str() == "hello"
                    statuses.append(101)
                except aiohttp.WSServerHandshakeError as refused:
                    statuses.append(refused.status)
        return statuses

    return asyncio.run(open_all())


def connected(
    http: aiohttp.ClientSession, nginx: NginxUnderTest, path: str, client: str, headers: dict[str, str]
) -> aiohttp.client._WSRequestContextManager:
    return http.ws_connect(
        f"https://127.0.0.1:{nginx.https_port}{path}",
        ssl=nginx.trust(),
        server_hostname=nginx.domain,
        headers={"Host": nginx.domain, "X-Forwarded-For": client, **headers},
    )


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("headers", [{}, {"Cookie": "token=invented"}, {"Authorization": "Bearer invented"}])
def test_anonymous_sockets_of_one_address_are_few(limited: NginxUnderTest, path: str, headers: dict[str, str]) -> None:
    attempts = [("203.0.113.1", headers)] * (OF_ONE + 2)
    assert handshakes(limited, *attempts, ("203.0.113.2", headers), path=path) == [101] * OF_ONE + [429, 429, 101]


@pytest.mark.parametrize("headers", [GOOD, {"Authorization": "Bearer good"}, {"Authorization": "Bearer restricted"}])
def test_sockets_of_signed_in_users_of_one_address_are_many(limited: NginxUnderTest, headers: dict[str, str]) -> None:
    anonymous, signed_in = ("203.0.113.3", {}), ("203.0.113.3", headers)
    attempts = [*[anonymous] * (OF_ONE + 1), *[signed_in] * 30]
    assert handshakes(limited, *attempts) == [101] * OF_ONE + [429] + [101] * 30


def test_signed_in_sockets_of_one_address_have_the_limit_of_all_requests(limited: NginxUnderTest) -> None:
    assert handshakes(limited, *[("203.0.113.4", GOOD)] * 42) == [101] * 40 + [429] * 2


def test_anonymous_sockets_of_all_addresses_fit_into_a_quarter_of_the_memory(limited: NginxUnderTest) -> None:
    anonymous = [(f"203.0.113.{10 + number}", {}) for number in range(OF_ALL + 2)]
    statuses = handshakes(limited, *anonymous, ("203.0.113.30", GOOD))
    assert statuses == [101] * OF_ALL + [429, 429, 101]


def test_refused_socket_is_told_why_in_json(limited: NginxUnderTest) -> None:
    async def refused() -> aiohttp.ClientResponse:
        async with AsyncExitStack() as held:
            http = await held.enter_async_context(aiohttp.ClientSession())
            for _ in range(OF_ONE):
                await held.enter_async_context(connected(http, limited, SOCKETS[0], "203.0.113.5", {}))
            head = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
            head |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Host": limited.domain}
            url = f"https://127.0.0.1:{limited.https_port}{SOCKETS[0]}"
            head["X-Forwarded-For"] = "203.0.113.5"
            answer = await http.get(url, headers=head, ssl=limited.trust(), server_hostname=limited.domain)
            assert "Too many" in (await answer.json())["detail"]
            return answer

    assert asyncio.run(refused()).status == 429


@pytest.mark.parametrize("status", [404, 500, 503])
def test_application_that_cannot_say_makes_every_socket_anonymous(
    limited: NginxUnderTest, backend: EchoBackend, status: int
) -> None:
    backend.status_of["good"] = status
    assert handshakes(limited, *[("203.0.113.6", GOOD)] * (OF_ONE + 1)) == [101] * OF_ONE + [429]


def test_question_has_the_credentials_and_no_upgrade(limited: NginxUnderTest, backend: EchoBackend) -> None:
    assert handshakes(limited, ("203.0.113.7", GOOD)) == [101]
    (question,) = backend.questions
    assert question["Cookie"] == "token=good"
    assert "Upgrade" not in question
