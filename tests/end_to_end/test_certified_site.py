"""A certificate whose names are shown by the instance's role alone: no key is written anywhere."""

import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from open_webui_edge.settings.images import ACME_TOOLS, CERTBOT, ImageSource
from tests.acme.engine import remove
from tests.acme.issuer import Issuer, Names
from tests.acme.route53 import Route53
from tests.end_to_end.conftest import engine_with
from tests.end_to_end.instance.metadata import KEY_OF_ROLES
from tests.end_to_end.site import ALIAS, DOMAIN, EMAIL, Site, chat
from tests.support.certificates import authority, pem, server
from tests.support.stack import NO_CHANGE, free_port

pytestmark = pytest.mark.long
ZONE = "example.com"
TOKEN = "curl -sS -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token"
NEVER_ANSWERED = 28
"""curl's word for: the connection was made, and nothing came."""


@pytest.fixture
def site(deployable: Mapping[str, str], tmp_path: Path) -> Iterator[Site]:
    engine_with(ACME_TOOLS, CERTBOT.reference(ImageSource.BUILT, None))
    topics = {
        "site": {"domain": DOMAIN, "aliases": [ALIAS]},
        "dns": {"provider": "route53", "zone": ZONE},
        "certificate": {
            "mode": "lets-encrypt",
            "additional_names": [f"*.{DOMAIN}"],
            "lets_encrypt": {"email": EMAIL, "challenge": "dns-01", "wait": "15m"},
        },
    }
    with Site.open(tmp_path, deployable, "e2e-role", **topics) as site:
        site.stack.cloud.client("route53").create_hosted_zone(Name=ZONE, CallerReference="a person's")
        yield site


@pytest.fixture
def names(site: Site) -> Iterator[Names]:
    names = Names(f"{site.hardware.network}-dns", site.hardware.network)
    try:
        names.start()
        yield names
    finally:
        remove(names.container)


@pytest.fixture
def issuer(site: Site, names: Names) -> Iterator[Issuer]:
    """An issuer that asks the DNS for a proof, and answers where instances reach it."""
    root = authority("Who vouches for the directory")
    directory = server([site.hardware.gateway], root)
    name = f"issuer-{secrets.token_hex(3)}"
    issuer = Issuer(name, name, site.hardware.network, root.pem, published=(site.hardware.gateway, free_port()))
    try:
        issuer.start(directory.chain_pem, directory.key_pem, dns=names.address)
        yield issuer
    finally:
        remove(issuer.container)


@pytest.fixture
def route53(site: Site, names: Names) -> Iterator[Route53]:
    api = Route53(site.hardware.gateway, names, f"http://127.0.0.1:{site.stack.cloud.port}")
    try:
        yield api
    finally:
        api.close()


def test_the_role_of_the_instance_is_enough_for_a_certificate(site: Site, issuer: Issuer, route53: Route53) -> None:
    for path, text in (
        ("directory", issuer.directory),
        ("directory_ca", issuer.authority_pem),
        ("route53.endpoint", route53.url),
    ):
        site.set(f"certificate.lets_encrypt.{path}", text)
    site.up().succeeded()
    with site.visited(trusting=pem(issuer.root())) as client:
        assert chat(client).chat_id in [retained["id"] for retained in client.chats()]
    (key,) = {key for key, token in route53.signed if token}
    assert key == KEY_OF_ROLES
    assert all(token for _, token in route53.signed), "a request came without the role's token"
    # Nothing of the proof is left, and the proxy could not have asked for it.
    assert route53.texts() == {}
    machine = site.machine
    result = json.loads(machine.do("docker inspect $(docker ps --quiet)"))
    by_network = {
        container["Config"]["Labels"]["role"]: list(container["NetworkSettings"]["Networks"]) for container in result
    }
    assert [role for role, networks in by_network.items() if "host" in networks] == ["certbot"]
    for container in result:
        role, inside = container["Config"]["Labels"]["role"], f"nsenter --target {container['State']['Pid']} --net"
        assert machine.attempt(f"{inside} {TOKEN}")[0] == (0 if role == "certbot" else NEVER_ANSWERED), role
    assert NO_CHANGE.search(site.up().succeeded().output)
