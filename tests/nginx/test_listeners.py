"""What a TLS client agrees on, and what is resumed."""

import socket
import ssl
import subprocess

import h2.config
import h2.connection
import h2.events
import pytest

from tests.nginx.nginx_under_test import NginxUnderTest
from tests.nginx.test_tls import only
from tests.support.echo_backend import EchoBackend


def test_tls_1_3_session_is_resumed(nginx: NginxUnderTest) -> None:
    context = only(nginx, "TLSv1.3")
    with nginx.connection(context=context) as first:
        assert isinstance(first, ssl.SSLSocket)
        # Its tickets come with the first answer.
        first.sendall(b"GET /headers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while first.recv(1 << 16):
            pass
        session = first.session
    with nginx.connection(context=context, session=session) as second:
        assert isinstance(second, ssl.SSLSocket)
        assert second.session_reused


@pytest.mark.parametrize(
    "ciphers",
    ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"],
)
def test_each_cipher_of_the_intermediate_profile_is_accepted(nginx: NginxUnderTest, ciphers: str) -> None:
    context = only(nginx, "TLSv1.2")
    context.set_ciphers(ciphers)
    with nginx.connection(context=context) as connected:
        assert isinstance(connected, ssl.SSLSocket)
        cipher = connected.cipher()
    assert cipher is not None
    assert cipher[0] == ciphers


@pytest.mark.parametrize(
    ("offered", "said"),
    [
        ("X25519MLKEM768", "Negotiated TLS1.3 group: X25519MLKEM768"),
        ("X25519", "Peer Temp Key: X25519"),
        ("prime256v1", "Peer Temp Key: ECDH, prime256v1"),
        ("secp384r1", "Peer Temp Key: ECDH, secp384r1"),
        # What a browser offers: a key for either.
        ("*X25519MLKEM768:*X25519", "Negotiated TLS1.3 group: X25519MLKEM768"),
    ],
)
def test_each_group_of_the_profile_is_accepted(nginx: NginxUnderTest, offered: str, said: str) -> None:
    assert said in _handshake(nginx, offered).stdout


def test_other_groups_are_refused(nginx: NginxUnderTest) -> None:
    refused = _handshake(nginx, "secp521r1")
    assert refused.returncode != 0
    assert "handshake failure" in refused.stderr


def _handshake(nginx: NginxUnderTest, group: str) -> subprocess.CompletedProcess[str]:
    # By the container's OpenSSL: this machine's may be too old for the newest group.
    return subprocess.run(  # noqa: S603
        ["docker", "exec", nginx.name, "openssl", "s_client", "-connect", "127.0.0.1:443", "-groups", group],  # noqa: S607
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_client_that_names_no_server_is_answered_by_the_name_in_its_request(nginx: NginxUnderTest) -> None:
    nameless = ssl.create_default_context(cafile=str(nginx.ca_file))
    nameless.check_hostname = False
    answers = {
        host: nginx.ask_in_bytes(f"GET /headers HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), context=nameless).status
        for host in ("localhost", "evil.example.com")
    }
    assert answers == {"localhost": 200, "evil.example.com": 421}


@pytest.mark.parametrize("host", ["evil.example.com", "chat.example.com"])
def test_two_names_in_one_request_are_refused_over_http_2_too(
    nginx: NginxUnderTest, backend: EchoBackend, host: str
) -> None:
    with nginx.connection(context=nginx.trust("h2")) as connected:
        assert _status_over_http_2(connected, authority=nginx.domain, host=host) == 400
    assert backend.requests == []


def _status_over_http_2(connected: socket.socket, *, authority: str, host: str) -> int:
    # By hand: no client of good manners sends both.
    client = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
    client.initiate_connection()
    head = [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", "/headers"), ("host", host)]
    client.send_headers(client.get_next_available_stream_id(), head, end_stream=True)
    connected.sendall(client.data_to_send())
    while True:
        for event in client.receive_data(connected.recv(1 << 16)):
            if isinstance(event, h2.events.ResponseReceived):
                return int(dict(event.headers)[b":status"])
