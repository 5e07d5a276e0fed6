"""Wildcards, which demand a proof by DNS: Route 53's API is moto's, and its records reach the issuer's DNS."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acme.conftest import World
from tests.acme.engine import remove
from tests.acme.host import Host
from tests.acme.route53 import Route53
from tests.acme.site import Site
from tests.support.machine import lacks

ROLE = {"AccessKeyId": "ASIATHEROLE", "SecretAccessKey": "the-role-s-secret", "SessionToken": "the-role-s-token"}


@pytest.fixture(scope="module")
def route53(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Route53]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).parent / "moto_server"
    if not program.exists():
        lacks("no moto_server")
    with (tmp_path_factory.mktemp("route53") / "moto.log").open("wb") as log:
        moto = subprocess.Popen(  # noqa: S603
            [program, "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, "MOTO_PORT": str(port)},
        )
    try:
        made = Route53(world.gateway, world.names, f"http://127.0.0.1:{port}")
        try:
            made.make_zone("wild.test")
            yield made
        finally:
            made.close()
    finally:
        moto.terminate()
        moto.wait()


def test_a_wildcard_is_proved_by_dns(site: Site, world: World, route53: Route53) -> None:
    keys = {"access_key_id": "AKIATEST", "secret_access_key": "a-secret", "region": "us-east-1"}
    site.wants(
        *("chat.wild.test", "*.wild.test", "wild.test"),
        issuers=[world.asked(world.first)],
        challenge="dns-01",
        route53={**keys, "endpoint": route53.url},
    )
    site.start()
    site.wait_until_well()
    # The wildcard covers it, and issuers refuse to name both.
    assert site.state()["wanted"] == ["*.wild.test", "wild.test"]
    site.assert_trusted(world.first, "chat.wild.test", "any.wild.test", "wild.test")
    assert route53.texts() == {}
    assert re.search("a-secret|AKIATEST", site.log()) is None


def test_a_zone_that_is_not_there_is_named(site: Site, world: World, route53: Route53) -> None:
    site.wants(
        "chat.zoneless.test",
        issuers=[world.asked(world.first)],
        challenge="dns-01",
        route53={"access_key_id": "AKIATEST", "secret_access_key": "a-secret", "endpoint": route53.url},
    )
    site.start()
    site.wait_for_failure("This AWS account has no public hosted zone for the name")


@pytest.fixture
def host(world: World, site: Site) -> Iterator[Host]:
    name = f"ac-host-{site.id}"
    try:
        yield Host(name, world.network, site.address, ROLE)
    finally:
        remove(name)


def test_on_the_network_of_an_instance_its_role_is_enough(
    site: Site, world: World, route53: Route53, host: Host
) -> None:
    before = len(route53.signed)
    site.wants(
        *("chat.wild.test", "*.wild.test"),
        issuers=[world.asked(world.first)],
        challenge="dns-01",
        route53={"endpoint": route53.url},
        proxy={"host": "127.0.0.1", "port": 443},
    )
    site.start(host=host)
    site.wait_until_well()
    site.assert_trusted(world.first, "chat.wild.test", "any.wild.test")
    assert set(route53.signed[before:]) == {(ROLE["AccessKeyId"], ROLE["SessionToken"])}
    assert route53.texts() == {}
    assert re.search("|".join(ROLE.values()), site.log()) is None


def test_without_keys_and_without_a_role_it_says_so(site: Site, world: World, route53: Route53) -> None:
    site.wants(
        "chat.wild.test",
        issuers=[world.asked(world.first)],
        challenge="dns-01",
        route53={"endpoint": route53.url},
    )
    # Where there is no machine's role to ask for.
    site.start(environment={"AWS_EC2_METADATA_DISABLED": "true"})
    site.wait_for_failure("There are no AWS keys: set certificate.lets_encrypt.route53")
