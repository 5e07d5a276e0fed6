"""Upgrades the data of Open WebUI atomically, inside its container: snapshot, migration, trial, rollback.

Runs next to launch.py, with the image's own Python and nothing else of this project. All versions of a stack share one
volume. It holds a lock file, locked by each container that works on the data, and a journal, which records the version
of the data and the progress of an upgrade. Before another version changes the data, this program takes a snapshot. An
interrupted upgrade is rolled back from the snapshot by the next container that starts.

A new version first runs in a trial container that no user can reach (components/docker/upgrade_trial.py). Its migration
is accepted only when a replica of that version starts. Until then no user has written anything, so a rollback loses
nothing.
"""

import ast
import errno
import fcntl
import http.client
import importlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from open_webui_edge.runtime.contract import PORT

JOURNAL = "open-webui-edge-upgrade.json"
LOCK = "open-webui-edge-upgrade.lock"
SNAPSHOTS = "open-webui-edge-snapshots"
SETTINGS = "open-webui-edge-settings.json"
DATABASE = "webui.db"
VECTORS = "vector_db"

OK, ROLLED_BACK, REFUSED, UPGRADE_NEEDED, ROLLBACK_FAILED = 0, 10, 11, 12, 13
"""Exit codes of a trial: the version works; it failed and the data was rolled back; it must not be tried; it needs an
upgrade of the data; it failed and there is no snapshot to roll back to."""
LOCK_TIMEOUT = 120.0
"""Seconds for other containers, which are stopping, to release the lock."""
FIRST_REPLICA_TIMEOUT = 1800.0
"""Seconds for the first replica to prepare the data; the others wait for it."""
_SESSIONS_TIMEOUT = 30.0
"""Seconds for the last sessions of a database to close."""
_TERMINATION_TIMEOUT = 60.0
"""Seconds for an application on trial, which has no users, to exit."""
_FIRST_WITH_FORCE = 13
"""First version of PostgreSQL with DROP DATABASE … WITH (FORCE)."""
_FREE_SPACE_MARGIN = 64 << 20
"""Bytes that a snapshot leaves free on the disk."""


class Step(StrEnum):
    """The steps of an upgrade."""

    COPYING = "copying"
    """The data is unchanged."""
    MIGRATING = "migrating"
    STARTING = "starting"
    TRIED = "tried"
    """The version works, and no user has seen it."""
    RESTORING = "restoring"


@dataclass(frozen=True)
class Snapshot:
    """A copy of everything that an upgrade may change."""

    version: str
    """The version that can read it."""
    name: str
    """Folder below SNAPSHOTS."""
    taken: int
    """Seconds since 1970."""
    database: str | None = None
    """Name of the copy of a PostgreSQL database."""


@dataclass(frozen=True)
class Attempt:
    """An upgrade in progress."""

    before: str
    to: str
    step: Step
    snapshot: Snapshot | None
    """None if open_webui.upgrade.snapshot is false."""


@dataclass(frozen=True)
class Journal:
    """The recorded state of the data in the volume."""

    version: str | None = None
    """The version that last worked on the data; None if unknown."""
    attempt: Attempt | None = None
    previous: Snapshot | None = None
    """From before the last upgrade."""
    obsolete: tuple[Snapshot, ...] = ()
    """Snapshots to delete."""

    @classmethod
    def read(cls, data: Path) -> "Journal":
        """Read it; an empty one if there is none."""
        try:
            document = json.loads((data / JOURNAL).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        # The keys of all documents stay: volumes hold them.
        attempt = document["attempt"]
        if attempt is not None:
            step, snapshot = Step(attempt["step"]), _from_json(attempt["snapshot"])
            attempt = Attempt(attempt["before"], attempt["to"], step, snapshot)
        obsolete = tuple(filter(None, map(_from_json, document["unwanted"])))
        return cls(document["version"], attempt, _from_json(document["kept"]), obsolete)

    def without(self, snapshot: Snapshot | None) -> "Journal":
        """Return a journal in which a snapshot is obsolete."""
        return self if snapshot is None else replace(self, obsolete=(*self.obsolete, snapshot))

    def write(self, data: Path) -> None:
        """Write it atomically."""
        attempt = self.attempt
        document = {
            "version": self.version,
            "attempt": None if attempt is None else {**vars(attempt), "snapshot": _as_json(attempt.snapshot)},
            "kept": _as_json(self.previous),
            "unwanted": [_as_json(snapshot) for snapshot in self.obsolete],
        }
        unfinished = data / f"{JOURNAL}.new"
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(data / JOURNAL)
        _sync(data)


def _from_json(document: Mapping[str, Any] | None) -> Snapshot | None:
    if document is None:
        return None
    return Snapshot(document["of"], document["name"], document["taken"], document["database"])


def _as_json(snapshot: Snapshot | None) -> dict[str, Any] | None:
    if snapshot is None:
        return None
    return {"of": snapshot.version, "name": snapshot.name, "taken": snapshot.taken, "database": snapshot.database}


class Refused(Exception):  # noqa: N818 - an outcome of a trial, not a defect
    """The version must not be tried; nothing was touched."""


class Failed(Exception):  # noqa: N818 - an outcome of a trial, not a defect
    """The version was tried, and does not work."""


class Lock:
    """A lock on the data: shared by the replicas of one version, exclusive for an upgrade."""

    def __init__(self, data: Path) -> None:
        """Open the lock file."""
        self._descriptor = os.open(data / LOCK, os.O_RDWR | os.O_CREAT, 0o600)

    def acquire_shared(self, timeout: float) -> None:
        """Acquire it together with others, within `timeout` seconds; raises TimeoutError."""
        self._acquire(fcntl.LOCK_SH, timeout)

    def acquire_exclusive(self, timeout: float) -> None:
        """Acquire it alone, within `timeout` seconds; raises TimeoutError."""
        self._acquire(fcntl.LOCK_EX, timeout)

    def release(self) -> None:
        """Release it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _acquire(self, kind: int, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in {errno.ENOLCK, errno.EOPNOTSUPP}:
                    # This file system has no locks; an update never starts two versions at once anyway.
                    return
                if error.errno not in {errno.EWOULDBLOCK, errno.EINTR}:
                    raise
            else:
                return
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.2)


@dataclass(frozen=True)
class DatabaseState:
    """Contents of a database."""

    has_tables: bool
    """Whether it holds Open WebUI's tables."""
    revisions: frozenset[str]
    """The migrations at which it stands."""


def _state(ask: Callable[[str], Iterable[Any]], tables_question: str) -> DatabaseState:
    """Return the state of a database that answers questions in SQL."""
    tables = {name for (name,) in ask(tables_question)}
    rows = ask("SELECT version_num FROM alembic_version") if "alembic_version" in tables else ()
    return DatabaseState(has_tables="user" in tables, revisions=frozenset(revision for (revision,) in rows))


class Sqlite:
    """The SQLite database in the volume."""

    def __init__(self, data: Path) -> None:
        """Store its path."""
        self._file = data / DATABASE

    def inspect(self) -> DatabaseState:
        """Return the state of the database without changing it."""
        if not self._file.exists():
            return DatabaseState(has_tables=False, revisions=frozenset())
        with closing(sqlite3.connect(self._file, timeout=30)) as database:
            return _state(database.execute, "SELECT name FROM sqlite_master WHERE type = 'table'")

    def size(self) -> int:
        """Return the size of a snapshot in bytes."""
        return sum(_size(self._file.with_name(self._file.name + suffix)) for suffix in ("", "-wal"))

    def copy_refusal(self) -> str | None:
        """Return why the database cannot be copied; None if it can."""

    def copy_name(self, _snapshot: str) -> str | None:
        """Return the name of a copy outside its folder: there is none."""

    def copy(self, folder: Path, _name: str | None) -> None:
        """Copy the database into a folder."""
        if not self._file.exists():
            return
        with closing(sqlite3.connect(self._file)) as source, closing(sqlite3.connect(folder / DATABASE)) as target:
            source.backup(target)

    def restore(self, folder: Path, _name: str | None) -> None:
        """Replace the database by a copy."""
        if not (folder / DATABASE).exists():
            raise Failed(f"the snapshot {folder.name} is not in the volume, so nothing was put back")
        unfinished = self._file.with_name(f"{DATABASE}.restored")
        _copy_file(folder / DATABASE, unfinished)
        # They belong to the replaced file; SQLite would apply them to the new one.
        for suffix in ("-wal", "-shm", "-journal"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
        unfinished.replace(self._file)

    def delete_copy(self, _name: str | None) -> None:
        """Delete a copy: nothing to do, its folder is deleted."""


class Postgres:
    """A database on a PostgreSQL server; its copy is a second database there."""

    def __init__(self, url: str) -> None:
        """Store its address."""
        # A dependency of the application, imported only here: with SQLite the import would only cost time.
        self._sql: Any = importlib.import_module("sqlalchemy")
        self._url = self._sql.engine.make_url(url.replace("postgres://", "postgresql://", 1))
        self._name = str(self._url.database)

    def _ask(self, question: str, *, elsewhere: bool = False, **values: object) -> list[Any]:
        """Run a statement in the database or, with `elsewhere`, in another database of the server."""
        url = self._url.set(database=self._other_database()) if elsewhere else self._url
        engine = self._sql.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=self._sql.pool.NullPool)
        with engine.connect() as connection:
            result = connection.execute(self._sql.text(question), values)
            return list(result) if result.returns_rows else []

    def _other_database(self) -> str:
        for name in ("postgres", "template1"):
            engine = self._sql.create_engine(self._url.set(database=name), poolclass=self._sql.pool.NullPool)
            with suppress(self._sql.exc.DBAPIError):
                engine.connect().close()
                return name
        raise Refused(
            f"{self._url.host} lets {self._url.username} into neither the database postgres nor template1, one of which"
            " is needed to copy another one"
        )

    def _quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def inspect(self) -> DatabaseState:
        """Return the state of the database without changing it."""
        return _state(self._ask, "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")

    def size(self) -> int:
        """Return the size of a snapshot in the volume: none, the copy is on the server."""
        return 0

    def copy_refusal(self) -> str | None:
        """Return why the database cannot be copied; None if it can."""
        ((creates, owns, user, server),) = self._ask(
            "SELECT r.rolcreatedb OR r.rolsuper, pg_has_role(d.datdba, 'MEMBER'), r.rolname::text,"
            " current_setting('server_version_num')::integer / 10000"
            " FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()"
        )
        if server < _FIRST_WITH_FORCE:
            return f"PostgreSQL {server} cannot put one back; from {_FIRST_WITH_FORCE} on it can"
        if not creates:
            return (
                f"the user {user} may not create databases, and the copy of one is a second one; as an administrator of"
                f" that server: ALTER ROLE {self._quote(user)} CREATEDB"
            )
        if not owns:
            return f"the database {self._name} does not belong to the user {user}, who can therefore not copy it"
        try:
            self._other_database()
        except Refused as why:
            return str(why)
        return None

    def copy_name(self, snapshot: str) -> str | None:
        """Return the name of a copy; PostgreSQL limits names to 63 bytes."""
        return f"{self._name[:24]}_snapshot_{snapshot}".replace(".", "_").replace("-", "_")[:63]

    def copy(self, _folder: Path, name: str | None) -> None:
        """Copy it to a second database, once it has no sessions."""
        if name is None:
            raise AssertionError
        self.delete_copy(name)
        deadline = time.monotonic() + _SESSIONS_TIMEOUT
        while (others := self._sessions()) and time.monotonic() < deadline:
            time.sleep(0.5)
        if others:
            raise Failed(f"the database {self._name} is in use, so it cannot be copied: {', '.join(others)}")
        self._create(name, self._name)

    def _sessions(self) -> list[str]:
        rows = self._ask(
            "SELECT usename || ' at ' || coalesce(host(client_addr), 'the server') || ' (' || application_name || ')'"
            " FROM pg_stat_activity WHERE datname = :name AND backend_type = 'client backend'",
            elsewhere=True,
            name=self._name,
        )
        return sorted(str(row[0]) for row in rows)

    def _create(self, name: str, template: str) -> None:
        ((owner,),) = self._ask(
            "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = :name", elsewhere=True, name=template
        )
        words = f"CREATE DATABASE {self._quote(name)} TEMPLATE {self._quote(template)} OWNER {self._quote(owner)}"
        self._ask(words, elsewhere=True)

    def restore(self, _folder: Path, name: str | None) -> None:
        """Replace the database by a copy; this closes its sessions."""
        if name is None:
            raise Failed("the snapshot holds no database")
        if not self._ask("SELECT 1 FROM pg_database WHERE datname = :name", elsewhere=True, name=name):
            raise Failed(f"the snapshot {name} is not on the database's server, so nothing was put back")
        self._drop(self._name)
        self._create(self._name, name)

    def _drop(self, name: str) -> None:
        self._ask(f"DROP DATABASE IF EXISTS {self._quote(name)} WITH (FORCE)", elsewhere=True)

    def delete_copy(self, name: str | None) -> None:
        """Delete a copy."""
        if name is not None and name != self._name:
            self._drop(name)


@dataclass(frozen=True)
class Rules:
    """The stack's settings for upgrades."""

    snapshot: bool
    """Whether a snapshot is required first."""
    downgrade_from_snapshot: bool
    """Whether a version that cannot read the database may use its old snapshot instead."""


class Upgrade:
    """The data in a volume, and the version of Open WebUI that is about to use it."""

    def __init__(self, package: Path, data: Path, version: str, rules: Rules) -> None:
        """Store the arguments; `package` is the folder of the version's own code."""
        self._package, self._data, self._version, self._rules = package, data, version, rules

    @cached_property
    def _database(self) -> Postgres | Sqlite:
        url = os.environ.get("DATABASE_URL", "")
        return Postgres(url) if url.startswith("postgres") else Sqlite(self._data)

    # Before a start

    def prepare(self, *, first: bool) -> Lock:
        """Prepare the data for this version, and return the shared lock on it.

        Only the first replica changes anything. Exits if this version must not start.
        """
        lock = Lock(self._data)
        try:
            if first:
                self._prepare_first(lock)
            else:
                self._wait_for_first(lock)
        except TimeoutError:
            sys.exit("launch: another container still works on the data; it must end before this one starts")
        except (Refused, Failed) as why:
            sys.exit(f"launch: open_webui.version: {why}")
        except BaseException:
            lock.release()
            raise
        return lock

    def _prepare_first(self, lock: Lock) -> None:
        lock.acquire_shared(FIRST_REPLICA_TIMEOUT)
        journal = self._journal()
        # An interrupted rollback may have left no database to inspect.
        if journal.attempt is None and not self._needs_change(journal, self._database.inspect()):
            if journal.version != self._version:
                replace(journal, version=self._version).write(self._data)
            self._prune()
            return
        lock.release()
        lock.acquire_exclusive(LOCK_TIMEOUT)
        self._recover_or_migrate()
        lock.acquire_shared(LOCK_TIMEOUT)

    def _recover_or_migrate(self) -> None:
        """Finish or roll back an interrupted upgrade; migrate the data of another version that had no trial."""
        attempt = self._journal().attempt
        if attempt is not None and attempt.step is Step.TRIED and attempt.to == self._version:
            self._accept()
            return
        self.recover()
        if not self._needs_change(self._journal(), self._database.inspect()):
            return
        self._require_possible()
        self._begin(None)
        try:
            self._migrate(FIRST_REPLICA_TIMEOUT)
        except Failed as why:
            say(f"failed: {why}")
            self.recover()
            raise
        self._accept()

    def _wait_for_first(self, lock: Lock) -> None:
        deadline = time.monotonic() + FIRST_REPLICA_TIMEOUT
        is_logged = False
        while True:
            lock.acquire_shared(FIRST_REPLICA_TIMEOUT)
            journal = self._journal()
            if journal.attempt is None and journal.version == self._version:
                return
            lock.release()
            if time.monotonic() > deadline:
                raise TimeoutError
            if not is_logged:
                say("waiting for the first replica to prepare the data")
                is_logged = True
            time.sleep(0.5)

    def check(self, before: str | None) -> int:
        """Return an exit code: what has to happen before this version starts. Changes nothing.

        `before` is the running version, for a volume that has no journal yet.
        """
        journal = self._journal()
        attempt = journal.attempt
        if attempt is not None and attempt.step is Step.TRIED and attempt.to == self._version:
            return OK
        if attempt is None and not self._needs_change(journal, self._database.inspect(), before):
            return OK
        # An interrupted upgrade is rolled back first, so its half-migrated state does not count.
        if attempt is None or attempt.step is Step.COPYING:
            self._require_possible()
        return UPGRADE_NEEDED

    def _needs_change(self, journal: Journal, database: DatabaseState, before: str | None = None) -> bool:
        if not database.has_tables:
            return False
        known = journal.version or before
        if known is None:
            return database.revisions != self._revisions()[1]
        return known != self._version

    def _require_possible(self) -> None:
        """Raise Refused, with what to do, if this version must not use the data."""
        journal, database = self._journal(), self._database.inspect()
        unknown = sorted(database.revisions - self._revisions()[0])
        if unknown and self._downgrade_snapshot(journal) is None:
            raise Refused(self._downgrade_refusal(journal, unknown))
        if not self._rules.snapshot:
            return
        if why := self._database.copy_refusal():
            raise Refused(
                f"a snapshot comes before another version, and {why}; or make a backup yourself and set"
                " open_webui.upgrade.snapshot: false"
            )
        needed = self._database.size() + _size(self._data / VECTORS) + _FREE_SPACE_MARGIN
        free = shutil.disk_usage(self._data).free
        if needed > free:
            raise Refused(
                f"a snapshot comes before another version, and needs {_mebibytes(needed)}, of which the disk of the"
                f" volume has {_mebibytes(free)}; make room there, or make a backup yourself and set"
                " open_webui.upgrade.snapshot: false"
            )

    def _downgrade_snapshot(self, journal: Journal) -> Snapshot | None:
        """Return the snapshot to use instead of a database that this version cannot read, if the settings allow it."""
        previous = journal.previous
        is_usable = previous is not None and previous.version == self._version
        return previous if self._rules.downgrade_from_snapshot and is_usable else None

    def _downgrade_refusal(self, journal: Journal, unknown: Sequence[str]) -> str:
        later = journal.version or "a later version"
        words = (
            f"{self._version} cannot read this database, which {later} has migrated (to {', '.join(unknown)});"
            f" set {later if journal.version else 'the version that ran last'}"
        )
        previous = journal.previous
        if previous is None or previous.version != self._version:
            return f"{words}, or restore a backup that {self._version} has made"
        taken = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(previous.taken))
        return (
            f"{words}; or go back to the data as it was on {taken}, before the upgrade, by"
            " open_webui.upgrade.downgrade: from-snapshot. What was written since is lost then"
        )

    # An upgrade, step by step

    def attempt(self, run: Sequence[str], before: str | None, limit: float) -> int:
        """Try the upgrade: snapshot, migrate, start, wait for /ready; roll back if any of them fails.

        Args:
            run: the command that starts the application.
            before: the version of the data, for a volume that has no journal yet.
            limit: seconds for the whole upgrade.

        """
        deadline = time.monotonic() + limit
        lock = Lock(self._data)
        try:
            lock.acquire_exclusive(LOCK_TIMEOUT)
        except TimeoutError:
            say("failed: another container still works on the data")
            return ROLLED_BACK
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        try:
            self.recover()
            self._require_possible()
            self._begin(before)
            self._migrate(deadline - time.monotonic())
            self._advance(Step.STARTING)
            _test_start(run, deadline)
            self._advance(Step.TRIED)
            say(f"{self._version} works")
        except Refused as why:
            say(f"refused: {why}")
            return REFUSED
        except Exception as why:  # noqa: BLE001 - after any error the data must be rolled back
            say(f"failed: {why if isinstance(why, Failed) else repr(why)}")
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            return ROLLED_BACK if self.recover() else ROLLBACK_FAILED
        finally:
            lock.release()
        return OK

    def restore(self) -> int:
        """Roll back an interrupted upgrade."""
        Lock(self._data).acquire_exclusive(LOCK_TIMEOUT)
        return OK if self.recover() else ROLLBACK_FAILED

    def recover(self) -> bool:
        """Roll back an unfinished upgrade; requires the exclusive lock.

        Returns whether the data is as it was.
        """
        journal = self._journal()
        attempt = journal.attempt
        if attempt is None:
            return True
        lost = attempt.step is not Step.COPYING and attempt.snapshot is None
        if attempt.step is not Step.COPYING:
            if attempt.snapshot is None:
                say(f"there is no snapshot of {attempt.before} to restore: open_webui.upgrade.snapshot is false")
            else:
                self._advance(Step.RESTORING)
                self._rollback(attempt.snapshot)
                say(f"the data is as it was before {attempt.to}")
        # Unknown: the next version that starts compares the migrations, and refuses a database that it cannot read.
        version = None if lost or attempt.before == _UNKNOWN else attempt.before
        replace(self._journal(), attempt=None, version=version).without(attempt.snapshot).write(self._data)
        self._prune()
        return not lost

    def _begin(self, before: str | None) -> None:
        journal = self._journal()
        known = journal.version or before or _UNKNOWN
        snapshot = None
        if self._rules.snapshot:
            taken = int(time.time())
            name = f"{known}-{taken}"
            snapshot = Snapshot(known, name, taken, self._database.copy_name(name))
            replace(journal, attempt=Attempt(known, self._version, Step.COPYING, snapshot)).write(self._data)
            say(f"copying the data of {known}")
            self._copy(snapshot)
        replace(journal, attempt=Attempt(known, self._version, Step.MIGRATING, snapshot)).write(self._data)
        back = self._downgrade_snapshot(journal) if self._database.inspect().revisions - self._revisions()[0] else None
        if back is not None:
            say(f"replacing the data of {known} by the snapshot of {back.version}")
            self._rollback(back)

    def _migrate(self, seconds: float) -> None:
        say(f"migrating to {self._version}")
        words = [sys.executable, "-c", MIGRATE, str(self._package)]
        try:
            ended = subprocess.run(words, check=False, timeout=max(seconds, 0))  # noqa: S603 - our own words
        except subprocess.TimeoutExpired:
            raise Failed("the migration did not end in the time that open_webui.upgrade.timeout gives") from None
        if ended.returncode:
            raise Failed(f"the migration ended with exit code {ended.returncode}")

    def _accept(self) -> None:
        """Record the upgrade as final: from now on users write."""
        journal = self._journal()
        attempt = journal.attempt
        if attempt is None:
            raise AssertionError
        done = replace(journal, version=self._version, attempt=None, previous=attempt.snapshot)
        done.without(journal.previous).write(self._data)
        snapshot = f"; the snapshot of {attempt.before} is retained" if attempt.snapshot else ""
        say(f"the data is of {self._version} now{snapshot}")
        self._prune()

    # Snapshots

    def _copy(self, snapshot: Snapshot) -> None:
        folder = self._data / SNAPSHOTS / snapshot.name
        unfinished = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True, mode=0o700)
        self._database.copy(unfinished, snapshot.database)
        if (self._data / VECTORS).exists():
            shutil.copytree(self._data / VECTORS, unfinished / VECTORS, symlinks=True)
        if (self._data / SETTINGS).exists():
            _copy_file(self._data / SETTINGS, unfinished / SETTINGS)
        _sync_all(unfinished)
        unfinished.replace(folder)
        _sync(folder.parent)

    def _rollback(self, snapshot: Snapshot) -> None:
        folder = self._data / SNAPSHOTS / snapshot.name
        self._database.restore(folder, snapshot.database)
        unfinished, broken = self._data / f"{VECTORS}.restored", self._data / f"{VECTORS}.broken"
        for left in (unfinished, broken):
            shutil.rmtree(left, ignore_errors=True)
        if (folder / VECTORS).exists():
            shutil.copytree(folder / VECTORS, unfinished, symlinks=True)
            _sync_all(unfinished)
        if (self._data / VECTORS).exists():
            (self._data / VECTORS).replace(broken)
        if unfinished.exists():
            unfinished.replace(self._data / VECTORS)
        shutil.rmtree(broken, ignore_errors=True)
        if (folder / SETTINGS).exists():
            _copy_file(folder / SETTINGS, self._data / f"{SETTINGS}.restored")
            (self._data / f"{SETTINGS}.restored").replace(self._data / SETTINGS)
        else:
            (self._data / SETTINGS).unlink(missing_ok=True)
        _sync(self._data)

    def _prune(self) -> None:
        """Delete the obsolete snapshots; the next start retries what fails."""
        left: list[Snapshot] = []
        for snapshot in self._journal().obsolete:
            folder = self._data / SNAPSHOTS / snapshot.name
            try:
                self._database.delete_copy(snapshot.database)
                for part in (folder, folder.with_name(f"{folder.name}.new")):
                    shutil.rmtree(part, ignore_errors=True)
            except Exception as why:  # noqa: BLE001 - a server may refuse for its own reasons
                say(f"the snapshot {snapshot.name} could not be deleted: {why!r}")
                left.append(snapshot)
        if self._journal().obsolete:
            replace(self._journal(), obsolete=tuple(left)).write(self._data)

    # Journal and migrations

    def _journal(self) -> Journal:
        return Journal.read(self._data)

    def _advance(self, step: Step) -> None:
        journal = self._journal()
        if journal.attempt is None:
            raise AssertionError
        replace(journal, attempt=replace(journal.attempt, step=step)).write(self._data)

    def _revisions(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return the migrations that this version knows, and those of them at which it ends."""
        known, earlier = set[str](), set[str]()
        for file in (self._package / "migrations/versions").glob("*.py"):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    name, value = node.targets[0].id, node.value
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                    name, value = node.target.id, node.value
                else:
                    continue
                if name in {"revision", "down_revision"}:
                    revisions = ast.literal_eval(value)
                    names = {revisions} if isinstance(revisions, str) else set(revisions or ())
                    (known if name == "revision" else earlier).update(names)
        return frozenset(known), frozenset(known - earlier)


_UNKNOWN = "unknown"
MIGRATE = """
import sys
from alembic import command
from alembic.config import Config
config = Config(sys.argv[1] + "/alembic.ini")
config.set_main_option("script_location", sys.argv[1] + "/migrations")
command.upgrade(config, "head")
"""


def _test_start(run: Sequence[str], deadline: float) -> None:
    """Start the application and stop it once it is ready; raise Failed if it does not become ready."""
    say("starting it, reachable only inside its container")
    child = subprocess.Popen(run, start_new_session=True)  # noqa: S603 - the image's own
    try:
        while not _is_ready():
            if (code := child.poll()) is not None:
                raise Failed(f"the application ended with exit code {code if code >= 0 else 128 - code}")
            if time.monotonic() > deadline:
                raise Failed("it was not ready in the time that open_webui.upgrade.timeout gives")
            time.sleep(0.5)
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_TERMINATION_TIMEOUT)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        _clear_redis()


def _clear_redis() -> None:
    """Delete the trial's own keys from Redis."""
    url, prefix = os.environ.get("REDIS_URL"), os.environ.get("REDIS_KEY_PREFIX")
    if not url or not prefix:
        return
    store: Any = importlib.import_module("redis")
    with suppress(store.RedisError), store.Redis.from_url(url, socket_timeout=10) as client:
        for key in client.scan_iter(match=f"{prefix}:*"):
            client.delete(key)


def _is_ready() -> bool:
    with (
        suppress(OSError, ValueError, http.client.HTTPException),
        closing(http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)) as connection,
    ):
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        return answer.status == http.client.OK and json.loads(answer.read(1 << 16)) == {"status": True}
    return False


def _stop(_number: int, _frame: object) -> None:
    raise Failed("it was stopped before it was ready")


def say(words: str) -> None:
    """Write into the container's log."""
    print(f"launch: {words}", flush=True)  # noqa: T201 - the container's log


def _mebibytes(size: int) -> str:
    return f"{-(-size >> 20)} MiB"


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else 0


def _copy_file(source: Path, target: Path) -> None:
    shutil.copy2(source, target)
    _sync(target)


def _sync_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def trial_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the additional environment of an application on trial: local requests only, keys of its own in Redis."""
    prefix = environment.get("REDIS_KEY_PREFIX", "open-webui")
    return {"HOST": "127.0.0.1", "REDIS_KEY_PREFIX": f"{prefix}-trial"}


def run_trial_task(upgrade: Upgrade, trial: Mapping[str, Any], run: Sequence[str]) -> int:
    """Run the task of a trial container, and return its exit code."""
    tasks: Mapping[str, Callable[[], int]] = {
        "look": lambda: upgrade.check(trial["before"]),
        "try": lambda: upgrade.attempt(run, trial["before"], trial["limit"]),
        "restore": upgrade.restore,
    }
    try:
        return tasks[trial["task"]]()
    except Refused as why:
        say(f"refused: {why}")
        return REFUSED
