"""Where what people make is kept: what outlives an update, the database, and what replicas share in memory."""

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from stacks.values import BelowError, Bytes, SecretInsideError, Settings, between_bytes

# What an application reads in a URL, percent-encoded where it would mean something else there.
_POSTGRES_URL = re.compile(
    r"postgresql://[^\s/@:]+:[^\s/@:]+@[A-Za-z0-9.\[\]:-]+/[A-Za-z0-9_%.-]+(\?[A-Za-z0-9_=&%./-]+)?"
)
_REDIS_URL = re.compile(r"rediss?://([^\s/@:]*:[^\s/@:]+@)?[A-Za-z0-9.\[\]:-]+(/\d+)?(\?[A-Za-z0-9_=&%./-]+)?")
# What Docker accepts: https://docs.docker.com/reference/cli/docker/volume/create/
_VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}")
DEFAULT_VECTOR_LENGTH = 1536


def _volume(value: str) -> str:
    if "/" in value or value in {".", ".."}:
        raise ValueError(
            "is a path, and no container gets a folder of its host; make a volume of it (docs/operations.md: A folder"
            " becomes a volume) and write its name",
        )
    if not _VOLUME.fullmatch(value):
        raise ValueError("is not the name of a Docker volume; `docker volume ls` lists them")
    return value


def _postgres_url(value: SecretStr) -> SecretStr:
    if not _POSTGRES_URL.fullmatch(value.get_secret_value()):
        raise SecretInsideError(
            "is not the address of a database; write postgresql://USER:PASSWORD@HOST:5432/DATABASE, what is not a"
            " letter or digit in the password percent-encoded",
        )
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    if not _REDIS_URL.fullmatch(value.get_secret_value()):
        raise SecretInsideError(
            "is not the address of a Redis; write redis://:PASSWORD@HOST:6379/0 (rediss:// with TLS), what is not a"
            " letter or digit in the password percent-encoded",
        )
    return value


class BackingMode(StrEnum):
    """Where a backing service runs."""

    NONE = "none"
    CONTAINER = "container"
    URL = "url"


class BackingSettings(Settings):
    """What PostgreSQL and Redis have in common."""

    mode: BackingMode = BackingMode.NONE

    @property
    def used(self) -> bool:
        """Whether there is one."""
        return self.mode is not BackingMode.NONE

    @model_validator(mode="after")
    def _one_mode(self) -> Self:
        for key, mode in (("url", BackingMode.URL), ("memory", BackingMode.CONTAINER)):
            if key in self.model_fields_set and getattr(self, key) is not None and self.mode is not mode:
                raise ValueError(f"{key} is set, but mode is {self.mode}; drop {key} or write mode: {mode}")
        if self.mode is BackingMode.URL and getattr(self, "url", None) is None:
            raise BelowError("url", "is missing, and mode is url; add it, encrypted")
        return self


class PostgresSettings(BackingSettings):
    """A database server, for users, chats, settings and the vectors of documents."""

    mode: BackingMode = BackingMode.NONE
    """none: SQLite in the volume with the data, which one replica can use; container: a PostgreSQL of this deployment's
    own; url: one that runs already, with the extension vector. A change moves no data: what was in the other one
    stays there."""

    url: Annotated[SecretStr, AfterValidator(_postgres_url)] | None = None
    """With mode url: its address, encrypted: `pulumi config set --path --secret data.postgres.url`."""

    memory: Annotated[Bytes, between_bytes("256MiB", "1024GiB")] = 1 << 30
    """With mode container: memory limit of it."""

    vector_length: Annotated[int, Field(ge=1, le=4000)] = DEFAULT_VECTOR_LENGTH
    """How many numbers the embedding model makes of a text; the longest of all models that will be used. Fixed once the
    first document is stored. Above 2000 each is kept in 16 bits instead of 32."""

    @model_validator(mode="after")
    def _vectors_are_in_a_database(self) -> Self:
        if "vector_length" in self.model_fields_set and not self.used:
            raise ValueError("vector_length is set, but mode is none; drop vector_length or write mode: container")
        return self


class RedisSettings(BackingSettings):
    """What replicas tell each other, and which sessions have ended."""

    mode: BackingMode = BackingMode.NONE
    """none: in the memory of the one replica, where signing out and a changed password end no session; container: a
    Redis of this deployment's own; url: one that runs already."""

    url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = None
    """With mode url: its address, encrypted: `pulumi config set --path --secret data.redis.url`."""

    memory: Annotated[Bytes, between_bytes("64MiB", "64GiB")] = 256 << 20
    """With mode container: memory limit of it."""


class DataSettings(Settings):
    """What outlives an update and `make down`, and where it is kept."""

    keep: bool = True
    """Protect volumes and generated keys from deletion. `make down DATA=delete` switches it off for its own run."""

    volume: Annotated[str, AfterValidator(_volume)] | None = None
    """Name of a Docker volume that exists already and holds Open WebUI's users, chats and uploads. It is used where it
    is, in place of one of this stack's own, and belongs to whoever made it: it is never copied or deleted, not even by
    `make down DATA=delete`. Nothing else may run on it."""

    postgres: PostgresSettings = PostgresSettings()
    """A database server. More than one replica needs it."""

    redis: RedisSettings = RedisSettings()
    """What replicas share in memory. More than one replica needs it; with one it makes signing out work."""
