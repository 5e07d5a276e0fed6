"""What of a stack a backup has to do with, as its engine, its file and its state know it."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from bootstrap import console, containers, images, lock, stack
from bootstrap.backup.tasks import GIVEN, Task, Tasks
from bootstrap.engine import Engine
from bootstrap.problem import ProblemError
from bootstrap.stack import Stack
from components.backup.component import DATA, DATABASE, FILES, KEEP, REPOSITORY, service_of
from components.images import OPEN_WEBUI_VERSION, POSTGRES, RESTIC, ImageSource

_APPLICATION = "open-webui"


@dataclass(frozen=True)
class Repository:
    """Where backups are kept, and what opens it."""

    address: str
    """As restic writes it."""
    password: str | None
    keys: Mapping[str, str]
    """What S3 wants: names and contents of files."""
    volume: str | None
    """With a volume, which one."""

    @property
    def files(self) -> dict[str, str]:
        """What the script that runs restic reads."""
        password = {} if self.password is None else {"password": self.password}
        return {"repository": self.address, **password, **self.keys, "keep.sh": KEEP.read_text(encoding="utf-8")}


@dataclass(frozen=True)
class Deployed:
    """A stack that was brought up."""

    target: Stack
    engine: Engine

    @property
    def name(self) -> str:
        """The stack's name."""
        return self.target.name

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What its file says."""
        return stack.settings_of(self.name)

    def setting(self, path: str) -> Any:  # noqa: ANN401 - whatever a person wrote
        """Return one of its settings, or None."""
        return stack.setting(self.settings, path)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have one backup or restore of the stack at a time begin here; what a killed one left is removed first."""
        with lock.alone(f"backup-{self.name}", console.Step("backup")):
            self.tasks.clear()
            with self.tasks.turn(self.application_image):
                yield

    @cached_property
    def tasks(self) -> Tasks:
        """What runs on its engine for a while."""
        return Tasks(self.engine, self.name)

    @cached_property
    def replicas(self) -> list[dict[str, Any]]:
        """The containers of Open WebUI, the first one first.

        Raises:
            ProblemError: there are none.

        """
        found = containers.of_stack(self.engine, self.name, _APPLICATION)
        if not found:
            message = f"No Open WebUI of the stack {self.name} is here; `make up STACK={self.name}` starts it."
            raise ProblemError(message)
        return sorted(found, key=lambda one: (len(one["Name"]), one["Name"]))

    @property
    def application_image(self) -> str:
        """Id of the image that runs."""
        return self.replicas[0]["Image"]

    @cached_property
    def data(self) -> str:
        """Name of the volume with uploads, whoever made it."""
        (mount,) = (one for one in self.replicas[0]["Mounts"] if one["Destination"] == DATA)
        return mount["Name"]

    @cached_property
    def network(self) -> str:
        """Name of the network where its database is found."""
        return next(iter(self.replicas[0]["NetworkSettings"]["Networks"]))

    @cached_property
    def environment(self) -> dict[str, str]:
        """The variables that Open WebUI is given, its secrets too."""
        return self.given.get("environment", {})

    @cached_property
    def given(self) -> dict[str, Any]:
        """All that its launcher is given."""
        name = self.replicas[0]["Name"].lstrip("/")
        words = [*self.engine.client, "cp", f"{name}:{GIVEN}/environment.json", "-"]
        copied = subprocess.run(words, capture_output=True, check=False)  # noqa: S603 - a list of arguments, no shell
        if copied.returncode:
            message = f"What {name} is given cannot be read: {copied.stderr.decode(errors='replace').strip()}"
            raise ProblemError(message)
        with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as archive:
            file = archive.extractfile(archive.next() or "")
            return json.loads(file.read()) if file is not None else {}

    @property
    def database_url(self) -> str | None:
        """Where its PostgreSQL is; None with SQLite."""
        return self.environment.get("DATABASE_URL")

    @property
    def database(self) -> str:
        """Kind of its database, as a manifest names it."""
        return "sqlite" if self.database_url is None else "postgresql"

    @property
    def version(self) -> str:
        """The release of Open WebUI that its file asks for."""
        return self.setting("open_webui.version") or OPEN_WEBUI_VERSION

    @cached_property
    def source(self) -> ImageSource:
        """Where its images come from, all of which are there now."""
        with console.step("images") as shown:
            wanted = stack.wanted_images(self.settings)
            wanted = replace(wanted, backup=True, postgres=wanted.postgres or self.database_url is not None)
            return images.ensure(self.engine, wanted, shown)

    @property
    def restic_image(self) -> str:
        """Name of restic's image."""
        return RESTIC.reference(self.source, self.setting("images.registry"))

    @cached_property
    def postgres_image(self) -> str:
        """Name or id of an image with the tools of its PostgreSQL."""
        own = containers.of_stack(self.engine, self.name, "postgres")
        return own[0]["Image"] if own else POSTGRES.reference(self.source, self.setting("images.registry"))

    @cached_property
    def repository(self) -> Repository:
        """Where its backups are kept."""
        keys, address, volume = {}, REPOSITORY, None
        if self.setting("backup.repository.kind") == "s3":
            from stacks.backup import S3Settings  # noqa: PLC0415 - pydantic, which the other kinds need not wait for

            secret = self.target.setting_in_clear("backup.repository.s3.secret_access_key")
            s3 = S3Settings.model_validate_json(
                json.dumps({**self.setting("backup.repository.s3"), "secret_access_key": secret})
            )
            address = s3.url(self.name)
            keys = {"access_key_id": s3.access_key_id, "secret_access_key": secret, "region": s3.region}
        else:
            volume = self._volume("backup")
        return Repository(address, self.password, keys, volume)

    @cached_property
    def password(self) -> str | None:
        """What its backups are encrypted with; None where they are not.

        Raises:
            ProblemError: the stack has none yet.

        """
        if self.setting("backup.encrypted") is False:
            return None
        password = self.target.output_in_clear("backup_password")
        if password is None:
            message = f"The stack {self.name} has no password for backups yet; `make up STACK={self.name}` makes it."
            raise ProblemError(message)
        return password

    def _volume(self, role: str) -> str:
        """Return a volume that stays, and that an update takes over which wants it."""
        name = f"edge-{self.name}-{role}"
        deployment = self.replicas[0]["Config"]["Labels"].get("deployment", "")
        self.tasks.make("volume", name, labels={"role": role, "deployment": deployment})
        return name

    def keeper(
        self, repository: Repository, *words: str, volumes: Mapping[str, str] | None = None, waits: bool = True
    ) -> Task:
        """Return the task that runs restic; `waits` says that it shares its turn with other backups of the stack."""
        keep = self.setting("backup.keep") or "35d"
        mounted = {"/work": self._volume("backup-work")} if waits else {}
        if repository.volume is not None:
            mounted["/repository"] = repository.volume
        return Task(
            image=self.restic_image,
            words=[
                "/usr/bin/env", f"EDGE_STACK={self.name}", f"EDGE_KEEP={keep}",
                "/bin/sh", "-eu", f"{GIVEN}/keep.sh", *words,
            ],
            files=repository.files,
            volumes={**mounted, **(volumes or {})},
            network="none" if repository.volume is not None else self.network,
        )  # fmt: skip

    def filer(self, *words: str, data: str | None = None, copy: str | None = None) -> Task:
        """Return the task that copies or brings in files, with the application's Python."""
        volumes = {DATA: data or self.data, **({} if copy is None else {"/copy": copy})}
        return Task(
            image=self.application_image,
            words=["python3", f"{GIVEN}/data.py", *words],
            files={"data.py": FILES.read_text(encoding="utf-8"), **self._secret_key},
            volumes=volumes,
        )

    def dumper(
        self, *words: str, volumes: Mapping[str, str], url: str | None = None, network: str | None = None
    ) -> Task:
        """Return the task that copies or brings in a PostgreSQL database; by default this stack's."""
        return Task(
            image=self.postgres_image,
            words=["/bin/sh", "-eu", f"{GIVEN}/database.sh", *words],
            files={
                "database.sh": DATABASE.read_text(encoding="utf-8"),
                "service": service_of(url or self.database_url or ""),
                "version": self.running_version,
                **self._secret_key,
            },
            volumes=volumes,
            network=network or self.network,
        )

    @cached_property
    def running_version(self) -> str:
        """The release of Open WebUI that runs, whatever its file says by now."""
        return self.tasks.run(self.filer("version"), purpose="Asking for the version", shown=False).strip()

    @property
    def _secret_key(self) -> dict[str, str]:
        key = self.environment.get("WEBUI_SECRET_KEY")
        return {} if key is None or self.setting("backup.encrypted") is False else {"secret_key": key}
