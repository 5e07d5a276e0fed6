"""Issuers, the DNS that they ask, and a site for each test."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from open_webui_edge.settings.images import ACME_TOOLS, CERTBOT, NGINX, ImageSource
from tests.acme.engine import docker, remove
from tests.acme.issuer import BRIEF, HMAC_KEY, KEY_ID, NINETY_DAYS, Issuer, Names
from tests.acme.site import Site
from tests.support.certificates import authority, server
from tests.support.machine import image_here


@dataclass(frozen=True)
class World:
    """What all tests share."""

    network: str
    gateway: str
    """This machine's address in it."""
    names: Names
    first: Issuer
    """Takes anybody."""
    second: Issuer
    """Takes only accounts that are bound to one of its own."""
    staging: Issuer
    """Where to practise; it also has a brief profile."""
    authority_pem: str
    placeholder: tuple[str, str]

    def asked(self, issuer: Issuer, **further: Any) -> dict[str, Any]:
        """Return an issuer as settings name it."""
        bound = {"external_account": {"key_id": KEY_ID, "hmac_key": HMAC_KEY}} if issuer.account_key else {}
        return {"directory": issuer.directory, "directory_ca": self.authority_pem, **bound, **further}


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """Three issuers and their DNS, in a network of their own."""
    for image in (ACME_TOOLS, *(image.reference(ImageSource.BUILT, None) for image in (CERTBOT, NGINX))):
        image_here(image)
    root = authority("authority of the directories", days=(-1, 1))
    network = f"ac-acme-{secrets.token_hex(3)}"
    names = Names(f"{network}-dns", network)
    first = Issuer("first", f"{network}-first", network, root.pem)
    second = Issuer("second", f"{network}-second", network, root.pem, account_key=True)
    staging = Issuer("staging", f"{network}-staging", network, root.pem, profiles={**NINETY_DAYS, **BRIEF})
    issuers = (first, second, staging)
    docker("network", "create", network)
    try:
        gateway = docker("network", "inspect", "--format={{(index .IPAM.Config 0).Gateway}}", network).strip()
        names.start()
        directory = server([issuer.name for issuer in issuers], root, days=(-1, 1))
        for issuer in issuers:
            issuer.start(directory.pem, directory.key_pem, dns=names.address)
        own = server(["placeholder.test"], None, days=(-1, 1))
        placeholder = (own.pem, own.key_pem)
        yield World(network, gateway, names, first, second, staging, root.pem, placeholder)
    finally:
        remove(names.container, *(issuer.container for issuer in issuers))
        docker("network", "rm", network)


@pytest.fixture
def new_site(world: World) -> Iterator[Callable[..., Site]]:
    """Make a site; it ends with the test."""
    with ExitStack() as sites:

        def make(**further: Any) -> Site:
            return sites.enter_context(Site(world.network, world.placeholder, world.names, **further))

        yield make


@pytest.fixture
def site(new_site: Callable[..., Site]) -> Site:
    """A site, with a placeholder for its certificate."""
    return new_site()
