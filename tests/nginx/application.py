"""A real Open WebUI in a container, asked through Nginx and directly."""

import base64
import http.client
import json
import secrets
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from open_webui_edge.benchmarks.waiting import wait_until
from tests.nginx.nginx_under_test import PATIENCE, Answer, answer_of, send_head

PORT = 8080
ADMIN, ADMIN_PASSWORD = "admin@example.com", "an invented password"
_UP = 120.0
"""Seconds until one on a busy machine must be up."""
# Runs in the container, with the libraries that the application encodes with.
_DECODE = """
import base64, brotli, gzip, hashlib, json, sys, zstandard
decode = {"": bytes, "br": brotli.decompress, "gzip": gzip.decompress,
          "zstd": lambda data: zstandard.ZstdDecompressor().stream_reader(data).read()}
digest = lambda encoding, data: hashlib.sha256(decode[encoding](base64.b64decode(data))).hexdigest()
print(json.dumps([digest(*one) for one in json.load(sys.stdin)]))
"""
_FRONTEND = """
import json
from importlib.util import find_spec
from pathlib import Path
folder = Path(find_spec("open_webui").submodule_search_locations[0]) / "frontend"
print(json.dumps({f"/{file.relative_to(folder)}": file.stat().st_size for file in folder.rglob("*") if file.is_file()}))
"""


@dataclass
class Application:
    """One Open WebUI with a fresh database."""

    image: str
    network: str
    subnet: str
    """The addresses of that network: from them X-Forwarded-For is believed, as in a deployment."""
    origin: str
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    name: str = field(default_factory=lambda: f"open-webui-under-test-{secrets.token_hex(4)}")
    address: str = ""

    def start(self) -> None:
        """Begin; `wait` says when it is there."""
        environment = {
            "WEBUI_URL": self.origin,
            "WEBUI_SECRET_KEY": "invented for this test, and long enough",
            "CORS_ALLOW_ORIGIN": self.origin,
            "FORWARDED_ALLOW_IPS": self.subnet,
            "ENABLE_OLLAMA_API": "false",
            "ENABLE_SIGNUP": "false",
            "WEBUI_ADMIN_EMAIL": ADMIN,
            "WEBUI_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "WEBUI_ADMIN_NAME": "Admin",
            **self.environment,
        }
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        _docker("run", "--detach", f"--name={self.name}", f"--network={self.network}", *variables, self.image)
        networks = json.loads(_docker("inspect", "--format={{json .NetworkSettings.Networks}}", self.name))
        self.address = networks[self.network]["IPAddress"]

    def wait(self, deadline: float = _UP) -> None:
        """Wait until it takes traffic; `deadline` is seconds."""
        wait_until(
            lambda: self.ask("/ready").status == http.HTTPStatus.OK,
            what="Open WebUI",
            deadline=deadline,
            every=0.2,
            ignoring=(OSError, http.client.HTTPException),
        )

    def remove(self) -> None:
        """End it, and what it wrote."""
        subprocess.run(["docker", "rm", "--force", "--volumes", self.name], capture_output=True, check=False)  # noqa: S603, S607

    def ask(self, path: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
        """Ask it without anything in between."""
        client = http.client.HTTPConnection(self.address, PORT, timeout=PATIENCE)
        try:
            client.connect()
            send_head(client, "GET", path, [("Host", self.address), *headers])
            return answer_of(client.getresponse())
        finally:
            client.close()

    def frontend(self) -> dict[str, int]:
        """Return the paths of its frontend's files, and their sizes."""
        return json.loads(_docker("exec", self.name, "python3", "-c", _FRONTEND))

    def audit_log(self) -> list[dict[str, Any]]:
        """Return what it noted about who did what."""
        written = _docker("exec", self.name, "sh", "-c", "cat /app/backend/data/audit.log")
        return [json.loads(line) for line in written.splitlines()]

    def digests(self, answers: Iterable[Answer]) -> list[str]:
        """Return the SHA-256 of what each answer says once it is decoded."""
        encoded = [
            (answer.header("Content-Encoding") or "", base64.b64encode(answer.body).decode()) for answer in answers
        ]
        return json.loads(
            _docker("exec", "--interactive", self.name, "python3", "-c", _DECODE, given=json.dumps(encoded))
        )


def _docker(*arguments: str, given: str | None = None) -> str:
    ended = subprocess.run(["docker", *arguments], input=given, capture_output=True, text=True, check=False)  # noqa: S603, S607
    assert ended.returncode == 0, f"docker {arguments[0]}: {ended.stderr.strip()}"
    return ended.stdout
