"""How long one small request takes over a connection that is open already."""

import socket
import ssl
import time
from http import HTTPStatus
from typing import Self

from open_webui_edge.benchmarks.contenders import Address
from open_webui_edge.benchmarks.http1 import read_http1

_PATIENCE = 10.0


class PersistentConnection:
    """A connection of HTTP/1.1 that asks the same question again and again; a lost one is an error, not retried."""

    def __init__(self, address: Address, trust: ssl.SSLContext, path: str, *, token: str | None = None) -> None:
        """Connect; `token` authenticates requests, None leaves them anonymous."""
        plain = socket.create_connection((address.ip, address.port), timeout=_PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = trust.wrap_socket(plain, server_hostname=address.host) if address.scheme == "https" else plain
        self._answers = self._socket.makefile("rb")
        signed_in = "" if token is None else f"Authorization: Bearer {token}\r\n"
        host = address.url.partition("://")[2]
        self._request = (f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n{signed_in}\r\n").encode()

    def __enter__(self) -> Self:
        """Use it until the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self._answers.close()
        self._socket.close()

    def ask(self) -> float:
        """Ask once, and return the milliseconds until the last byte of the answer.

        Raises:
            RuntimeError: the answer is not a good one, or the connection will be closed.

        """
        began = time.perf_counter()
        self._socket.sendall(self._request)
        status, closes = read_http1(self._answers)
        took = time.perf_counter() - began
        if status != HTTPStatus.OK or closes:
            raise RuntimeError(f"status {status}{', and the connection closes' if closes else ''}")
        return took * 1e3
