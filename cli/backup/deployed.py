"""A running stack as a backup sees it: its containers, volumes, database and repository."""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

from open_webui_edge.bootstrap import console, images, lock
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.cli import containers, stack
from open_webui_edge.cli.backup.one_off_containers import OneOff, OneOffRunner
from open_webui_edge.cli.stack import Stack
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.contract import CONFIG_DIR, DATA_DIR, REPOSITORY_DIR
from open_webui_edge.settings.data import libpq_service
from open_webui_edge.settings.images import OPEN_WEBUI_VERSION, POSTGRES, RESTIC, ImageSource

STAGING = f"{DATA_DIR}/.open-webui-edge-restore"
"""Folder of a restore in the data volume."""
DUMP = f"{STAGING}/new/copy/database.dump"


@dataclass(frozen=True)
class Repository:
    """A restic repository and its credentials."""

    address: str
    """restic's repository address."""
    password: str | None
    keys: Mapping[str, str]
    """Credentials for S3, and how it is reached: file name -> content."""
    volume: str | None
    """The volume that holds it, if any."""

    @property
    def files(self) -> dict[str, str]:
        """Files for the script that runs restic: name -> content."""
        password = {} if self.password is None else {"password": self.password}
        return {"repository": self.address, **password, **self.keys, "keep.sh": delivery.program("backup/restic.sh")}


@dataclass(frozen=True)
class Deployed:
    """A stack that is up."""

    stack: Stack
    engine: Engine

    @property
    def name(self) -> str:
        """The stack's name."""
        return self.stack.name

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings in its file."""
        return stack.settings_of(self.name)

    def setting(self, path: str) -> Any:  # noqa: ANN401 - whatever a person wrote
        """Return one of its settings, or None."""
        return stack.setting(self.settings, path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the exclusive lock for backups and restores of the stack; first remove leftovers of a killed one."""
        with lock.exclusive(f"backup-{self.name}", console.Step("backup")):
            self.runner.clear(containers.BACKUP_TASK)
            with self.runner.lock(self.application_image):
                yield

    @cached_property
    def runner(self) -> OneOffRunner:
        """Runs one-off containers on its engine."""
        return OneOffRunner(self.engine, self.name)

    @cached_property
    def replicas(self) -> list[dict[str, Any]]:
        """The containers of Open WebUI, the first one first; raises ProblemError if there are none."""
        listed = containers.of_stack(self.engine, self.name, "open-webui")
        if not listed:
            message = f"There is no Open WebUI of the stack {self.name}; `make up STACK={self.name}` starts it."
            raise ProblemError(message)
        return sorted(listed, key=lambda one: (len(one["Name"]), one["Name"]))

    @property
    def application_image(self) -> str:
        """ID of the running image of Open WebUI."""
        return self.replicas[0]["Image"]

    @cached_property
    def data(self) -> str:
        """Name of the volume with uploads, whether this stack or the user created it."""
        (mount,) = (one for one in self.replicas[0]["Mounts"] if one["Destination"] == DATA_DIR)
        return mount["Name"]

    @cached_property
    def network(self) -> str:
        """Name of the network that reaches its database."""
        return next(iter(self.replicas[0]["NetworkSettings"]["Networks"]))

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment of Open WebUI, with secrets."""
        return self.given.get("environment", {})

    @cached_property
    def given(self) -> dict[str, Any]:
        """The launcher's configuration: environment and former secret keys."""
        name = self.replicas[0]["Name"].lstrip("/")
        words = [*self.engine.client, "cp", f"{name}:{CONFIG_DIR}/environment.json", "-"]
        copied = subprocess.run(words, capture_output=True, check=False)  # noqa: S603 - a list of arguments, no shell
        if copied.returncode:
            message = f"The configuration of {name} cannot be read: {copied.stderr.decode(errors='replace').strip()}"
            raise ProblemError(message)
        with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as archive:
            file = archive.extractfile(archive.next() or "")
            return json.loads(file.read()) if file is not None else {}

    @property
    def database_url(self) -> str | None:
        """URL of its PostgreSQL; None with SQLite."""
        return self.environment.get("DATABASE_URL")

    @property
    def database(self) -> str:
        """Kind of its database, as in a manifest."""
        return "sqlite" if self.database_url is None else "postgresql"

    @property
    def version(self) -> str:
        """The release of Open WebUI in its file."""
        return self.setting("open_webui.version") or OPEN_WEBUI_VERSION

    @cached_property
    def source(self) -> ImageSource:
        """Source of its images; makes sure that the engine has them."""
        with console.step("images") as shown:
            used = (RESTIC,) if self.database_url is None else (RESTIC, POSTGRES)
            return images.ensure(self.engine, stack.required_images(self.settings, used), shown)

    @cached_property
    def postgres_image(self) -> str:
        """Name or ID of an image with the tools of its PostgreSQL."""
        own = containers.of_stack(self.engine, self.name, "postgres")
        return own[0]["Image"] if own else POSTGRES.reference(self.source, self.setting("images.registry"))

    @cached_property
    def repository(self) -> Repository:
        """The repository with its backups."""
        if self.setting("backup.repository.kind") != "s3":
            return Repository(REPOSITORY_DIR, self.password, {}, self._volume("backup"))
        from open_webui_edge.settings.backup import S3Settings  # noqa: PLC0415 - loads pydantic, which other kinds do not need

        secret = self.stack.setting_in_clear("backup.repository.s3.secret_access_key")
        given = json.dumps({**self.setting("backup.repository.s3"), "secret_access_key": secret})
        s3 = S3Settings.model_validate_json(given)
        keys = {"access_key_id": s3.access_key_id, "secret_access_key": secret, "region": s3.region}
        url = s3.url(self.name)
        return Repository(url, self.password, {**keys, **self.outbound_files(url)}, None)

    def outbound_files(self, address: str) -> dict[str, str]:
        """Return the files with which restic reaches a bucket through the stack's proxy, if it has one."""
        from open_webui_edge.settings.outbound import OutboundSettings  # noqa: PLC0415 - loads pydantic, too

        outbound = {**(self.setting("outbound") or {})}
        if self.setting("outbound.proxy.password") is not None:
            password = self.stack.setting_in_clear("outbound.proxy.password")
            outbound["proxy"] = {**outbound["proxy"], "password": password}
        return OutboundSettings.model_validate_json(json.dumps(outbound)).files([address.removeprefix("s3:")])

    @cached_property
    def password(self) -> str | None:
        """Password of its backups, None if they are not encrypted; raises ProblemError if there is none yet."""
        if self.setting("backup.encrypted") is False:
            return None
        password = self.stack.output_in_clear("backup_password")
        if password is None:
            raise ProblemError(
                f"The stack {self.name} has no password for backups yet; `make up STACK={self.name}` generates it."
            )
        return password

    def _volume(self, role: str) -> str:
        """Create a permanent volume if it is missing and return its name; a later update may adopt it."""
        name = f"edge-{self.name}-{role}"
        deployment = self.replicas[0]["Config"]["Labels"].get("deployment", "")
        self.runner.make("volume", name, labels={"role": role, "deployment": deployment})
        return name

    def restic_task(
        self, repository: Repository, *words: str, volumes: Mapping[str, str] | None = None, waits: bool = True
    ) -> OneOff:
        """Return the one-off that runs restic; with `waits`, it shares a lock with scheduled backups of the stack."""
        keep = self.setting("backup.keep") or "35d"
        mounted = {"/work": self._volume("backup-work")} if waits else {}
        if repository.volume is not None:
            mounted["/repository"] = repository.volume
        return OneOff(
            image=RESTIC.reference(self.source, self.setting("images.registry")),
            words=[
                "/usr/bin/env", f"EDGE_STACK={self.name}", f"EDGE_KEEP={keep}",
                "/bin/sh", "-eu", f"{CONFIG_DIR}/keep.sh", *words,
            ],
            files=repository.files,
            volumes={**mounted, **(volumes or {})},
            network="none" if repository.volume is not None else self.network,
        )  # fmt: skip

    def run_restic(  # noqa: PLR0913 - those of the task and of its run
        self,
        purpose: str,
        repository: Repository,
        *words: str,
        volumes: Mapping[str, str] | None = None,
        waits: bool = False,
        shown: bool = False,
        feed: Callable[[IO[bytes]], None] | None = None,
    ) -> str:
        """Run restic as a one-off and return its output: see `restic_task` and `OneOffRunner.run`."""
        task = self.restic_task(repository, *words, volumes=volumes, waits=waits)
        return self.runner.run(task, purpose=purpose, feed=feed, shown=shown)

    def run_files(
        self, purpose: str, *words: str, data: str | None = None, copy: str | None = None, shown: bool = False
    ) -> str:
        """Copy or restore files by a one-off with the application's Python; return its output."""
        task = OneOff(
            image=self.application_image,
            words=["python3", f"{CONFIG_DIR}/data.py", *words],
            files={"data.py": delivery.program("backup/files.py"), **self._secret_key},
            volumes={DATA_DIR: data or self.data, **({} if copy is None else {"/copy": copy})},
        )
        return self.runner.run(task, purpose=purpose, shown=shown)

    def run_pg(
        self,
        purpose: str,
        *words: str,
        volumes: Mapping[str, str] | None = None,
        url: str | None = None,
        network: str | None = None,
        shown: bool = False,
    ) -> str:
        """Dump or restore a PostgreSQL database, by default this stack's, by a one-off; return its output."""
        task = OneOff(
            image=self.postgres_image,
            words=["/bin/sh", "-eu", f"{CONFIG_DIR}/database.sh", *words],
            files={
                "database.sh": delivery.program("backup/database.sh"),
                "service": libpq_service(url or self.database_url or ""),
                "version": self.running_version,
                **self._secret_key,
            },
            volumes=volumes or {},
            network=network or self.network,
        )
        return self.runner.run(task, purpose=purpose, shown=shown)

    @cached_property
    def running_version(self) -> str:
        """The running release of Open WebUI, which may differ from the one in its file."""
        return self.run_files("Asking for the version", "version").strip()

    @property
    def _secret_key(self) -> dict[str, str]:
        key = self.environment.get("WEBUI_SECRET_KEY")
        return {} if key is None or self.setting("backup.encrypted") is False else {"secret_key": key}
