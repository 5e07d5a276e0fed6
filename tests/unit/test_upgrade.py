"""A change of version inside the container, on a small copy of Open WebUI's data: wholly, or not at all."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from open_webui_edge.runtime.open_webui import upgrade
from open_webui_edge.runtime.open_webui.upgrade import (
    DATABASE,
    OK,
    REFUSED,
    ROLLBACK_FAILED,
    ROLLED_BACK,
    SETTINGS,
    SNAPSHOTS,
    UPGRADE_NEEDED,
    VECTORS,
    DatabaseState,
    Failed,
    Journal,
    Lock,
    Rules,
    Sqlite,
    Step,
    Upgrade,
)
from tests.support.power_loss import NEW, OLD, PowerLossError, package_of, power_goes, works

RULES = Rules(snapshot=True, downgrade_from_snapshot=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Data of the old version."""
    folder = tmp_path / "data"
    folder.mkdir()
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute('CREATE TABLE "user" (id TEXT)')
        database.execute("CREATE TABLE chat (title TEXT)")
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('first')")
        database.execute("INSERT INTO chat VALUES ('kept')")
        database.commit()
    (folder / VECTORS / "a").mkdir(parents=True)
    (folder / VECTORS / "a/index").write_text("old")
    (folder / SETTINGS).write_text("[]")
    return folder


@pytest.fixture
def old(tmp_path: Path, data: Path) -> Upgrade:
    return Upgrade(package_of(tmp_path / "old", "first"), data, OLD, RULES)


@pytest.fixture
def new(tmp_path: Path, data: Path) -> Upgrade:
    return Upgrade(package_of(tmp_path / "new", "first", "second"), data, NEW, RULES)


@pytest.fixture(autouse=True)
def _no_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(upgrade.signal, "signal", lambda *_: None)


def spoil(data: Path) -> None:
    """Change everything that a version may change."""
    with closing(sqlite3.connect(data / DATABASE)) as database:
        database.execute("DROP TABLE chat")
        database.execute("UPDATE alembic_version SET version_num = 'second'")
        database.commit()
    (data / VECTORS / "a/index").write_text("new")
    (data / VECTORS / "b").write_text("new")
    (data / SETTINGS).write_text('["changed"]')


def what_is_in(data: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(data / DATABASE)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        chats = list(database.execute("SELECT title FROM chat")) if "chat" in tables else None
        revision = list(database.execute("SELECT version_num FROM alembic_version"))
    files = {str(path.relative_to(data)): path.read_text() for path in (data / VECTORS).rglob("*") if path.is_file()}
    return {"chats": chats, "revision": revision, **files, "settings": (data / SETTINGS).read_text()}


def migrating(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    monkeypatch.setattr(Upgrade, "_migrate", lambda *_: spoil(data))


def snapshots(data: Path) -> list[str]:
    return sorted(path.name for path in (data / SNAPSHOTS).iterdir()) if (data / SNAPSHOTS).exists() else []


def cut_while_it_migrates(upgraded: Upgrade, monkeypatch: pytest.MonkeyPatch) -> None:
    def power_goes_now(*_: object) -> None:
        raise PowerLossError

    with monkeypatch.context() as patched:
        patched.setattr(Upgrade, "_migrate", power_goes_now)
        with pytest.raises(PowerLossError):
            upgraded.attempt([], OLD, 60)


def crashes(*_: object) -> None:
    raise Failed("the application ended with exit code 3")


def test_data_that_is_of_this_version_is_left_as_it_is(old: Upgrade, data: Path) -> None:
    before = what_is_in(data)
    old.prepare(first=True).release()
    assert Journal.read(data) == Journal(version=OLD)
    assert what_is_in(data) == before
    assert old.check(None) == OK


def test_a_new_stack_needs_no_trial(tmp_path: Path, new: Upgrade, data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()
    assert new.check(None) == OK
    new.prepare(first=True).release()
    assert Journal.read(data) == Journal(version=NEW)
    assert not (tmp_path / "data" / SNAPSHOTS).exists()


@pytest.mark.parametrize("known", ["by the journal", "by the program", "by the database"])
def test_another_version_is_to_be_tried(old: Upgrade, new: Upgrade, known: str) -> None:
    if known == "by the journal":
        old.prepare(first=True).release()
    assert new.check(OLD if known == "by the program" else None) == UPGRADE_NEEDED


def test_a_version_that_works_counts_once_a_replica_of_it_starts(
    old: Upgrade, new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrating(monkeypatch, data)
    monkeypatch.setattr(upgrade, "_test_start", works)
    before = what_is_in(data)
    assert new.attempt([], OLD, 60) == OK
    changed = what_is_in(data)
    assert changed != before
    assert new.check(None) == OK
    new.prepare(first=True).release()
    new.prepare(first=False).release()
    journal = Journal.read(data)
    assert (journal.version, journal.attempt) == (NEW, None)
    assert journal.previous is not None
    assert (journal.previous.version, snapshots(data)) == (OLD, [journal.previous.name])
    assert what_is_in(data) == changed
    with pytest.raises(SystemExit, match="cannot read this database"):
        old.prepare(first=True)


def test_a_trial_that_worked_is_undone_where_the_old_version_starts_all_the_same(
    old: Upgrade, new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrating(monkeypatch, data)
    monkeypatch.setattr(upgrade, "_test_start", works)
    before = what_is_in(data)
    assert new.attempt([], OLD, 60) == OK
    old.prepare(first=True).release()
    assert what_is_in(data) == before
    assert Journal.read(data) == Journal(version=OLD)
    assert snapshots(data) == []


def test_a_version_that_crashes_leaves_nothing_behind(
    new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    migrating(monkeypatch, data)
    monkeypatch.setattr(upgrade, "_test_start", crashes)
    before = what_is_in(data)
    assert new.attempt([], OLD, 60) == ROLLED_BACK
    assert what_is_in(data) == before
    assert Journal.read(data) == Journal(version=OLD)
    assert snapshots(data) == []
    assert capsys.readouterr().out.splitlines() == [
        f"launch: copying the data of {OLD}",
        "launch: failed: the application ended with exit code 3",
        f"launch: the data is as it was before {NEW}",
    ]


@pytest.mark.parametrize("ends", [works, crashes], ids=["a version that works", "a version that crashes"])
@pytest.mark.parametrize("once_more", [False, True], ids=["", "and again while that is undone"])
def test_no_chat_is_lost_wherever_the_power_is(  # noqa: PLR0913, PLR0917 - what it is made of
    old: Upgrade,
    new: Upgrade,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    ends: Callable[..., None],
    once_more: bool,  # noqa: FBT001 - a case
) -> None:
    old.prepare(first=True).release()
    before, whole = what_is_in(data), data.with_name("whole")
    shutil.copytree(data, whole)
    reached, moment = True, 0
    while reached:
        with monkeypatch.context() as patch:
            migrating(patch, data)
            patch.setattr(upgrade, "_test_start", ends)
            with power_goes(upgrade, moment) as went:
                new.attempt([], None, 60)
            reached = went()
        if once_more:
            with power_goes(upgrade, moment % 7):
                old.prepare(first=True).release()
        old.prepare(first=True).release()
        assert what_is_in(data) == before, f"after the power was lost at moment {moment}"
        assert Journal.read(data) == Journal(version=OLD)
        assert snapshots(data) == []
        shutil.rmtree(data)
        shutil.copytree(whole, data)
        moment += 1
    assert moment > 20


def test_what_was_cut_is_tried_afresh(old: Upgrade, new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old.prepare(first=True).release()
    migrating(monkeypatch, data)

    def power_is_lost(*_: object) -> None:
        raise PowerLossError

    monkeypatch.setattr(upgrade, "_test_start", power_is_lost)
    with pytest.raises(PowerLossError):
        new.attempt([], None, 60)
    assert Journal.read(data).attempt is not None
    assert new.check(None) == UPGRADE_NEEDED
    monkeypatch.setattr(upgrade, "_test_start", works)
    assert new.attempt([], None, 60) == OK
    new.prepare(first=True).release()
    previous = Journal.read(data).previous
    assert previous is not None
    with closing(sqlite3.connect(data / SNAPSHOTS / previous.name / DATABASE)) as copy:
        assert list(copy.execute("SELECT title FROM chat")) == [("kept",)]


def upgraded(old: Upgrade, new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old.prepare(first=True).release()
    with monkeypatch.context() as patch:
        migrating(patch, data)
        patch.setattr(upgrade, "_test_start", works)
        new.attempt([], None, 60)
    new.prepare(first=True).release()


def test_a_downgrade_across_a_migration_is_refused_with_the_way_out(
    old: Upgrade, new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(upgrade.time, "time", lambda: 1_790_000_000)
    upgraded(old, new, data, monkeypatch)
    after = what_is_in(data)
    capsys.readouterr()
    assert upgrade.run_trial_task(old, {"task": "look", "before": None, "limit": 60}, []) == REFUSED
    assert capsys.readouterr().out == (
        "launch: refused: 0.11.4 cannot read this database, which 0.12.4 has migrated (to second); set 0.12.4; or go"
        " back to the data as it was on 2026-09-21 14:13 UTC, before the upgrade, by open_webui.upgrade.downgrade:"
        " from-snapshot. What was written since is lost then\n"
    )
    assert what_is_in(data) == after


def test_a_downgrade_to_a_version_without_a_snapshot_has_no_such_way(
    tmp_path: Path, old: Upgrade, new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgraded(old, new, data, monkeypatch)
    older = Upgrade(tmp_path / "old", data, "0.11.0", Rules(snapshot=True, downgrade_from_snapshot=True))
    with pytest.raises(upgrade.Refused) as refused:
        older.check(None)
    assert str(refused.value) == (
        "0.11.0 cannot read this database, which 0.12.4 has migrated (to second); set 0.12.4, or restore a backup that"
        " 0.11.0 has made"
    )


def test_a_downgrade_gets_the_snapshot_where_that_is_wanted(
    tmp_path: Path, old: Upgrade, new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = what_is_in(data)
    upgraded(old, new, data, monkeypatch)
    back = Upgrade(tmp_path / "old", data, OLD, Rules(snapshot=True, downgrade_from_snapshot=True))
    monkeypatch.setattr(Upgrade, "_migrate", works)
    monkeypatch.setattr(upgrade, "_test_start", works)
    assert back.check(None) == UPGRADE_NEEDED
    assert back.attempt([], None, 60) == OK
    back.prepare(first=True).release()
    assert what_is_in(data) == before
    journal = Journal.read(data)
    assert journal.previous is not None
    # The snapshot now holds the data of the later version.
    assert (journal.version, journal.previous.version) == (OLD, NEW)


def test_a_version_that_fails_after_a_downgrade_gives_the_later_data_back(
    tmp_path: Path, old: Upgrade, new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgraded(old, new, data, monkeypatch)
    after = what_is_in(data)
    back = Upgrade(tmp_path / "old", data, OLD, Rules(snapshot=True, downgrade_from_snapshot=True))
    monkeypatch.setattr(Upgrade, "_migrate", works)
    monkeypatch.setattr(upgrade, "_test_start", crashes)
    assert back.attempt([], None, 60) == ROLLED_BACK
    assert what_is_in(data) == after
    assert Journal.read(data).version == NEW


def test_without_room_for_a_snapshot_nothing_is_touched(
    new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(upgrade.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1 << 20))  # type: ignore[attr-defined] # noqa: SLF001 - its own type
    before = what_is_in(data)
    assert upgrade.run_trial_task(new, {"task": "look", "before": OLD, "limit": 60}, []) == REFUSED
    said = capsys.readouterr().out
    assert (
        "a snapshot comes before another version, and needs 65 MiB, of which the disk of the volume has 1 MiB" in said
    )
    assert "open_webui.upgrade.snapshot: false" in said
    assert what_is_in(data) == before


def test_without_a_snapshot_it_says_that_nothing_is_put_back(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = package_of(tmp_path / "new", "first", "second")
    bold = Upgrade(package, data, NEW, Rules(snapshot=False, downgrade_from_snapshot=False))
    monkeypatch.setattr(Upgrade, "_migrate", works)
    monkeypatch.setattr(upgrade, "_test_start", crashes)
    assert bold.attempt([], OLD, 60) == ROLLBACK_FAILED
    assert "there is no snapshot of 0.11.4 to restore" in capsys.readouterr().out
    assert snapshots(data) == []
    # What it is of is found out by how far it is migrated, and not taken for what it was.
    assert Journal.read(data).version is None


def test_a_database_that_is_gone_between_two_steps_of_its_return_comes_back(
    old: Upgrade, new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.prepare(first=True).release()
    before = what_is_in(data)
    cut_while_it_migrates(new, monkeypatch)
    journal = Journal.read(data)
    assert journal.attempt is not None
    replace(journal, attempt=replace(journal.attempt, step=Step.RESTORING)).write(data)
    (data / DATABASE).unlink()
    inspect = Sqlite.inspect

    def as_a_server_says_it(self: Sqlite) -> DatabaseState:
        if not (data / DATABASE).exists():
            raise ConnectionError("there is no such database")
        return inspect(self)

    monkeypatch.setattr(Sqlite, "inspect", as_a_server_says_it)
    assert new.check(None) == UPGRADE_NEEDED
    old.prepare(first=True).release()
    assert what_is_in(data) == before


def test_a_snapshot_that_is_not_there_costs_nothing_more(
    old: Upgrade, new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.prepare(first=True).release()
    cut_while_it_migrates(new, monkeypatch)
    shutil.rmtree(data / SNAPSHOTS)
    before = what_is_in(data)
    with pytest.raises(SystemExit, match="is not in the volume, so nothing was put back"):
        old.prepare(first=True)
    assert what_is_in(data) == before


def test_whoever_works_on_the_data_keeps_a_trial_away(
    old: Upgrade, new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(upgrade, "LOCK_TIMEOUT", 0.3)
    before = what_is_in(data)
    lock = old.prepare(first=True)
    assert new.attempt([], OLD, 60) == ROLLED_BACK
    assert "failed: another container still works on the data" in capsys.readouterr().out
    assert what_is_in(data) == before
    lock.release()


def test_further_replicas_wait_until_the_first_has_put_the_data_in_order(
    old: Upgrade, new: Upgrade, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrating(monkeypatch, data)
    monkeypatch.setattr(upgrade, "_test_start", works)
    new.attempt([], OLD, 60)
    monkeypatch.setattr(upgrade, "FIRST_REPLICA_TIMEOUT", 0.6)
    with pytest.raises(SystemExit, match="another container still works on the data"):
        old.prepare(first=False)
    old.prepare(first=True).release()
    old.prepare(first=False).release()


def test_a_journal_is_read_as_it_was_written(data: Path) -> None:
    snapshot = upgrade.Snapshot(OLD, f"{OLD}-1", 1, "a database")
    written = Journal(OLD, upgrade.Attempt(OLD, NEW, Step.MIGRATING, snapshot), snapshot, (snapshot,))
    written.write(data)
    assert Journal.read(data) == written
    # Volumes hold journals of earlier releases: the keys stay.
    document = {"of": OLD, "name": f"{OLD}-1", "taken": 1, "database": "a database"}
    assert json.loads((data / upgrade.JOURNAL).read_text()) == {
        "version": OLD,
        "attempt": {"before": OLD, "to": NEW, "step": "migrating", "snapshot": document},
        "kept": document,
        "unwanted": [document],
    }


def test_a_lock_is_held_by_many_or_by_one(data: Path) -> None:
    one, two, three = Lock(data), Lock(data), Lock(data)
    one.acquire_shared(0)
    two.acquire_shared(0)
    with pytest.raises(TimeoutError):
        three.acquire_exclusive(0)
    one.release()
    two.release()
    three.acquire_exclusive(0)
    with pytest.raises(TimeoutError):
        one.acquire_shared(0)
