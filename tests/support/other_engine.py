"""A Docker engine on which there is nothing: it answers questions, and writes down what else it is asked."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import docker

_EMPTY = {"/volumes": {"Volumes": [], "Warnings": None}, "/containers/json": [], "/images/json": [], "/networks": []}


class OtherEngine(socketserver.ThreadingUnixStreamServer):
    """It says of itself what the real one does, but for its name."""

    daemon_threads = True
    identity = "ANOTHER"

    def __init__(self, socket: Path, real: docker.DockerClient) -> None:
        """Listen on a socket."""
        super().__init__(str(socket), _Handler)
        self.address = f"unix://{socket}"
        self.changes: list[str] = []
        """What it was asked to change: method and path."""
        self.version: dict[str, Any] = real.version()
        self.info: dict[str, Any] = {**real.info(), "ID": self.identity}


class _Handler(BaseHTTPRequestHandler):
    @property
    def _engine(self) -> OtherEngine:
        assert isinstance(self.server, OtherEngine)
        return self.server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/v1."):
            path = f"/{path.split('/', 2)[2]}"
        known = {"/_ping": "OK", "/version": self._engine.version, "/info": self._engine.info, **_EMPTY}
        if path.startswith("/images/"):
            # It lacks no image: that would be said first.
            known[path] = {"Id": "sha256:0"}
        self._answer(200, known[path]) if path in known else self._answer(404, {"message": f"no such thing: {path}"})

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def do_POST(self) -> None:
        self._engine.changes.append(f"{self.command} {self.path}")
        self._answer(500, {"message": "this engine makes nothing"})

    do_PUT = do_DELETE = do_POST  # noqa: N815 - the library's name

    def _answer(self, status: int, said: object) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Api-Version", self._engine.version["ApiVersion"])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def address_string(self) -> str:
        """Return who asks, who has no address here."""
        return "a client"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Write nothing."""


@contextmanager
def other_engine(socket: Path, real: docker.DockerClient) -> Iterator[OtherEngine]:
    """Lend one that listens on `socket`."""
    with OtherEngine(socket, real) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
