"""The model of an old deployment, independent of the kind of file it was read from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import SplitResult, urlsplit

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.runtime.contract import DATA_DIR

EVERYWHERE = "0.0.0.0"  # noqa: S104 - read, not bound


class Role(StrEnum):
    """The purpose of a service next to Open WebUI."""

    OLLAMA = "ollama"
    POSTGRES = "postgres"
    REDIS = "redis"
    PROXY = "proxy"
    OTHER = "other"


@dataclass(frozen=True)
class Variable:
    """One variable of Open WebUI."""

    value: str
    origin: str
    """The file that sets it."""


def variables_of(values: Mapping[str, str | None], origin: str) -> dict[str, Variable]:
    """Return the variables of a file that have a value."""
    return {name: Variable(value, origin) for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Publication:
    """A published port."""

    port: int
    container_port: int
    address: str = EVERYWHERE

    def __str__(self) -> str:
        """Write it as Docker's clients do."""
        address = "" if self.address == EVERYWHERE else f"{self.address}:"
        return f"{address}{self.port}:{self.container_port}"


@dataclass(frozen=True)
class Mount:
    """A mount of the container."""

    source: str
    target: str
    is_folder: bool
    """Whether it is a folder of the host, and not a volume."""


@dataclass(frozen=True)
class Neighbour:
    """A service next to Open WebUI."""

    name: str
    image: str
    role: Role
    published: tuple[Publication, ...] = ()
    gpu: bool = False
    variables: dict[str, str] = field(default_factory=dict[str, str])
    aliases: tuple[str, ...] = ()
    """Further names of it in the network."""


Dropped = tuple[str, str]
"""An item, not a variable, that a stack has no setting for, and why."""


@dataclass
class Site:
    """An Nginx site in front of Open WebUI."""

    source: str
    names: list[str] = field(default_factory=list[str])
    http_port: int | None = None
    https_port: int | None = None
    http3: bool = False
    local: bool = False
    """Whether this machine alone could reach it."""
    certificate: str | None = None
    private_key: str | None = None
    directives: list[tuple[str, tuple[str, ...]]] = field(default_factory=list[tuple[str, tuple[str, ...]]])
    """Each with its arguments, those of the location that leads to Open WebUI too."""
    locations: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    """Paths that are not proxied to Open WebUI, each with its `url`, or nothing if it is denied."""
    dropped: list[Dropped] = field(default_factory=list[Dropped])


@dataclass
class Source:
    """Everything that was read."""

    sources: list[str] = field(default_factory=list[str])
    variables: dict[str, Variable] = field(default_factory=dict[str, Variable])
    image: str | None = None
    container: str | None = None
    project: str | None = None
    """Compose's own name for the whole."""
    service: str | None = None
    published: tuple[Publication, ...] = ()
    mounts: tuple[Mount, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    on_host_network: bool = False
    on_the_host: bool = False
    """Whether it may have run without a container: nothing but variables is known."""
    gpu: bool = False
    user: str | None = None
    memory: str | None = None
    hosts: tuple[str, ...] = ()
    """Names of rules of a proxy's labels."""
    site: Site | None = None
    unused: dict[str, Variable] = field(default_factory=dict[str, Variable])
    """Variables of a compose file's own .env that no service was given."""
    interpolated: dict[str, Variable] = field(default_factory=dict[str, Variable])
    """Variables that the compose file itself was filled in with."""
    dropped: list[Dropped] = field(default_factory=list[Dropped])

    def value(self, name: str) -> str:
        """Return the value of a variable; "" if it is not set, as Open WebUI does."""
        return self.variables[name].value if name in self.variables else ""

    def first(self, *names: str) -> str | None:
        """Return the first of some variables that has a value; the others have no effect."""
        return next((name for name in names if self.value(name)), None)

    @property
    def data_mount(self) -> Mount | None:
        """The mount with users, chats and uploads."""
        folder = PurePosixPath(self.value("DATA_DIR") or DATA_DIR)
        return next((mount for mount in self.mounts if PurePosixPath(mount.target) == folder), None)


_ROLES = {
    Role.OLLAMA: ("ollama",),
    Role.POSTGRES: ("postgres", "postgresql", "pgvector", "timescaledb", "timescaledb-ha", "postgis"),
    Role.REDIS: ("redis", "valkey", "dragonfly", "keydb", "redis-stack", "redis-stack-server"),
    Role.PROXY: (
        "nginx", "nginx-unprivileged", "swag", "caddy", "traefik", "nginx-proxy", "nginx-proxy-manager",
        "acme-companion", "certbot", "haproxy", "cloudflared",
    ),
}  # fmt: skip


def host_of(url: str) -> str | None:
    """Return the host of a URL; None if it has none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def split_url(url: str) -> SplitResult | None:
    """Take a URL apart; None if its host or port is invalid."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return parts if host else None


def repository(image: str) -> str:
    """Return an image's name without registry, tag and digest: open-webui/open-webui."""
    path = image.partition("@")[0].removesuffix(f":{tag(image)}")
    first, _, rest = path.partition("/")
    return rest if rest and ("." in first or ":" in first or first == "localhost") else path


def tag(image: str) -> str:
    """Return an image's tag; "" without one."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def is_open_webui(image: str) -> bool:
    """Return whether an image is Open WebUI's, or a copy of it in another registry."""
    return repository(image).rpartition("/")[2] in {"open-webui", "openwebui"}


def role_of(image: str) -> Role:
    """Return the purpose of a service, by its image."""
    last = repository(image).rpartition("/")[2].lower()
    return next((role for role, names in _ROLES.items() if last in names), Role.OTHER)


_LAST_PORT = 65535
_PORT = re.compile(r"[0-9]{1,5}")
_SHORT = re.compile(
    r"(?:(?:(?P<address>\[[0-9a-fA-F:.]+\]|[\d.]+):)?(?P<host>[\d-]*):)?(?P<container>[\d-]+)(?:/(?P<protocol>\w+))?"
)


def publications(words: str, where: str) -> list[Publication]:
    """Parse Docker's short form of a port ([address:][host:]container), or raise ProblemError.

    One without a fixed host port is omitted.
    """
    match = _SHORT.fullmatch(words.strip())
    if match is not None and (match["protocol"] not in {None, "tcp"} or not match["host"]):
        return []
    pairs = [] if match is None else list(zip(_range(match["host"]), _range(match["container"]), strict=False))
    if match is None or not pairs:
        raise ProblemError(f'{where}: "{words}" is not a port; write one such as 3000:8080.')
    return [Publication(port, inside, (match["address"] or EVERYWHERE).strip("[]")) for port, inside in pairs]


def _range(words: str) -> range:
    """Return the ports of 8080 or 8080-8090; none if they are invalid."""
    first, _, last = words.partition("-")
    if not _PORT.fullmatch(first) or not _PORT.fullmatch(last or first):
        return range(0)
    ports = range(int(first), int(last or first) + 1)
    return ports if ports and ports[-1] <= _LAST_PORT else range(0)
