"""The containers that back up a deployment every day."""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import pulumi

from open_webui_edge.components.container_group import ContainerGroup, mount
from open_webui_edge.components.docker.container import container, volume
from open_webui_edge.components.outbound import OutboundArgs, files_of
from open_webui_edge.components.protection import retained
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.contract import CONFIG_DIR, DATA_DIR, REPOSITORY_DIR
from open_webui_edge.settings.data import libpq_service

CAPABILITIES = ("DAC_READ_SEARCH",)
"""The files to read belong to other users."""
COPY_MEMORY = 512 << 20
RESTIC_MEMORY = 1 << 30


class S3Args(TypedDict):
    """Credentials of a bucket."""

    access_key_id: str
    secret_access_key: pulumi.Input[str]
    region: str


class DatabaseArgs(TypedDict):
    """The PostgreSQL to dump."""

    image: pulumi.Input[str]
    """ID of an image with pg_dump."""
    url: pulumi.Input[str]
    version: pulumi.Input[str]
    """Release of Open WebUI that uses it."""


class BackupArgs(TypedDict):
    """Sources, repository, schedule and retention."""

    image: pulumi.Input[str]
    """ID of restic's image."""
    application_image: pulumi.Input[str]
    """ID of Open WebUI's image, whose Python copies SQLite."""
    network: pulumi.Input[str]
    data: pulumi.Input[str]
    """Name of the volume with uploads and, without `database`, SQLite."""
    database: NotRequired[DatabaseArgs]
    secret_key: NotRequired[pulumi.Input[str]]
    """Part of the backup; left out if backups are not encrypted."""
    password: NotRequired[pulumi.Input[str]]
    """Left out: backups are not encrypted."""
    repository: NotRequired[str]
    """Address in restic's syntax. Left out: a volume."""
    s3: NotRequired[S3Args]
    outbound: NotRequired[OutboundArgs]
    """How it reaches the bucket."""
    at: str
    """Time of day in UTC: 03:00."""
    keep: str
    """Retention in days: 35d."""


class Backup(ContainerGroup):
    """A container that takes consistent copies of the database, and one that saves them with restic.

    Two containers, since no image has both the database's tools and restic. They share a volume.
    """

    def __init__(self, name: str, args: BackupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the volumes and the containers."""
        super().__init__("open-webui-edge:index:Backup", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        # Existing backups stay when backups are disabled or go to another repository.
        repository = volume(f"{name}-repository", "backup", retained(self))
        work = volume(f"{name}-work", "backup-work", child)
        copy = volume(f"{name}-copy", "backup-copy", child)
        config = volume(f"{name}-given", "backup-given", child)
        copy_config = volume(f"{name}-copy-given", "backup-copy-given", child)
        image, program, files = _copier(args)
        copier = container(
            f"{name}-copier",
            child,
            role="backup-copy",
            image=image,
            memory=COPY_MEMORY,
            entrypoint=program,
            command=["serve"],
            network=args["network"],
            hosts={"host.docker.internal": "host-gateway"},
            capabilities=CAPABILITIES,
            init=True,
            volumes=[mount(args["data"], DATA_DIR), mount(copy.name, "/copy"), mount(copy_config.name, CONFIG_DIR)],
            files=_in_config_dir(files),
            # It is idle until the other container starts a copy, which then reports the result.
            health=["CMD-SHELL", "true"],
        )
        environment = [f"EDGE_STACK={pulumi.get_stack()}", f"EDGE_AT={args['at']}", f"EDGE_KEEP={args['keep']}"]
        restic = container(
            f"{name}-keeper",
            pulumi.ResourceOptions(parent=self, depends_on=[copier]),
            role="backup",
            image=args["image"],
            memory=RESTIC_MEMORY,
            entrypoint=["/usr/bin/env"],
            command=[*environment, "/bin/sh", "-eu", f"{CONFIG_DIR}/keep.sh", "serve"],
            network=args["network"],
            hosts={"host.docker.internal": "host-gateway"},
            capabilities=CAPABILITIES,
            init=True,
            volumes=[
                mount(args["data"], "/backup/data", read_only=True),
                mount(copy.name, "/backup/copy"),
                mount(work.name, "/work"),
                mount(repository.name, "/repository"),
                mount(config.name, CONFIG_DIR),
            ],
            files=_in_config_dir(_for_restic(args)),
            health=["CMD", "/bin/sh", "-eu", f"{CONFIG_DIR}/keep.sh", "health"],
            start_period="1m0s",
        )
        self._register(copier, restic)


def _copier(args: BackupArgs) -> tuple[pulumi.Input[str], Sequence[str], dict[str, pulumi.Input[str]]]:
    """Return the image, the program's command and the files of the container that copies the database."""
    files: dict[str, pulumi.Input[str]] = {}
    if "secret_key" in args:
        files["secret_key"] = args["secret_key"]
    if "database" not in args:
        files["data.py"] = delivery.program("backup/files.py")
        return args["application_image"], ["python3", f"{CONFIG_DIR}/data.py"], files
    database = args["database"]
    files |= {
        "database.sh": delivery.program("backup/database.sh"),
        "service": pulumi.Output.secret(pulumi.Output.from_input(database["url"]).apply(libpq_service)),
        "version": database["version"],
    }
    return database["image"], ["/bin/sh", "-eu", f"{CONFIG_DIR}/database.sh"], files


def _for_restic(args: BackupArgs) -> dict[str, pulumi.Input[str]]:
    files: dict[str, pulumi.Input[str]] = {
        "keep.sh": delivery.program("backup/restic.sh"),
        "repository": args.get("repository", REPOSITORY_DIR),
    }
    if "password" in args:
        files["password"] = args["password"]
    if "s3" in args:
        files |= {
            "access_key_id": args["s3"]["access_key_id"],
            "secret_access_key": args["s3"]["secret_access_key"],
            "region": args["s3"]["region"],
        }
    if "outbound" in args:
        files |= files_of(args["outbound"])
    return files


def _in_config_dir(files: Mapping[str, pulumi.Input[str]]) -> dict[str, pulumi.Input[str]]:
    return {f"{CONFIG_DIR}/{name}": content for name, content in files.items()}
