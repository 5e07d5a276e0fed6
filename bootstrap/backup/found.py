"""Backups that were found: in the stack's own repository, in a folder, in a bucket."""

import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from bootstrap.backup.deployed import Deployed, Repository
from bootstrap.backup.saving import sent
from bootstrap.backup.tasks import variable
from bootstrap.console import step
from bootstrap.problem import ProblemError
from components.backup.component import REPOSITORY

_SNAPSHOT = re.compile(r"[0-9a-f]{8,64}")
_WRONG_PASSWORD = "the password does not open"  # noqa: S105 - words of the script


@dataclass(frozen=True)
class Found:
    """One backup."""

    repository: Repository
    identity: str
    made: str
    manifest: dict[str, Any]

    def __str__(self) -> str:
        """Write what it holds."""
        counts = ", ".join(f"{number} {what}" for what, number in self.manifest["counts"].items())
        return f"{self.identity[:8]} of {self.made} (Open WebUI {self.manifest['open_webui']}): {counts}"


@contextmanager
def named(deployed: Deployed) -> Iterator[Found]:
    """Find the backup that FROM=… names.

    Raises:
        ProblemError: there is none.

    """
    said = variable("FROM")
    if said is None:
        with opened(deployed, deployed.repository) as (_, snapshots):
            listed = "\n".join(f"    {line(one)}" for one in snapshots)
            message = (
                "FROM=… says what to restore: latest, one of these, a folder that `make backup TO=…` wrote, or s3:…"
                f"\n{listed or '    (there is no backup here)'}"
            )
            raise ProblemError(message)
    if said.startswith("s3:"):
        repository, wanted = _bucket(deployed, said), "latest"
    elif (folder := Path(said).expanduser()).is_dir():
        with _uploaded(deployed, folder.absolute()) as repository, chosen(deployed, repository, "latest") as found:
            yield found
        return
    elif said == "latest" or _SNAPSHOT.fullmatch(said):
        repository, wanted = deployed.repository, said
    else:
        message = f"FROM={said} is neither a folder here, nor s3:…, nor latest, before, nor the id of a backup."
        raise ProblemError(message)
    with chosen(deployed, repository, wanted) as found:
        yield found


@contextmanager
def chosen(deployed: Deployed, repository: Repository, wanted: str) -> Iterator[Found]:
    """Lend the backup of that id, or the latest."""
    with opened(deployed, repository) as (working, snapshots):
        fitting = [one for one in snapshots if wanted == "latest" or one["id"].startswith(wanted)]
        if not fitting:
            there = "; ".join(line(one) for one in snapshots) or "none"
            message = f"There is no backup {wanted} in {place(working)}; there are: {there}."
            raise ProblemError(message)
        newest = fitting[-1]
        task = deployed.keeper(working, "manifest", newest["id"], waits=False)
        manifest = json.loads(deployed.tasks.run(task, purpose="Reading the backup's manifest", shown=False))
        yield Found(working, newest["id"], moment(newest), manifest)


@contextmanager
def opened(deployed: Deployed, repository: Repository) -> Iterator[tuple[Repository, list[dict[str, Any]]]]:
    """Lend a repository with the password that opens it, and its snapshots, the newest last."""
    file = variable("KEY_FILE")
    passwords = [repository.password, None] if file is None else [_password(Path(file).expanduser())]
    for attempt in passwords:
        working = replace(repository, password=attempt)
        try:
            said = deployed.tasks.run(
                deployed.keeper(working, "snapshots", waits=False), purpose="Opening the backups", shown=False
            )
        except ProblemError as problem:
            if _WRONG_PASSWORD in str(problem) and attempt is not passwords[-1]:
                continue
            raise
        yield working, sorted(json.loads(said or "[]"), key=lambda one: one["time"])
        return


def _password(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as fault:
        message = f"KEY_FILE={file} cannot be read: {fault}."
        raise ProblemError(message) from None


def _bucket(deployed: Deployed, address: str) -> Repository:
    own = deployed.repository.keys if deployed.setting("backup.repository.kind") == "s3" else {}
    given = {
        "access_key_id": variable("AWS_ACCESS_KEY_ID"),
        "secret_access_key": variable("AWS_SECRET_ACCESS_KEY"),
        "region": variable("AWS_DEFAULT_REGION") or "us-east-1",
    }
    keys = {name: value for name, value in given.items() if value is not None} if given["access_key_id"] else own
    if "secret_access_key" not in keys:
        message = (
            f"FROM={address} needs a key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name the bucket in"
            " backup.repository.s3."
        )
        raise ProblemError(message)
    return Repository(address, deployed.password, keys, None)


@contextmanager
def _uploaded(deployed: Deployed, folder: Path) -> Iterator[Repository]:
    files = sent(folder)

    def feed(pipe: IO[bytes]) -> None:
        with tarfile.open(fileobj=pipe, mode="w|") as archive:
            for name, path in files.items():
                archive.add(path, arcname=name)

    with deployed.tasks.volume() as volume:
        repository = Repository(REPOSITORY, deployed.password, {}, volume)
        with step("folder") as shown:
            task = deployed.keeper(repository, "receive", waits=False)
            deployed.tasks.run(task, purpose="Bringing the backup to the engine", feed=feed, shown=False)
            shown.done(f"{len(files)} files")
        yield repository


def place(repository: Repository) -> str:
    """Say where backups are."""
    return repository.address if repository.volume is None else f"the volume {repository.volume}"


def moment(snapshot: dict[str, Any]) -> str:
    """Return when a snapshot was made, in minutes."""
    return snapshot["time"][:16].replace("T", " ")


def line(snapshot: dict[str, Any]) -> str:
    """Describe a snapshot by what it is tagged with."""
    counts = [tag.replace("=", " ") for tag in snapshot.get("tags") or () if not tag.startswith("number=")]
    return f"{snapshot['short_id']}  {moment(snapshot)}  {', '.join(counts)}"
