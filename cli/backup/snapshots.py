"""Finds backups: in the stack's own repository, in a folder, in a bucket."""

import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from open_webui_edge.bootstrap.console import ProblemError, step
from open_webui_edge.cli.backup.deployed import Deployed, Repository
from open_webui_edge.cli.backup.save import repository_files
from open_webui_edge.cli.user_input import variable
from open_webui_edge.runtime.contract import REPOSITORY_DIR

_SNAPSHOT = re.compile(r"[0-9a-f]{8,64}")
_WRONG_PASSWORD = "the password does not open"  # noqa: S105 - words of the script


@dataclass(frozen=True)
class Snapshot:
    """One backup."""

    repository: Repository
    identity: str
    made: str
    manifest: dict[str, Any]

    def __str__(self) -> str:
        """Describe its contents."""
        counts = ", ".join(f"{number} {what}" for what, number in self.manifest["counts"].items())
        return f"{self.identity[:8]} of {self.made} (Open WebUI {self.manifest['open_webui']}): {counts}"

    def fetch(self, deployed: Deployed, volume: str, *, purpose: str) -> None:
        """Copy its contents into a data volume, next to the data there."""
        deployed.run_restic(purpose, self.repository, "fetch", self.identity, volumes={"/data": volume}, shown=True)


@contextmanager
def requested_snapshot(deployed: Deployed) -> Iterator[Snapshot]:
    """Open the backup that FROM=… names; raises ProblemError if there is none."""
    said = variable("FROM")
    if said is None:
        _, snapshots = open_repository(deployed, deployed.repository)
        listed = "\n".join(f"    {line(one)}" for one in snapshots)
        raise ProblemError(
            "FROM=… is missing; use latest, one of these, a folder that `make backup TO=…` wrote, or s3:…"
            f"\n{listed or '    (there is no backup here)'}"
        )
    if said.startswith("s3:"):
        yield open_snapshot(deployed, _bucket(deployed, said), "latest")
    elif (folder := Path(said).expanduser()).is_dir():
        with _uploaded(deployed, folder) as repository:
            yield open_snapshot(deployed, repository, "latest")
    elif said == "latest" or _SNAPSHOT.fullmatch(said):
        yield open_snapshot(deployed, deployed.repository, said)
    else:
        raise ProblemError(f"FROM={said} is not a folder here, s3:…, latest, before, or the ID of a backup.")


def open_snapshot(deployed: Deployed, repository: Repository, identity: str) -> Snapshot:
    """Open the backup with that ID, or the latest."""
    working, snapshots = open_repository(deployed, repository)
    matching = [one for one in snapshots if identity == "latest" or one["id"].startswith(identity)]
    if not matching:
        place = working.address if working.volume is None else f"the volume {working.volume}"
        there = "; ".join(line(one) for one in snapshots) or "none"
        raise ProblemError(f"There is no backup {identity} in {place}; there are: {there}.")
    newest = matching[-1]
    manifest = deployed.run_restic("Reading the backup's manifest", working, "manifest", newest["id"])
    return Snapshot(working, newest["id"], moment(newest), json.loads(manifest))


def open_repository(deployed: Deployed, repository: Repository) -> tuple[Repository, list[dict[str, Any]]]:
    """Return a repository with its working password, and its snapshots, the newest last."""
    file = variable("KEY_FILE")
    working = repository if file is None else replace(repository, password=_password(Path(file).expanduser()))
    try:
        said = deployed.run_restic("Opening the backups", working, "snapshots")
    except ProblemError as problem:
        if file is not None or working.password is None or _WRONG_PASSWORD not in str(problem):
            raise
        working = replace(repository, password=None)
        said = deployed.run_restic("Opening the backups", working, "snapshots")
    return working, sorted(json.loads(said or "[]"), key=lambda one: one["time"])


def _password(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as fault:
        raise ProblemError(f"KEY_FILE={file} cannot be read: {fault}.") from None


def _bucket(deployed: Deployed, address: str) -> Repository:
    own = deployed.repository.keys if deployed.setting("backup.repository.kind") == "s3" else {}
    given = {
        "access_key_id": variable("AWS_ACCESS_KEY_ID"),
        "secret_access_key": variable("AWS_SECRET_ACCESS_KEY"),
        "region": variable("AWS_DEFAULT_REGION") or "us-east-1",
    }
    keys = {name: value for name, value in given.items() if value} if given["access_key_id"] else own
    if "secret_access_key" not in keys:
        raise ProblemError(
            f"FROM={address} needs a key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name the bucket in"
            " backup.repository.s3."
        )
    return Repository(address, deployed.password, {**keys, **deployed.outbound_files(address)}, None)


@contextmanager
def _uploaded(deployed: Deployed, folder: Path) -> Iterator[Repository]:
    files = repository_files(folder.absolute())

    def feed(pipe: IO[bytes]) -> None:
        with tarfile.open(fileobj=pipe, mode="w|") as archive:
            for name, path in files.items():
                archive.add(path, arcname=name)

    with deployed.runner.temporary("volume") as volume:
        repository = Repository(REPOSITORY_DIR, deployed.password, {}, volume)
        with step("folder") as shown:
            deployed.run_restic("Copying the backup to the engine", repository, "receive", feed=feed)
            shown.done(f"{len(files)} files")
        yield repository


def moment(snapshot: dict[str, Any]) -> str:
    """Return the time of a snapshot, to the minute."""
    return snapshot["time"][:16].replace("T", " ")


def line(snapshot: dict[str, Any]) -> str:
    """Describe a snapshot by its tags."""
    counts = [tag.replace("=", " ") for tag in snapshot.get("tags") or () if not tag.startswith("number=")]
    return f"{snapshot['short_id']}  {moment(snapshot)}  {', '.join(counts)}"
