"""A certificate that is offered while Nginx runs: served by a reload, or refused and the one before served on."""

import re
import secrets
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.runtime.certbot.key_pair import serial_of
from open_webui_edge.runtime.nginx.scripts import CERTIFICATES, DIRECTORY, INSTALL, METRICS
from tests.nginx.authorities import Issued, issue
from tests.nginx.conftest import SITE, UPSTREAM, Workshop, workshop_in
from tests.nginx.nginx_under_test import DockerError, NginxUnderTest, settings_of
from tests.nginx.offers import Offers, docker
from tests.support.echo_backend import EchoBackend
from tests.support.load import Handshakes, Http1, Http2, Load, WebSocketEcho

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
def module_workshop(
    image: str, network_and_gateway: tuple[str, str], offers: Offers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    """What ends before the volume that it reads."""
    del offers
    yield from workshop_in(image, *network_and_gateway, tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def shared_proxy(
    module_workshop: Workshop, shared_backend: EchoBackend, offers: Offers, authority: Issued
) -> NginxUnderTest:
    return serve_offers(module_workshop, shared_backend, offers, authority)


@pytest.fixture
def proxy(shared_proxy: NginxUnderTest) -> Iterator[NginxUnderTest]:
    """Nginx that serves the published certificate; a test fails if Nginx logs an alert."""
    before = len(shared_proxy.said_so_far())
    yield shared_proxy
    shared_proxy.assert_nothing_serious_in(shared_proxy.said_so_far()[before:])


def offer(nginx: NginxUnderTest, offers: Offers, authority: Issued, **given: object) -> int:
    """Offer a good certificate, and return its serial number once no client gets another."""
    issued = leaf(authority, **given)
    name = offers.offer(issued)
    wait_for_words(nginx, f"the one offered in {name} is served: serial=")
    assert served(nginx) == issued.certificate.serial_number
    return issued.certificate.serial_number


def served(nginx: NginxUnderTest) -> int:
    """Return the serial number of the certificate that a client gets."""
    with nginx.connection() as connected:
        assert isinstance(connected, ssl.SSLSocket)
        shown = connected.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def wait_until_served(nginx: NginxUnderTest, issued: Issued) -> None:
    wait_for_serial(nginx, issued.certificate.serial_number)


def wait_for_serial(nginx: NginxUnderTest, expected: int) -> None:
    wait_until(lambda: served(nginx) == expected, what=f"the certificate {expected:X}", every=0.05, ignoring=(OSError,))


def wait_for_words(nginx: NginxUnderTest, words: str) -> str:
    def line_with_words() -> str:
        return next((line for line in nginx.said_so_far().splitlines() if words in line), "")

    return wait_until(line_with_words, what=f"{words!r} in the log", every=0.05)


def test_a_placeholder_is_served_until_the_first_certificate_is_offered(
    workshop: Workshop, shared_backend: EchoBackend, offers: Offers, authority: Issued
) -> None:
    nginx = serve_offers(workshop, shared_backend, offers, authority, warn_before=DAY // 2)
    placeholder = x509.load_pem_x509_certificate(nginx.certificate.encode())
    assert served(nginx) == placeholder.serial_number
    healthy, words = nginx.health()
    assert healthy
    # It lasts a day, of which a second may be over or not.
    assert re.match("ok: the certificate has [01] days left: localhost, ", words)
    assert words.endswith("a placeholder until the first certificate is there")

    first = leaf(authority, lasts=timedelta(days=90, minutes=1))
    name = offers.offer(first)
    wait_until_served(nginx, first)
    line = wait_for_words(nginx, "is served: serial=")
    assert f"[notice] certificate: the one offered in {name} is served: serial={name}" in line
    about = "90 days left: localhost, 127.0.0.1, chat.example.com, 2001:DB8:0:0:0:0:0:1; issued by"
    assert nginx.health() == (True, f"ok: the certificate has {about} CN=An issuer of certificates")
    wait_for_words(nginx, f"[notice] certificate: {about}")


@dataclass(frozen=True)
class Broken:
    """An offer that is none, and what the log says of it."""

    words: str
    files: dict[str, str]
    afterwards: str = "true"
    lasts: timedelta = timedelta(days=1)


STRANGER = issue("Another site")
BROKEN = {
    "key of another certificate": Broken("key values mismatch", {"private_key": STRANGER.private_key_pem}),
    "garbage": Broken("no start line", {"certificate": "garbage\n"}),
    "empty": Broken("no start line", {"certificate": ""}),
    "no key": Broken("private_key.pem: No such file", {}, "rm current/private_key.pem"),
    "expired": Broken("it expired on ", {}, lasts=timedelta(hours=-1)),
    "unreadable": Broken("Permission denied", {}, "chmod 0 current/private_key.pem"),
    "key with a passphrase": Broken(
        "cannot load certificate key",
        {
            "private_key": STRANGER.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"a passphrase"),
            ).decode()
        },
    ),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_offer_is_refused_and_the_one_before_served_on(
    proxy: NginxUnderTest, offers: Offers, authority: Issued, broken: Broken
) -> None:
    before, generation = served(proxy), proxy.ask_inside("/generation")
    name = offers.offer(leaf(authority, lasts=broken.lasts), afterwards=broken.afterwards, **broken.files)
    line = wait_for_words(proxy, f"the one offered in {name} is not taken, the one before is served on: ")
    assert "[error] certificate: " in line
    assert broken.words in line
    assert served(proxy) == before
    assert proxy.ask_inside("/generation") == generation
    assert proxy.health()[0]


def test_a_broken_offer_is_complained_of_once_and_served_when_it_is_mended(
    proxy: NginxUnderTest, offers: Offers, authority: Issued
) -> None:
    issued = leaf(authority)
    name = serial_of(issued.certificate)
    for _ in range(3):
        # Read again each time: the files change.
        offers.offer(issued, certificate="")
        wait_for_words(proxy, f"the one offered in {name} is not taken")
    offers.offer(issued)
    wait_for_words(proxy, f"the one offered in {name} is served")
    assert served(proxy) == issued.certificate.serial_number
    assert proxy.error_log().count(f"the one offered in {name} is not taken") == 1


def test_twenty_certificates_in_a_row_cost_no_handshake_no_request_and_no_socket(
    proxy: NginxUnderTest, offers: Offers, authority: Issued
) -> None:
    with Load(
        f"https://localhost:{proxy.https_port}",
        proxy.ca_file,
        Handshakes(path="/headers", connections=1, every=0.05),
        Http1(path="/headers", connections=2, every=0.02),
        Http2(path="/headers", connections=1, every=0.05),
        WebSocketEcho(path="/ws/", origin="https://localhost:8443"),
    ) as load:
        for _ in range(20):
            offer(proxy, offers, authority)
    assert load.failures == [], str(load)
    assert load.requests > 500, str(load)
    assert proxy.run_inside(f"ls {DIRECTORY}/generations | wc -l").strip() == "1"


def test_a_reload_keeps_what_was_offered_whatever_becomes_of_the_offer(
    proxy: NginxUnderTest, offers: Offers, authority: Issued
) -> None:
    before = offer(proxy, offers, authority)
    changed = iter(("31m", "32m", "33m"))

    def reload() -> None:
        proxy.reload(settings_of(site=SITE, proxy={"timeouts": {"read": next(changed)}}))

    reload()
    assert served(proxy) == before
    offers.offer(leaf(authority), certificate="garbage")
    reload()
    assert served(proxy) == before
    assert f"the certificate in {CERTIFICATES}/offered/current is not taken: " in proxy.installed
    offers.withdraw()
    reload()
    assert served(proxy) == before


def test_a_stack_that_wants_its_own_certificate_serves_no_other(
    proxy: NginxUnderTest, offers: Offers, authority: Issued
) -> None:
    own = x509.load_pem_x509_certificate(proxy.certificate.encode()).serial_number
    last = leaf(authority)
    before = len(proxy.error_log())
    try:
        proxy.certificate_source = "own"
        proxy.reload(SETTINGS)
        wait_for_serial(proxy, own)
        offers.offer(last)
    finally:
        proxy.certificate_source = "offered"
    # Nothing took it until now, and now it is there at once.
    assert served(proxy) == own
    proxy.reload(SETTINGS)
    wait_until_served(proxy, last)
    assert "is served: serial=" not in proxy.error_log()[before:], "the watcher came first"


def test_a_refused_configuration_is_not_blamed_on_a_certificate(proxy: NginxUnderTest) -> None:
    before = proxy.ask_inside("/generation")
    broken = "cp -Rp current/. candidate && echo 'nonsense on;' >> candidate/nginx.conf"
    proxy.run_inside(f"cd {DIRECTORY} && {broken}")
    with pytest.raises(DockerError, match=r'unknown directive "nonsense" in nginx\.conf:') as refused:
        proxy.run_inside(INSTALL)
    assert "is not taken" not in str(refused.value)
    assert proxy.ask_inside("/generation") == before
    proxy.run_inside(f"rm -r {DIRECTORY}/candidate")


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_restart_between_offer_and_swap_ends_with_the_swap(
    proxy: NginxUnderTest, offers: Offers, authority: Issued, *, kill: bool
) -> None:
    # What one that was killed in the middle leaves behind.
    proxy.run_inside(
        f"cd {DIRECTORY} && mkdir -p generations/offer.new/tls && echo half > generations/offer.new/nginx.conf"
        " && ln -s generations/nowhere current.new && cp -R generations/offer.new generations/0123"
    )
    issued = leaf(authority)
    offers.offer(issued)
    proxy.restart(kill=kill)
    wait_until_served(proxy, issued)
    wait_until(
        lambda: proxy.run_inside(f"ls {DIRECTORY}/generations").split() == [proxy.ask_inside("/generation").strip()],
        what="the leftovers to go",
    )
    assert proxy.health()[0]


def test_what_an_interrupted_swap_left_in_force_is_served(proxy: NginxUnderTest, offers: Offers) -> None:
    # Renamed, and killed before the signal.
    proxy.run_inside(
        f"cd {DIRECTORY} && cp -Rp current/. other && echo 1 > other/warn_before"
        """ && echo 'set $generation "other";' > other/generation.conf && mv other generations/other"""
        " && ln -s generations/other current.new && mv -T current.new current"
    )
    wait_until(lambda: proxy.ask_inside("/generation").strip() == "other", what="the generation in force")
    del offers


def test_the_watcher_is_restarted_when_it_dies_and_nginx_says_nothing(
    proxy: NginxUnderTest, offers: Offers, authority: Issued
) -> None:
    before = len(proxy.error_log())
    proxy.run_inside(
        "for of in /proc/[0-9]*; do read -r _ _ _ parent _ < $of/stat || continue;"
        ' [ "$(cat /proc/$parent/comm)/$(cat $of/comm)/$parent" = "sh/sh/$parent" ] && kill -9 ${of#/proc/}; done; true'
    )
    wait_until(lambda: "starts again" in proxy.error_log()[before:], what="the end of the watcher")
    offer(proxy, offers, authority)
    assert "[alert]" not in proxy.error_log()[before:]


def test_a_full_disk_costs_nothing_but_the_new_certificate(
    small_volume: str, workshop: Workshop, shared_backend: EchoBackend, offers: Offers, authority: Issued
) -> None:
    nginx = serve_offers(workshop, shared_backend, offers, authority, storage=small_volume)
    first = offer(nginx, offers, authority)
    nginx.run_inside(f"cat /dev/zero > {DIRECTORY}/filler 2> /dev/null || true")

    second = leaf(authority)
    name = offers.offer(second)
    line = wait_for_words(nginx, f"the one offered in {name} is not taken")
    assert "No space left on device" in line
    assert served(nginx) == first
    nginx.restart()
    assert served(nginx) == first
    assert nginx.health()[0]

    nginx.run_inside(f"rm {DIRECTORY}/filler")
    nginx.reload(SETTINGS)
    assert served(nginx) == second.certificate.serial_number


@pytest.fixture
def small_volume(image: str) -> Iterator[str]:
    """A volume that is soon full."""
    name = f"nginx-under-test-small-{secrets.token_hex(4)}"
    size = ("--opt=type=tmpfs", "--opt=device=tmpfs", "--opt=o=size=1m")
    docker("volume", "create", *size, name)
    # It is empty as soon as it is unused.
    docker("run", "--detach", f"--name={name}", f"--volume={name}:/held", "--init", image, "sleep", "infinity")
    yield name
    docker("rm", "--force", name)
    docker("volume", "rm", name)


def numbers(nginx: NginxUnderTest) -> dict[str, float]:
    """Return what Prometheus is told."""
    text = nginx.run_inside(f"cat {METRICS}/certificate.prom")
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {name.removeprefix("open_webui_edge_certificate_"): float(value) for name, value in lines}


def test_what_is_left_is_said_by_health_log_and_numbers(
    workshop: Workshop, shared_backend: EchoBackend, offers: Offers, authority: Issued
) -> None:
    nginx = serve_offers(workshop, shared_backend, offers, authority, warn_before=14 * DAY)
    for days, warned in ((14, False), (13, True), (0, True)):
        issued = leaf(authority, lasts=timedelta(days=days, minutes=5))
        expected_name = offers.offer(issued)
        wait_for_words(nginx, f"the one offered in {expected_name} is served")
        healthy, words = nginx.health()
        assert healthy, "a warning is no outage"
        ok = f"ok, but a warning: the certificate has {days} days left, fewer than 14: localhost, "
        assert words.startswith(ok if warned else f"ok: the certificate has {days} days left: localhost, ")
        expected = {
            "expiry_timestamp_seconds": issued.certificate.not_valid_after_utc.timestamp(),
            "days_left": days,
            "warning": warned,
        }
        wait_until(lambda expected=expected: numbers(nginx) == expected, what=f"the numbers {expected}")
        wait_for_words(nginx, f"[{'warn' if warned else 'notice'}] certificate: {days} days left")


def test_only_a_certificate_that_has_run_out_makes_nginx_unhealthy(
    workshop: Workshop, shared_backend: EchoBackend, offers: Offers, authority: Issued
) -> None:
    nginx = serve_offers(workshop, shared_backend, offers, authority, warn_before=14 * DAY)
    short = leaf(authority, lasts=timedelta(seconds=4))
    offers.offer(short)
    wait_until_served(nginx, short)
    wait_until(lambda: not nginx.health()[0], what="the end of the certificate")
    assert nginx.health()[1].startswith("the certificate expired on ")
    # It is served on, since nothing better is there; the next one is taken.
    assert nginx.ask_from_itself("/headers").status == 200
    offer(nginx, offers, authority)
    assert nginx.health()[0]


def test_nginx_that_does_not_answer_is_unhealthy(workshop: Workshop) -> None:
    nginx = NginxUnderTest(workshop.image, workshop.network, workshop.directory, SETTINGS, ["nobody:1"], "127.0.0.1")
    workshop.made.append(nginx)
    nginx.create()
    assert nginx.health() == (False, "Nginx does not answer")


def test_behind_the_proxy_protocol_the_certificate_is_known_too(
    workshop: Workshop, shared_backend: EchoBackend, offers: Offers, authority: Issued
) -> None:
    offers.withdraw()
    of_a_balancer = {"proxy_protocol": True, "trusted_proxies": [f"{workshop.gateway}/32"]}
    nginx = workshop.nginx(settings_of(site=SITE, proxy=of_a_balancer), port=shared_backend.port, offers=offers)
    name = offers.offer(leaf(authority, lasts=timedelta(days=90, minutes=1)))
    wait_for_words(nginx, f"the one offered in {name} is served")
    assert nginx.health()[1].startswith("ok: the certificate has 90 days left: localhost, ")
