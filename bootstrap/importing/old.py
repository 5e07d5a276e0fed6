"""What an engine says of the deployment that runs, or ran: asked, and never touched."""

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

from bootstrap.engine import Engine
from bootstrap.importing.found import Found, Publication, repository
from components.docker.container import APP
from components.docker.engine import address_is_free

_BACKEND = "/app/backend"
_KEY_FILE = ".webui_secret_key"
_RELEASE = re.compile(r"v?(\d+\.\d+\.\d+)")
OFFICIAL = "open-webui/open-webui"
_SECONDS = 20
# Reads alone: the version that answers, and who administers it.
_QUESTION = """
import json, os, sqlite3, urllib.request
answer = {}
try:
    url = "http://127.0.0.1:%s/api/version" % os.environ.get("PORT", "8080")
    answer["version"] = json.load(urllib.request.urlopen(url, timeout=5))["version"]
except Exception:
    pass
try:
    database = sqlite3.connect("file:%s/webui.db?mode=ro" % os.environ.get("DATA_DIR", "/app/backend/data"), uri=True)
    row = database.execute("select email from user where role = 'admin' order by created_at limit 1").fetchone()
    answer["administrator"] = row and row[0]
except Exception:
    pass
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class OldContainer:
    """A container that is there."""

    name: str
    image: str
    running: bool = True
    comes_back: bool = False
    """Whether it starts with the engine even after it was stopped."""
    variables: dict[str, str] = field(default_factory=dict[str, str])
    labels: dict[str, str] = field(default_factory=dict[str, str])
    volumes: dict[str, str] = field(default_factory=dict[str, str])
    """Path -> volume."""
    published: tuple[Publication, ...] = ()
    folder: str = _BACKEND
    """Where it works."""

    @property
    def is_old(self) -> bool:
        """Whether it belongs to no stack of ours."""
        return self.labels.get("app") != APP


@dataclass(frozen=True)
class Inside:
    """What only the container itself knows."""

    version: str | None = None
    administrator: str | None = None
    secret_key: str | None = None


class Asked(Protocol):
    """Who can be asked."""

    silent: str
    """Why nobody answers; "" where somebody does."""
    local: bool

    def containers(self) -> Sequence[OldContainer]:
        """Return all containers, by name."""
        ...

    def volumes(self) -> Sequence[str]:
        """Return the names of all volumes."""
        ...

    def inside(self, container: OldContainer) -> Inside:
        """Ask one."""
        ...

    def is_free(self, address: str, port: int, /) -> bool:
        """Whether a program of this machine could listen there."""
        ...


class AskedEngine:
    """A Docker engine, by its client."""

    def __init__(
        self, engine: Engine, silent: str | None, *, is_free: Callable[[str, int], bool] = address_is_free
    ) -> None:
        """Keep which; `silent` says why it does not answer."""
        self._engine = engine
        self.silent = silent or ""
        self.local = engine.is_local
        self.is_free = is_free

    def containers(self) -> Sequence[OldContainer]:
        """Return all containers, by name."""
        listed = [] if self.silent else self._engine.ask("ps", "--all", "--quiet").stdout.split()
        if not listed:
            return ()
        # One may go between the two questions: what the rest answers still counts.
        inspected = json.loads(self._engine.ask("inspect", "--type", "container", *listed).stdout or "[]")
        return sorted(map(_container, inspected), key=lambda one: one.name)

    def volumes(self) -> Sequence[str]:
        """Return the names of all volumes."""
        return () if self.silent else self._engine.ask("volume", "ls", "--quiet").stdout.split()

    def inside(self, container: OldContainer) -> Inside:
        """Ask one: what runs by a question, what is stopped by its files."""
        answer: dict[str, Any] = {}
        if container.running:
            asked = self._engine.ask("exec", container.name, "python3", "-c", _QUESTION, timeout=_SECONDS)
            if asked.returncode == 0 and asked.stdout.startswith("{"):
                answer = json.loads(asked.stdout)
        version = answer.get("version") or container.labels.get("org.opencontainers.image.version")
        if not release(version or ""):
            version = _version_in(self._file(container, "/app/package.json"))
        key_file = container.variables.get("WEBUI_SECRET_KEY_FILE") or _KEY_FILE
        key = self._file(container, str(PurePosixPath(container.folder) / key_file))
        return Inside(
            version=release(version or ""),
            administrator=answer.get("administrator"),
            secret_key=None if key is None else key.decode(errors="replace").strip() or None,
        )

    def _file(self, container: OldContainer, path: str) -> bytes | None:
        words = [*self._engine.client, "cp", f"{container.name}:{path}", "-"]
        try:
            copied = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=True)  # noqa: S603 - no shell
            with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as archive:
                members = [member for member in archive.getmembers() if member.isfile()]
                content = archive.extractfile(members[0]) if members else None
                return None if content is None else content.read()
        except (subprocess.SubprocessError, OSError, tarfile.TarError):
            return None


def _container(inspected: dict[str, Any]) -> OldContainer:
    config, host = inspected["Config"], inspected["HostConfig"]
    bindings = (host.get("PortBindings") or {}).items()
    return OldContainer(
        name=inspected["Name"].lstrip("/"),
        image=config["Image"],
        running=inspected["State"]["Status"] in {"running", "paused", "restarting"},
        comes_back=host["RestartPolicy"]["Name"] == "always",
        variables=dict(entry.partition("=")[::2] for entry in config.get("Env") or ()),
        labels=config.get("Labels") or {},
        volumes={mount["Destination"]: mount["Name"] for mount in inspected["Mounts"] if mount["Type"] == "volume"},
        published=tuple(
            Publication(int(one["HostPort"]), int(inside.partition("/")[0]), one["HostIp"] or "0.0.0.0")  # noqa: S104 - compared
            for inside, ones in bindings
            for one in ones or ()
            if one["HostPort"].isdigit() and inside.endswith("/tcp")
        ),
        folder=config.get("WorkingDir") or _BACKEND,
    )


def _version_in(package: bytes | None) -> str | None:
    try:
        return str(json.loads(package or b"")["version"])
    except (ValueError, KeyError, TypeError):
        return None


def release(words: str) -> str | None:
    """Return the release that a version or a tag names: 0.12.4 of v0.12.4."""
    match = _RELEASE.fullmatch(words.strip())
    return match[1] if match else None


def counterpart(found: Found, containers: Sequence[OldContainer]) -> OldContainer | None:
    """Return the container that was made from what was read; one that runs before one that does not."""
    volume = found.data_mount.source if found.data_mount and not found.data_mount.is_folder else None

    def is_it(one: OldContainer) -> bool:
        by_compose = (
            found.project is not None
            and one.labels.get("com.docker.compose.project") == found.project
            and one.labels.get("com.docker.compose.service") == found.service
        )
        by_volume = volume is not None and volume in one.volumes.values()
        return by_compose or by_volume or (found.container is not None and one.name == found.container)

    matching = [one for one in containers if one.is_old and is_it(one)]
    if not matching and found.on_the_host:
        # Variables name no container; the only one there is will be it.
        matching = [one for one in containers if one.is_old and repository(one.image) == OFFICIAL]
        if len(matching) != 1:
            return None
    return next((one for one in matching if one.running), matching[0] if matching else None)
