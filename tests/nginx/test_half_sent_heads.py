"""Connections whose request never becomes complete, and what remains for others."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.runtime.nginx.scripts import METRICS
from tests.nginx.conftest import SITE, UPSTREAM, Workshop
from tests.nginx.nginx_under_test import PATIENCE, NginxUnderTest, settings_of
from tests.nginx.test_counts import figures
from tests.support.echo_backend import EchoBackend

MEMORY = "64MiB"
MOST = 70
"""Requests at once of one address; it may have twice as many connections."""
SHORT = b"GET / HTTP/1.1\r\nHost: local"
LARGE = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(
    b"X-%d: %s\r\n" % (each, b"a" * 32_000) for each in range(4)
)
"""As much as four buffers hold, and no end."""
ALL = 292
"""Connections that fit: three quarters of the memory, with 168 KiB for each."""


@pytest.fixture
def attacked(workshop: Workshop, shared_backend: EchoBackend) -> NginxUnderTest:
    """Nginx with little memory, behind a balancer that says whose connection it is: a test has many addresses."""
    workshop.names.addresses[UPSTREAM] = workshop.gateway
    proxy = {
        "memory": MEMORY,
        "limits": {"connections_per_client": MOST},
        "proxy_protocol": True,
        "trusted_proxies": [workshop.gateway],
    }
    settings = settings_of(site=SITE, proxy=proxy, monitoring={"prometheus": {"enabled": True}})
    assert settings.proxy.connections == ALL
    return workshop.nginx(settings, port=shared_backend.port)


@contextmanager
def half_sent(nginx: NginxUnderTest, address_of: Callable[[int], str], *, count: int, head: bytes) -> Iterator[int]:
    """Hold connections open with that of a head; yield how many were taken."""
    taken = 0
    with ExitStack() as held:
        for number in range(count):
            try:
                connected = held.enter_context(nginx.connection(preamble=preamble(address_of(number))))
                connected.sendall(head)
            except (ConnectionError, ssl.SSLEOFError):
                continue
            taken += 1
        yield taken


def preamble(address: str) -> bytes:
    return f"PROXY TCP4 {address} 198.51.100.1 50000 443\r\n".encode()


def answers(nginx: NginxUnderTest, address: str) -> bool:
    try:
        return nginx.ask("/ready", preamble=preamble(address)).status == 200
    except (ConnectionError, ssl.SSLEOFError):
        return False


def test_half_sent_heads_of_one_address_leave_connections_for_others(attacked: NginxUnderTest) -> None:
    workers = attacked.workers()
    with half_sent(attacked, lambda _: "203.0.113.1", count=ALL + 20, head=SHORT) as taken:
        assert taken == MOST * 2
        assert all(answers(attacked, "203.0.113.2") for _ in range(20))
        assert not answers(attacked, "203.0.113.1")
        assert attacked.health()[0]
    wait_until(lambda: answers(attacked, "203.0.113.1"), what="an answer", deadline=PATIENCE, every=0.1)
    assert attacked.workers() == workers


def test_half_sent_heads_of_many_addresses_fit_into_the_memory(attacked: NginxUnderTest) -> None:
    workers = attacked.workers()
    with half_sent(attacked, lambda number: f"203.0.113.{number % 50}", count=ALL + 100, head=LARGE) as taken:
        assert taken == ALL
        # The engine knows its own certificate's port, which clients do not take.
        assert attacked.health()[0]
        assert attacked.workers() == workers


def test_connections_of_a_killed_worker_do_not_count_for_ever(attacked: NginxUnderTest) -> None:
    with half_sent(attacked, lambda _: "203.0.113.1", count=MOST * 2, head=SHORT) as taken:
        assert taken == MOST * 2
        attacked.announced.append("worker process [0-9]+ exited on signal 9")
        attacked.wait_until_restarted(f"kill -KILL {' '.join(map(str, attacked.workers()))}")
    assert answers(attacked, "203.0.113.1")
    assert attacked.run_inside(f"grep -c . {METRICS}/killed_workers").strip() == "1"
    assert "nginx: starts again, since a worker was killed" in attacked.error_log()
    wait_until(lambda: figures(attacked).get("killed_workers") == 1, what="the count", deadline=15, every=0.5)
    assert sum(value for name, value in figures(attacked).items() if name.startswith("connections{")) < 10
