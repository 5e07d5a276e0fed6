"""Over IPv6, without anybody in between: the client keeps its address."""

import socket
from collections.abc import Iterator

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from tests.nginx.conftest import SITE, UPSTREAM, Workshop, workshop_in
from tests.nginx.nginx_under_test import NginxUnderTest, network, settings_of
from tests.support.echo_backend import EchoBackend, arrived


@pytest.fixture(scope="module")
def dual_stack(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A network that has IPv6 too."""
    with network(ipv6=True) as made:
        yield from workshop_in(image, *made, tmp_path_factory.mktemp("ipv6"))


@pytest.fixture(scope="module")
def backend_there(dual_stack: Workshop) -> Iterator[EchoBackend]:
    dual_stack.names.addresses[UPSTREAM] = dual_stack.gateway
    with EchoBackend(dual_stack.gateway) as backend:
        yield backend


@pytest.fixture(scope="module", params=[[], ["fd00::/8"]], ids=["no trusted proxy", "IPv6 trusted"])
def nginx_on_ipv6(request: pytest.FixtureRequest, dual_stack: Workshop, backend_there: EchoBackend) -> NginxUnderTest:
    settings = settings_of(site=SITE, proxy={"trusted_proxies": request.param})
    made = dual_stack.nginx(settings, port=backend_there.port, ipv6=True)
    # The kernel uses an address after duplicate address detection (RFC 4862 section 5.4).
    wait_until(lambda: _is_ours(made.ipv6_gateway), what="this machine's IPv6 address", ignoring=(OSError,))
    return made


def _is_ours(address: str) -> bool:
    with socket.socket(socket.AF_INET6) as bound:
        bound.bind((address, 0))
    return True


def test_client_s_ipv6_address_reaches_the_application_and_the_log(nginx_on_ipv6: NginxUnderTest) -> None:
    nginx = nginx_on_ipv6
    said = "2001:db8::6666"
    answer = nginx.ask("/api/headers", address=nginx.ipv6_address, headers=[("X-Forwarded-For", said)])
    received = arrived(answer.body)
    # This machine's own address in the network, without NAT.
    assert ":" in nginx.ipv6_gateway
    client = said if nginx.settings.proxy.trusted_proxies else nginx.ipv6_gateway
    assert (received["x-forwarded-for"], received["x-real-ip"]) == ([client], [client])
    assert nginx.line_about(answer)["client"] == client


@pytest.mark.parametrize("host", ["localhost", "[2001:db8::1]", "evil.example.com"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_names_are_served_over_ipv6_as_over_ipv4(nginx_on_ipv6: NginxUnderTest, scheme: str, host: str) -> None:
    nginx = nginx_on_ipv6
    over_ipv4 = nginx.ask("/headers?q=1", scheme=scheme, host=host)
    over_ipv6 = nginx.ask("/headers?q=1", scheme=scheme, host=host, address=nginx.ipv6_address)
    assert over_ipv6.status == over_ipv4.status
    assert over_ipv6.header("Location") == over_ipv4.header("Location")


def test_nobody_listens_on_ipv6_where_there_is_none(nginx: NginxUnderTest) -> None:
    assert "[::]" not in nginx.configuration
