"""Backups of the data."""

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, SecretStr, WithJsonSchema, model_validator

from open_webui_edge.settings.values import (
    Duration,
    FieldError,
    HttpUrl,
    LeakedSecretError,
    Settings,
    between_durations,
)

_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, read in 2025.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
_KEY = re.compile(r"[!-~]{1,256}")
_PASSWORD_MIN = 12


def _time(value: str) -> str:
    if not _TIME.fullmatch(value):
        raise ValueError('is not a time of day; write hours and minutes in quotes, such as "03:00"')
    return value


def _whole_days(value: timedelta) -> timedelta:
    if value % timedelta(days=1):
        raise ValueError("is not a whole number of days; write one such as 35d")
    return value


def _bucket(value: str) -> str:
    if not _BUCKET.fullmatch(value):
        raise ValueError("is not a bucket name; write 3 to 63 lowercase letters, digits, dots and hyphens")
    return value


def _prefix(value: str) -> str:
    if not _PREFIX.fullmatch(value) or ".." in value:
        raise ValueError("is not a folder in a bucket; write one such as chat/production, without / at either end")
    return value


def _storage_region(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,32}", value):
        raise ValueError("is not a region; write the storage's name for it, such as eu-central-1 or auto")
    return value


def _access_key_id(value: str) -> str:
    if not _KEY.fullmatch(value):
        raise ValueError("is not an access key ID; copy it from the storage, without spaces")
    return value


def _secret_access_key(value: SecretStr) -> SecretStr:
    if not _KEY.fullmatch(value.get_secret_value()):
        raise LeakedSecretError("is not a secret access key; copy it from the storage, without spaces")
    return value


def _password(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) < _PASSWORD_MIN:
        raise ValueError(f"is too short; write at least {_PASSWORD_MIN} characters, or omit it to generate one")
    if not text.isprintable() or text != text.strip():
        raise ValueError(
            "contains a control character, or begins or ends with a space; write one line of printable text"
        )
    return value


TimeOfDay = Annotated[str, AfterValidator(_time), WithJsonSchema({"type": "string", "pattern": r"^\d\d:\d\d$"})]


class RepositoryKind(StrEnum):
    """Where backups are stored."""

    VOLUME = "volume"
    S3 = "s3"
    AWS_BACKUP = "aws-backup"


class S3Settings(Settings):
    """An S3 bucket, of AWS or a compatible storage."""

    bucket: Annotated[str, AfterValidator(_bucket)]
    """Name of the existing bucket."""

    prefix: Annotated[str, AfterValidator(_prefix)] | None = None
    """Folder in the bucket for this stack alone. Default: the stack's name."""

    region: Annotated[str, AfterValidator(_storage_region)] = "us-east-1"
    """Region of the bucket. Most storages other than AWS accept any."""

    endpoint: HttpUrl | None = None
    """URL of a storage other than AWS, such as https://minio.example.com. Default: AWS."""

    access_key_id: Annotated[str, AfterValidator(_access_key_id)]
    """ID of an access key that may list, read, write and delete there."""

    secret_access_key: Annotated[SecretStr, AfterValidator(_secret_access_key)]
    """Secret access key, encrypted: `pulumi config set --path --secret backup.repository.s3.secret_access_key`."""

    def url(self, stack: str) -> str:
        """Return the repository's address, as restic writes it."""
        endpoint = self.endpoint or f"https://s3.{self.region}.amazonaws.com"
        return f"s3:{endpoint.rstrip('/')}/{self.bucket}/{self.prefix or stack}"


class RepositorySettings(Settings):
    """Where backups are stored."""

    kind: RepositoryKind | None = None
    """Selects the repository. volume: a Docker volume on the same host, which protects against mistakes but not against
    a lost disk (`make backup TO=…` copies it elsewhere); s3: a bucket; aws-backup: snapshots of the data disk by AWS
    Backup, with platform.kind aws-vm. Default: aws-backup with platform.kind aws-vm, else volume."""

    s3: S3Settings | None = None
    """The bucket, with kind s3."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.s3 is not None and self.kind is not RepositoryKind.S3:
            said = "missing" if self.kind is None else str(self.kind)
            raise ValueError(f"s3 is set, but kind is {said}; remove s3 or write kind: s3")
        if self.s3 is None and self.kind is RepositoryKind.S3:
            raise FieldError("s3", "is missing, but kind is s3; add bucket, access_key_id and secret_access_key")
        return self


class BackupSettings(Settings):
    """Backups of the data: users, chats, uploads, vectors and the secret key."""

    enabled: bool = False
    """Make a backup every day. `make backup` makes one at any time, also if this is false. Disabling it deletes no
    backup; with AWS Backup they expire as usual. Leave the topic in the file then, because the vault is protected."""

    at: TimeOfDay = "03:00"
    """Time of the daily backup, in UTC. AWS Backup begins within the following hour."""

    keep: Annotated[Duration, between_durations("1d", "3650d"), AfterValidator(_whole_days)] = timedelta(days=35)
    """Retention of each backup, in whole days."""

    repository: RepositorySettings = RepositorySettings()
    """Where backups are stored."""

    encrypted: bool = True
    """Encrypt backups with the password. Unencrypted backups contain no secret key: after a restore elsewhere everybody
    signs in again."""

    password: Annotated[SecretStr, AfterValidator(_password)] | None = None
    """Password of the backups (at least 12 characters), encrypted: `pulumi config set --path --secret backup.password`.
    Store it away from the backups: without it they cannot be decrypted. Default: one derived from a key in the stack's
    state, shown by `pulumi stack output backup_password --show-secrets`."""

    @model_validator(mode="after")
    def _a_password_encrypts(self) -> Self:
        if self.password is not None and not self.encrypted:
            raise ValueError("password is set, but encrypted is false; remove password or write encrypted: true")
        return self

    def kind_on(self, *, aws: bool) -> RepositoryKind:
        """Return where they are kept on AWS, or elsewhere."""
        if self.repository.kind is not None:
            return self.repository.kind
        return RepositoryKind.AWS_BACKUP if aws else RepositoryKind.VOLUME
