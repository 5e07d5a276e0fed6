"""The containers that back a deployment up each day."""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict
from urllib.parse import parse_qsl, unquote, urlsplit

import pulumi
import pulumi_docker as docker

from components.docker.container import container, volume
from components.keeping import left_behind

GIVEN = "/run/open-webui-edge"
DATA = "/app/backend/data"
REPOSITORY = "/repository/restic"
"""Where a repository that is a volume lies."""
CAPABILITIES = ("DAC_READ_SEARCH",)
"""Somebody else may own what is read."""
_HERE = Path(__file__).parent
KEEP, DATABASE, FILES = (_HERE / name for name in ("keep.sh", "database.sh", "data.py"))
COPY_MEMORY = 512 << 20
KEEP_MEMORY = 1 << 30


class S3Args(TypedDict):
    """How a bucket is opened."""

    access_key_id: str
    secret_access_key: pulumi.Input[str]
    region: str


class DatabaseArgs(TypedDict):
    """A PostgreSQL."""

    image: pulumi.Input[str]
    """Id of an image with pg_dump."""
    url: pulumi.Input[str]
    version: pulumi.Input[str]
    """Release of Open WebUI that uses it."""


class BackupArgs(TypedDict):
    """What is copied, where to, when and for how long."""

    image: pulumi.Input[str]
    """Id of restic's image."""
    application_image: pulumi.Input[str]
    """Id of Open WebUI's image, whose Python copies SQLite."""
    network: pulumi.Input[str]
    data: pulumi.Input[str]
    """Name of the volume with uploads and, where `database` is left out, SQLite."""
    database: NotRequired[DatabaseArgs]
    secret_key: NotRequired[pulumi.Input[str]]
    """Goes into the copy; left out where that is not encrypted."""
    password: NotRequired[pulumi.Input[str]]
    """Left out: the copy is not encrypted."""
    repository: NotRequired[str]
    """Its address, as restic writes it. Left out: a volume of its own."""
    s3: NotRequired[S3Args]
    at: str
    """Time of day in UTC: 03:00."""
    keep: str
    """How long a copy is kept, in days: 35d."""


class Backup(pulumi.ComponentResource):
    """One container that copies the database as it is at one moment, and one that keeps copies with restic.

    Two, since what copies a database belongs to it, and no image holds both. They meet in a volume.
    """

    containers: pulumi.Output[Sequence[str]]
    container_ids: pulumi.Output[Sequence[str]]

    def __init__(self, name: str, args: BackupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the volumes and the containers."""
        super().__init__("open-webui-edge:index:Backup", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        # Who gives up backups, or keeps them elsewhere from now on, keeps those that there are.
        repository = volume(f"{name}-repository", "backup", left_behind(self))
        work = volume(f"{name}-work", "backup-work", child)
        copy = volume(f"{name}-copy", "backup-copy", child)
        given = volume(f"{name}-given", "backup-given", child)
        copy_given = volume(f"{name}-copy-given", "backup-copy-given", child)
        copier = container(
            f"{name}-copier",
            child,
            role="backup-copy",
            memory=COPY_MEMORY,
            network=args["network"],
            hosts={"host.docker.internal": "host-gateway"},
            capabilities=CAPABILITIES,
            init=True,
            volumes=[
                _mounted(args["data"], DATA),
                _mounted(copy.name, "/copy"),
                _mounted(copy_given.name, GIVEN),
            ],
            # It does nothing until it is asked, and who asks it says whether that worked.
            health=["CMD-SHELL", "true"],
            **_copier(args),
        )
        words = [f"EDGE_STACK={pulumi.get_stack()}", f"EDGE_AT={args['at']}", f"EDGE_KEEP={args['keep']}"]
        keeper = container(
            f"{name}-keeper",
            pulumi.ResourceOptions(parent=self, depends_on=[copier]),
            role="backup",
            image=args["image"],
            memory=KEEP_MEMORY,
            entrypoint=["/usr/bin/env"],
            command=[*words, "/bin/sh", "-eu", f"{GIVEN}/keep.sh", "serve"],
            network=args["network"],
            hosts={"host.docker.internal": "host-gateway"},
            capabilities=CAPABILITIES,
            init=True,
            volumes=[
                docker.ContainerVolumeArgs(volume_name=args["data"], container_path="/backup/data", read_only=True),
                _mounted(copy.name, "/backup/copy"),
                _mounted(work.name, "/work"),
                _mounted(repository.name, "/repository"),
                _mounted(given.name, GIVEN),
            ],
            files={f"{GIVEN}/{name}": content for name, content in _for_restic(args).items()},
            health=["CMD", "/bin/sh", "-eu", f"{GIVEN}/keep.sh", "health"],
            start_period="1m0s",
        )
        self.containers = pulumi.Output.all(copier.name, keeper.name)
        self.container_ids = pulumi.Output.all(copier.id, keeper.id)
        self.register_outputs({"containers": self.containers})


class _Copier(TypedDict):
    image: pulumi.Input[str]
    entrypoint: Sequence[str]
    command: Sequence[str]
    files: Mapping[str, pulumi.Input[str]]


def _copier(args: BackupArgs) -> _Copier:
    files: dict[str, pulumi.Input[str]] = {}
    if "secret_key" in args:
        files[f"{GIVEN}/secret_key"] = args["secret_key"]
    if "database" not in args:
        return _Copier(
            image=args["application_image"],
            entrypoint=["python3", f"{GIVEN}/data.py"],
            command=["serve"],
            files={**files, f"{GIVEN}/data.py": FILES.read_text()},
        )
    database = args["database"]
    service = pulumi.Output.secret(pulumi.Output.from_input(database["url"]).apply(service_of))
    return _Copier(
        image=database["image"],
        entrypoint=["/bin/sh", "-eu", f"{GIVEN}/database.sh"],
        command=["serve"],
        files={
            **files,
            f"{GIVEN}/database.sh": DATABASE.read_text(),
            f"{GIVEN}/service": service,
            f"{GIVEN}/version": database["version"],
        },
    )


def _for_restic(args: BackupArgs) -> dict[str, pulumi.Input[str]]:
    files: dict[str, pulumi.Input[str]] = {
        "keep.sh": KEEP.read_text(),
        "repository": args.get("repository", REPOSITORY),
    }
    if "password" in args:
        files["password"] = args["password"]
    if "s3" in args:
        files |= {
            "access_key_id": args["s3"]["access_key_id"],
            "secret_access_key": args["s3"]["secret_access_key"],
            "region": args["s3"]["region"],
        }
    return files


def _mounted(name: pulumi.Input[str], path: str) -> docker.ContainerVolumeArgs:
    return docker.ContainerVolumeArgs(volume_name=name, container_path=path)


def service_of(url: str) -> str:
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
        raise ValueError("The address of the database holds the end of a line, which libpq's file cannot carry.")
    return "[open_webui]\n" + "".join(f"{key}={value}\n" for key, value in values.items())
