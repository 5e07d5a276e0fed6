"""Facts about an existing deployment from its engine, read only."""

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.cli.importing.old_deployment import Publication, Source, repository
from open_webui_edge.engine.engine import address_is_free
from open_webui_edge.runtime.contract import APP

_BACKEND = "/app/backend"
_KEY_FILE = ".webui_secret_key"
_RELEASE = re.compile(r"v?(\d+\.\d+\.\d+)")
OFFICIAL = "open-webui/open-webui"
_ANSWER_TIMEOUT = 20
# Read-only: the running version, and the first administrator.
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
class ExistingContainer:
    """An existing container."""

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
    """Its working directory."""

    @property
    def is_foreign(self) -> bool:
        """Whether it belongs to no stack of this program."""
        return self.labels.get("app") != APP

    @property
    def is_official(self) -> bool:
        """Whether it runs a released image, and belongs to no stack of this program."""
        return self.is_foreign and repository(self.image) == OFFICIAL


@dataclass(frozen=True)
class ContainerFacts:
    """Facts that only the container itself has."""

    version: str | None = None
    administrator: str | None = None
    secret_key: str | None = None


class DockerFacts:
    """A Docker engine, by its client."""

    def __init__(self, engine: Engine, ping_error: str | None) -> None:
        """Wrap an engine; `ping_error` is the reason if it does not answer."""
        self._engine = engine
        self.ping_error = ping_error
        self.local = engine.is_local

    def is_free(self, address: str, port: int) -> bool:
        """Whether a program of this machine could listen there."""
        return address_is_free(address, port)

    def containers(self) -> Sequence[ExistingContainer]:
        """Return all containers, by name."""
        listed = [] if self.ping_error else self._engine.ask("ps", "--all", "--quiet").stdout.split()
        if not listed:
            return ()
        # A container may disappear between the two calls; the others are still in the output.
        inspected = json.loads(self._engine.ask("inspect", "--type", "container", *listed).stdout or "[]")
        return sorted(map(_container, inspected), key=lambda one: one.name)

    def volumes(self) -> Sequence[str]:
        """Return the names of all volumes."""
        return () if self.ping_error else self._engine.ask("volume", "ls", "--quiet").stdout.split()

    def facts_of(self, container: ExistingContainer) -> ContainerFacts:
        """Return a container's facts: by a query if it runs, by its files if it is stopped."""
        answer: dict[str, Any] = {}
        if container.running:
            asked = self._engine.ask("exec", container.name, "python3", "-c", _QUESTION, timeout=_ANSWER_TIMEOUT)
            if asked.returncode == 0 and asked.stdout.startswith("{"):
                answer = json.loads(asked.stdout)
        version = answer.get("version") or container.labels.get("org.opencontainers.image.version") or ""
        key_file = container.variables.get("WEBUI_SECRET_KEY_FILE") or _KEY_FILE
        return ContainerFacts(
            version=release(version) or release(_version_in(self._file(container, "/app/package.json"))),
            administrator=answer.get("administrator"),
            secret_key=self._file(container, str(PurePosixPath(container.folder) / key_file)).strip() or None,
        )

    def _file(self, container: ExistingContainer, path: str) -> str:
        """Return a file's text; "" if there is none."""
        words = [*self._engine.client, "cp", f"{container.name}:{path}", "-"]
        try:
            copied = subprocess.run(  # noqa: S603 - no shell
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_ANSWER_TIMEOUT, check=True
            )
            with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as archive:
                contents = [archive.extractfile(member) for member in archive.getmembers() if member.isfile()]
                return contents[0].read().decode(errors="replace") if contents and contents[0] else ""
        except (subprocess.SubprocessError, OSError, tarfile.TarError):
            return ""


def _container(inspected: dict[str, Any]) -> ExistingContainer:
    config, host = inspected["Config"], inspected["HostConfig"]
    bindings = (host.get("PortBindings") or {}).items()
    return ExistingContainer(
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


def _version_in(package: str) -> str:
    try:
        return str(json.loads(package)["version"])
    except (ValueError, KeyError, TypeError):
        return ""


def release(words: str) -> str | None:
    """Return the release in a version or tag, such as 0.12.4 in v0.12.4."""
    match = _RELEASE.fullmatch(words.strip())
    return match[1] if match else None


def existing_container(source: Source, containers: Sequence[ExistingContainer]) -> ExistingContainer | None:
    """Return the container of the old deployment; a running one first."""
    volume = source.data_mount.source if source.data_mount and not source.data_mount.is_folder else None

    def matches(one: ExistingContainer) -> bool:
        labels = [one.labels.get(f"com.docker.compose.{what}") for what in ("project", "service")]
        by_compose = source.project is not None and labels == [source.project, source.service]
        by_volume = volume is not None and volume in one.volumes.values()
        return by_compose or by_volume or (source.container is not None and one.name == source.container)

    matching = [one for one in containers if one.is_foreign and matches(one)]
    if not matching and source.on_the_host:
        # Variables name no container, so only a single one can be identified.
        official = [one for one in containers if one.is_official]
        matching = official if len(official) == 1 else []
    return max(matching, key=lambda one: one.running, default=None)
