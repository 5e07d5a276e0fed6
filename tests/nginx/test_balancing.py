"""Several replicas behind one name: who gets a request, and what becomes of it when one is gone."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from tests.nginx.conftest import SITE, UPSTREAM, Workshop, port_free_at, workshop_in
from tests.nginx.nginx_under_test import Answer, NginxUnderTest, answer_of, network, send_head, settings_of
from tests.nginx.silent_authenticator import ADMITS, FAULTS, SilentAuthenticator
from tests.support.echo_backend import EchoBackend, dies
from tests.support.load import Http1, Http2, Load

NEVER_TWICE = ["POST", "PATCH"]
METHODS = ["GET", "HEAD", "DELETE", *NEVER_TWICE]
_QUICK = 0.5
"""Seconds in which whatever waits for no connection is answered; the kernel gives up a connection after three."""


@dataclass
class Pair:
    """Nginx before two replicas, which listen at one port of two addresses."""

    nginx: NginxUnderTest
    workshop: Workshop
    first: EchoBackend
    second: EchoBackend

    @property
    def addresses(self) -> tuple[str, str]:
        """Where they listen."""
        return self.first.address, self.second.address

    def served(self) -> tuple[int, int]:
        """How many requests each has had."""
        return len(self.first.requests), len(self.second.requests)

    def known(self, *addresses: str) -> None:
        """Change what the name stands for."""
        self.workshop.names.addresses[UPSTREAM] = addresses

    def wait_until_balanced(self) -> None:
        """Wait until both get requests."""

        def both() -> bool:
            before = self.served()
            for _ in range(4):
                self.nginx.ask("/headers")
            return all(now > then for now, then in zip(self.served(), before, strict=True))

        wait_until(both, what="requests at both", deadline=10, every=0.05)


@pytest.fixture(scope="module")
def second_address() -> Iterator[str]:
    """Another address of this machine that a container reaches."""
    with network() as (_, gateway):
        yield gateway


@pytest.fixture(scope="module")
def authenticator(network_and_gateway: tuple[str, str]) -> Iterator[SilentAuthenticator]:
    """One that says yes, unless a test has it say something else."""
    _, gateway = network_and_gateway
    with SilentAuthenticator(gateway) as made:
        yield made


GUARDED = "with an authenticator"
WITH_AND_WITHOUT = pytest.mark.parametrize("replicated", [None, GUARDED], indirect=True, ids=["open", GUARDED])


@pytest.fixture(scope="module")
def replicated(
    image: str,
    network_and_gateway: tuple[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    authenticator: SilentAuthenticator,
    request: pytest.FixtureRequest,
) -> Iterator[tuple[Workshop, NginxUnderTest]]:
    """Nginx that has two replicas to choose from, when they are there."""
    name, gateway = network_and_gateway
    external = {"url": f"http://{authenticator.address}:{authenticator.port}/check", "timeout": "2s"}
    guarded = {"authentication": {"mode": "external", "external": external}}
    proxy = guarded if getattr(request, "param", None) == GUARDED else {}
    for workshop in workshop_in(image, name, gateway, tmp_path_factory.mktemp("replicas")):
        settings = settings_of(site=SITE, proxy=proxy)
        yield workshop, workshop.nginx(settings, port=port_free_at(gateway), replicas=2)


@pytest.fixture
def pair(replicated: tuple[Workshop, NginxUnderTest], second_address: str) -> Iterator[Pair]:
    """Two replicas, both there."""
    workshop, nginx = replicated
    port = int(nginx.upstreams[0].rsplit(":", 1)[1])
    with EchoBackend(workshop.gateway, port) as first, EchoBackend(second_address, port) as second:
        made = Pair(nginx, workshop, first, second)
        made.known(*made.addresses)
        made.wait_until_balanced()
        first.forget()
        second.forget()
        yield made


def test_request_goes_where_fewest_are_under_way(pair: Pair) -> None:
    with ExitStack() as open_requests:
        slow = open_requests.enter_context(pair.nginx.exchange())
        send_head(slow, "GET", "/api/slow", [("Host", pair.nginx.domain)])
        wait_until(lambda: sum(pair.served()) == 1, what="a slow request at one", every=0.02)
        busy, idle = (pair.first, pair.second) if pair.first.requests else (pair.second, pair.first)
        for _ in range(20):
            assert pair.nginx.ask("/headers").status == 200
        assert (len(busy.requests), len(idle.requests)) == (1, 20)


def test_replica_that_dies_under_load_costs_no_answer_and_is_used_again_when_it_is_back(pair: Pair) -> None:
    with Load(
        f"https://localhost:{pair.nginx.https_port}", pair.nginx.ca_file, Http1(path="/headers"), Http2(path="/headers")
    ) as load:
        before = load.requests
        wait_until(lambda: load.requests > before + 50, what="50 answers of two", every=0.02)
        pair.second.stop()
        alone = load.requests
        wait_until(lambda: load.requests > alone + 100, what="100 answers of one", every=0.02)
        with EchoBackend(pair.second.address, pair.second.port) as again:
            wait_until(
                lambda: len(again.requests) > 20, what="requests at the one that is back", deadline=10, every=0.02
            )
            both = load.requests
            wait_until(lambda: load.requests > both + 50, what="50 answers of two", every=0.02)
    assert load.failures == [], str(load)


@pytest.mark.parametrize("method", NEVER_TWICE)
def test_what_changes_something_is_never_sent_twice(pair: Pair, method: str) -> None:
    for number in range(1, 7):
        # Over connections that were kept, and over new ones.
        assert pair.nginx.ask("/headers").status == 200
        answer = pair.nginx.ask("/api/die", method=method, body=b"{}")
        assert answer.status == 503
        assert answer.json()["detail"]
        sent = [*pair.first.requests, *pair.second.requests].count(f"{method} /api/die")
        assert sent == number


def test_what_changes_nothing_is_asked_of_the_other_replica(pair: Pair) -> None:
    pair.first.answers["/api/x"] = dies
    for _ in range(6):
        assert pair.nginx.ask("/api/x").status == 200


@pytest.mark.parametrize("method", NEVER_TWICE)
def test_what_never_reached_a_replica_is_sent_to_the_other(pair: Pair, method: str) -> None:
    pair.second.stop()
    for _ in range(6):
        assert pair.nginx.ask("/api/headers", method=method, body=b"{}").status == 200
    assert pair.first.requests.count(f"{method} /api/headers") == 6


def test_address_that_the_name_loses_gets_nothing_new_and_finishes_what_it_has(pair: Pair) -> None:
    with ExitStack() as open_requests:
        under_way = {}
        for number in range(5):
            client = open_requests.enter_context(pair.nginx.exchange())
            send_head(client, "GET", "/api/stream?type=text/event-stream", [("Host", pair.nginx.domain)])
            wait_until(lambda number=number: sum(pair.served()) == number + 1, what="a stream", every=0.02)
            under_way[client] = client.getresponse()
        # The one with fewer under way would get what comes next, and is the one that goes.
        goes, stays = sorted([pair.first, pair.second], key=lambda replica: len(replica.requests))
        assert 0 < len(goes.requests) < len(stays.requests)
        pair.known(stays.address)
        assert pair.nginx.ask("/headers").status == 200

        def gone() -> bool:
            before = len(goes.requests)
            assert pair.nginx.ask("/headers").status == 200
            return len(goes.requests) == before

        wait_until(gone, what="a request at the one that stays", deadline=5, every=0.05)
        before = len(goes.requests)
        for _ in range(20):
            assert pair.nginx.ask("/headers").status == 200
        assert len(goes.requests) == before
        for replica in (goes, stays):
            replica.acknowledge()
        for response in under_way.values():
            assert [
                json.loads(line.removeprefix("data: ")) for line in answer_of(response).body.decode().splitlines()
            ] == [
                {"event": 1},
                {"event": 2},
            ]


def test_without_any_address_there_is_a_page_until_one_is_back(pair: Pair) -> None:
    pair.known()
    wait_until(lambda: pair.nginx.ask("/api/headers").status == 503, what="no replica", deadline=5, every=0.05)
    page = pair.nginx.ask("/", headers=[("Accept", "text/html")])
    assert (page.status, page.header("Retry-After")) == (503, "5")
    assert b'http-equiv="refresh"' in page.body
    pair.known(pair.second.address)
    wait_until(lambda: pair.nginx.ask("/api/headers").status == 200, what="a replica", deadline=5, every=0.05)
    assert len(pair.second.requests) >= 1


def test_a_name_server_that_does_not_know_yet_costs_nothing(pair: Pair) -> None:
    # As the one that asks the replicas says it when it begins, or begins again.
    pair.workshop.names.at_a_loss = 3
    url, client = f"https://localhost:{pair.nginx.https_port}", Http1(path="/headers", connections=2, every=0.02)
    with Load(url, pair.nginx.ca_file, client) as load:
        wait_until(lambda: pair.workshop.names.at_a_loss == 0, what="three questions for the name", deadline=30)
        asked = load.requests
        wait_until(lambda: load.requests > asked + 20, what="requests afterwards")
    assert load.failures == [], str(load)
    assert all(pair.served())


def test_a_proxy_that_starts_knows_its_replicas_by_its_first_question(workshop: Workshop) -> None:
    # The name server stands in for the sidecar as well: Nginx learns its address there, and asks it for the replicas.
    sidecar = "readiness"
    workshop.names.addresses |= {sidecar: workshop.names.address, UPSTREAM: workshop.gateway}
    port = port_free_at(workshop.gateway)
    with EchoBackend(workshop.gateway, port):
        nginx = workshop.nginx(settings_of(), port=port, replicas=2, readiness=f"{sidecar}:{workshop.names.port}")
        nginx.restart()
        wait_until(lambda: nginx.ask("/headers").status == 200, what="an answer", ignoring=(OSError,))
        assert "could not be resolved" not in nginx.error_log()


@contextmanager
def nobody_at(pair: Pair, *hosts: int) -> Iterator[tuple[str, ...]]:
    """Return unused addresses of the network; the other replica has more under way than is asked meanwhile."""
    pair.first.stop()
    pair.known(pair.second.address)
    with ExitStack() as under_way:
        for _ in range(20):
            slow = under_way.enter_context(pair.nginx.exchange())
            send_head(slow, "GET", "/api/slow", [("Host", pair.nginx.domain)])
        wait_until(lambda: pair.second.requests.count("GET /api/slow") == 20, what="its requests", every=0.02)
        yield tuple(f"{pair.first.address.rsplit('.', 1)[0]}.{host}" for host in hosts)


def left_waiting(pair: Pair, pool: ThreadPoolExecutor) -> list[Future[Answer]]:
    """Ask until a request waits for a connection, and return what was asked; the last one waits."""
    asked: list[Future[Answer]] = []

    def waits() -> bool:
        asked.append(pool.submit(pair.nginx.ask, "/api/headers"))
        return not wait([asked[-1]], _QUICK).done

    wait_until(waits, what="a request that waits for a connection", deadline=5, every=0.1)
    return asked


@WITH_AND_WITHOUT
def test_replica_that_takes_no_connection_and_leaves_the_name_costs_nothing_that_may_be_asked_twice(pair: Pair) -> None:
    with nobody_at(pair, 250) as (gone,), ThreadPoolExecutor(max_workers=16) as pool:
        pair.known(gone, pair.second.address)
        probes = left_waiting(pair, pool)
        asked = {method: pool.submit(pair.nginx.ask, "/api/headers", method=method) for method in METHODS}
        paths = ["/api/version", "/api/version", "/static/headers", "/cache/headers", "/headers"]
        # Who asks for its health need not be known to the authenticator, by which a second try would pass.
        guarded = pair.nginx.settings.proxy.authentication.external is not None
        elsewhere = [pool.submit(pair.nginx.ask, path) for path in ([] if guarded else ["/health"]) + paths]
        pair.known(pair.second.address)
    statuses = {method: future.result().status for method, future in asked.items()}
    assert {future.result().status for future in elsewhere} == {200}
    assert statuses == dict.fromkeys(METHODS, 200) | dict.fromkeys(NEVER_TWICE, 503)
    assert pair.second.requests.count("GET /api/headers") == len(probes) + 1
    line = pair.nginx.line_about(asked["GET"].result())
    assert line["upstream"].startswith(f"{gone}:{pair.first.port}")
    assert line["upstream"].endswith(f" : {pair.second.address}:{pair.second.port}")


@pytest.mark.parametrize("replicated", [GUARDED], indirect=True)
@pytest.mark.parametrize(("fault", "host"), [("401", 240), ("refused", 241)])
def test_second_try_needs_a_yes_of_its_own(
    pair: Pair, authenticator: SilentAuthenticator, fault: str, host: int
) -> None:
    does, status = FAULTS[fault]
    # Another address each time: the kernel remembers for a while that one leads nowhere.
    with nobody_at(pair, host) as (gone,), ThreadPoolExecutor(max_workers=16) as pool:
        pair.known(gone, pair.second.address)
        asked = left_waiting(pair, pool)
        before = pair.second.requests.count("GET /api/headers")
        authenticator.become(does)
        pair.known(pair.second.address)
        waited = asked[-1].result()
    authenticator.become(ADMITS)
    assert waited.status == status
    assert pair.second.requests.count("GET /api/headers") == before
    assert f"{gone}:{pair.first.port}" in pair.nginx.line_about(waited)["upstream"]


def test_what_fails_again_is_answered_with_the_page(pair: Pair) -> None:
    with nobody_at(pair, 250, 251) as (gone, going), ThreadPoolExecutor(max_workers=16) as pool:
        pair.known(gone)

        def waits() -> Future[Answer] | None:
            asked = pool.submit(pair.nginx.ask, "/headers", headers=[("Accept", "text/html")])
            return None if wait([asked], _QUICK).done else asked

        first = wait_until(waits, what="a request that waits for a connection", deadline=5, every=0.1)
        pair.known(going)
    assert first is not None
    answer = first.result()
    assert (answer.status, answer.header("Retry-After")) == (503, "5")
    assert b'http-equiv="refresh"' in answer.body
    assert f"{gone}:{pair.first.port}" in pair.nginx.line_about(answer)["upstream"]
