"""Copies the files of Open WebUI's data volume while they are in use, and puts such a copy back.

Runs in Open WebUI's own image with its Python and nothing of this program beside it: `data.py COMMAND`. A database of
SQLite is copied by its online backup, so that nobody waits and nothing is half written; the vectors beside it are
copied until they held still. Uploads are written once under names that never come again: they are read where they are.

What is put back was laid beside the data before: one rename brings the database in, and what it replaces stays at hand
until somebody says that all is well.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

DATA = Path("/app/backend/data")
COPY = Path("/copy")
GIVEN = Path("/run/open-webui-edge")
DATABASE = "webui.db"
VECTORS = "vector_db"
UPLOADS = "uploads"
JOURNAL = "open-webui-edge-upgrade.json"
STAGING = ".open-webui-edge-restore"
"""Folder in the volume for what is on its way in, and for what it replaces."""
_JOURNALS = ("-wal", "-shm", "-journal")
DISCARDED = f"{STAGING}-over"
"""The same folder, once nobody wants it any more."""
_MERGING, _IN_PLACE, _UNDOING, _WITHOUT_JOURNAL = "merging", "in-place", "undoing", "without-journal"
_OTHER_KEY = "other-key"
"""There from when the stack's secret key changes to that of the backup."""
LEFT_OUT = (
    *("cache/embedding", "cache/whisper", STAGING, DISCARDED),
    *("open-webui-edge-snapshots", "open-webui-edge-upgrade.lock"),
)
"""Models that are downloaded anew where they are missing, and what belongs to this volume alone."""
_TRIES = 10
_COUNTED = {"users": "user", "chats": "chat", "messages": "chat_message", "files": "file"}


def main(words: list[str]) -> int:
    """Run one command."""
    commands: dict[str, Callable[[], None]] = {
        "copy": copy,
        "serve": serve,
        "counts": lambda: print(json.dumps(counts(DATA / DATABASE))),  # noqa: T201 - its answer
        "version": lambda: print(version()),  # noqa: T201 - its answer
        "check": check,
        "merge": lambda: merge("".join(words[1:])),
        "swap": swap,
        "settle": settle,
        "begin_undo": begin_undo,
        "undo": undo,
        "mark": lambda: print(mark()),  # noqa: T201 - its answer
        "note_other_key": lambda: note_other_key(words[1]),
        "other_key": lambda: print(other_key()),  # noqa: T201 - its answer, which nobody is shown
        "unfinished": lambda: print(unfinished()),  # noqa: T201 - its answer
        "finish": finish,
    }
    try:
        commands[words[0]]()
    except (OSError, sqlite3.Error, ValueError) as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0


def version() -> str:
    """Return the version of Open WebUI in this image."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("open-webui")
    # The official image holds the sources, and no package.
    return str(json.loads(Path("/app/package.json").read_text())["version"])


def serve() -> None:
    """Make a copy whenever the container that keeps them asks for one."""
    while True:
        asked = COPY / "asked"
        if asked.exists():
            number, answer = asked.read_text().strip(), "done"
            try:
                copy()
            except (OSError, sqlite3.Error) as fault:
                answer = f"failed: {fault}"
            asked.unlink()
            _write(COPY / "answer", f"{number} {answer}")
        time.sleep(1)


def copy() -> None:
    """Copy the database and the vectors into the other volume, with a manifest of what is in them."""
    for old in ("files", "manifest.json", "tags"):
        _remove(COPY / old)
    files = COPY / "files"
    files.mkdir(parents=True)
    _copy_vectors(files)
    copy_database(DATA / DATABASE, files / DATABASE)
    manifest: dict[str, object] = {
        "format": 1,
        "database": "sqlite",
        "open_webui": version(),
        "counts": counts(files / DATABASE),
    }
    write_manifest(manifest, [f"/{DATABASE}{end}" for end in ("", *_JOURNALS)] + [f"/{VECTORS}"])


def write_manifest(manifest: dict[str, object], excluded: list[str]) -> None:
    """Write what is in the copy, the same as tags, and what is not to be read from the volume itself."""
    if (GIVEN / "secret_key").exists():
        _write(COPY / "secret_key", (GIVEN / "secret_key").read_text())
    else:
        _remove(COPY / "secret_key")
    excluded += [f"/{path}" for path in LEFT_OUT]
    _write(COPY / "excluded", "".join(f"/backup/data{path}\n" for path in excluded))
    counted = manifest["counts"]
    assert isinstance(counted, dict)  # noqa: S101 - for the type checker
    _write(COPY / "manifest.json", json.dumps(manifest))
    _write(COPY / "tags", ",".join(f"{name}={number}" for name, number in counted.items()))  # pyright: ignore[reportUnknownVariableType] - of JSON


def _copy_vectors(files: Path) -> None:
    """Copy Chroma's folder; its index files follow its database, so both must be of one moment."""
    source = DATA / VECTORS
    if not source.is_dir():
        return
    for attempt in range(_TRIES):
        before = _signature(source)
        _remove(files / VECTORS)
        for path in _files_below(source):
            target = files / VECTORS / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            if is_database(path):
                copy_database(path, target)
            elif not path.name.endswith(_JOURNALS):
                shutil.copy2(path, target)
        if _signature(source) == before:
            return
        time.sleep(attempt)
    raise OSError(f"{source} changed each time that it was copied; try again when fewer documents are added")


def _signature(folder: Path) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    for path in _files_below(folder):
        if not path.name.endswith("-shm"):
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                found.append((str(path), state.st_mtime_ns, state.st_size))
    return sorted(found)


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def is_database(path: Path) -> bool:
    """Whether a file is one of SQLite's."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that others write to meanwhile; the copy is of one moment and needs no journal.

    Raises:
        sqlite3.Error: it cannot be read.

    """
    if not source.exists():
        raise OSError(f"{source} does not exist: Open WebUI has not made its database yet")
    _remove(target)
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=rw", uri=True, timeout=60)) as live,
        contextlib.closing(sqlite3.connect(target)) as copied,
    ):
        live.backup(copied)
        copied.execute("PRAGMA journal_mode=DELETE")


def counts(database: Path) -> dict[str, int]:
    """Count what people made; what a version does not have yet is left out."""
    found: dict[str, int] = {}
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=60)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for name, table in _COUNTED.items():
            if table in tables:
                (found[name],) = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()  # noqa: S608 - ours
    return found


def check() -> None:
    """Make sure that what was laid beside the data is whole: each upload's content, and the database.

    Raises:
        ValueError: it is not.

    """
    new = DATA / STAGING / "new"
    faults = list(_faults_of_uploads(new))
    database = new / "copy" / "files" / DATABASE
    if database.exists():
        with contextlib.closing(sqlite3.connect(database)) as connection:
            (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
        if answer != "ok":
            faults.append(f"the database: {answer}")
        manifest = json.loads((new / "copy" / "manifest.json").read_text())
        found = counts(database)
        if found != manifest["counts"]:
            faults.append(f"the manifest says {manifest['counts']}, and the database holds {found}")
    # What is brought in later by renames alone is to be on the disk.
    os.sync()
    if faults:
        raise ValueError("What was restored is not what was backed up: " + "; ".join(faults[:5]))


def _faults_of_uploads(new: Path) -> Iterator[str]:
    listed = new / "copy" / "uploads.sha256"
    if not listed.exists():
        return
    for line in listed.read_text().splitlines():
        expected, name = _listed(line)
        path = new / "data" / name.removeprefix("./")
        if not path.is_file():
            yield f"{name} is missing"
        elif _sha256(path) != expected:
            yield f"{name} has another content"


def _listed(line: str) -> tuple[str, str]:
    """Return sum and name out of a line of sha256sum, which escapes some names and says so by a backslash in front."""
    expected, _, name = line.partition("  ")
    if not expected.startswith("\\"):
        return expected, name
    escaped = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}
    return expected[1:], re.sub(r"\\[\\nr]", lambda found: escaped[found[0]], name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def merge(mark: str = "") -> None:
    """Bring in what only adds to the volume, uploads above all; what has the same name is kept aside.

    `mark` is what the database beside it will be marked with once it is the backup's, where it is not in the volume.
    """
    staging = DATA / STAGING
    new, old = staging / "new" / "data", staging / "old"
    old.mkdir(exist_ok=True)
    _write(staging / _MERGING, mark)
    for path in list(_files_below(new)) if new.exists() else []:
        place = path.relative_to(new)
        if str(place) == JOURNAL:
            continue
        target = DATA / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            _keep(target, old / place)
        path.replace(target)


def swap() -> None:
    """Bring in the database and the vectors; from the last rename on, the volume is what was backed up."""
    staging = DATA / STAGING
    files, old = staging / "new" / "copy" / "files", staging / "old"
    merge()
    if (DATA / VECTORS).exists() and not (old / VECTORS).exists():
        (DATA / VECTORS).replace(old / VECTORS)
    _remove(DATA / VECTORS)
    if (files / VECTORS).exists():
        (files / VECTORS).replace(DATA / VECTORS)
    database = DATA / DATABASE
    if database.exists():
        _close(database)
        _keep(database, old / DATABASE)
    (files / DATABASE).replace(database)
    settle()


def settle() -> None:
    """Say that the database is the backup's, and of which version it is; what was replaced is still there."""
    staging = DATA / STAGING
    if not (staging / _IN_PLACE).exists():
        _say_whose_it_is(staging)
        _write(staging / _IN_PLACE, "")


def _say_whose_it_is(staging: Path) -> None:
    """Have the journal of versions name that of the backup; the snapshots in it are of this volume, and stay."""
    journal, replaced = DATA / JOURNAL, staging / "old" / JOURNAL
    manifest = json.loads((staging / "new" / "copy" / "manifest.json").read_text())
    if journal.exists():
        _keep(journal, replaced)
    elif not replaced.exists():
        _write(staging / _WITHOUT_JOURNAL, "")
    own: dict[str, object] = {"kept": None, "unwanted": []}
    if replaced.exists():
        own = json.loads(replaced.read_text())
    _write(journal, json.dumps({**own, "version": manifest["open_webui"], "attempt": None}))


def begin_undo() -> None:
    """Have whatever comes next go back, too, if this is cut short."""
    if (DATA / STAGING / _MERGING).exists():
        _write(DATA / STAGING / _UNDOING, "")


def undo() -> None:
    """Put back what was replaced; afterwards the volume is what it was, and nothing is on its way in."""
    staging = DATA / STAGING
    old = staging / "old"
    if not (staging / _MERGING).exists():
        _discard()
        return
    begin_undo()
    if (old / VECTORS).exists():
        _remove(DATA / VECTORS)
        (old / VECTORS).replace(DATA / VECTORS)
    # Of PostgreSQL: whoever asks for this has brought it back.
    for dump in old.glob("database.dump*"):
        _remove(dump)
    if not _came_in():
        # Still the database itself, or what it was before others went on with it.
        _remove(old / DATABASE)
    elif (old / DATABASE).exists():
        for end in _JOURNALS:
            _remove(DATA / f"{DATABASE}{end}")
    for path in list(_files_below(old)):
        path.replace(DATA / path.relative_to(old))
    if (staging / _WITHOUT_JOURNAL).exists():
        _remove(DATA / JOURNAL)
    _discard()


def _came_in() -> bool:
    """Whether a database of SQLite has left for its place."""
    files = DATA / STAGING / "new" / "copy" / "files"
    return files.exists() and not (files / DATABASE).exists()


def unfinished() -> str:
    """Return how far a restore came that was cut short.

    `back` where it was being undone, `forwards` where the database is in place, `merging` where it is not, or where
    PostgreSQL alone knows, and nothing where no restore had begun to change anything.
    """
    staging = DATA / STAGING
    if not (staging / _MERGING).exists():
        return ""
    if (staging / _UNDOING).exists():
        return "back"
    if (staging / _IN_PLACE).exists() or _came_in():
        return "forwards"
    return "merging"


def mark() -> str:
    """Return what a database is marked with that this restore brought in; nothing where there is none."""
    merging = DATA / STAGING / _MERGING
    return merging.read_text() if merging.exists() else ""


def note_other_key(own: str) -> None:
    """Say that the stack's secret key begins to change to that of the backup, and of what kind its own is."""
    note = DATA / STAGING / _OTHER_KEY
    if not note.exists():
        _write(note, own)


def other_key() -> str:
    """Return what was noted, and the backup's secret key; nothing where that has not begun."""
    staging = DATA / STAGING
    note = staging / _OTHER_KEY
    return f"{note.read_text()} {(staging / 'new' / 'copy' / 'secret_key').read_text()}" if note.exists() else ""


def finish() -> None:
    """Remove what was replaced, and uploads that the backup does not know."""
    staging = DATA / STAGING
    listed = staging / "new" / "copy" / "uploads.sha256"
    unknown: list[Path] = []
    if listed.exists():
        known = {_listed(line)[1].removeprefix("./") for line in listed.read_text().splitlines()}
        began = (staging / _MERGING).stat().st_ctime
        # What was uploaded since then belongs to the restored data.
        unknown = [
            path
            for path in _files_below(DATA / UPLOADS)
            if str(path.relative_to(DATA)) not in known and path.stat().st_ctime < began
        ]
    # Where the power goes, what is there must be there before what it replaced is not.
    os.sync()
    _discard(unknown)


def _discard(others: Iterable[Path] = ()) -> None:
    """Remove the folder, of which half would tell a lie, in one step, and then what else nobody wants any more."""
    staging, discarded = DATA / STAGING, DATA / DISCARDED
    _remove(discarded)
    if staging.exists():
        staging.replace(discarded)
        for path in others:
            path.unlink()
        _remove(discarded)


def _close(database: Path) -> None:
    """Write into the database what its journal still holds, so that the file alone is all of it."""
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    for end in _JOURNALS:
        _remove(database.with_name(f"{database.name}{end}"))


def _keep(path: Path, aside: Path) -> None:
    """Have a second name for a file, so that it outlives its first one's next owner."""
    if not aside.exists():
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, aside)


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.touch(mode=0o600)
    with unfinished.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
