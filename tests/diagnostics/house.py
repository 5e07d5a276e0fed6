"""Deployments of Open WebUI that are well, and that are broken on purpose: a real Nginx before a real application.

Each is one file of `deployments/`: what the doctor must say first, and the servers of an nginx.conf, as people write
them. All of them run in one Nginx, each at ports of its own.
"""

import io
import json
import re
import secrets
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.diagnostics.subject import Subject
from open_webui_edge.settings.images import NGINX, ImageSource
from tests.nginx.name_server import NameServer
from tests.support.certificates import Issued, authority, pem, rsa_key, server

FOLDER = Path(__file__).parent / "deployments"
NAME = "chat.example.com"
_FIRST_PORT, _PORTS_OF_ONE = 20_000, 10
_CONFIGURATION = """\
worker_processes 1;
error_log stderr warn;
pid /tmp/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    default_type application/octet-stream;
    proxy_temp_path /tmp/proxy; client_body_temp_path /tmp/body; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u;
    scgi_temp_path /tmp/s;
    proxy_cache_path /tmp/cache keys_zone=kept:1m;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
    proxy_buffering off;
    proxy_read_timeout 30m;
    client_max_body_size 0;
    ssl_certificate /doctor/good.pem;
    ssl_certificate_key /doctor/good.key;
{servers}
}}
"""
_CORE = """\
proxy_http_version 1.1;
proxy_set_header Host $http_host;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade;
proxy_set_header X-Forwarded-For $remote_addr;
"""
_PASSED_ON = f"{_CORE}proxy_set_header X-Forwarded-Proto https;\n"


@dataclass(frozen=True)
class Deployment:
    """One file: what is said of it, and how it is called."""

    name: str
    text: str
    number: int

    @property
    def directives(self) -> Mapping[str, list[str]]:
        """What the comments at its top say: word -> values."""
        values: dict[str, list[str]] = {}
        for word, value in re.findall(r"^# (\w+): (.+)$", self.text, re.MULTILINE):
            values.setdefault(word, []).append(value)
        return values

    def says(self, word: str, otherwise: str = "") -> str:
        """Return what is said once at most."""
        return self.directives.get(word, [otherwise])[0]

    def port(self, which: int = 0) -> int:
        """Return one of its ports: 0 for HTTPS, 1 for plain HTTP, others for what it likes."""
        return _FIRST_PORT + _PORTS_OF_ONE * self.number + which

    @property
    def servers(self) -> str:
        """Its part of the nginx.conf."""
        named = {"HTTPS_PORT": 0, "HTTP_PORT": 1, "INNER_PORT": 2, "CLOSED_PORT": 3}
        text = self.text
        for word, which in named.items():
            text = text.replace(word, str(self.port(which)))
        return text.replace("NAME", NAME)

    @property
    def url(self) -> str:
        """What people type."""
        scheme = self.says("scheme", "https")
        return f"{scheme}://{NAME}:{self.port(0 if scheme == 'https' else 1)}"


def all_deployments() -> list[Deployment]:
    """Return them in the order of their names."""
    files = sorted(FOLDER.glob("*.conf"))
    return [Deployment(file.stem, file.read_text(), number) for number, file in enumerate(files)]


def origins() -> list[str]:
    """Return what the application is told of its own pages: where a file says `origin: strange`, not that one's."""
    return [f"https://{NAME}", *(each.url for each in all_deployments() if each.says("origin") != "strange")]


@dataclass
class House:
    """The Nginx that runs them all."""

    network: str
    gateway: str
    application: str
    """Address and port."""
    token: str
    """Of an account that may ask the model."""
    stand_in: str
    """Address and port of what is no Open WebUI, or a strange one."""
    root: Issued = field(default_factory=lambda: authority("The root"))
    address: str = ""
    name_servers: tuple[str, ...] = ()
    names: NameServer | None = None
    deployments: Sequence[Deployment] = field(default_factory=all_deployments)
    container: str = field(default_factory=lambda: f"it-doctor-nginx-{secrets.token_hex(4)}")

    def subject(self, deployment: Deployment) -> Subject:
        """Return what a stranger knows of one."""
        return Subject(
            deployment.url,
            trust=None if deployment.says("authority") == "unknown" else pem(self.root.certificate),
            http_port=deployment.port(1),
            name_servers=self.name_servers,
            token=self.token if deployment.says("account") else None,
            direct=f"http://{self.application}" if deployment.says("account") else None,
            long=bool(deployment.says("long")),
        )

    def certificates(self) -> Mapping[str, str]:
        """Return files: good ones, and each kind of bad one."""
        middle = authority("The intermediate", self.root)
        good = server([NAME], middle)
        expired = server([NAME], middle, days=(-90, -3))
        other = server(["other.example.com"], middle)
        soon = server([NAME], middle, days=(-85, 5))
        weak = server([NAME], middle, key=rsa_key(1024))
        own = server([NAME], None)
        root = self.root.certificate
        return {
            "good.pem": pem(good.certificate, middle.certificate),
            "good.key": good.key_pem,
            "expired.pem": pem(expired.certificate, middle.certificate),
            "expired.key": expired.key_pem,
            "other.pem": pem(other.certificate, middle.certificate),
            "other.key": other.key_pem,
            "soon.pem": pem(soon.certificate, middle.certificate),
            "soon.key": soon.key_pem,
            "weak.pem": pem(weak.certificate, middle.certificate),
            "weak.key": weak.key_pem,
            "own.pem": pem(own.certificate),
            "own.key": own.key_pem,
            "incomplete.pem": pem(good.certificate),
            "disordered.pem": pem(good.certificate, root, middle.certificate),
        }

    @contextmanager
    def running(self) -> Iterator["House"]:
        """Start it, and end it afterwards."""
        servers = "\n".join(f"# {each.name}\n{each.servers}" for each in self.deployments)
        servers = servers.replace("APPLICATION", self.application).replace("STAND_IN", self.stand_in)
        files = {
            **self.certificates(),
            "nginx.conf": _CONFIGURATION.format(servers=servers),
            "core.conf": _CORE,
            "passed_on.conf": _PASSED_ON,
        }
        image = NGINX.reference(ImageSource.BUILT, None)
        _docker(
            *("create", f"--name={self.container}", f"--network={self.network}", "--entrypoint=nginx", "--user=root"),
            *("--tmpfs=/tmp", image, "-c", "/doctor/nginx.conf", "-g", "daemon off;"),
        )
        try:
            _docker(
                "cp",
                "-",
                f"{self.container}:/",
                given=_archive({f"doctor/{name}": text for name, text in files.items()}),
            )
            _docker("start", self.container)
            networks = json.loads(_docker("inspect", "--format={{json .NetworkSettings.Networks}}", self.container))
            self.address = networks[self.network]["IPAddress"]
            self._wait()
            with NameServer(self.gateway) as names:
                names.addresses[NAME] = self.address
                self.names, self.name_servers = names, (names.resolver,)
                yield self
        finally:
            _docker("rm", "--force", "--volumes", self.container)

    def _wait(self) -> None:
        def is_up() -> bool:
            state = json.loads(_docker("inspect", "--format={{json .State}}", self.container))
            assert state["Running"], _docker("logs", self.container)
            return "tcp" in _docker("exec", self.container, "sh", "-c", "grep -c : /proc/net/tcp >&2; echo tcp")

        wait_until(is_up, what="Nginx", deadline=20)


def _archive(files: Mapping[str, str]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    return archive.getvalue()


def _docker(*arguments: str, given: bytes | None = None) -> str:
    ended = subprocess.run(["docker", *arguments], input=given, capture_output=True, check=False)  # noqa: S603, S607
    if arguments[:1] != ("rm",):
        assert ended.returncode == 0, f"docker {arguments[0]}: {ended.stderr.decode()}"
    return (ended.stdout + ended.stderr).decode()
