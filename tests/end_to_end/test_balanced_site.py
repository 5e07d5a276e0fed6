"""A chat through a load balancer: what the stack ordered leads browsers to the site, and says who they are."""

import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient
from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.components.reverse_proxy.rendering import HEALTH_OF_LOAD_BALANCER
from open_webui_edge.settings.images import BENCH_TOOLS
from tests.acme.engine import inside
from tests.end_to_end.conftest import engine_with
from tests.end_to_end.instance.balancer import Balancer
from tests.end_to_end.site import ALIAS, DOMAIN, Site, chat
from tests.support.certificates import authority, server
from tests.support.stack import NO_CHANGE

pytestmark = pytest.mark.long
FORGED = {"X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6.6.6.6", "X-Forwarded-Proto": "http", "Forwarded": "for=6.6.6.6"}
OF_ALIAS = {"domain": DOMAIN, "aliases": [ALIAS]}


@pytest.fixture
def addresses() -> Mapping[str, str]:
    """A network for a VPC, which is one of this machine's too."""
    return {"cidr": f"10.{64 + secrets.randbelow(64)}.{secrets.randbelow(256)}.0/24"}


@pytest.fixture
def alb_site(deployable: Mapping[str, str], addresses: Mapping[str, str], tmp_path: Path) -> Iterator[Site]:
    aws = {"vpc": addresses, "load_balancer": {"kind": "alb"}}
    with Site.open(tmp_path, deployable, "e2e-alb", aws=aws, site=OF_ALIAS, certificate={"mode": "acm"}) as site:
        yield site


@pytest.fixture
def nlb_site(deployable: Mapping[str, str], addresses: Mapping[str, str], tmp_path: Path) -> Iterator[Site]:
    engine_with(BENCH_TOOLS)
    aws = {"vpc": addresses, "load_balancer": {"kind": "nlb"}}
    with Site.open(tmp_path, deployable, "e2e-nlb", aws=aws, site=OF_ALIAS) as site:
        yield site


def test_a_chat_goes_through_an_application_load_balancer(alb_site: Site) -> None:
    site = alb_site
    issuer = authority("who is asked for certificates")
    issued = server([DOMAIN, ALIAS], issuer)
    provided = site.stack.cloud.client("acm").import_certificate(
        Certificate=issued.pem.encode(), PrivateKey=issued.key_pem.encode()
    )
    site.set("certificate.acm.arn", provided["CertificateArn"])
    site.up().succeeded()
    with (
        Balancer.application(site.stack.cloud, site.hardware, issued) as balancer,
        site.visited(at=balancer.address, trusting=issuer.pem) as client,
    ):
        assert chat(client).chat_id in [retained["id"] for retained in client.chats()]
        assert_known(site, client, balancer.client)
        assert_led_to_the_name(client)
        # Its own requests by the instance's address are answered; a client that sends one through it is refused.
        asked = ("curl", "-sSk", "-w", "%{http_code}", f"https://{site.machine.address}{HEALTH_OF_LOAD_BALANCER}")
        assert inside(balancer.name, *asked) == (0, "200")
        answer = client.http.get(HEALTH_OF_LOAD_BALANCER, headers={"Host": site.machine.address or ""})
        assert answer.status_code == 421
    assert NO_CHANGE.search(site.up().succeeded().output)


def test_a_chat_goes_through_a_network_load_balancer(nlb_site: Site) -> None:
    site = nlb_site
    site.up().succeeded()
    with Balancer.passing(site.stack.cloud, site.hardware) as balancer, site.visited(at=balancer.address) as client:
        assert chat(client).chat_id in [retained["id"] for retained in client.chats()]
        assert_known(site, client, balancer.client)
        assert_led_to_the_name(client)
    assert NO_CHANGE.search(site.up().succeeded().output)


def assert_known(site: Site, client: OpenWebUIClient, address: str) -> None:
    """Proxy and application know who comes, whatever that one says of himself."""
    path = f"/api/v1/asked-for-by-{secrets.token_hex(8)}"
    client.http.get(path, headers=FORGED)

    def line() -> dict[str, Any] | None:
        lines = said_by(site, "nginx")
        return next((json.loads(line) for line in lines if path in line and line.startswith("{")), None)

    result = wait_until(line, what="the proxy's line about a request", deadline=300)
    assert result is not None
    assert (result["client"], result["host"]) == (address, DOMAIN)
    about = wait_until(
        lambda: [line for line in said_by(site, "open-webui") if path in line],
        what="the application's line about a request",
        deadline=300,
    )
    assert any(f"{address}:" in line for line in about), about
    assert not any("6.6.6.6" in line for line in about)


def assert_led_to_the_name(client: OpenWebUIClient) -> None:
    """A client that comes by HTTP or by another name is redirected to the site's one address."""
    for url in (f"http://{DOMAIN}/c/1?a=b", f"https://{ALIAS}/c/1?a=b"):
        answer = client.http.get(url, follow_redirects=False)
        assert answer.status_code == 301, url
        assert answer.headers["Location"].replace(":443", "") == f"https://{DOMAIN}/c/1?a=b"


def said_by(site: Site, role: str) -> list[str]:
    (name,) = site.stack.outputs()["containers"][role]
    return site.machine.do(f"docker logs {name} 2>&1").splitlines()
