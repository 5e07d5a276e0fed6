"""An authenticator in trouble: a server of bytes, which answers as a test says, or does not."""

import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

_HEAD_END = b"\r\n\r\n"
# Closing sends RST in place of FIN.
_NO_LINGERING = struct.pack("ii", 1, 0)
_PATIENCE = 10.0


def says(head: str) -> Callable[[socket.socket], None]:
    """Return what sends these bytes and closes the connection."""
    return lambda connected: connected.sendall(head.encode())


def _resets(connected: socket.socket) -> None:
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)


def _hangs(connected: socket.socket) -> None:
    # Until Nginx closes it.
    connected.settimeout(None)
    connected.recv(1)


def _status(status: str, *headers: str) -> Callable[[socket.socket], None]:
    return says("\r\n".join([f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "Connection: close", "", ""]))


ADMITS = _status("204 No Content")
REFUSES_CONNECTIONS = None
FAULTS: dict[str, tuple[Callable[[socket.socket], None] | None, int]] = {
    "refused": (REFUSES_CONNECTIONS, 503),
    "reset": (_resets, 503),
    "empty": (says(""), 503),
    "closes within headers": (says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n"), 503),
    "closes after the headers of a no": (says("HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\n"), 403),
    "no HTTP": (says("SSH-2.0-OpenSSH_10.0\r\n\r\n"), 503),
    "401": (_status("401 Unauthorized"), 401),
    "403": (_status("403 Forbidden"), 403),
    "302": (_status("302 Found", "Location: https://auth.example.com/"), 503),
    "404": (_status("404 Not Found"), 503),
    "500": (_status("500 Internal Server Error"), 503),
    "502": (_status("502 Bad Gateway"), 503),
    "503": (_status("503 Service Unavailable"), 503),
    "504": (_status("504 Gateway Timeout"), 503),
    "hangs": (_hangs, 503),
}
"""What an authenticator does, and the status that every client gets then."""


class SilentAuthenticator:
    """One of those, as a context manager."""

    def __init__(self, address: str) -> None:
        """Listen on `address`, at a port that is known from then on."""
        self.address, self.asked = address, 0
        self.does: Callable[[socket.socket], None] | None = ADMITS
        self._listening = self._listen(0)
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._answer_on(self._listening)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self._stop()

    def become(self, does: Callable[[socket.socket], None] | None) -> None:
        """Do that from now on; None listens no longer."""
        self.asked, before, self.does = 0, self.does, does
        if does is None:
            self._stop()
        elif before is None:
            self._listening = self._listen(self.port)
            self._answer_on(self._listening)

    def _listen(self, port: int) -> socket.socket:
        return socket.create_server((self.address, port), backlog=128)

    def _stop(self) -> None:
        # Closing alone would leave the thread that accepts where it is, and the port open with it.
        if self._listening.fileno() >= 0:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._thread.join(_PATIENCE)
            self._listening.close()

    def _answer_on(self, listening: socket.socket) -> None:
        self._thread = threading.Thread(target=self._accept, args=(listening,), name="authenticator", daemon=True)
        self._thread.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connected, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connected,), daemon=True).start()

    def _answer(self, connected: socket.socket) -> None:
        with connected:
            connected.settimeout(_PATIENCE)
            head = b""
            while _HEAD_END not in head:
                received = connected.recv(1 << 16)
                if not received:
                    return
                head += received
            does = self.does
            self.asked += 1
            if does is not None:
                does(connected)
