"""Brings data from one version of Open WebUI to another inside its container: wholly, or not at all.

Runs beside launch.py, with the image's own Python and nothing of this program. All versions of a stack share one
volume. In it lie a lock, which whoever works on the data holds, and a journal, which says what version the data is of
and how far a change of it has got. Before a version that is not the data's changes anything, all that it may change is
copied; what is interrupted, wherever that is, is put back from the copy by whoever starts next.

A new version is tried first, in a container that nobody can reach (components/docker/trial.py): what it makes of the
data counts only once a replica of that version starts. Until then no user has written anything, so that putting the
copy back loses nothing.
"""

import ast
import errno
import fcntl
import http.client
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, cast

JOURNAL = "open-webui-edge-upgrade.json"
LOCK = "open-webui-edge-upgrade.lock"
SNAPSHOTS = "open-webui-edge-snapshots"
SETTINGS = "open-webui-edge-settings.json"
DATABASE = "webui.db"
VECTORS = "vector_db"
PORT = 8080

PASSED, PUT_BACK, REFUSED, WANTED, LEFT = 0, 10, 11, 12, 13
"""Exit codes of a trial: the version works; it does not and all is as before; it must not be tried; it is to be; it
does not work, and the data stays changed for want of a snapshot."""
ALONE = 120.0
"""Seconds for others to let go of the data: they were told to end before."""
SETTLED = 1800.0
"""Seconds for the first replica to put data in order, for which the others wait."""
_IN_USE = 30.0
"""Seconds for the last sessions of a database to end."""
_TO_END = 60.0
"""Seconds for an application on trial to end, which nobody uses."""
_FIRST_WITH_FORCE = 13
"""Version of PostgreSQL that ends a database's sessions when it is to go."""
_SPARE = 64 << 20
"""Bytes that stay free beside a copy."""


class Step(StrEnum):
    """How far a change of version has got."""

    COPYING = "copying"
    """Nothing is changed yet."""
    MIGRATING = "migrating"
    STARTING = "starting"
    TRIED = "tried"
    """It works, and no user has seen it."""
    RESTORING = "restoring"


@dataclass(frozen=True)
class Snapshot:
    """A copy of all that a change of version may change."""

    of: str
    """The version that it can be used with."""
    name: str
    """Folder below SNAPSHOTS."""
    taken: int
    """Seconds since 1970."""
    database: str | None = None
    """Name of the copy of a PostgreSQL database."""


@dataclass(frozen=True)
class Attempt:
    """A change of version that is under way."""

    before: str
    to: str
    step: Step
    snapshot: Snapshot | None
    """None where none was wanted."""


@dataclass(frozen=True)
class Journal:
    """What is known of the data in the volume."""

    version: str | None = None
    """Whose it is; None where that is not known."""
    attempt: Attempt | None = None
    kept: Snapshot | None = None
    """From before the last change of version."""
    unwanted: tuple[Snapshot, ...] = ()
    """Which nobody needs any more, and that may still be there."""

    @classmethod
    def read(cls, data: Path) -> "Journal":
        """Read it; an empty one where there is none."""
        try:
            found = json.loads((data / JOURNAL).read_text())
        except FileNotFoundError:
            return cls()
        attempt = found["attempt"]
        if attempt is not None:
            attempt = Attempt(
                attempt["before"], attempt["to"], Step(attempt["step"]), _snapshot_of(attempt["snapshot"])
            )
        unwanted = tuple(Snapshot(**one) for one in found["unwanted"])
        return cls(found["version"], attempt, _snapshot_of(found["kept"]), unwanted)

    def without(self, snapshot: Snapshot | None) -> "Journal":
        """Return one in which a snapshot is not needed any more."""
        return self if snapshot is None else replace(self, unwanted=(*self.unwanted, snapshot))

    def write(self, data: Path) -> None:
        """Write it: on disk, or not at all."""
        unfinished = data / f"{JOURNAL}.new"
        with unfinished.open("w") as file:
            json.dump(asdict(self), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(data / JOURNAL)
        _sync(data)


def _snapshot_of(found: Mapping[str, Any] | None) -> Snapshot | None:
    return None if found is None else Snapshot(**found)


class Refused(Exception):  # noqa: N818 - what it says, not what went wrong with it
    """The version must not be tried; nothing was touched."""


class Failed(Exception):  # noqa: N818 - likewise
    """The version was tried, and does not work."""


class Lock:
    """Held by whoever works on the data: by many of the same version, or by one that changes it."""

    def __init__(self, data: Path) -> None:
        """Open it."""
        self._descriptor = os.open(data / LOCK, os.O_RDWR | os.O_CREAT, 0o600)

    def share(self, seconds: float) -> None:
        """Take it as one of many; raises TimeoutError."""
        self._take(fcntl.LOCK_SH, seconds)

    def have_alone(self, seconds: float) -> None:
        """Take it as the only one; raises TimeoutError."""
        self._take(fcntl.LOCK_EX, seconds)

    def let_go(self) -> None:
        """Give it back."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _take(self, kind: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in {errno.ENOLCK, errno.EOPNOTSUPP}:
                    # A file system that knows no locks; the program never starts two versions at once.
                    return
                if error.errno not in {errno.EWOULDBLOCK, errno.EINTR}:
                    raise
            else:
                return
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.2)


@dataclass(frozen=True)
class Found:
    """What a database holds."""

    tables: bool
    """Whether there is anything of Open WebUI's in it."""
    revisions: frozenset[str]
    """How far it is migrated."""


class Sqlite:
    """The database in the volume."""

    def __init__(self, data: Path) -> None:
        """Keep where it is."""
        self._file = data / DATABASE

    def found(self) -> Found:
        """Look, and change nothing."""
        if not self._file.exists():
            return Found(tables=False, revisions=frozenset())
        with closing(sqlite3.connect(self._file, timeout=30)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            revisions = (
                {revision for (revision,) in database.execute("SELECT version_num FROM alembic_version")}
                if "alembic_version" in tables
                else set[str]()
            )
        return Found(tables="user" in tables, revisions=frozenset(revisions))

    def size(self) -> int:
        """Return the bytes that a copy takes in the volume."""
        return sum(_size(self._file.with_name(self._file.name + suffix)) for suffix in ("", "-wal"))

    def why_not_copied(self) -> str | None:
        """Return why it cannot be copied."""

    def name_of_copy(self, snapshot: str) -> str | None:
        """Return what a copy is called beside its folder."""
        del snapshot

    def copy(self, folder: Path, name: str | None) -> None:
        """Copy it into a folder."""
        del name
        if not self._file.exists():
            return
        with closing(sqlite3.connect(self._file)) as source, closing(sqlite3.connect(folder / DATABASE)) as target:
            source.backup(target)

    def restore(self, folder: Path, name: str | None) -> None:
        """Put a copy into its place."""
        del name
        if not (folder / DATABASE).exists():
            raise Failed(f"the snapshot {folder.name} is not in the volume, so nothing was put back")
        unfinished = self._file.with_name(f"{DATABASE}.restored")
        _copy_file(folder / DATABASE, unfinished)
        # They belong to the file that goes, and would be taken for the other's.
        for suffix in ("-wal", "-shm", "-journal"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
        unfinished.replace(self._file)

    def forget(self, name: str | None) -> None:
        """Delete a copy; it goes with its folder."""


class Postgres:
    """A database that a server keeps; its copy is a second one there."""

    def __init__(self, url: str) -> None:
        """Keep its address."""
        # The application's own dependency; with a database in the volume nobody need wait for it.
        import sqlalchemy  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

        self._sql = cast("Any", sqlalchemy)
        self._url = self._sql.engine.make_url(url.replace("postgres://", "postgresql://", 1))
        self._name = str(self._url.database)

    def _ask(self, question: str, *, elsewhere: bool = False, **values: object) -> list[Any]:
        """Ask, of the database itself or, with `elsewhere`, while connected to another one of the server."""
        url = self._url.set(database=self._other()) if elsewhere else self._url
        engine = self._sql.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=self._sql.pool.NullPool)
        with engine.connect() as connection:
            result = connection.execute(self._sql.text(question), values)
            return list(result) if result.returns_rows else []

    def _other(self) -> str:
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

    def found(self) -> Found:
        """Look, and change nothing."""
        tables = {name for (name,) in self._ask("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")}
        if "alembic_version" not in tables:
            return Found(tables="user" in tables, revisions=frozenset())
        return Found(
            tables="user" in tables,
            revisions=frozenset(revision for (revision,) in self._ask("SELECT version_num FROM alembic_version")),
        )

    def size(self) -> int:
        """Return the bytes that a copy takes in the volume: it is elsewhere."""
        return 0

    def why_not_copied(self) -> str | None:
        """Return why it cannot be copied."""
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
            self._other()
        except Refused as why:
            return str(why)
        return None

    def name_of_copy(self, snapshot: str) -> str | None:
        """Return what a copy is called; a server's names have at most 63 bytes."""
        return f"{self._name[:24]}_snapshot_{snapshot}".replace(".", "_").replace("-", "_")[:63]

    def copy(self, folder: Path, name: str | None) -> None:
        """Copy it to a database beside it, once nobody uses it."""
        del folder
        if name is None:
            raise AssertionError
        self.forget(name)
        deadline = time.monotonic() + _IN_USE
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

    def restore(self, folder: Path, name: str | None) -> None:
        """Put a copy into its place, whoever uses it."""
        del folder
        if name is None:
            raise Failed("the snapshot holds no database")
        if not self._ask("SELECT 1 FROM pg_database WHERE datname = :name", elsewhere=True, name=name):
            raise Failed(f"the snapshot {name} is not on the database's server, so nothing was put back")
        self._drop(self._name)
        self._create(self._name, name)

    def _drop(self, name: str) -> None:
        self._ask(f"DROP DATABASE IF EXISTS {self._quote(name)} WITH (FORCE)", elsewhere=True)

    def forget(self, name: str | None) -> None:
        """Delete a copy."""
        if name is not None and name != self._name:
            self._drop(name)


@dataclass(frozen=True)
class Rules:
    """What the stack's settings say about a change of version."""

    snapshot: bool
    """Whether there must be one first."""
    downgrade_from_snapshot: bool
    """Whether a version that cannot read the database may have its snapshot instead."""


class Upgrade:
    """The data in a volume, and one version of Open WebUI that is to work on it."""

    def __init__(self, package: Path, data: Path, version: str, rules: Rules) -> None:
        """Look at nothing yet; `package` is the folder of the version's own code."""
        self._package, self._data, self._version, self._rules = package, data, version, rules

    @cached_property
    def _database(self) -> Postgres | Sqlite:
        url = os.environ.get("DATABASE_URL", "")
        return Postgres(url) if url.startswith("postgres") else Sqlite(self._data)

    # What may start, and what has to happen before

    def settle(self, *, first: bool) -> Lock:
        """Return once this version may work on the data, with the lock that says that it does.

        Only the first replica changes anything. Ends the program where this version must not start.
        """
        lock = Lock(self._data)
        try:
            if first:
                self._settle_first(lock)
            else:
                self._wait_for_first(lock)
        except TimeoutError:
            sys.exit("launch: another container still works on the data; it must end before this one starts")
        except (Refused, Failed) as why:
            sys.exit(f"launch: open_webui.version: {why}")
        except BaseException:
            lock.let_go()
            raise
        return lock

    def _settle_first(self, lock: Lock) -> None:
        lock.share(SETTLED)
        journal = self._journal()
        # What was cut while it put a copy back may have left no database to look at.
        if journal.attempt is None and not self._to_be_changed(journal, self._database.found()):
            if journal.version != self._version:
                self._write(replace(journal, version=self._version))
            self._forget_unwanted()
            return
        lock.let_go()
        lock.have_alone(ALONE)
        self._bring_up()
        lock.share(ALONE)

    def _bring_up(self) -> None:
        """Put in order what was left unfinished; and change the data of another version where nothing was tried."""
        attempt = self._journal().attempt
        if attempt is not None and attempt.step is Step.TRIED and attempt.to == self._version:
            self._accept()
            return
        self.recover()
        if not self._to_be_changed(self._journal(), self._database.found()):
            return
        self._require_possible()
        self._begin(None)
        try:
            self._migrate(SETTLED)
        except Failed as why:
            say(f"failed: {why}")
            self.recover()
            raise
        self._accept()

    def _wait_for_first(self, lock: Lock) -> None:
        deadline = time.monotonic() + SETTLED
        said = False
        while True:
            lock.share(SETTLED)
            journal = self._journal()
            if journal.attempt is None and journal.version == self._version:
                return
            lock.let_go()
            if time.monotonic() > deadline:
                raise TimeoutError
            if not said:
                say("waiting for the first replica to put the data in order")
                said = True
            time.sleep(0.5)

    def look(self, before: str | None) -> int:
        """Say by an exit code what has to happen before this version starts; changes nothing.

        `before` is the version that runs, where the journal is too young to know.
        """
        journal = self._journal()
        attempt = journal.attempt
        if attempt is not None and attempt.step is Step.TRIED and attempt.to == self._version:
            return PASSED
        if attempt is None and not self._to_be_changed(journal, self._database.found(), before):
            return PASSED
        # What an interrupted change left is put back first, so what counts is what there was before it.
        if attempt is None or attempt.step is Step.COPYING:
            self._require_possible()
        return WANTED

    def _to_be_changed(self, journal: Journal, found: Found, before: str | None = None) -> bool:
        if not found.tables:
            return False
        known = journal.version or before
        if known is None:
            return found.revisions != self._revisions()[1]
        return known != self._version

    def _require_possible(self) -> None:
        """Raise Refused, with what to do, where this version must not have the data."""
        journal, found = self._journal(), self._database.found()
        unknown = sorted(found.revisions - self._revisions()[0])
        if unknown and self._goes_back(journal) is None:
            raise Refused(self._no_way_back(journal, unknown))
        if not self._rules.snapshot:
            return
        if why := self._database.why_not_copied():
            raise Refused(
                f"a snapshot comes before another version, and {why}; or make a backup yourself and set"
                " open_webui.upgrade.snapshot: false"
            )
        needed = self._database.size() + _size(self._data / VECTORS) + _SPARE
        free = shutil.disk_usage(self._data).free
        if needed > free:
            raise Refused(
                f"a snapshot comes before another version, and needs {_mebibytes(needed)}, of which the disk of the"
                f" volume has {_mebibytes(free)}; make room there, or make a backup yourself and set"
                " open_webui.upgrade.snapshot: false"
            )

    def _goes_back(self, journal: Journal) -> Snapshot | None:
        """Return the snapshot that stands in for a database that this version cannot read, where that is allowed."""
        kept = journal.kept
        return kept if self._rules.downgrade_from_snapshot and kept and kept.of == self._version else None

    def _no_way_back(self, journal: Journal, unknown: Sequence[str]) -> str:
        later = journal.version or "a later version"
        words = (
            f"{self._version} cannot read this database, which {later} has migrated (to {', '.join(unknown)});"
            f" set {later if journal.version else 'the version that ran last'}"
        )
        kept = journal.kept
        if kept is None or kept.of != self._version:
            return f"{words}, or restore a backup that {self._version} has made"
        taken = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(kept.taken))
        return (
            f"{words}; or go back to the data as it was on {taken}, before the upgrade, by"
            " open_webui.upgrade.downgrade: from-snapshot. What was written since is lost then"
        )

    # A change, step by step

    def attempt(self, run: Sequence[str], before: str | None, limit: float) -> int:
        """Change the data and see the version work: copy, migrate, start, ask; put all back if it does not.

        Args:
            run: starts the application.
            before: the version that the data is of, where the journal is too young to know.
            limit: seconds for all of it.

        """
        deadline = time.monotonic() + limit
        lock = Lock(self._data)
        try:
            lock.have_alone(ALONE)
        except TimeoutError:
            say("failed: another container still works on the data")
            return PUT_BACK
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        try:
            self.recover()
            self._require_possible()
            self._begin(before)
            self._migrate(deadline - time.monotonic())
            self._advance(Step.STARTING)
            _see_it_work(run, deadline)
            self._advance(Step.TRIED)
            say(f"{self._version} works")
        except Refused as why:
            say(f"refused: {why}")
            return REFUSED
        except Exception as why:  # noqa: BLE001 - whatever it is, the data must be as before
            say(f"failed: {why if isinstance(why, Failed) else repr(why)}")
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            return PUT_BACK if self.recover() else LEFT
        finally:
            lock.let_go()
        return PASSED

    def restore(self) -> int:
        """Put back what a change that was cut has changed."""
        Lock(self._data).have_alone(ALONE)
        return PASSED if self.recover() else LEFT

    def recover(self) -> bool:
        """Put back what an unfinished change has changed; for whoever has the lock alone.

        Returns whether the data is as it was.
        """
        journal = self._journal()
        attempt = journal.attempt
        if attempt is None:
            return True
        lost = attempt.step is not Step.COPYING and attempt.snapshot is None
        if attempt.step is not Step.COPYING:
            if attempt.snapshot is None:
                say(f"there is no snapshot of {attempt.before} to put back: open_webui.upgrade.snapshot is false")
            else:
                self._advance(Step.RESTORING)
                self._put_back(attempt.snapshot)
                say(f"the data is as it was before {attempt.to}")
        # Unknown: whoever starts next looks at how far it is migrated, and refuses what it cannot read.
        version = None if lost else _known(attempt.before)
        self._write(replace(self._journal(), attempt=None, version=version).without(attempt.snapshot))
        self._forget_unwanted()
        return not lost

    def _begin(self, before: str | None) -> None:
        journal = self._journal()
        known = journal.version or before or _UNKNOWN
        snapshot = None
        if self._rules.snapshot:
            taken = int(time.time())
            name = f"{known}-{taken}"
            snapshot = Snapshot(known, name, taken, self._database.name_of_copy(name))
            self._write(replace(journal, attempt=Attempt(known, self._version, Step.COPYING, snapshot)))
            say(f"copying the data of {known}")
            self._copy(snapshot)
        self._write(replace(journal, attempt=Attempt(known, self._version, Step.MIGRATING, snapshot)))
        back = self._goes_back(journal) if self._database.found().revisions - self._revisions()[0] else None
        if back is not None:
            say(f"putting the snapshot of {back.of} into the place of the data of {known}")
            self._put_back(back)

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
        """Let what was tried count: from now on users write."""
        journal = self._journal()
        attempt = journal.attempt
        if attempt is None:
            raise AssertionError
        done = replace(journal, version=self._version, attempt=None, kept=attempt.snapshot)
        self._write(done.without(journal.kept))
        say(f"the data is of {self._version} now{'; a snapshot from before is kept' if attempt.snapshot else ''}")
        self._forget_unwanted()

    # The copies

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

    def _put_back(self, snapshot: Snapshot) -> None:
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

    def _forget_unwanted(self) -> None:
        """Delete the snapshots that nobody needs any more; what does not go now is tried again at the next start."""
        left: list[Snapshot] = []
        for snapshot in self._journal().unwanted:
            folder = self._data / SNAPSHOTS / snapshot.name
            try:
                self._database.forget(snapshot.database)
                for part in (folder, folder.with_name(f"{folder.name}.new")):
                    shutil.rmtree(part, ignore_errors=True)
            except Exception as why:  # noqa: BLE001 - a server may refuse for its own reasons
                say(f"the snapshot {snapshot.name} could not be deleted: {why!r}")
                left.append(snapshot)
        if self._journal().unwanted:
            self._write(replace(self._journal(), unwanted=tuple(left)))

    # What is known

    def _journal(self) -> Journal:
        return Journal.read(self._data)

    def _write(self, journal: Journal) -> None:
        journal.write(self._data)

    def _advance(self, step: Step) -> None:
        journal = self._journal()
        if journal.attempt is None:
            raise AssertionError
        self._write(replace(journal, attempt=replace(journal.attempt, step=step)))

    def _revisions(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return the revisions of the database that this version knows, and which of them it makes."""
        known, earlier = set[str](), set[str]()
        for file in (self._package / "migrations/versions").glob("*.py"):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    name, value = node.targets[0].id, node.value
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                    name, value = node.target.id, node.value
                else:
                    continue
                if name in {"revision", "down_revision"}:
                    found = ast.literal_eval(value)
                    names = {found} if isinstance(found, str) else set(found or ())
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


def _known(version: str) -> str | None:
    return None if version == _UNKNOWN else version


def _see_it_work(run: Sequence[str], deadline: float) -> None:
    """Start the application and end it again once it is ready; raise Failed where it does not get there."""
    say("starting it, where nobody reaches it")
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
            child.wait(_TO_END)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        _forget_in_redis()


def _forget_in_redis() -> None:
    """Delete what a trial has left there under its own prefix."""
    url, prefix = os.environ.get("REDIS_URL"), os.environ.get("REDIS_KEY_PREFIX")
    if not url or not prefix:
        return
    import redis  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    store = cast("Any", redis)
    with suppress(store.RedisError), store.Redis.from_url(url, socket_timeout=10) as client:
        for key in client.scan_iter(match=f"{prefix}:*"):
            client.delete(key)


def _is_ready() -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        return answer.status == http.client.OK and json.loads(answer.read(1 << 16)) == {"status": True}
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(_number: int, _frame: object) -> None:
    raise Failed("it was told to end before")


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


def hidden(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what an application on trial is told beside its environment: nobody reaches it, nor what it keeps."""
    prefix = environment.get("REDIS_KEY_PREFIX", "open-webui")
    return {"HOST": "127.0.0.1", "REDIS_KEY_PREFIX": f"{prefix}-trial"}


def carry_out(upgrade: Upgrade, trial: Mapping[str, Any], run: Sequence[str]) -> int:
    """Do what a container on trial was made for, and return its exit code."""
    tasks: Mapping[str, Callable[[], int]] = {
        "look": lambda: upgrade.look(trial["before"]),
        "try": lambda: upgrade.attempt(run, trial["before"], trial["limit"]),
        "restore": upgrade.restore,
    }
    try:
        return tasks[trial["task"]]()
    except Refused as why:
        say(f"refused: {why}")
        return REFUSED
