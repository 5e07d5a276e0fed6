"""Copies the files of Open WebUI's data volume while they are in use, and restores such a copy.

Runs in Open WebUI's own image with its Python and nothing else of this project: `data.py COMMAND`. A SQLite database is
copied by its online backup, so that users do not wait and the copy is consistent; the vectors next to it are copied
until they did not change meanwhile. Uploads are written once, under names that are never reused: the backup reads them
in place.

A restore first stages the backup in the data volume. One rename swaps the database in, and the replaced files stay
until the restore is finished.
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

from open_webui_edge.runtime.contract import CONFIG_DIR, DATA_DIR

DATA = Path(DATA_DIR)
COPY = Path("/copy")
CONFIG = Path(CONFIG_DIR)
DATABASE = "webui.db"
VECTORS = "vector_db"
UPLOADS = "uploads"
JOURNAL = "open-webui-edge-upgrade.json"
STAGING = ".open-webui-edge-restore"
"""Folder in the volume for the staged backup, and for the files that it replaces."""
_JOURNALS = ("-wal", "-shm", "-journal")
DISCARDED = f"{STAGING}-over"
"""The same folder when it is about to be deleted."""
_MERGING, _IN_PLACE, _UNDOING, _WITHOUT_JOURNAL = "merging", "in-place", "undoing", "without-journal"
_KEY_CHANGE = "other-key"
"""File that exists from the moment when the stack's secret key changes to the one of the backup."""
EXCLUDED = (
    *("cache/embedding", "cache/whisper", STAGING, DISCARDED),
    *("open-webui-edge-snapshots", "open-webui-edge-upgrade.lock"),
)
"""Not backed up: models that are downloaded again if they are missing, and files that belong to this volume alone."""
_COPY_ATTEMPTS = 10
_COUNTED_TABLES = {"users": "user", "chats": "chat", "messages": "chat_message", "files": "file"}


def main(words: list[str]) -> int:
    """Run one command; cli/backup calls them by these names."""
    commands: dict[str, Callable[[], None]] = {
        "copy": copy,
        "serve": serve,
        "counts": lambda: print(json.dumps(counts(DATA / DATABASE))),  # noqa: T201 - its answer
        "version": lambda: print(version()),  # noqa: T201 - its answer
        "check": check,
        "merge": lambda: merge("".join(words[1:])),
        "swap": swap,
        "settle": commit,
        "begin_undo": begin_undo,
        "undo": undo,
        "mark": lambda: print(mark()),  # noqa: T201 - its answer
        "note_other_key": lambda: record_key_change(words[1]),
        "other_key": lambda: print(key_change()),  # noqa: T201 - its answer, which is not displayed
        "unfinished": lambda: print(progress()),  # noqa: T201 - its answer
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
    return str(json.loads(Path("/app/package.json").read_text(encoding="utf-8"))["version"])


def serve() -> None:
    """Make a copy whenever restic's container requests one."""
    while True:
        asked = COPY / "asked"
        if asked.exists():
            number, answer = asked.read_text(encoding="utf-8").strip(), "done"
            try:
                copy()
            except (OSError, sqlite3.Error) as fault:
                answer = f"failed: {fault}"
            asked.unlink()
            _write(COPY / "answer", f"{number} {answer}")
        time.sleep(1)


def copy() -> None:
    """Copy the database and the vectors into the other volume, with a manifest."""
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
    """Write the manifest of the copy, restic's tags, and the files that restic must not read from the data volume."""
    if (CONFIG / "secret_key").exists():
        _write(COPY / "secret_key", (CONFIG / "secret_key").read_text(encoding="utf-8"))
    else:
        _remove(COPY / "secret_key")
    excluded += [f"/{path}" for path in EXCLUDED]
    _write(COPY / "excluded", "".join(f"/backup/data{path}\n" for path in excluded))
    counted = manifest["counts"]
    assert isinstance(counted, dict)  # noqa: S101 - for the type checker
    _write(COPY / "manifest.json", json.dumps(manifest))
    _write(COPY / "tags", ",".join(f"{name}={number}" for name, number in counted.items()))  # pyright: ignore[reportUnknownVariableType] - of JSON


def _copy_vectors(files: Path) -> None:
    """Copy Chroma's folder; its index files belong to its database, so both must be of the same moment."""
    source = DATA / VECTORS
    if not source.is_dir():
        return
    for attempt in range(_COPY_ATTEMPTS):
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
    raise OSError(f"{source} changed during each copy; try again when fewer documents are added")


def _signature(folder: Path) -> list[tuple[str, int, int]]:
    signature: list[tuple[str, int, int]] = []
    for path in _files_below(folder):
        if not path.name.endswith("-shm"):
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                signature.append((str(path), state.st_mtime_ns, state.st_size))
    return sorted(signature)


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def is_database(path: Path) -> bool:
    """Return whether a file is a SQLite database."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def copy_database(source: Path, target: Path) -> None:
    """Copy a database online; the copy is consistent and needs no journal.

    Raises:
        sqlite3.Error: it cannot be read.

    """
    if not source.exists():
        raise OSError(f"{source} does not exist: Open WebUI has not created its database yet")
    _remove(target)
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=rw", uri=True, timeout=60)) as live,
        contextlib.closing(sqlite3.connect(target)) as copied,
    ):
        live.backup(copied)
        copied.execute("PRAGMA journal_mode=DELETE")


def counts(database: Path) -> dict[str, int]:
    """Count users, chats, messages and files; skip tables that the version does not have."""
    counted: dict[str, int] = {}
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=60)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for name, table in _COUNTED_TABLES.items():
            if table in tables:
                (counted[name],) = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()  # noqa: S608 - ours
    return counted


def check() -> None:
    """Check the integrity of the staged backup: each upload's content, and the database.

    Raises:
        ValueError: it is damaged.

    """
    new = DATA / STAGING / "new"
    faults = list(_faults_of_uploads(new))
    database = new / "copy" / "files" / DATABASE
    if database.exists():
        with contextlib.closing(sqlite3.connect(database)) as connection:
            (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
        if answer != "ok":
            faults.append(f"the database: {answer}")
        manifest = json.loads((new / "copy" / "manifest.json").read_text(encoding="utf-8"))
        counted = counts(database)
        if counted != manifest["counts"]:
            faults.append(f"the manifest has {manifest['counts']}, and the database {counted}")
    # Files must be on the disk before renames swap them in.
    os.sync()
    if faults:
        raise ValueError("The restored data differs from the backup: " + "; ".join(faults[:5]))


def _faults_of_uploads(new: Path) -> Iterator[str]:
    listed = new / "copy" / "uploads.sha256"
    if not listed.exists():
        return
    for line in listed.read_text(encoding="utf-8").splitlines():
        expected, name = _listed(line)
        path = new / "data" / name.removeprefix("./")
        if not path.is_file():
            yield f"{name} is missing"
        elif _sha256(path) != expected:
            yield f"{name} has different content"


def _listed(line: str) -> tuple[str, str]:
    """Return sum and name of a line of sha256sum, which marks escaped names with a leading backslash."""
    expected, _, name = line.partition("  ")
    if not expected.startswith("\\"):
        return expected, name
    escaped = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}
    return expected[1:], re.sub(r"\\[\\nr]", lambda match: escaped[match[0]], name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def merge(mark: str = "") -> None:
    """Move staged files that only add to the volume into place, uploads above all; retain files of the same name.

    `mark` is the comment that the restored PostgreSQL database will have; "" with SQLite.
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
            _link_aside(target, old / place)
        path.replace(target)


def swap() -> None:
    """Swap in the database and the vectors; after the last rename the volume holds the backup."""
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
        _checkpoint(database)
        _link_aside(database, old / DATABASE)
    (files / DATABASE).replace(database)
    commit()


def commit() -> None:
    """Record that the database is the backup's, and its version; the replaced files are still there."""
    staging = DATA / STAGING
    if not (staging / _IN_PLACE).exists():
        _update_journal(staging)
        _write(staging / _IN_PLACE, "")


def _update_journal(staging: Path) -> None:
    """Set the upgrade journal to the version of the backup; its snapshots belong to this volume, and stay."""
    journal, replaced = DATA / JOURNAL, staging / "old" / JOURNAL
    manifest = json.loads((staging / "new" / "copy" / "manifest.json").read_text(encoding="utf-8"))
    if journal.exists():
        _link_aside(journal, replaced)
    elif not replaced.exists():
        _write(staging / _WITHOUT_JOURNAL, "")
    own: dict[str, object] = {"kept": None, "unwanted": []}
    if replaced.exists():
        own = json.loads(replaced.read_text(encoding="utf-8"))
    _write(journal, json.dumps({**own, "version": manifest["open_webui"], "attempt": None}))


def begin_undo() -> None:
    """Record that the restore is being rolled back, so that an interrupted rollback is resumed."""
    if (DATA / STAGING / _MERGING).exists():
        _write(DATA / STAGING / _UNDOING, "")


def undo() -> None:
    """Roll back: move the replaced files back, and delete the staged backup."""
    staging = DATA / STAGING
    old = staging / "old"
    if not (staging / _MERGING).exists():
        _discard()
        return
    begin_undo()
    if (old / VECTORS).exists():
        _remove(DATA / VECTORS)
        (old / VECTORS).replace(DATA / VECTORS)
    # Dumps of PostgreSQL: the caller has already restored that database.
    for dump in old.glob("database.dump*"):
        _remove(dump)
    if not _swapped_in():
        # A second link to the current database, or an older state of it.
        _remove(old / DATABASE)
    elif (old / DATABASE).exists():
        for end in _JOURNALS:
            _remove(DATA / f"{DATABASE}{end}")
    for path in list(_files_below(old)):
        path.replace(DATA / path.relative_to(old))
    if (staging / _WITHOUT_JOURNAL).exists():
        _remove(DATA / JOURNAL)
    _discard()


def _swapped_in() -> bool:
    """Return whether the staged SQLite database was moved into place."""
    files = DATA / STAGING / "new" / "copy" / "files"
    return files.exists() and not (files / DATABASE).exists()


def progress() -> str:
    """Return the progress of an interrupted restore.

    `back`: a rollback had begun. `forwards`: the database is in place. `merging`: it is not, or it is in PostgreSQL.
    "": no restore had begun to change anything.
    """
    staging = DATA / STAGING
    if not (staging / _MERGING).exists():
        return ""
    if (staging / _UNDOING).exists():
        return "back"
    if (staging / _IN_PLACE).exists() or _swapped_in():
        return "forwards"
    return "merging"


def mark() -> str:
    """Return the comment of the PostgreSQL database that this restore swaps in; "" if there is none."""
    merging = DATA / STAGING / _MERGING
    return merging.read_text(encoding="utf-8") if merging.exists() else ""


def record_key_change(own: str) -> None:
    """Record that the stack's secret key is about to change to the backup's, and the kind of the stack's own key."""
    note = DATA / STAGING / _KEY_CHANGE
    if not note.exists():
        _write(note, own)


def key_change() -> str:
    """Return the recorded kind of key and the backup's secret key; "" if the change has not begun."""
    staging = DATA / STAGING
    note = staging / _KEY_CHANGE
    return (
        f"{note.read_text(encoding='utf-8')} {(staging / 'new' / 'copy' / 'secret_key').read_text(encoding='utf-8')}"
        if note.exists()
        else ""
    )


def finish() -> None:
    """Delete the replaced files, and uploads that are not in the backup."""
    staging = DATA / STAGING
    listed = staging / "new" / "copy" / "uploads.sha256"
    unknown: list[Path] = []
    if listed.exists():
        known = {_listed(line)[1].removeprefix("./") for line in listed.read_text(encoding="utf-8").splitlines()}
        began = (staging / _MERGING).stat().st_ctime
        # Later uploads belong to the restored data.
        unknown = [
            path
            for path in _files_below(DATA / UPLOADS)
            if str(path.relative_to(DATA)) not in known and path.stat().st_ctime < began
        ]
    # Before deleting the replaced files: after a power failure one of both must be there.
    os.sync()
    _discard(unknown)


def _discard(others: Iterable[Path] = ()) -> None:
    """Rename the folder away atomically, since a partly deleted one would mislead; then delete it and other files."""
    staging, discarded = DATA / STAGING, DATA / DISCARDED
    _remove(discarded)
    if staging.exists():
        staging.replace(discarded)
        for path in others:
            path.unlink()
        _remove(discarded)


def _checkpoint(database: Path) -> None:
    """Write the database's journal into it, so that the file alone is complete."""
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    for end in _JOURNALS:
        _remove(database.with_name(f"{database.name}{end}"))


def _link_aside(path: Path, aside: Path) -> None:
    """Hard-link a file, so that it survives when its first name is replaced."""
    if not aside.exists():
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, aside)


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.touch(mode=0o600)
    with unfinished.open("w", encoding="utf-8") as file:
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
