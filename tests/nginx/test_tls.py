"""Which TLS a client can have."""

import ssl
import warnings

import pytest

from tests.nginx.conftest import SITE, Workshop
from tests.nginx.nginx_under_test import NginxUnderTest, settings_of
from tests.support.echo_backend import EchoBackend

VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


def only(nginx: NginxUnderTest, version: str, *protocols: str) -> ssl.SSLContext:
    """Offer one version, and for old ones what this machine would no longer offer by itself."""
    context = nginx.trust(*protocols)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if version in {"TLSv1", "TLSv1.1"}:
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_current_versions_are_accepted(nginx: NginxUnderTest, version: str) -> None:
    with nginx.connection(context=only(nginx, version)) as connected:
        assert isinstance(connected, ssl.SSLSocket)
        assert connected.version() == version


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1.1"])
def test_old_versions_are_refused(nginx: NginxUnderTest, version: str) -> None:
    # The server's own word for it, not this machine's.
    with pytest.raises(ssl.SSLError, match="alert protocol version"), nginx.connection(context=only(nginx, version)):
        pass


@pytest.mark.parametrize("ciphers", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"])
def test_ciphers_outside_the_profile_are_refused(nginx: NginxUnderTest, ciphers: str) -> None:
    context = only(nginx, "TLSv1.2")
    context.set_ciphers(ciphers)
    with pytest.raises(ssl.SSLError, match="alert handshake failure"), nginx.connection(context=context):
        pass


@pytest.fixture(scope="module")
def with_rsa(shared_workshop: Workshop, shared_backend: EchoBackend) -> NginxUnderTest:
    """Nginx with a certificate such as a company's authority may issue."""
    return shared_workshop.nginx(settings_of(site=SITE), port=shared_backend.port, rsa=True)


@pytest.mark.parametrize(
    ("version", "cipher"),
    [
        ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384"),
        ("TLSv1.2", "ECDHE-RSA-CHACHA20-POLY1305"),
        ("TLSv1.3", None),
    ],
)
def test_an_rsa_certificate_is_served_over_both_versions(
    with_rsa: NginxUnderTest, version: str, cipher: str | None
) -> None:
    context = only(with_rsa, version)
    if cipher is not None:
        context.set_ciphers(cipher)
    with with_rsa.connection(context=context) as connected:
        assert isinstance(connected, ssl.SSLSocket)
        agreed = connected.cipher()
        assert agreed is not None
        assert (agreed[0] == cipher) or version == "TLSv1.3"


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"])
def test_an_rsa_certificate_brings_no_cipher_without_forward_secrecy(with_rsa: NginxUnderTest, cipher: str) -> None:
    context = only(with_rsa, "TLSv1.2")
    context.set_ciphers(cipher)
    with pytest.raises(ssl.SSLError, match="alert handshake failure"), with_rsa.connection(context=context):
        pass


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["http/1.1", "h2"], "h2")],
)
def test_http_2_is_agreed_on_where_the_client_knows_it(nginx: NginxUnderTest, offered: list[str], agreed: str) -> None:
    with nginx.connection(context=nginx.trust(*offered)) as connected:
        assert isinstance(connected, ssl.SSLSocket)
        assert connected.selected_alpn_protocol() == agreed


def test_session_is_resumed_without_a_ticket(nginx: NginxUnderTest) -> None:
    context = only(nginx, "TLSv1.2")
    with nginx.connection(context=context) as first:
        assert isinstance(first, ssl.SSLSocket)
        session = first.session
    assert session is not None
    assert not session.has_ticket
    with nginx.connection(context=context, session=session) as second:
        assert isinstance(second, ssl.SSLSocket)
        assert second.session_reused


def test_plain_http_on_the_https_port_is_refused(nginx: NginxUnderTest) -> None:
    assert (
        nginx.ask_in_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", scheme="http", port=nginx.https_port).status
        == 400
    )
