"""Podman is refused: a stand-in on a real socket gives what Podman 4.3.1 answered to /version."""

import json
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from open_webui_edge.bootstrap import engine
from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.engine.engine import Engine, EngineError
from tests.support.machine import lacks

_VERSION = {
    "Platform": {"Name": "linux/amd64/debian-12"},
    "Components": [
        {"Name": "Podman Engine", "Version": "4.3.1", "Details": {"APIVersion": "4.3.1", "MinAPIVersion": "4.0.0"}},
        {"Name": "Conmon", "Version": "conmon version 2.1.6, commit: unknown", "Details": {"Package": "Unknown"}},
    ],
    "Version": "4.3.1",
    "ApiVersion": "1.41",
    "MinAPIVersion": "1.24",
    "Os": "linux",
    "Arch": "amd64",
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps(_VERSION).encode() if self.path.endswith("/version") else b"OK"
        self.send_response(200)
        self.send_header("API-Version", "1.41")
        self.send_header("Content-Type", "application/json" if body != b"OK" else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - named by the base class

    def address_string(self) -> str:
        return "a client"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
        del format, args


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def address() -> Iterator[str]:
    """Where it listens; a socket's path must be short."""
    with tempfile.TemporaryDirectory() as folder, _Server(f"{folder}/podman.sock", _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"unix://{Path(folder) / 'podman.sock'}"
        server.shutdown()


def test_make_refuses_podman(address: str) -> None:
    if shutil.which("docker") is None:
        lacks("no docker client")
    result = engine.Engine(address, "DOCKER_HOST", ("docker", "--host", address))
    with pytest.raises(ProblemError, match=r"is Podman, and a stack needs Docker: .*Nothing was touched\.$"):
        engine.ensure(result, Step("engine"))


def test_the_program_refuses_podman(address: str) -> None:
    with pytest.raises(EngineError, match=r"is Podman, and a stack needs Docker: .*Nothing was touched\.$"):
        Engine(address).facts()
