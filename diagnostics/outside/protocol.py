"""HTTP/2 and HTTP/3."""

import re
import secrets
import socket
from collections.abc import Iterator

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import http_client
from open_webui_edge.diagnostics.outside.addresses import addresses_of
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

_SECONDS = 2.0
_TRIES = 3
_SMALLEST = 1200
"""Bytes that a first datagram of QUIC has at least (RFC 9000 section 14.1)."""
_GREASE = 0x1A2A3A4A
"""A version that no server supports (RFC 9000 section 15): the response lists the supported versions."""
_VERSION_1 = 1


def _two(subject: Subject) -> Iterator[Finding]:
    if subject.scheme == "http":
        yield Hop.PROXY.ok("http.two", "Browsers speak HTTP/2 over TLS only.")
        return
    with http_client.connection(subject, protocols=("h2", "http/1.1")) as connected:
        chosen = connected.selected_alpn_protocol()  # type: ignore[attr-defined]  # with https it is an SSLSocket
        if chosen != "h2":
            yield _no_http2(subject)
            return
        try:
            status = _asked_over_http2(connected, subject.authority)
        except (ProtocolError, OSError) as fault:
            yield Hop.PROXY.failure(
                "http.two",
                f"HTTP/2 is offered and does not work: {fault}.",
                "Browsers choose it, and show an error.",
                "Switch it off until it works: in Nginx `http2 off;`.",
            )
            return
    yield Hop.PROXY.ok("http.two", f"HTTP/2 is spoken; /api/version gives {status}.")


def _no_http2(subject: Subject) -> Finding:
    seen = "HTTP/2 is not offered."
    why = "The page's 800 files then come six at a time; it loads more slowly."
    if subject.of_a_stack:
        fix = "Nginx here offers it, so another proxy in front does not: switch HTTP/2 on there."
        return Hop.OUTER_PROXY.warning("http.two", seen, why, fix)
    return Hop.PROXY.note("http.two", seen, f"{why} In Nginx `http2 on;`; Caddy offers it by itself.")


def _asked_over_http2(connected: socket.socket, authority: str) -> int:
    protocol = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    protocol.initiate_connection()
    head = [(":method", "GET"), (":path", "/api/version"), (":scheme", "https"), (":authority", authority)]
    protocol.send_headers(1, [*head, ("user-agent", http_client.AGENT)], end_stream=True)
    connected.sendall(protocol.data_to_send())
    status = 0
    while True:
        received = connected.recv(1 << 16)
        if not received:
            raise OSError("the connection was closed before the answer was whole")
        for event in protocol.receive_data(received):
            if isinstance(event, ResponseReceived):
                status = next(int(value) for name, value in event.headers or () if name == ":status")
            if isinstance(event, DataReceived):
                protocol.acknowledge_received_data(event.flow_controlled_length or 0, 1)
            if isinstance(event, StreamReset):
                raise OSError(f"the request was reset (error {event.error_code})")
            if isinstance(event, StreamEnded):
                return status
        connected.sendall(protocol.data_to_send())


def _three(subject: Subject) -> Iterator[Finding]:
    is_expected = subject.expectations.http3
    offered = [value for value in http_client.page(subject).all("Alt-Svc") if "h3" in value]
    if not offered:
        if is_expected:
            yield Hop.PROXY.warning(
                "http.three",
                "proxy.http3 is on, and no answer says so (Alt-Svc).",
                "Browsers never try HTTP/3.",
                "Run `make up`; if it stays so, a proxy in front drops Alt-Svc.",
                setting="proxy.http3",
            )
        else:
            yield Hop.PROXY.ok("http.three", "HTTP/3 is not offered.")
        return
    named = re.search(r'h3="(?:[^"]*:)?(\d+)"', offered[0])
    port = int(named[1] if named else 0) or subject.port
    versions = quic_versions(subject, port)
    if _VERSION_1 in versions:
        yield Hop.PROXY.ok("http.three", f"HTTP/3 is offered, and UDP port {port} speaks QUIC.")
        return
    yield Hop.HOST.warning(
        "http.three",
        f"HTTP/3 is offered ({offered[0]}), but there is no response on UDP port {port}.",
        "Browsers try it, wait, and fall back: the first page comes late.",
        f"Open UDP port {port} in the firewall or security group beside TCP, and publish it; or switch HTTP/3 off: "
        "proxy.http3: false, in Nginx remove Alt-Svc and `listen … quic`.",
        setting="proxy.http3",
        value="false",
    )


def quic_versions(subject: Subject, port: int) -> tuple[int, ...]:
    """Return the QUIC versions supported at a UDP port; none without a response.

    A datagram in a version that does not exist is answered with the list of those that do (RFC 9000 section 6): it says
    that QUIC is there and that UDP comes through, without a client for all of it.
    """
    identity, own = secrets.token_bytes(8), secrets.token_bytes(8)
    head = bytes([0xC0]) + _GREASE.to_bytes(4, "big")
    question = head + bytes([len(identity)]) + identity + bytes([len(own)]) + own
    question = question.ljust(_SMALLEST, b"\0")
    for address in addresses_of(subject)[:1]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.settimeout(_SECONDS)
            asking.connect((address, port))
            for _ in range(_TRIES):  # a datagram may be lost
                try:
                    asking.send(question)
                    return _listed(asking.recv(2048), own)
                except OSError:
                    continue
    return ()


def _listed(answer: bytes, own: bytes) -> tuple[int, ...]:
    # The first byte, version 0, then both identities, exchanged, and the versions (RFC 8999 section 6).
    if len(answer) < 7 or answer[1:5] != bytes(4) or answer[6 : 6 + answer[5]] != own:  # noqa: PLR2004  # see above
        return ()
    at = 6 + answer[5]
    at += 1 + answer[at]
    return tuple(int.from_bytes(answer[each : each + 4], "big") for each in range(at, len(answer) - 3, 4))


QUESTIONS = (
    Question("http.two", Hop.PROXY, "HTTP/2", ("tls.handshake",), _two),
    Question("http.three", Hop.PROXY, "HTTP/3", ("app.answers",), _three),
)
