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
from typing import Any

from open_webui_edge.runtime.contract import CONFIG_DIR, DATA_DIR, TEMPORARY

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
    *("open-webui-edge-snapshots", "open-webui-edge-upgrade.lock", TEMPORARY),
)
"""Not backed up: models that are downloaded again if they are missing, and files that belong to this volume alone."""
_COPY_ATTEMPTS = 10
_COUNTED_TABLES = {"users": "user", "chats": "chat", "messages": "chat_message", "files": "file"}


def main(words: list[str]) -> int:
    """Run one command, and print its answer; cli/backup calls them by these names."""
    commands: dict[str, Callable[..., object]] = {
        "copy": copy,
        "serve": serve,
        "counts": lambda: json.dumps(counts(DATA / DATABASE)),
        "version": version,
        "check": check,
        "merge": merge,
        "swap": swap,
        "settle": commit,
        "begin_undo": begin_undo,
        "undo": undo,
        "mark": mark,
        "note_other_key": record_key_change,
        "other_key": key_change,
        "unfinished": progress,
        "finish": finish,
    }
    try:
        answer = commands[words[0]](*words[1:])
    except (OSError, sqlite3.Error, ValueError) as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    if answer is not None:
        print(answer)  # noqa: T201 - of "other_key", the caller does not display it
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
    """Copy the database and the vectors into the other volume.

    With a manifest, restic's tags, and the list of files that restic must not read from the data volume.
    """
    for old in ("files", "manifest.json", "tags"):
        _remove(COPY / old)
    files = COPY / "files"
    files.mkdir(parents=True)
    _copy_vectors(files)
    copy_database(DATA / DATABASE, files / DATABASE)
    counted = counts(files / DATABASE)
    manifest = {"format": 1, "database": "sqlite", "open_webui": version(), "counts": counted}
    if (CONFIG / "secret_key").exists():
        _write(COPY / "secret_key", (CONFIG / "secret_key").read_text(encoding="utf-8"))
    else:
        _remove(COPY / "secret_key")
    excluded = (*(f"{DATABASE}{end}" for end in ("", *_JOURNALS)), VECTORS, *EXCLUDED)
    _write(COPY / "excluded", "".join(f"/backup/data/{path}\n" for path in excluded))
    _write(COPY / "manifest.json", json.dumps(manifest))
    _write(COPY / "tags", ",".join(f"{name}={number}" for name, number in counted.items()))


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
    faults = list(_faults_of_uploads())
    database = _backup("files") / DATABASE
    if database.exists():
        with contextlib.closing(sqlite3.connect(database)) as connection:
            (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
        if answer != "ok":
            faults.append(f"the database: {answer}")
        expected, counted = _manifest()["counts"], counts(database)
        if counted != expected:
            faults.append(f"the manifest has {expected}, and the database {counted}")
    # Files must be on the disk before renames swap them in.
    os.sync()
    if faults:
        raise ValueError("The restored data differs from the backup: " + "; ".join(faults[:5]))


def _faults_of_uploads() -> Iterator[str]:
    for name, expected in (_listed_uploads() or {}).items():
        path = _staged("new") / "data" / name.removeprefix("./")
        if not path.is_file():
            yield f"{name} is missing"
        else:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    yield f"{name} has different content"


def _listed_uploads() -> dict[str, str] | None:
    """Return name -> sum of the backup's uploads, None if they are not listed.

    A line of sha256sum marks an escaped name with a leading backslash.
    """
    listed = _backup("uploads.sha256")
    if not listed.exists():
        return None
    escaped = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}
    uploads: dict[str, str] = {}
    for line in listed.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        if expected.startswith("\\"):
            expected, name = expected[1:], re.sub(r"\\[\\nr]", lambda match: escaped[match[0]], name)
        uploads[name] = expected
    return uploads


def _staged(name: str) -> Path:
    return DATA / STAGING / name


def _backup(name: str) -> Path:
    """Return the path of something that was copied for the staged backup."""
    return _staged("new") / "copy" / name


def _manifest() -> dict[str, Any]:
    return json.loads(_backup("manifest.json").read_text(encoding="utf-8"))


def merge(mark: str = "") -> None:
    """Move staged files that only add to the volume into place, uploads above all; retain files of the same name.

    `mark` is the comment that the restored PostgreSQL database will have; "" with SQLite.
    """
    new, old = _staged("new") / "data", _staged("old")
    old.mkdir(exist_ok=True)
    _write(_staged(_MERGING), mark)
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
    files, old = _backup("files"), _staged("old")
    merge()
    if (DATA / VECTORS).exists() and not (old / VECTORS).exists():
        (DATA / VECTORS).replace(old / VECTORS)
    _remove(DATA / VECTORS)
    if (files / VECTORS).exists():
        (files / VECTORS).replace(DATA / VECTORS)
    database = DATA / DATABASE
    if database.exists():
        # Its journal is written into it, so that the file alone is complete.
        with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        for end in _JOURNALS:
            _remove(database.with_name(f"{database.name}{end}"))
        _link_aside(database, old / DATABASE)
    (files / DATABASE).replace(database)
    commit()


def commit() -> None:
    """Record that the database is the backup's, and its version; the replaced files are still there."""
    if _staged(_IN_PLACE).exists():
        return
    # The upgrade journal gets the version of the backup; its snapshots belong to this volume, and stay.
    journal, replaced = DATA / JOURNAL, _staged("old") / JOURNAL
    restored = _manifest()["open_webui"]
    if journal.exists():
        _link_aside(journal, replaced)
    elif not replaced.exists():
        _write(_staged(_WITHOUT_JOURNAL), "")
    own: dict[str, object] = {"kept": None, "unwanted": []}
    if replaced.exists():
        own = json.loads(replaced.read_text(encoding="utf-8"))
    _write(journal, json.dumps({**own, "version": restored, "attempt": None}))
    _write(_staged(_IN_PLACE), "")


def begin_undo() -> None:
    """Record that the restore is being rolled back, so that an interrupted rollback is resumed."""
    if _staged(_MERGING).exists():
        _write(_staged(_UNDOING), "")


def undo() -> None:
    """Roll back: move the replaced files back, and delete the staged backup."""
    old = _staged("old")
    if not _staged(_MERGING).exists():
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
    if _staged(_WITHOUT_JOURNAL).exists():
        _remove(DATA / JOURNAL)
    _discard()


def _swapped_in() -> bool:
    """Return whether the staged SQLite database was moved into place."""
    files = _backup("files")
    return files.exists() and not (files / DATABASE).exists()


def progress() -> str:
    """Return the progress of an interrupted restore.

    `back`: a rollback had begun. `forwards`: the database is in place. `merging`: it is not, or it is in PostgreSQL.
    "": no restore had begun to change anything.
    """
    if not _staged(_MERGING).exists():
        return ""
    if _staged(_UNDOING).exists():
        return "back"
    if _staged(_IN_PLACE).exists() or _swapped_in():
        return "forwards"
    return "merging"


def mark() -> str:
    """Return the comment of the PostgreSQL database that this restore swaps in; "" if there is none."""
    merging = _staged(_MERGING)
    return merging.read_text(encoding="utf-8") if merging.exists() else ""


def record_key_change(own: str) -> None:
    """Record that the stack's secret key is about to change to the backup's, and the kind of the stack's own key."""
    if not _staged(_KEY_CHANGE).exists():
        _write(_staged(_KEY_CHANGE), own)


def key_change() -> str:
    """Return the recorded kind of key and the backup's secret key; "" if the change has not begun."""
    note = _staged(_KEY_CHANGE)
    if not note.exists():
        return ""
    return f"{note.read_text(encoding='utf-8')} {_backup('secret_key').read_text(encoding='utf-8')}"


def finish() -> None:
    """Delete the replaced files, and uploads that are not in the backup."""
    listed = _listed_uploads()
    unknown: list[Path] = []
    if listed is not None:
        known = {name.removeprefix("./") for name in listed}
        began = _staged(_MERGING).stat().st_ctime
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
