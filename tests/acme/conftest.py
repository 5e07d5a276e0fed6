"""Issuers, the DNS that they ask, and a site for each test."""

import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from components.images import ACME_TOOLS, CERTBOT, NGINX, ImageSource
from tests.acme.engine import docker, remove
from tests.acme.issuer import BRIEF, HMAC_KEY, KEY_ID, NINETY_DAYS, Issuer, Names
from tests.acme.site import Site
from tests.support.machine import lacks


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
        try:
            found = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)  # noqa: S603, S607
        except FileNotFoundError:
            lacks("no docker client")
        if found.returncode:
            lacks(f"no image {image} in a Docker engine")
    authority, authority_key = _certificate("authority of the directories", [])
    authority_pem = authority.public_bytes(Encoding.PEM).decode()
    network = f"ac-acme-{secrets.token_hex(3)}"
    names = Names(f"{network}-dns", network)
    first = Issuer("first", f"{network}-first", network, authority_pem)
    second = Issuer("second", f"{network}-second", network, authority_pem, account_key=True)
    staging = Issuer("staging", f"{network}-staging", network, authority_pem, profiles={**NINETY_DAYS, **BRIEF})
    issuers = (first, second, staging)
    docker("network", "create", network)
    try:
        gateway = docker("network", "inspect", "--format={{(index .IPAM.Config 0).Gateway}}", network).strip()
        names.start()
        pair = pems(*_certificate("directory", [issuer.name for issuer in issuers], (authority, authority_key)))
        for issuer in issuers:
            issuer.start(*pair, dns=names.address)
        placeholder = pems(*_certificate("placeholder", ["placeholder.test"]))
        yield World(network, gateway, names, first, second, staging, authority_pem, placeholder)
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


_Signed = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _certificate(name: str, hosts: list[str], by: _Signed | None = None) -> _Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by[0].subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=not hosts, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if hosts:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(alternatives, critical=False)
    if by:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(by[1].public_key())
        builder = builder.add_extension(identifier, critical=False)
    else:
        usage = dict.fromkeys(_USES, False) | {"key_cert_sign": True, "crl_sign": True}
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    return builder.sign(by[1] if by else key, hashes.SHA256()), key


_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def pems(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[str, str]:
    """Return both as PEM."""
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), private.decode()
