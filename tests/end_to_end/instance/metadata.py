"""The metadata service of the instances: version 2 only, and its answers travel as few hops as the instance says."""

import ctypes
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Self, cast

ADDRESS = "169.254.169.254"
KEY_OF_ROLES = "ASIAATESTSOWN0000000"
_NEW_NETWORK = 0x40000000
_TOKEN = "X-aws-ec2-metadata-token"
_TOKEN_LIFE = "X-aws-ec2-metadata-token-ttl-seconds"


@dataclass(frozen=True)
class Facts:
    """What the service says to one instance."""

    data: Mapping[str, Any]
    """Below `meta-data/`: a tree of texts."""
    identity: Mapping[str, Any]
    """The instance's identity document."""
    user_data: bytes | None
    hop_limit: int
    """How many routers an answer that carries a token passes, this machine included."""


class MetadataService:
    """Answers at 169.254.169.254 in a network namespace that is one hop away from the instances.

    A process of an instance gets every answer. From a container on a bridge of the instance the service is two hops
    away: connections are made, but with a hop limit of 1 the answer with a token never arrives.
    """

    def __init__(self, namespace: Path, who: Callable[[str], Facts | None]) -> None:
        """Listen in a namespace; `who` says what an instance is told, by its address there."""
        with _inside(namespace):
            self._http = _Server((ADDRESS, 80), who)
        self._thread = threading.Thread(target=self._http.serve_forever, name="metadata", daemon=True)

    def __enter__(self) -> Self:
        """Start to answer."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], who: Callable[[str], Facts | None]) -> None:
        self.who = who
        self.tokens: set[str] = set()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # The base class would look its own name up.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = ADDRESS, 80

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: who never gets an answer goes away."""


class _Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm: ClassVar[bool] = True

    @property
    def _server(self) -> _Server:
        return cast("_Server", self.server)

    def do_PUT(self) -> None:
        facts = self._server.who(self.client_address[0])
        if facts is None or self.path != "/latest/api/token":
            self._answer(404)
            return
        # A proxy that was misled into asking says so by this header.
        if self.headers.get("X-Forwarded-For") is not None:
            self._answer(403)
            return
        seconds = self.headers.get(_TOKEN_LIFE, "")
        if not seconds.isdigit() or not 1 <= int(seconds) <= 21600:
            self._answer(400)
            return
        self.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, facts.hop_limit)
        token = secrets.token_urlsafe(32)
        self._server.tokens.add(token)
        self._answer(200, token.encode(), {_TOKEN_LIFE: seconds})

    def do_GET(self) -> None:
        facts = self._server.who(self.client_address[0])
        if facts is None:
            self._answer(404)
            return
        if self.headers.get(_TOKEN) not in self._server.tokens:
            self._answer(401)
            return
        body = _body_at(self.path, facts)
        if body is None:
            self._answer(404)
            return
        self._answer(200, body)

    def _answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
        """Say nothing."""


def _body_at(path: str, facts: Facts) -> bytes | None:
    _, _version, *parts = path.split("/")
    match parts:
        case ["user-data"]:
            return facts.user_data
        case ["dynamic", "instance-identity", *inside]:
            return _leaf({"document": json.dumps(facts.identity)}, [part for part in inside if part])
        case ["meta-data", *inside]:
            return _leaf(facts.data, [part for part in inside if part])
        case _:
            return None


def _leaf(tree: Mapping[str, Any], parts: list[str]) -> bytes | None:
    result: Any = tree
    for part in parts:
        if not isinstance(result, dict) or part not in result:
            return None
        result = cast("dict[str, Any]", result)[part]
    if isinstance(result, dict):
        lines = (f"{key}/" if isinstance(value, dict) else key for key, value in cast("dict[str, Any]", result).items())
        return "\n".join(lines).encode()
    return str(result).encode()


def credentials() -> str:
    """Return what an instance profile gives an instance, for an hour."""
    now = datetime.now(UTC)
    return json.dumps(
        {
            "Code": "Success",
            "LastUpdated": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "Type": "AWS-HMAC",
            "AccessKeyId": KEY_OF_ROLES,
            "SecretAccessKey": secrets.token_urlsafe(30),
            "Token": secrets.token_urlsafe(200),
            "Expiration": f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
        }
    )


@contextmanager
def _inside(namespace: Path) -> Generator[None]:
    """Have this thread, and no other, in a network namespace."""
    library = ctypes.CDLL(None, use_errno=True)

    def enter(descriptor: int) -> None:
        if library.setns(descriptor, _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(namespace))

    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(namespace, os.O_RDONLY)
    try:
        enter(there)
        try:
            yield
        finally:
            enter(own)
    finally:
        for descriptor in (own, there):
            with suppress(OSError):
                os.close(descriptor)
