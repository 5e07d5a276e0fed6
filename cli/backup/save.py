"""`make backup`: saves a consistent snapshot into the stack's repository, and mirrors that into a local folder."""

import hashlib
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from open_webui_edge.bootstrap import console, disk
from open_webui_edge.bootstrap.console import ProblemError, step
from open_webui_edge.cli.backup.deployed import Deployed, Repository
from open_webui_edge.cli.user_input import variable

_PARTS = ("data", "index", "keys", "config", "snapshots")
"""Parts of a repository, in the order of copying: files come before those that refer to them."""
_SHOWN_PASSWORD = "`pulumi stack output backup_password --show-secrets --stack {}`"  # noqa: S105 - the command that shows it


def backup(deployed: Deployed) -> int:
    """Back a stack up now."""
    to = variable("TO")
    folder = None if to is None else Path(to).expanduser().absolute()
    if folder is not None:
        require_own_folder(folder)
    with deployed.lock():
        repository = deployed.repository
        _save(deployed, repository)
        if folder is not None:
            with step("folder") as shown:
                count, size = mirror(deployed, repository, folder)
                shown.done(f"{count} new files, {size >> 20} MiB, in {folder}")
    where = folder or (
        f"the volume {repository.volume}, on the same machine as the data; TO=folder copies it elsewhere"
        if repository.volume is not None
        else repository.address
    )
    console.put(f"The backup of {deployed.name} is in {where}.")
    if repository.password is None:
        console.put("It is not encrypted (backup.encrypted: false), and contains no secret key.")
    else:
        console.put(f"It does not contain its password: {_SHOWN_PASSWORD.format(deployed.name)}; store that elsewhere.")
    return 0


def _save(deployed: Deployed, repository: Repository) -> None:
    with deployed.runner.temporary("volume") as copy:
        with step("copy of the database"):
            if deployed.database == "sqlite":
                deployed.run_files("Copying the database", "copy", copy=copy, shown=True)
            else:
                deployed.run_pg("Copying the database", "copy", volumes={"/copy": copy}, shown=True)
        with step("backup"):
            volumes = {"/backup/data": f"{deployed.data}:ro", "/backup/copy": copy}
            deployed.run_restic("The backup", repository, "keep", volumes=volumes, waits=True, shown=True)


def require_own_folder(folder: Path) -> None:
    """Raise a ProblemError unless a folder is missing, empty, or contains only backups."""
    if folder.exists() and not folder.is_dir():
        message = f"TO={folder} is not a folder; use one that is empty, or that contains backups of this stack."
        raise ProblemError(message)
    if folder.is_dir():
        others = sorted({path.name for path in folder.iterdir()} - {*_PARTS, "locks"})
        if others:
            raise ProblemError(
                f"TO={folder} contains other files ({', '.join(others[:3])}); use a folder that is empty, or that"
                " contains backups of this stack."
            )


def mirror(deployed: Deployed, repository: Repository, folder: Path) -> tuple[int, int]:
    """Mirror a repository into a folder; return the number of new files and their bytes.

    The folder is a valid repository at any time: new files come first, then those that refer to them, and deletions
    come last. Raises ProblemError if the repository is in a bucket, or the folder has another one or no room.
    """
    if repository.volume is None:
        raise ProblemError(
            f"The backups of {deployed.name} are in {repository.address}, not on its engine; copy them with restic"
            " itself (restic copy), or omit TO."
        )
    digest, *lines = deployed.run_restic("Listing the backups", repository, "list", waits=True).splitlines()
    listed = {name: int(size) for size, _, name in (line.partition(" ") for line in lines)}
    own = folder / "config"
    if own.exists() and hashlib.sha256(own.read_bytes()).hexdigest() != digest:
        raise ProblemError(
            f"TO={folder} contains the backups of another stack, or of an earlier repository of this one; use another"
            " folder."
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    present = {name: (folder / name).stat().st_size for name in listed if (folder / name).exists()}
    missing = {name: size for name, size in listed.items() if present.get(name) != size}
    disk.require(sum(missing.values()), folder, "Storing the backup")
    for part in _PARTS:
        names = sorted(name for name in missing if name == part or name.startswith(f"{part}/"))
        if names:
            _receive(deployed, repository, names, folder)
    for part in reversed(_PARTS):
        for path in sorted((folder / part).rglob("*")):
            if path.is_file() and str(path.relative_to(folder)) not in listed:
                path.unlink()
    return len(missing), sum(missing.values())


def _receive(deployed: Deployed, repository: Repository, names: list[str], folder: Path) -> None:
    with deployed.runner.started(deployed.restic_task(repository, "send")) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes
        process.stdin.write("".join(f"{name}\n" for name in names).encode())
        process.stdin.close()
        came: set[str] = set()
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|", ignore_zeros=True) as archive:
                for entry in archive:
                    content = archive.extractfile(entry)
                    # Ignore files that were not requested.
                    if content is not None and entry.name in names:
                        _store(content, folder / entry.name)
                        came.add(entry.name)
        except tarfile.TarError:
            came.clear()
        words = process.stderr.read().decode(errors="replace") if process.stderr is not None else ""
    if process.returncode or came != set(names):
        raise deployed.runner.failed("Copying the backup", process.returncode, words.splitlines())


def _store(content: IO[bytes], path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.touch(mode=0o600)
    with unfinished.open("wb") as file:
        shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def repository_files(folder: Path) -> Mapping[str, Path]:
    """Return the files of a repository in a folder by their names there; raises ProblemError if it contains none."""
    if not (folder / "config").is_file():
        raise ProblemError(f"FROM={folder} contains no backups: the file `config` of a restic repository is missing.")
    return {
        str(path.relative_to(folder)): path
        for part in _PARTS
        for path in ([folder / part] if part == "config" else sorted((folder / part).rglob("*")))
        if path.is_file() and path.suffix != ".new"
    }
