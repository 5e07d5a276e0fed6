"""Measures a proxy's memory per idle WebSocket."""

import base64
import os
import socket
import ssl
from contextlib import ExitStack

from open_webui_edge.benchmarks.contenders import Contender

_PATIENCE = 20.0
_MESSAGE = b"42"
_HEAD_MAX = 16384


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
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /ws/socket.io/ HTTP/1.1\r\nHost: {address.host}\r\nOrigin: {address.url}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD_MAX:
        if not (more := connection.recv(1024)):
            break
        head += more
    if not head.startswith(b"HTTP/1.1 101"):
        connection.close()
        raise RuntimeError(f"no WebSocket through {address.name}: {head[:200]!r}")
    connection.sendall(_client_frame(_MESSAGE))
    answer = connection.recv(16)
    if not answer.endswith(_MESSAGE):
        connection.close()
        raise RuntimeError(f"{address.name} did not echo: {answer!r}")
    return connection


def _client_frame(text: bytes) -> bytes:
    """Return a final text frame, masked as a client's must be (RFC 6455 section 5.2)."""
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[number % 4] for number, byte in enumerate(text))
    return bytes([0x81, 0x80 | len(text)]) + mask + masked
