"""Without WebSockets browsers ask again and again, and with replicas always the same one."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from tests.nginx.conftest import SITE, UPSTREAM, Workshop
from tests.nginx.nginx_under_test import Answer, NginxUnderTest, settings_of
from tests.nginx.test_sockets import HANDSHAKE
from tests.support.echo_backend import EchoBackend, arrived

POLL = "/ws/socket.io/?EIO=4&transport=polling"
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def all_replicas(shared_workshop: Workshop) -> Iterator[Sequence[EchoBackend]]:
    """Two of the application."""
    with ExitStack() as running:
        yield [running.enter_context(EchoBackend(shared_workshop.gateway)) for _ in range(2)]


@pytest.fixture(scope="module")
def nginx_before_replicas(shared_workshop: Workshop, all_replicas: Sequence[EchoBackend]) -> NginxUnderTest:
    shared_workshop.names.addresses[UPSTREAM] = shared_workshop.gateway
    first, second = (replica.port for replica in all_replicas)
    settings = settings_of(site=SITE, proxy={"websocket": {"enabled": False}})
    return shared_workshop.nginx(settings, port=first, further_ports=[second])


@pytest.fixture
def replicas(all_replicas: Sequence[EchoBackend]) -> Sequence[EchoBackend]:
    for replica in all_replicas:
        replica.forget()
    return all_replicas


@pytest.fixture
def polling(nginx_before_replicas: NginxUnderTest, replicas: Sequence[EchoBackend]) -> NginxUnderTest:
    del replicas
    return nginx_before_replicas


def test_poll_passes(polling: NginxUnderTest, replicas: Sequence[EchoBackend]) -> None:
    answer = polling.ask(POLL, headers=[("Cookie", "token=mine")])
    assert answer.status == 200
    assert arrived(answer.body)["cookie"] == ["token=mine"]
    assert [asked for replica in replicas for asked in replica.requests] == ["GET /ws/socket.io/"]


@pytest.mark.parametrize(
    ("size", "status"), [(1, 200), (16 * MEBIBYTE, 200), (17 * MEBIBYTE, 200), (17 * MEBIBYTE + 1, 413)]
)
def test_message_passes_as_a_body_as_large_as_it_may_be(polling: NginxUnderTest, size: int, status: int) -> None:
    answer = polling.ask("/ws/upload", method="POST", body=b"x" * size)
    assert answer.status == status
    if status == 200:
        assert answer.json() == {"bytes": size}


@pytest.mark.parametrize("path", [POLL, "/ws/", "/api/v1/audio/realtime", "/api/v1/terminals/a/b"])
def test_upgrade_below_ws_is_not_forwarded(polling: NginxUnderTest, path: str) -> None:
    answer = polling.ask_upgrade(path, [("Upgrade", "websocket"), *HANDSHAKE])
    if path.startswith("/ws/"):
        assert answer.status == 200
        assert not {"upgrade", "connection"} & set(arrived(answer.body))
    else:
        # These two know nothing but sockets; the setting is about the browser's.
        assert answer.status == 101


def test_strange_origin_is_refused_without_sockets_too(
    polling: NginxUnderTest, replicas: Sequence[EchoBackend]
) -> None:
    assert polling.ask(POLL, headers=[("Origin", "https://evil.example.com")]).status == 403
    assert [asked for replica in replicas for asked in replica.requests] == []


def test_client_stays_with_the_replica_that_it_met_first(
    polling: NginxUnderTest, replicas: Sequence[EchoBackend]
) -> None:
    cookie = _cookie_of(polling.ask(POLL))
    met = [bool(replica.requests) for replica in replicas]
    assert sorted(met) == [False, True]
    for number in range(10):
        assert polling.ask(f"{POLL}&t={number}", headers=[("Cookie", f"a=b; {cookie}; c=d")]).status == 200
        assert polling.ask(f"{POLL}&t={number}", method="POST", body=b"2", headers=[("Cookie", cookie)]).status == 200
    assert [len(replica.requests) for replica in replicas] == [21 if here else 0 for here in met]


def test_clients_without_a_cookie_meet_all_replicas(polling: NginxUnderTest, replicas: Sequence[EchoBackend]) -> None:
    cookies = {_cookie_of(polling.ask(POLL)) for _ in range(20)}
    assert len(cookies) == 2
    assert all(replica.requests for replica in replicas)


def test_invented_cookie_leads_somewhere(polling: NginxUnderTest) -> None:
    assert polling.ask(POLL, headers=[("Cookie", "edge_replica=nonsense")]).status == 200


def test_cookie_is_the_browser_s_secret(polling: NginxUnderTest) -> None:
    attributes = {word.strip().lower() for word in _set_cookie_of(polling.ask(POLL)).split(";")[1:]}
    assert attributes == {"path=/", "secure", "httponly", "samesite=lax"}


def test_one_replica_needs_no_cookie(nginx: NginxUnderTest) -> None:
    assert nginx.ask("/api/status/200").header("Set-Cookie") is None


def _cookie_of(answer: Answer) -> str:
    return _set_cookie_of(answer).split(";")[0]


def _set_cookie_of(answer: Answer) -> str:
    # The backend's own passes beside it.
    (cookie,) = (value for value in answer.all("Set-Cookie") if value.startswith("edge_replica="))
    return cookie
