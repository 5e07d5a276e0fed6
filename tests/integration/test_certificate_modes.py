"""Who vouches for the site is changed by an update, in either direction, and nobody's request fails of it."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.certificates import Issued, authority, server
from tests.support.load import Http1, Http2, Load, SocketIo
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop
from tests.support.waiting import wait_until

NAMES = ["localhost", "127.0.0.1"]


@pytest.fixture(scope="module")
def root() -> Issued:
    """An authority that no machine knows."""
    return authority("A company's root")


@pytest.fixture(scope="module")
def company(root: Issued) -> Issued:
    """The authority below it, which issues certificates for servers."""
    return authority("A company's issuing authority", root)


@pytest.fixture(scope="module")
def modes(workshop: Workshop) -> Iterator[StackUnderTest]:
    """A stack with a certificate of its own."""
    with StackUnderTest(workshop, "it-modes", {}).running() as stack:
        yield stack


@pytest.fixture
def trusted(modes: StackUnderTest, root: Issued, tmp_path: Path) -> Path:
    """The certificates of both authorities."""
    file = tmp_path / "both.pem"
    file.write_text(modes.ca_file.read_text() + root.pem)
    return file


def served(stack: StackUnderTest) -> x509.Certificate:
    """Return what a browser is shown."""
    return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", stack.https_port)).encode())


def test_modes_change_without_a_failed_request(modes: StackUnderTest, company: Issued, trusted: Path) -> None:
    proxy, own, authority_before = modes.container("nginx").id, served(modes), modes.ca_file.read_text()
    first, second = server(NAMES, company), server(NAMES, company)
    with Load(modes.url, trusted, Http1(), Http2(), SocketIo()) as load:
        for issued in (first, second, None):
            asked = load.requests
            if issued is None:
                del modes.config["certificate"]
            else:
                modes.provide(issued)
            modes.write()
            modes.up().succeeded()
            outputs = modes.outputs()
            if issued is None:
                # The one from before, whose authority may be trusted already.
                assert served(modes) == own
                assert outputs["ca_certificate"] == authority_before
            else:
                assert served(modes) == issued.certificate
                assert "ca_certificate" not in outputs
                assert outputs["certificate"] == {"mode": "provided", "subject_names": NAMES}
            wait_until(lambda asked=asked: load.requests > asked + 50, what="requests after the reload")
    assert load.failures == [], str(load)
    assert load.requests > 300
    assert modes.container("nginx").id == proxy, "the proxy was replaced"
    assert NO_CHANGE.search(modes.up().succeeded().output)


def test_a_certificate_that_is_refused_changes_nothing(modes: StackUnderTest, company: Issued) -> None:
    before = served(modes)
    modes.provide(server(["blog.example.com"], company, days=(-9, -1)))
    modes.write()
    said = modes.up().failed().output
    assert 'chain.pem" ended on ' in said
    assert "does not cover localhost, 127.0.0.1, but blog.example.com" in said
    assert "certificate.provided.certificate_file" in said
    assert served(modes) == before
