"""Data storage: the data volume, the database, and the memory that replicas share."""

import string
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, SecretStr

from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.values import Bytes, Settings, between, matching, require

_NOT_A_PATH = require(
    lambda name: "/" not in name and name not in {".", ".."},
    "is a path, but containers get no folder of the host; move it into a volume (docs/operations.md: A folder becomes a"
    " volume) and write the volume's name",
)
# What Docker accepts: https://docs.docker.com/reference/cli/docker/volume/create/
_VOLUME = matching(
    "[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}", "is not the name of a Docker volume; `docker volume ls` lists them"
)
# What an application reads in a URL, percent-encoded where it would mean something else there.
_POSTGRES_URL = matching(
    r"postgresql://[^\s/@:]+:[^\s/@:]+@[A-Za-z0-9.\[\]:-]+/[A-Za-z0-9_%.-]+(\?[A-Za-z0-9_=&%./-]+)?",
    "is not a PostgreSQL URL; write postgresql://USER:PASSWORD@HOST:5432/DATABASE with a percent-encoded password",
)
_REDIS_URL = matching(
    r"rediss?://([^\s/@:]*:[^\s/@:]+@)?[A-Za-z0-9.\[\]:-]+(/\d+)?(\?[A-Za-z0-9_=&%./-]+)?",
    "is not a Redis URL; write redis://:PASSWORD@HOST:6379/0 (rediss:// for TLS) with a percent-encoded password",
)


class BackingMode(StrEnum):
    """Where a backing service runs."""

    NONE = "none"
    CONTAINER = "container"
    URL = "url"


class BackingSettings(Settings):
    """What PostgreSQL and Redis have in common."""

    mode: BackingMode = BackingMode.NONE

    @property
    def is_used(self) -> bool:
        """Whether there is one."""
        return self.mode is not BackingMode.NONE

    def _faults(self) -> Iterator[Fault]:
        for key, mode in (("url", BackingMode.URL), ("memory", BackingMode.CONTAINER)):
            if key in self.model_fields_set and getattr(self, key) is not None and self.mode is not mode:
                yield Fault("", f"{key} is set, but mode is {self.mode}; remove {key} or write mode: {mode}")
        if self.mode is BackingMode.URL and getattr(self, "url", None) is None:
            yield Fault("url", "is missing, but mode is url; add it, encrypted")


class PostgresSettings(BackingSettings):
    """PostgreSQL, for users, chats, settings and document vectors."""

    mode: BackingMode = BackingMode.NONE
    """Selects the database. none: SQLite in the data volume, for one replica only; container: a PostgreSQL in this
    deployment; url: an existing server with the extension vector. Changing it moves no data: the old database keeps its
    data."""

    url: Annotated[SecretStr, _POSTGRES_URL] | None = None
    """URL of the existing server, with mode url, encrypted: `pulumi config set --path --secret data.postgres.url`.
    Default: none."""

    memory: Annotated[Bytes, between("256MiB", "1024GiB")] = 1 << 30
    """Memory limit of the PostgreSQL container, with mode container."""

    vector_length: Annotated[int, Field(ge=1, le=4000)] = 1536
    """Dimensions of the embedding vectors: the largest of all embedding models that you will use. It is fixed once the
    first document is stored. Above 2000, vectors are stored with 16-bit instead of 32-bit numbers."""

    def _faults(self) -> Iterator[Fault]:
        yield from super()._faults()
        if "vector_length" in self.model_fields_set and not self.is_used:
            yield Fault("", "vector_length is set, but mode is none; remove vector_length or write mode: container")


class RedisSettings(BackingSettings):
    """Redis, which replicas share for messages and revoked sessions."""

    mode: BackingMode = BackingMode.NONE
    """Selects where Redis runs. none: no Redis, for one replica only; signing out or changing a password then revokes
    no session; container: a Redis in this deployment; url: an existing server."""

    url: Annotated[SecretStr, _REDIS_URL] | None = None
    """URL of the existing server, with mode url, encrypted: `pulumi config set --path --secret data.redis.url`.
    Default: none."""

    memory: Annotated[Bytes, between("64MiB", "64GiB")] = 256 << 20
    """Memory limit of the Redis container, with mode container."""


class DataSettings(Settings):
    """Data that outlives an update and `make down`, and where it is stored."""

    keep: Annotated[bool, Field(json_schema_extra={"deprecated": True})] = True
    """Has no effect and is deprecated: volumes and generated keys are always protected, and only `make down
    DATA=delete` removes them. Remove it from the stack file."""

    volume: Annotated[str, _NOT_A_PATH, _VOLUME] | None = None
    """Name of an existing Docker volume with Open WebUI's users, chats and uploads. The deployment uses it in place and
    never copies or deletes it, not even by `make down DATA=delete`. No other container may use it at the same time.
    Default: create a volume."""

    postgres: PostgresSettings = PostgresSettings()
    """PostgreSQL. More than one replica requires it."""

    redis: RedisSettings = RedisSettings()
    """Redis. More than one replica requires it; with one replica it makes signing out revoke sessions."""


def libpq_service(url: str) -> str:
    """Write a database's URL as a file that libpq reads, under the name open_webui."""
    parts = urlsplit(url)
    values = {
        "host": (parts.hostname or "").strip("[]"),
        "port": str(parts.port or 5432),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "dbname": unquote(parts.path.removeprefix("/")),
        **dict(parse_qsl(parts.query)),
    }
    if any(set(value) & (set(string.whitespace) - {" "}) for value in values.values()):
        raise ValueError("The database URL contains a line break, which a libpq service file cannot contain.")
    return "[open_webui]\n" + "".join(f"{key}={value}\n" for key, value in values.items())
