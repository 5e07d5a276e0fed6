"""Measures a proxy's memory per idle WebSocket."""

import socket
import ssl
from contextlib import ExitStack

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Event, Request, TextMessage

from open_webui_edge.benchmarks.contenders import Contender

_PATIENCE = 20.0
_MESSAGE = "42"


def kibibytes_each(contender: Contender, trust: ssl.SSLContext, count: int) -> float:
    """Open idle WebSockets, echo one message over each, and return the growth of the proxy's memory.

    Raises:
        RuntimeError: one was refused, or did not echo.

    """
    with ExitStack() as held:
        # One before, so that what a worker allocates once is not counted.
        held.enter_context(_open(contender, trust))
        before = contender.running.memory()
        for _ in range(count):
            held.enter_context(_open(contender, trust))
        grown = contender.running.memory() - before
    return grown / count / 1024


def _open(contender: Contender, trust: ssl.SSLContext) -> ssl.SSLSocket:
    address = contender.address
    plain = socket.create_connection((address.ip, address.port), timeout=_PATIENCE)
    connection = trust.wrap_socket(plain, server_hostname=address.host)
    protocol = WSConnection(ConnectionType.CLIENT)
    handshake = Request(address.host, "/ws/socket.io/", extra_headers=[(b"Origin", address.url.encode())])
    for sent, kind in ((handshake, AcceptConnection), (TextMessage(_MESSAGE), TextMessage)):
        connection.sendall(protocol.send(sent))
        event = _next_event(connection, protocol)
        if not isinstance(event, kind) or (isinstance(event, TextMessage) and event.data != _MESSAGE):
            connection.close()
            raise RuntimeError(f"{address.name} answers {sent} by {event}")
    return connection


def _next_event(connection: ssl.SSLSocket, protocol: WSConnection) -> Event | None:
    while (event := next(protocol.events(), None)) is None and (received := connection.recv(16384)):
        protocol.receive_data(received)
    return event
