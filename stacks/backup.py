"""Copies of the data, kept elsewhere."""

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, SecretStr, WithJsonSchema, model_validator

from stacks.values import BelowError, Duration, HttpUrl, SecretInsideError, Settings, between_durations

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
        raise ValueError("is not the name of a bucket; write 3 to 63 small letters, digits, dots and hyphens")
    return value


def _prefix(value: str) -> str:
    if not _PREFIX.fullmatch(value) or ".." in value:
        raise ValueError("is not a folder in a bucket; write one such as chat/production, no / at its ends")
    return value


def _storage_region(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,32}", value):
        raise ValueError("is not a region; write it as the storage calls it, such as eu-central-1 or auto")
    return value


def _access_key_id(value: str) -> str:
    if not _KEY.fullmatch(value):
        raise ValueError("is not the id of an access key; write it as the storage gave it, without blanks")
    return value


def _secret_access_key(value: SecretStr) -> SecretStr:
    if not _KEY.fullmatch(value.get_secret_value()):
        raise SecretInsideError("is not a secret access key; write it as the storage gave it, without blanks")
    return value


def _password(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) < _PASSWORD_MIN:
        raise ValueError(f"is too short; write at least {_PASSWORD_MIN} characters, or leave it out to have one made")
    if not text.isprintable() or text != text.strip():
        raise ValueError("holds a control character or begins or ends with a blank; write one line of printable text")
    return value


TimeOfDay = Annotated[str, AfterValidator(_time), WithJsonSchema({"type": "string", "pattern": r"^\d\d:\d\d$"})]


class RepositoryKind(StrEnum):
    """Where copies are kept."""

    VOLUME = "volume"
    S3 = "s3"
    AWS_BACKUP = "aws-backup"


class S3Settings(Settings):
    """A bucket of AWS, or of whatever else speaks S3."""

    bucket: Annotated[str, AfterValidator(_bucket)]
    """Its name. It exists already."""

    prefix: Annotated[str, AfterValidator(_prefix)] | None = None
    """Folder in it, for this stack alone. Left out: the stack's name."""

    region: Annotated[str, AfterValidator(_storage_region)] = "us-east-1"
    """Where it is. Other storages than AWS mostly take any."""

    endpoint: HttpUrl | None = None
    """Where a storage other than AWS is reached, such as https://minio.example.com. Left out: AWS."""

    access_key_id: Annotated[str, AfterValidator(_access_key_id)]
    """Id of a key that may list, read, write and delete there."""

    secret_access_key: Annotated[SecretStr, AfterValidator(_secret_access_key)]
    """Its secret, encrypted: `pulumi config set --path --secret backup.repository.s3.secret_access_key`."""

    def url(self, stack: str) -> str:
        """Return the repository's address, as restic writes it."""
        endpoint = self.endpoint or f"https://s3.{self.region}.amazonaws.com"
        return f"s3:{endpoint.rstrip('/')}/{self.bucket}/{self.prefix or stack}"


class RepositorySettings(Settings):
    """Where copies are kept."""

    kind: RepositoryKind | None = None
    """volume: a Docker volume beside the data, which saves from mistakes but not from a lost disk (`make backup TO=…`
    brings it elsewhere); s3: a bucket; aws-backup: snapshots of the data volume by AWS Backup, with platform.kind
    aws-vm. Left out: aws-backup there, volume elsewhere."""

    s3: S3Settings | None = None
    """With kind s3: which bucket."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.s3 is not None and self.kind is not RepositoryKind.S3:
            said = "missing" if self.kind is None else str(self.kind)
            raise ValueError(f"s3 is set, but kind is {said}; drop s3 or write kind: s3")
        if self.s3 is None and self.kind is RepositoryKind.S3:
            raise BelowError("s3", "is missing, and kind is s3; add bucket, access_key_id and secret_access_key")
        return self


class BackupSettings(Settings):
    """Copies of what people made: users, chats, uploads, vectors and the key of their sessions."""

    enabled: bool = False
    """Whether they are made each day. `make backup` makes one at any time, also without. When it becomes false, those
    that are there stay; with AWS Backup until their time is over, and the topic stays in the file, for the vault is
    kept."""

    at: TimeOfDay = "03:00"
    """When the daily one begins, in UTC; AWS Backup begins within the hour that follows."""

    keep: Annotated[Duration, between_durations("1d", "3650d"), AfterValidator(_whole_days)] = timedelta(days=35)
    """How long each is kept, in whole days."""

    repository: RepositorySettings = RepositorySettings()
    """Where they are kept."""

    encrypted: bool = True
    """Whether only who has the password can read them. Without, they hold no secret key: what is restored elsewhere
    asks everybody to sign in anew."""

    password: Annotated[SecretStr, AfterValidator(_password)] | None = None
    """What they are encrypted with (12 characters at least), encrypted here as well: `pulumi config set --path --secret
    backup.password`. Left out, it follows from a key in the stack's state: `pulumi stack output backup_password
    --show-secrets`. Keep it where the backups are not: nothing else opens them."""

    @model_validator(mode="after")
    def _a_password_encrypts(self) -> Self:
        if self.password is not None and not self.encrypted:
            raise ValueError("password is set, but encrypted is false; drop password or write encrypted: true")
        return self

    def kind_on(self, *, aws: bool) -> RepositoryKind:
        """Return where they are kept on AWS, or elsewhere."""
        if self.repository.kind is not None:
            return self.repository.kind
        return RepositoryKind.AWS_BACKUP if aws else RepositoryKind.VOLUME
