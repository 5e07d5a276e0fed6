"""`make backup`: a consistent copy into the stack's repository, and from there into a folder of this machine."""

import hashlib
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from bootstrap import console, disk
from bootstrap.backup.deployed import Deployed, Repository
from bootstrap.backup.tasks import variable
from bootstrap.console import step
from bootstrap.problem import ProblemError

_PARTS = ("data", "index", "keys", "config", "snapshots")
"""Of a repository, in the order in which they come: what names others comes after them."""
_SHOWN_PASSWORD = "`pulumi stack output backup_password --show-secrets --stack {}`"  # noqa: S105 - how to see it


def backup(deployed: Deployed) -> int:
    """Back a stack up now."""
    folder = _folder()
    if folder is not None:
        require_own_folder(folder)
    with deployed.turn():
        repository = deployed.repository
        _save(deployed, repository)
        if folder is not None:
            with step("folder") as shown:
                count, size = bring(deployed, repository, folder)
                shown.done(f"{count} new files, {size >> 20} MiB, in {folder}")
    where = folder or (
        f"the volume {repository.volume}, on the same machine as the data; TO=folder brings it elsewhere"
        if repository.volume is not None
        else repository.address
    )
    console.put(f"The backup of {deployed.name} is in {where}.")
    if repository.password is None:
        console.put("It is not encrypted (backup.encrypted: false), and holds no secret key.")
    else:
        console.put(f"Its password is not beside it: {_SHOWN_PASSWORD.format(deployed.name)}; keep it elsewhere, too.")
    return 0


def _save(deployed: Deployed, repository: Repository) -> None:
    with deployed.tasks.volume() as copy:
        with step("copy of the database"):
            if deployed.database == "sqlite":
                task = deployed.filer("copy", copy=copy)
            else:
                task = deployed.dumper("copy", volumes={"/copy": copy})
            deployed.tasks.run(task, purpose="Copying the database")
        with step("backup"):
            volumes = {"/backup/data": f"{deployed.data}:ro", "/backup/copy": copy}
            deployed.tasks.run(deployed.keeper(repository, "keep", volumes=volumes), purpose="The backup")


def _folder() -> Path | None:
    named = variable("TO")
    return None if named is None else Path(named).expanduser().absolute()


def require_own_folder(folder: Path) -> None:
    """Make sure that a folder is there for backups alone.

    Raises:
        ProblemError: it is not.

    """
    if folder.exists() and not folder.is_dir():
        message = f"TO={folder} is no folder; name one that is empty, or that holds backups of this stack."
        raise ProblemError(message)
    if folder.is_dir():
        others = sorted({path.name for path in folder.iterdir()} - {*_PARTS, "locks"})
        if others:
            message = (
                f"TO={folder} holds something else ({', '.join(others[:3])}); name a folder that is empty, or that"
                " holds backups of this stack."
            )
            raise ProblemError(message)


def bring(deployed: Deployed, repository: Repository, folder: Path) -> tuple[int, int]:
    """Make a folder the same as a repository; return how many files came, and their bytes.

    What is there stays valid at each moment: what is new comes first, what names it afterwards, and what is gone there
    goes last.

    Raises:
        ProblemError: it cannot be done.

    """
    if repository.volume is None:
        message = (
            f"The backups of {deployed.name} are in {repository.address}, not on its engine; copy them with restic"
            " itself (restic copy), or drop TO."
        )
        raise ProblemError(message)
    said = deployed.tasks.run(deployed.keeper(repository, "list"), purpose="Listing the backups", shown=False)
    digest, *lines = said.splitlines()
    wanted = {name: int(size) for size, _, name in (line.partition(" ") for line in lines)}
    own = folder / "config"
    if own.exists() and hashlib.sha256(own.read_bytes()).hexdigest() != digest:
        message = (
            f"TO={folder} holds the backups of another stack, or of this one before its repository was made anew; name"
            " another folder."
        )
        raise ProblemError(message)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    missing = {name: size for name, size in wanted.items() if _size(folder / name) != size}
    disk.require(sum(missing.values()), folder, "Storing the backup")
    for part in _PARTS:
        names = sorted(name for name in missing if name == part or name.startswith(f"{part}/"))
        if names:
            _receive(deployed, repository, names, folder)
    for part in reversed(_PARTS):
        for path in sorted((folder / part).rglob("*")):
            if path.is_file() and str(path.relative_to(folder)) not in wanted:
                path.unlink()
    return len(missing), sum(missing.values())


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def _receive(deployed: Deployed, repository: Repository, names: list[str], folder: Path) -> None:
    purpose = "Bringing the backup here"
    with deployed.tasks.started(deployed.keeper(repository, "send")) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes
        process.stdin.write("".join(f"{name}\n" for name in names).encode())
        process.stdin.close()
        came: set[str] = set()
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|", ignore_zeros=True) as archive:
                for entry in archive:
                    content = archive.extractfile(entry)
                    # Nothing else was asked for.
                    if content is not None and entry.name in names:
                        _store(content, folder / entry.name)
                        came.add(entry.name)
        except tarfile.TarError:
            came.clear()
        words = process.stderr.read().decode(errors="replace") if process.stderr is not None else ""
    if process.returncode or came != set(names):
        raise deployed.tasks.failed(purpose, process.returncode, words.splitlines())


def _store(content: IO[bytes], path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.touch(mode=0o600)
    with unfinished.open("wb") as file:
        while chunk := content.read(1 << 20):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def sent(folder: Path) -> Mapping[str, Path]:
    """Return the files of a repository in a folder by their names there.

    Raises:
        ProblemError: it holds none.

    """
    if not (folder / "config").is_file():
        message = f"FROM={folder} holds no backups: there is no file named config, which each repository of restic has."
        raise ProblemError(message)
    return {
        str(path.relative_to(folder)): path
        for part in _PARTS
        for path in ([folder / part] if part == "config" else sorted((folder / part).rglob("*")))
        if path.is_file() and path.suffix != ".new"
    }
