"""A load balancer that passes TCP through says first whose connection it is (PROXY protocol, versions 1 and 2)."""

import socket
import ssl
import struct
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from tests.nginx.conftest import SITE, NginxWith, Workshop
from tests.nginx.nginx_under_test import DockerError, NginxUnderTest
from tests.support.echo_backend import EchoBackend, arrived

CLIENT, CLIENT_ON_IPV6, BALANCER = "198.51.100.7", "2001:db8:2::7", "203.0.113.1"
Preamble = Callable[[str], bytes]
FORGED = [
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Real-IP", "6.6.6.6"),
    ("X-Forwarded-Proto", "http"),
    ("Forwarded", "for=6.6.6.6;proto=http"),
]


def version_1(client: str) -> bytes:
    other = client if ":" in client else BALANCER
    return f"PROXY TCP{6 if ':' in client else 4} {client} {other} 50000 443\r\n".encode()


def version_2(client: str) -> bytes:
    address = ip_address(client)
    addresses = address.packed * 2 + struct.pack("!2H", 50000, 443)
    family = 0x11 if address.version == 4 else 0x21
    # Signature; version 2 and PROXY; family and TCP; length.
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!2BH", 0x21, family, len(addresses)) + addresses


@pytest.fixture(scope="module")
def balanced(nginx_with: NginxWith, shared_workshop: Workshop) -> NginxUnderTest:
    """Nginx behind such a load balancer, which is where the test's published connections come from."""
    return nginx_with(
        site=SITE,
        open_webui={"environment": {"WEBUI_AUTH_TRUSTED_EMAIL_HEADER": "X-Our-Email"}},
        proxy={
            "proxy_protocol": True,
            "trusted_proxies": [shared_workshop.gateway],
            "identity_headers_from": [CLIENT],
        },
    )


@pytest.fixture
def from_balancer(balanced: NginxUnderTest, backend: EchoBackend) -> NginxUnderTest:
    del backend
    return balanced


@pytest.mark.parametrize("client", [CLIENT, CLIENT_ON_IPV6])
@pytest.mark.parametrize("version", [version_1, version_2])
def test_client_has_the_address_of_the_preamble_whatever_its_headers_say(
    from_balancer: NginxUnderTest, version: Preamble, client: str
) -> None:
    answer = from_balancer.ask("/api/headers", preamble=version(client), headers=FORGED)
    received = arrived(answer.body)
    assert (received["x-forwarded-for"], received["x-real-ip"]) == ([client], [client])
    assert received["x-forwarded-proto"] == ["https"]
    assert "forwarded" not in received
    assert from_balancer.line_about(answer)["client"] == client


@pytest.mark.parametrize("version", [version_1, version_2])
def test_plain_http_behind_a_balancer_leads_to_https_whatever_its_headers_say(
    from_balancer: NginxUnderTest, backend: EchoBackend, version: Preamble
) -> None:
    said = [("X-Forwarded-Proto", "https")]
    answer = from_balancer.ask("/x?q=1", scheme="http", preamble=version(CLIENT), headers=said)
    assert (answer.status, answer.header("Location")) == (308, "https://localhost:8443/x?q=1")
    assert backend.requests == []


def test_peer_that_is_not_trusted_cannot_set_an_address(from_balancer: NginxUnderTest) -> None:
    answer = from_balancer.ask_from_itself("/api/headers", "--haproxy-clientip", "6.6.6.6", headers=FORGED)
    received = arrived(answer.body)
    assert (received["x-forwarded-for"], received["x-real-ip"]) == (["127.0.0.1"], ["127.0.0.1"])


def test_identity_comes_from_the_client_s_own_address(from_balancer: NginxUnderTest) -> None:
    said = [("X-Our-Email", "admin@example.com")]
    allowed = from_balancer.ask("/api/headers", preamble=version_1(CLIENT), headers=said)
    assert arrived(allowed.body)["x-our-email"] == ["admin@example.com"]
    other = from_balancer.ask("/api/headers", preamble=version_1(CLIENT_ON_IPV6), headers=said)
    assert "x-our-email" not in arrived(other.body)
    untrusted = from_balancer.ask_from_itself("/api/headers", "--haproxy-clientip", CLIENT, headers=said)
    assert "x-our-email" not in arrived(untrusted.body)


def test_without_the_preamble_there_is_no_answer(from_balancer: NginxUnderTest, backend: EchoBackend) -> None:
    with from_balancer.connection(scheme="http") as connected:
        connected.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert _all_that_comes(connected) == b""
    with pytest.raises((ssl.SSLError, ConnectionError)), from_balancer.connection():
        pass
    with pytest.raises(DockerError):
        from_balancer.ask_from_itself("/api/headers")
    assert backend.requests == []


@pytest.mark.parametrize("preamble", [b"PROXY TCP4 nonsense\r\n", b"PROXY TCP4 1.2.3.4\r\n", version_2(CLIENT)[:14]])
def test_broken_preamble_gets_no_answer(from_balancer: NginxUnderTest, backend: EchoBackend, preamble: bytes) -> None:
    with from_balancer.connection(scheme="http", preamble=preamble) as connected:
        connected.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connected.shutdown(socket.SHUT_WR)
        assert _all_that_comes(connected) == b""
    assert backend.requests == []


def _all_that_comes(connected: socket.socket) -> bytes:
    came = b""
    try:
        while piece := connected.recv(1 << 16):
            came += piece
    except ConnectionResetError:
        pass
    return came
