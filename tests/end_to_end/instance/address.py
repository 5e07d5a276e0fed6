"""An elastic IP: connections to it end at the instance that it is associated with."""

import select
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress

_CHUNK = 1 << 20
_PROBE_SECONDS = 0.5


class Address:
    """An address of this machine that leads to a port of the same number elsewhere, once something listens there."""

    def __init__(self, public: str, ports: tuple[int, ...] = (22, 80, 443)) -> None:
        """Lead nowhere yet."""
        self.public = public
        self._ports = ports
        self._target: str | None = None
        self._doors: dict[int, Door] = {}

    def lead_to(self, target: str | None) -> None:
        """Lead to a machine's address, or to none; then there is no listener."""
        if target != self._target:
            self.close()
            self._target = target
        if target is None:
            return
        for port in self._ports:
            if port not in self._doors and _listens(target, port):
                self._doors[port] = Door((self.public, port), (target, port))

    def close(self) -> None:
        """Listen no more, and end all connections."""
        for door in self._doors.values():
            door.close()
        self._doors.clear()


class Door:
    """A port of this machine, and where who comes in ends."""

    def __init__(self, here: tuple[str, int], there: tuple[str, int]) -> None:
        """Listen; port 0 takes a free one."""
        self._there = there
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(here, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._closed = False
        self._porter = threading.Thread(target=self._accept, name=f"{here} leads to {there}", daemon=True)
        self._porter.start()

    def _accept(self) -> None:
        while not self._closed:
            ready, _, _ = select.select([self._listener], [], [], 0.2)
            if not ready:
                continue
            try:
                client, _ = self._listener.accept()
            except OSError:
                break
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()
        self._listener.close()

    def _pass(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._there, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        ends = (client, server)
        with self._lock:
            self._open.update(ends)
        if self._closed:
            self._end(ends)
        for end in ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        _copy(client, server)
        back.join()
        with self._lock:
            self._open.difference_update(ends)
        for end in ends:
            end.close()

    def close(self) -> None:
        """Accept no more connections, and end all that exist."""
        self._closed = True
        self._porter.join()
        with self._lock:
            ends = list(self._open)
        self._end(ends)

    @staticmethod
    def _end(ends: Iterable[socket.socket]) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    buffer = memoryview(bytearray(_CHUNK))
    with suppress(OSError):
        while size := source.recv_into(buffer):
            target.sendall(buffer[:size])
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _listens(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=_PROBE_SECONDS):
        return True
    return False
