"""A certificate that is offered while Nginx runs: served by a reload, or refused and the one before served on."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from components.reverse_proxy.scripts import CERTIFICATES, DIRECTORY, METRICS
from tests.nginx.authorities import Issued, issue
from tests.nginx.backend import EchoBackend
from tests.nginx.conftest import SITE, UPSTREAM, Workshop
from tests.nginx.nginx_under_test import DockerError, NginxUnderTest, settings_of
from tests.nginx.offers import Offers
from tests.support.load import Client, Http1, Http2, Load, Tally, Target, WebSocketEcho, read_http1
from tests.support.waiting import wait_until

HOSTS = ["localhost", "127.0.0.1", "chat.example.com", "2001:db8::1"]
DAY = 24 * 60 * 60
SETTINGS = settings_of(site=SITE)


@pytest.fixture(scope="module")
def authority() -> Issued:
    return issue("An issuer of certificates", authority=True)


def leaf(authority: Issued, **given: object) -> Issued:
    return issue("localhost", authority, hosts=HOSTS, **given)  # pyright: ignore[reportArgumentType]


def serve_offers(
    workshop: Workshop, backend: EchoBackend, offers: Offers, authority: Issued, **given: object
) -> NginxUnderTest:
    offers.withdraw()
    workshop.names.addresses[UPSTREAM] = workshop.gateway
    nginx = workshop.nginx(SETTINGS, port=backend.port, offers=offers, **given)  # pyright: ignore[reportArgumentType]
    nginx.ca_file.write_text(nginx.certificate + authority.pem)
    return nginx


@pytest.fixture(scope="module")
def shared_proxy(
    shared_workshop: Workshop, shared_backend: EchoBackend, offers: Offers, authority: Issued
) -> NginxUnderTest:
    return serve_offers(shared_workshop, shared_backend, offers, authority)


@pytest.fixture
def proxy(shared_proxy: NginxUnderTest, offers: Offers, authority: Issued) -> Iterator[NginxUnderTest]:
    """Nginx with a good certificate that was offered."""
    good = leaf(authority)
    offers.offer(good)
    wait_until_served(shared_proxy, good)
    before = len(shared_proxy.said_so_far())
    yield shared_proxy
    shared_proxy.assert_nothing_serious_in(shared_proxy.said_so_far()[before:])


def served(nginx: NginxUnderTest) -> int:
    """Return the serial number of the certificate that a client gets."""
    with nginx.connection() as connected:
        assert isinstance(connected, ssl.SSLSocket)
        shown = connected.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def wait_until_served(nginx: NginxUnderTest, issued: Issued) -> None:
    wanted = issued.certificate.serial_number
    wait_until(lambda: served(nginx) == wanted, what=f"the certificate {wanted:X}", every=0.05, ignoring=(OSError,))


def wait_for_words(nginx: NginxUnderTest, words: str) -> str:
    def found() -> str:
        return next((line for line in nginx.error_log().splitlines() if words in line), "")

    return wait_until(found, what=f"{words!r} in the log")


def test_a_placeholder_is_served_until_the_first_certificate_is_offered(
    workshop: Workshop, shared_backend: EchoBackend, offers: Offers, authority: Issued
) -> None:
    nginx = serve_offers(workshop, shared_backend, offers, authority, warn_before=DAY // 2)
    placeholder = x509.load_pem_x509_certificate(nginx.certificate.encode())
    assert served(nginx) == placeholder.serial_number
    healthy, words = nginx.health()
    assert healthy
    assert words.startswith("ok: the certificate has 0 days left: localhost, ")
    assert words.endswith("a placeholder until the first certificate is there")

    first = leaf(authority, lasts=timedelta(days=90, minutes=1))
    name = offers.offer(first)
    wait_until_served(nginx, first)
    line = wait_for_words(nginx, "is served: serial=")
    assert f"[notice] certificate: the one offered in {name} is served: serial={name}" in line
    assert nginx.health() == (
        True,
        "ok: the certificate has 90 days left: localhost, 127.0.0.1, chat.example.com, 2001:DB8:0:0:0:0:0:1; issued by"
        " CN=An issuer of certificates",
    )
    wait_for_words(nginx, "[notice] certificate: 90 days left: localhost, 127.0.0.1, chat.example.com")
    # By a reload: the process is the same.
    assert "signal 1 (SIGHUP) received" not in nginx.error_log() or "exiting" not in nginx.error_log()
    assert nginx.run_inside("cat /proc/1/comm").strip() == "nginx"
