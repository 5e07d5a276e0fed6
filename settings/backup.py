"""Backups of the data."""

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import SecretStr, WithJsonSchema

from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.values import Duration, HttpUrl, Settings, between, is_one_line, matching, require

_TIME = matching(r"([01]\d|2[0-3]):[0-5]\d", 'is not a time of day; write hours and minutes in quotes, such as "03:00"')
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, read in 2025.
_BUCKET = matching(
    "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "is not a bucket name; write 3 to 63 lowercase letters, digits, dots and hyphens",
)
_PREFIX = matching(
    r"(?!.*\.\.)[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*",
    "is not a folder in a bucket; write one such as chat/production, without / at either end",
)
_STORAGE_REGION = matching(
    "[a-z0-9-]{1,32}", "is not a region; write the storage's name for it, such as eu-central-1 or auto"
)
_ACCESS_KEY_ID = matching("[!-~]{1,256}", "is not an access key ID; copy it from the storage, without spaces")
_SECRET_ACCESS_KEY = matching("[!-~]{1,256}", "is not a secret access key; copy it from the storage, without spaces")
_LONG = matching("(?s).{12,}", "is too short; write at least 12 characters, or omit it to generate one")
_ONE_LINE = require(
    is_one_line, "contains a control character, or begins or ends with a space; write one line of printable text"
)
_WHOLE_DAYS = require(
    lambda duration: not duration % timedelta(days=1), "is not a whole number of days; write one such as 35d"
)


class RepositoryKind(StrEnum):
    """Where backups are stored."""

    VOLUME = "volume"
    S3 = "s3"
    AWS_BACKUP = "aws-backup"


class S3Settings(Settings):
    """An S3 bucket, of AWS or a compatible storage."""

    bucket: Annotated[str, _BUCKET]
    """Name of the existing bucket."""

    prefix: Annotated[str, _PREFIX] | None = None
    """Folder in the bucket for this stack alone. Default: the stack's name."""

    region: Annotated[str, _STORAGE_REGION] = "us-east-1"
    """Region of the bucket. Most storages other than AWS accept any."""

    endpoint: HttpUrl | None = None
    """URL of a storage other than AWS, such as https://minio.example.com. Default: AWS."""

    access_key_id: Annotated[str, _ACCESS_KEY_ID]
    """ID of an access key that may list, read, write and delete in the bucket."""

    secret_access_key: Annotated[SecretStr, _SECRET_ACCESS_KEY]
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

    def _faults(self) -> Iterator[Fault]:
        if self.s3 is not None and self.kind is not RepositoryKind.S3:
            yield Fault("", f"s3 is set, but kind is {self.kind or 'missing'}; remove s3 or write kind: s3")
        if self.s3 is None and self.kind is RepositoryKind.S3:
            yield Fault("s3", "is missing, but kind is s3; add bucket, access_key_id and secret_access_key")


class BackupSettings(Settings):
    """Backups of the data: users, chats, uploads, vectors and the secret key."""

    enabled: bool = False
    """Make a backup every day. `make backup` makes one at any time, also if this is false. Disabling it deletes no
    backup; with AWS Backup they expire as usual, and the topic must stay in the stack file, because the vault is
    protected."""

    at: Annotated[str, _TIME, WithJsonSchema({"type": "string", "pattern": r"^\d\d:\d\d$"})] = "03:00"
    """Time of the daily backup, in UTC and in quotes. AWS Backup begins within the following hour."""

    keep: Annotated[Duration, between("1d", "3650d"), _WHOLE_DAYS] = timedelta(days=35)
    """Retention of each backup, in whole days."""

    repository: RepositorySettings = RepositorySettings()
    """Where backups are stored."""

    encrypted: bool = True
    """Encrypt backups with the password. Unencrypted backups contain no secret key: after a restore elsewhere everybody
    signs in again."""

    password: Annotated[SecretStr, _LONG, _ONE_LINE] | None = None
    """Password of the backups (at least 12 characters), encrypted: `pulumi config set --path --secret backup.password`.
    Store it away from the backups: without it they cannot be decrypted. Default: one derived from a key in the stack's
    state, shown by `pulumi stack output backup_password --show-secrets`."""

    def _faults(self) -> Iterator[Fault]:
        if self.password is not None and not self.encrypted:
            yield Fault("", "password is set, but encrypted is false; remove password or write encrypted: true")

    def kind_on(self, *, aws: bool) -> RepositoryKind:
        """Return where they are kept on AWS, or elsewhere."""
        if self.repository.kind is not None:
            return self.repository.kind
        return RepositoryKind.AWS_BACKUP if aws else RepositoryKind.VOLUME
