"""A stack whose certificate comes from a real ACME server: first update, renewal, other modes, removal and return.

The issuer is on a network of its own and asks the stack's published port 80, as the internet would.

Marked long: changes of the mode, a removal and what a browser and testssl say of it. tests/acme runs the same issuer,
certbot and Nginx without Pulumi.
"""

import secrets
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
from cryptography import x509

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.settings.images import ACME_TOOLS, CERTBOT, ImageSource
from tests.acme.engine import docker as docker_client
from tests.acme.engine import remove
from tests.acme.issuer import Issuer, Names
from tests.support.browser import ARTEFACTS, open_webui_page
from tests.support.certificates import authority, pem, server
from tests.support.load import Handshakes, Http1, Http2, Load, SocketIo
from tests.support.machine import lacks
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop, free_port
from tests.support.tls_grade import grade

NAMES = ["chat.example.test", "www.chat.example.test"]
RESOLVE = dict.fromkeys(NAMES, "127.0.0.1")


@dataclass
class Site:
    """A stack, who certifies its names, and who says where they lead."""

    stack: StackUnderTest
    issuer: Issuer
    staging: Issuer
    """Where it lets one practise."""
    names: Names
    address: str
    """Of this machine, for the issuer."""
    trusted: Path
    """The issuer's root and the stack's own authority."""
    root: Path
    """The issuer's root."""

    def load(self) -> Load:
        """Ask in every way that a change of certificate could break."""
        clients = Handshakes(), Http1(connections=2), Http2(connections=1), SocketIo()
        return Load(f"https://{NAMES[0]}:{self.stack.https_port}", self.trusted, *clients, resolve=RESOLVE)

    def served(self) -> x509.Certificate:
        """Return what a browser is shown, having checked it as one does."""
        context = ssl.create_default_context(cafile=self.trusted)
        with (
            socket.create_connection(("127.0.0.1", self.stack.https_port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=NAMES[0]) as connection,
        ):
            return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")

    def health(self) -> str:
        """Return what the proxy's last health check said."""
        return self.stack.container("nginx").attrs["State"]["Health"]["Log"][-1]["Output"]


@contextmanager
def acme_world(bridge_address: str) -> Iterator[tuple[Issuer, Issuer, Names]]:
    """Run two ACME servers and the DNS server that they ask, on a network of their own, until the block ends."""
    network = f"it-acme-{secrets.token_hex(3)}"
    root = authority("Who vouches for the directory")
    directory = server([bridge_address], root)
    http_port = free_port()
    names = Names(f"{network}-dns", network)
    issuer, staging = (
        Issuer(
            name,
            f"{network}-{name}",
            network,
            root.pem,
            published=(bridge_address, free_port()),
            http_port=http_port,
        )
        for name in ("issuer", "staging")
    )
    docker_client("network", "create", network)
    try:
        names.start()
        for each in (issuer, staging):
            each.start(directory.chain_pem, directory.key_pem, dns=names.address)
        yield issuer, staging, names
    finally:
        remove(names.container, issuer.container, staging.container)
        docker_client("network", "rm", network)


@pytest.fixture(scope="module")
def world(engine: docker.DockerClient, bridge_address: str) -> Iterator[tuple[Issuer, Issuer, Names]]:
    """A strict ACME server that containers of every network reach, another to practise at, and their DNS."""
    for image in (ACME_TOOLS, CERTBOT.reference(ImageSource.BUILT, None)):
        if not engine.images.list(name=image):
            lacks(f"no image {image}")
    with acme_world(bridge_address) as world:
        yield world


@pytest.fixture(scope="module")
def site(
    workshop: Workshop,
    world: tuple[Issuer, Issuer, Names],
    bridge_address: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """The stack, at first with a certificate of its own."""
    issuer, staging, names = world
    listen = {"address": "0.0.0.0", "http_port": issuer.http_port, "https_port": free_port()}
    config = {
        "site": {"domain": NAMES[0], "aliases": NAMES[1:], "listen": listen},
        "open_webui": {"admin": {"email": "admin@example.com"}},
    }
    with StackUnderTest(workshop, "it-acme", config).running() as stack:
        trusted = tmp_path_factory.mktemp("acme") / "trusted.pem"
        trusted.write_text(stack.ca_file.read_text() + pem(issuer.root()))
        root = trusted.with_name("root.pem")
        root.write_text(pem(issuer.root()))
        site = Site(stack, issuer, staging, names, bridge_address, trusted, root)
        with site.load() as load:
            wait_until(lambda: load.requests > 10, what="the application")
        yield site


@contextmanager
def reported_by_certbot(site: Site) -> Iterator[None]:
    """Add to a failure what certbot's container said."""
    try:
        yield
    except Exception as error:
        error.add_note(site.stack.container("certbot").logs(tail=100).decode(errors="replace"))
        raise


def requested_of_the_issuer(site: Site) -> None:
    """Have the stack want its certificate of the issuer, from the next update on."""
    issuer = {"directory": site.issuer.directory, "directory_ca": site.issuer.authority_pem, "wait": "30s"}
    site.stack.config["certificate"] = {
        "mode": "lets-encrypt",
        "lets_encrypt": {**issuer, "email": "admin@example.com", "staging_directory": site.staging.directory},
    }
    site.stack.write()


@pytest.fixture
def certified(site: Site) -> Site:
    """The stack with a certificate of the issuer, also where the tests that bring it were not selected."""
    if "certificate" not in site.stack.config:
        for name in NAMES:
            site.names.lead(name, site.address)
        requested_of_the_issuer(site)
        site.stack.up().succeeded()
    return site


def test_what_stands_in_the_way_fails_the_update_and_nobody_else(site: Site) -> None:
    own, proxy = site.served(), site.stack.container("nginx").id
    for name in NAMES:
        site.names.lead_nowhere(name)
    requested_of_the_issuer(site)
    with site.load() as load:
        failed = site.stack.up().failed()
    assert load.failures == [], str(load)
    assert "edge-it-acme-certbot is unhealthy" in failed.output
    said = " ".join(failed.output.split())
    for name in NAMES:
        hint = f"The name {name} has no A/AAAA record: create an A record with this machine's public address"
        assert hint in said, said
    assert site.served() == own
    assert site.stack.container("nginx").id == proxy


def test_the_next_update_begins_anew_and_brings_the_certificate(site: Site) -> None:
    for name in NAMES:
        site.names.lead(name, site.address)
    with site.load() as load:
        site.stack.up().succeeded()
        asked = load.requests
        wait_until(lambda: load.requests > asked + 100, what="requests over the new certificate")
    assert load.failures == [], str(load)
    # After a failure it practised first, at no limit's expense.
    assert site.staging.orders() > 0
    served = site.served()
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sorted(names.get_values_for_type(x509.DNSName)) == NAMES
    outputs = site.stack.outputs()
    assert outputs["certificate"] == {"mode": "lets-encrypt", "subject_names": NAMES}
    assert "ca_certificate" not in outputs
    assert NO_CHANGE.search(site.stack.up().succeeded().output)
    wait_until(lambda: "days" in site.health() and NAMES[0] in site.health(), what="the health check's words")


@pytest.mark.long
@pytest.mark.alone
def test_a_browser_trusts_it(certified: Site) -> None:
    arguments = ["--host-resolver-rules=MAP *.example.test 127.0.0.1"]
    with open_webui_page(
        f"https://{NAMES[0]}:{certified.stack.https_port}", ca_file=certified.root, arguments=arguments
    ) as page:
        page.open(page.url)
        page.page.locator("input[type=password]").wait_for()


def test_it_is_renewed_without_an_update_and_without_a_failed_request(site: Site) -> None:
    before = site.served()
    site.issuer.advise_to_renew_now(before)
    with reported_by_certbot(site), site.load() as load:
        # The issuer is asked at most twice a day; and whenever the container starts.
        site.stack.container("certbot").restart()
        # One that refuses nonces, as this one does, may cost two runs more, with the machine under load.
        wait_until(
            lambda: site.served().serial_number != before.serial_number, what="the new certificate", deadline=300
        )
        asked = load.requests
        wait_until(lambda: load.requests > asked + 100, what="requests over the new certificate")
    assert load.failures == [], str(load)
    assert f"{site.served().serial_number:X}" in site.stack.read(
        "certbot", "cat", "/var/lib/open-webui-edge/state.json"
    )


def test_a_person_sees_it_and_can_practise_a_renewal(site: Site) -> None:
    make = site.stack.workshop.run
    shown = make("make", "certificate", f"STACK={site.stack.name}").succeeded().output
    for words in (*NAMES, "lets-encrypt", "Pebble", "days left"):
        assert words in shown, shown
    practised, orders = site.staging.orders(), site.issuer.orders()
    make("make", "certificate-dry-run", f"STACK={site.stack.name}").succeeded()
    assert site.staging.orders() > practised
    assert site.issuer.orders() == orders


@pytest.mark.long
def test_modes_change_in_both_directions_and_no_order_is_spent(certified: Site) -> None:
    issued, orders = certified.served(), certified.issuer.orders()
    certificate = certified.stack.config.pop("certificate")
    with certified.load() as load:
        certified.stack.write()
        certified.stack.up().succeeded()
        assert certified.served() != issued
        certified.stack.config["certificate"] = certificate
        certified.stack.write()
        certified.stack.up().succeeded()
        asked = load.requests
        wait_until(lambda: load.requests > asked + 100, what="requests over the certificate from before")
    assert load.failures == [], str(load)
    assert certified.served() == issued
    assert (certified.issuer.orders(), certified.issuer.accounts()) == (orders, 1)


@pytest.mark.long
def test_what_was_removed_comes_back_with_its_account_and_certificate(certified: Site) -> None:
    issued, orders = certified.served(), certified.issuer.orders()
    stack = certified.stack
    stack.pulumi("destroy", "--yes", "--skip-preview", "--exclude-protected", "--stack", stack.name).succeeded()
    assert stack.owned("containers") == []
    assert [volume for volume in stack.owned("volumes") if volume.endswith("-letsencrypt")]
    stack.up().succeeded()
    assert certified.served() == issued
    assert (certified.issuer.orders(), certified.issuer.accounts()) == (orders, 1)


def test_no_secret_of_the_certificate_is_where_others_can_read_it(site: Site) -> None:
    assert site.stack.read("certbot", "find", "/etc/letsencrypt", "-type", "f", "-perm", "/077", "-name", "*key*") == ""
    offered = site.stack.read("certbot", "find", "/var/lib/open-webui-edge/offered", "-type", "f", "-perm", "/077")
    assert "private_key" not in offered


@pytest.mark.long
def test_testssl_grades_it_a_plus(engine: docker.DockerClient, certified: Site) -> None:
    url = f"https://{NAMES[0]}:{certified.stack.https_port}"
    result = grade(engine, url, ca_file=certified.root, artefacts=ARTEFACTS, name="it-acme-grader")
    assert (result.grade, result.reasons) == ("A+", []), result.output
    assert result.findings["cert_chain_of_trust"] == "passed.", result.output
