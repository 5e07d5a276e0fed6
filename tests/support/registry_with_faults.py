"""A registry on loopback that serves one small image, and refuses, is silent or stalls where a test wants it to.

An engine trusts loopback without a certificate. What is asked for is the repository, and its name says what happens.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIGURATION = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_REFUSALS = {
    "unauthorized": (401, "UNAUTHORIZED", "authentication required"),
    "missing": (404, "MANIFEST_UNKNOWN", "manifest unknown"),
    "limited": (429, "TOOMANYREQUESTS", "You have reached your pull rate limit."),
}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _layer(size: int) -> tuple[bytes, bytes]:
    """Return a layer that no engine has, of one file that does not compress; and the layer packed."""
    content = os.urandom(size)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue(), gzip.compress(archive.getvalue(), 1, mtime=0)


@dataclass
class RegistryWithFaults:
    """Where it is, what it holds, and what it was asked."""

    architecture: str
    layer_size: int = 1 << 20
    asked: list[str] = field(default_factory=list)
    stalls_left: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def __post_init__(self) -> None:
        """Make the image, of two layers."""
        layers = [_layer(self.layer_size) for _ in range(2)]
        configuration = json.dumps(
            {
                "architecture": self.architecture,
                "os": "linux",
                "config": {"Cmd": ["none"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(plain) for plain, _ in layers]},
            }
        ).encode()
        self.blobs = {_digest(blob): blob for blob in (configuration, *(packed for _, packed in layers))}
        described = [
            {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}
            for kind, blob in ((_CONFIGURATION, configuration), *((_LAYER, packed) for _, packed in layers))
        ]
        self.manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described[0], "layers": described[1:]}
        ).encode()
        self.last_layer = described[-1]["digest"]

    def name(self, repository: str) -> str:
        """Return the name of an image whose pull goes as its repository says."""
        return f"{self.address}/{repository}:1"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    registry: RegistryWithFaults


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An engine tries TLS first, and must read that this is HTTP.
    default_request_version = "HTTP/1.1"

    @property
    def _registry(self) -> RegistryWithFaults:
        assert isinstance(self.server, _Server)
        return self.server.registry

    def do_GET(self) -> None:
        self._registry.asked.append(self.path)
        # /v2/, or /v2/REPOSITORY/KIND/REFERENCE
        repository, _, rest = self.path.removeprefix("/v2/").partition("/")
        kind, _, reference = rest.partition("/")
        if not repository:
            self._answer(200, b"{}", "application/json")
        elif repository == "silent":
            self._registry.over.wait(120)
            self.close_connection = True
        elif repository in _REFUSALS or kind not in {"manifests", "blobs"}:
            self._refuse(*_REFUSALS.get(repository, _REFUSALS["missing"]))
        elif kind == "manifests":
            self._answer(200, self._registry.manifest, _MANIFEST)
        else:
            self._blob(repository, reference)

    do_HEAD = do_GET  # noqa: N815 - named by the base class

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self._answer(status, body, "application/json")

    def _blob(self, repository: str, digest: str) -> None:
        if digest == self._registry.last_layer and repository == "full":
            self._refuse(500, "UNKNOWN", "write /x: no space left on device")
        elif digest == self._registry.last_layer and repository == "stalls" and self._registry.stalls_left:
            self._registry.stalls_left -= 1
            self._stall(self._registry.blobs[digest])
        else:
            self._answer(200, self._registry.blobs[digest], "application/octet-stream")

    def _stall(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self._registry.over.wait(120)
        self.close_connection = True

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        for key, value in (
            ("Docker-Distribution-Api-Version", "registry/2.0"),
            ("Docker-Content-Digest", _digest(body)),
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
        ):
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
        del format, args


@contextmanager
def registry_with_faults(architecture: str, layer_size: int = 1 << 20) -> Iterator[RegistryWithFaults]:
    """Serve one until the block ends."""
    registry = RegistryWithFaults(architecture, layer_size)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.registry = registry
    registry.address = f"127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield registry
    finally:
        registry.over.set()
        server.shutdown()
        server.server_close()
