"""Open WebUI itself, as a deployment runs it, and the files of its frontend that get measured."""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

import httpx

from open_webui_edge.benchmarks import contenders
from open_webui_edge.benchmarks.contenders import DIRECT, Address, Asset, Contender, domain
from open_webui_edge.benchmarks.model_server import ModelServer
from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient
from open_webui_edge.benchmarks.testbed import Running, Testbed
from open_webui_edge.benchmarks.waiting import wait_until

BROWSER_ENCODINGS = "gzip, deflate, br, zstd"
"""The Accept-Encoding of Chromium over HTTPS."""
# Headers that Nginx says of a file by itself, or hands on.
_OF_THE_FILE = {
    "accept-ranges",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "last-modified",
    "server",
    "transfer-encoding",
}
# Another value in each answer.
_COMPUTED = {"x-request-id": "$request_id", "x-cache-status": "$upstream_cache_status"}
CHUNK_SIZE = 450_000
"""Bytes, before it is compressed; of the frontend's scripts the one nearest to it is measured."""
IMAGE = "/static/favicon.png"
"""21 KB; it is among the first that a page loads."""
_START_SECONDS = 240
# Of an account of the run's own.
_EMAIL, _PASSWORD = "bench@example.com", "no secret, and gone in minutes"


@dataclass(frozen=True)
class Application:
    """A running Open WebUI with an administrator who is signed in."""

    contender: Contender
    token: str

    @property
    def upstream(self) -> str:
        """Where proxies find it."""
        return f"{self.contender.running.address}:{contenders.APPLICATION_PORT}"


def start(testbed: Testbed, image: str, version: str, model: ModelServer, origins: Iterable[str]) -> Application:
    """Start Open WebUI with the variables that a deployment gives it, and sign in."""
    running = testbed.run(
        DIRECT,
        image,
        aliases=[domain(DIRECT)],
        init=True,
        environment={
            "WEBUI_SECRET_KEY": secrets.token_hex(32),
            "WEBUI_ADMIN_EMAIL": _EMAIL,
            "WEBUI_ADMIN_PASSWORD": _PASSWORD,
            "WEBUI_ADMIN_NAME": "Benchmark",
            "ENABLE_SIGNUP": "false",
            "OPENAI_API_BASE_URL": model.url,
            "OPENAI_API_KEY": next(iter(model.keys)),
            "ENABLE_OLLAMA_API": "false",
            "CORS_ALLOW_ORIGIN": ";".join(origins),
            "FORWARDED_ALLOW_IPS": "*",
            "UVICORN_WS_PER_MESSAGE_DEFLATE": "false",
            "UVICORN_WORKERS": "1",
        },
    )
    address = Address(DIRECT, "http", running.address, contenders.APPLICATION_PORT)
    with client(address) as user:
        wait_until(user.ready, what="Open WebUI", deadline=_START_SECONDS, every=0.5, ignoring=(httpx.TransportError,))
        token = user.sign_in(_EMAIL, _PASSWORD)
        # Else the release notes cover the page of everybody who signs in for the first time.
        user.request("POST", "/api/v1/users/user/settings/update", {"ui": {"version": version}})
    return Application(Contender(address, running, version), token)


def client(address: Address, ca_file: str | None = None, token: str | None = None) -> OpenWebUIClient:
    """Return a user at a contender's address."""
    return OpenWebUIClient(address.url, ca_file=ca_file, resolve={address.host: address.ip}, token=token)


def assets(application: Application, through: Address, ca_file: str) -> tuple[Asset, Asset]:
    """Return the chunk and the image as a browser gets them through a proxy."""
    chunk = nearest(_scripts(application.contender.running), CHUNK_SIZE)
    return fetch(through, chunk, ca_file=ca_file), fetch(through, IMAGE, ca_file=ca_file)


def nearest(scripts: Iterable[tuple[int, str]], size: int) -> str:
    """Return the path of the script whose size is nearest to `size`."""
    return min(scripts, key=lambda script: (abs(script[0] - size), script[1]))[1]


def fetch(address: Address, path: str, *, ca_file: str | None = None) -> Asset:
    """Ask for a file as a browser does, and keep its bytes as they came."""
    with (
        client(address, ca_file) as user,
        user.http.stream("GET", quote(path), headers={"Accept-Encoding": BROWSER_ENCODINGS}) as response,
    ):
        response.raise_for_status()
        headers = response.headers
        body = b"".join(response.iter_raw())
    added = tuple((name, _COMPUTED.get(name, value)) for name, value in headers.items() if name not in _OF_THE_FILE)
    return Asset(path, headers["Content-Type"], headers.get("Content-Encoding", ""), body, added)


def _scripts(running: Running) -> list[tuple[int, str]]:
    """List the hashed scripts of the frontend, wherever the image keeps it: size and path."""
    listed = running.execute(*("find", "/", "-xdev", "-path", "*/_app/immutable/chunks/*.js", "-printf", "%s %p\\n"))
    matches = re.findall(r"(?m)^(\d+) .*(/_app/immutable/chunks/.*)$", listed)
    return [(int(size), path) for size, path in matches]
