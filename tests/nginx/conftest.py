"""Nginx, what stands behind it, and the names by which it finds that."""

import json
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from open_webui_edge.settings.images import NGINX, ImageSource
from open_webui_edge.settings.stack import StackSettings
from tests.nginx.name_server import NameServer
from tests.nginx.nginx_under_test import NginxUnderTest, network, settings_of
from tests.nginx.offers import Offers
from tests.support.echo_backend import EchoBackend
from tests.support.machine import image_here

_LOG_LINES = 50
UPSTREAM = "open-webui"
SITE = {"domain": "localhost", "aliases": ["127.0.0.1", "chat.example.com", "2001:db8::1"]}
StartBackend = Callable[[int], EchoBackend]
NginxWith = Callable[..., NginxUnderTest]
PROXY = {"limits": {"max_upload": "1MiB"}}


@pytest.fixture(scope="session")
def image() -> str:
    """The image with the real Nginx; a machine that has none is no place for these tests."""
    return image_here(NGINX.reference(ImageSource.BUILT, None))


@dataclass
class Workshop:
    """Makes what a test needs, and ends it afterwards."""

    image: str
    network: str
    gateway: str
    """This machine's address in the network: where backends listen."""
    names: NameServer
    directory: Path
    made: list[NginxUnderTest] = field(default_factory=list[NginxUnderTest])

    def nginx(  # noqa: PLR0913 - keywords, each a thing of its own
        self,
        settings: StackSettings,
        *,
        port: int,
        rsa: bool = False,
        further_ports: Sequence[int] = (),
        replicas: int | None = None,
        upstream: str = UPSTREAM,
        ipv6: bool = False,
        volumes: Sequence[str] = (),
        offers: Offers | None = None,
        warn_before: int = 0,
        acme_challenges: Sequence[str] = (),
        storage: str | None = None,
        readiness: str | None = None,
    ) -> NginxUnderTest:
        """Start Nginx before an application that it knows by name, at `port`.

        Each further port is a replica; where one name stands for several, `replicas` says how many. With `offers` it
        serves a certificate of theirs.
        """
        made = NginxUnderTest(
            image=self.image,
            network=self.network,
            directory=self.directory,
            settings=settings,
            upstreams=[f"{upstream}:{each}" for each in (port, *further_ports)],
            resolver=self.names.resolver,
            replicas=replicas or 1 + len(further_ports),
            ipv6=ipv6,
            volumes=volumes,
            rsa=rsa,
            certificate_source="own" if offers is None else "offered",
            certificates=None if offers is None else offers.volume,
            warn_before=warn_before,
            acme_challenges=acme_challenges,
            storage=storage,
            readiness=readiness,
        )
        self.made.append(made)
        made.start()
        return made


@pytest.fixture(scope="session")
def network_and_gateway(image: str) -> Iterator[tuple[str, str]]:
    """A network of its own, and this machine's address in it."""
    del image
    with network() as made:
        yield made


@pytest.fixture(scope="session")
def shared_workshop(
    image: str,
    network_and_gateway: tuple[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Workshop]:
    """What all tests share that change nothing."""
    yield from workshop_in(image, *network_and_gateway, tmp_path_factory.mktemp("nginx"))


@pytest.fixture
def workshop(image: str, network_and_gateway: tuple[str, str], tmp_path: Path) -> Iterator[Workshop]:
    """What a test has for itself."""
    yield from workshop_in(image, *network_and_gateway, tmp_path)


def workshop_in(image: str, network: str, gateway: str, directory: Path) -> Iterator[Workshop]:
    """Make one, and end what it made; none of its Nginx may have complained."""
    with NameServer(gateway) as names:
        made = Workshop(image, network, gateway, names, directory)
        try:
            yield made
            for nginx in made.made:
                nginx.assert_nothing_serious_in(nginx.error_log())
        finally:
            for nginx in made.made:
                nginx.remove()


@pytest.fixture(scope="session")
def shared_backend(shared_workshop: Workshop) -> Iterator[EchoBackend]:
    """A backend that is always there."""
    with EchoBackend(shared_workshop.gateway) as backend:
        yield backend


@pytest.fixture(scope="session")
def shared_nginx(nginx_with: NginxWith) -> NginxUnderTest:
    """Nginx before it."""
    return nginx_with(site=SITE, proxy=PROXY)


@pytest.fixture(scope="session")
def nginx_with(shared_workshop: Workshop, shared_backend: EchoBackend) -> NginxWith:
    """Start Nginx with other settings before the backend that is always there; a module does it once."""

    def start(**topics: object) -> NginxUnderTest:
        shared_workshop.names.addresses[UPSTREAM] = shared_workshop.gateway
        return shared_workshop.nginx(settings_of(**topics), port=shared_backend.port)

    return start


@pytest.fixture
def backend(shared_backend: EchoBackend) -> EchoBackend:
    """The backend, as if no other test had asked it anything."""
    shared_backend.forget()
    return shared_backend


@pytest.fixture
def nginx(shared_nginx: NginxUnderTest, backend: EchoBackend) -> Iterator[NginxUnderTest]:
    """Nginx with a backend; a test fails if Nginx logs an alert."""
    del backend
    before = len(shared_nginx.said_so_far())
    yield shared_nginx
    shared_nginx.assert_nothing_serious_in(shared_nginx.said_so_far()[before:])


@dataclass
class Variants:
    """Nginx with other settings before the same backend: one for each, however many tests ask."""

    workshop: Workshop
    backend: EchoBackend
    made: dict[str, NginxUnderTest] = field(default_factory=dict[str, NginxUnderTest])

    def of(self, **topics: object) -> NginxUnderTest:
        """Return the one with these settings, with nothing of an earlier test at its backend."""
        self.backend.forget()
        key = json.dumps(topics, sort_keys=True)
        if key not in self.made:
            self.made[key] = self.workshop.nginx(settings_of(**{"site": SITE, **topics}), port=self.backend.port)
        return self.made[key]


@pytest.fixture(scope="session")
def variants(shared_workshop: Workshop, shared_backend: EchoBackend) -> Variants:
    """Nginx with other settings, before the backend that is always there."""
    shared_workshop.names.addresses[UPSTREAM] = shared_workshop.gateway
    return Variants(shared_workshop, shared_backend)


@pytest.fixture(scope="module")
def offers(image: str) -> Iterator[Offers]:
    """Who obtains certificates."""
    with Offers.by(image) as made:
        yield made


@pytest.fixture
def start_backend(workshop: Workshop) -> Iterator[StartBackend]:
    """Start a backend of the test's own at a port; it ends with the test."""
    with ExitStack() as running:
        yield lambda port: running.enter_context(EchoBackend(workshop.gateway, port))


@pytest.fixture
def free_port(workshop: Workshop) -> int:
    """A port where nothing listens."""
    return port_free_at(workshop.gateway)


def port_free_at(address: str) -> int:
    """Return a port of an address where nothing listens."""
    with socket.socket() as taken:
        taken.bind((address, 0))
        return taken.getsockname()[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach to a failure what Nginx ran with, and what it said."""
    report = yield
    if report.failed:
        fixtures = getattr(item, "funcargs", {}).values()
        of_workshops = [nginx for one in fixtures if isinstance(one, Workshop) for nginx in one.made]
        for nginx in {one.name: one for one in [*fixtures, *of_workshops] if isinstance(one, NginxUnderTest)}.values():
            report.sections += [
                (f"{nginx.name}: nginx.conf", nginx.configuration),
                (f"{nginx.name}: access log", _end_of(nginx.access_log())),
                (f"{nginx.name}: error log", _end_of(nginx.error_log())),
            ]
    return report


def _end_of(log: str) -> str:
    return "\n".join(log.splitlines()[-_LOG_LINES:])
