"""What runs inside the containers of a backup: its time, copies of what is in use, the way back, cut short anywhere."""

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.backup.restore import release
from open_webui_edge.cli.backup.save import repository_files, require_own_folder
from open_webui_edge.cli.backup.snapshots import line
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.backup import files
from open_webui_edge.runtime.open_webui import launch, upgrade
from open_webui_edge.settings.backup import BackupSettings, RepositoryKind, S3Settings
from open_webui_edge.settings.data import libpq_service
from tests.support.machine import lacks

MIDNIGHT = 1_790_000_000 - 1_790_000_000 % 86400


@pytest.mark.parametrize("shell", ["sh", "busybox sh"])
@pytest.mark.parametrize(
    ("at", "now", "left"),
    [
        ("03:00", 0, 3 * 3600),
        ("03:00", 3 * 3600 - 1, 1),
        ("03:00", 3 * 3600, 86400),
        ("03:00", 3 * 3600 + 1, 86399),
        ("00:00", 5, 86395),
        ("09:08", 9 * 3600, 8 * 60),
        ("23:59", 86399, 86341),
    ],
)
def test_the_next_one_is_at_its_time_of_day(shell: str, at: str, now: int, left: int, tmp_path: Path) -> None:
    words = shell.split()
    if shutil.which(words[0]) is None:
        lacks("no busybox here, whose shell the official image has")
    script = tmp_path / "keep.sh"
    script.write_text(delivery.program("backup/restic.sh").replace("config=/run/open-webui-edge", f"config={tmp_path}"))
    (tmp_path / "repository").write_text("/repository")
    ended = subprocess.run(  # noqa: S603 - the test's own words
        [*words, "-eu", str(script), "seconds_until", at, str(MIDNIGHT + now)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == [str(left)]


def test_no_script_holds_a_secret_in_an_argument() -> None:
    for name in ("restic.sh", "database.sh"):
        words = [line for line in delivery.program(f"backup/{name}").splitlines() if not line.startswith("#")]
        assert not [line for line in words if "--password" in line or "postgresql://" in line]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://owui:p%40ss%3A%2F%3F%23@db.example.com/owui?sslmode=require",
            "[open_webui]\nhost=db.example.com\nport=5432\nuser=owui\npassword=p@ss:/?#\ndbname=owui\nsslmode=require\n",
        ),
        ("postgresql://u:p@[::1]:6432/d", "[open_webui]\nhost=::1\nport=6432\nuser=u\npassword=p\ndbname=d\n"),
    ],
)
def test_a_database_is_found_by_a_file_of_libpq(url: str, expected: str) -> None:
    assert libpq_service(url) == expected


def test_a_line_cannot_be_smuggled_into_that_file() -> None:
    with pytest.raises(ValueError, match="contains a line break"):
        libpq_service("postgresql://u:p%0Ahost=evil@db/d")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "s3:https://s3.us-east-1.amazonaws.com/chat-backups/unit"),
        ({"region": "eu-central-1", "prefix": "a/b"}, "s3:https://s3.eu-central-1.amazonaws.com/chat-backups/a/b"),
        ({"endpoint": "http://192.0.2.7:9000/"}, "s3:http://192.0.2.7:9000/chat-backups/unit"),
    ],
)
def test_a_bucket_is_written_as_restic_reads_it(settings: dict[str, Any], expected: str) -> None:
    given = {"bucket": "chat-backups", "access_key_id": "AKIA", "secret_access_key": "secret", **settings}
    assert S3Settings.model_validate_json(json.dumps(given)).url("unit") == expected


@pytest.mark.parametrize(
    ("written", "aws", "kind"),
    [
        ({}, False, RepositoryKind.VOLUME),
        ({}, True, RepositoryKind.AWS_BACKUP),
        ({"repository": {"kind": "volume"}}, True, RepositoryKind.VOLUME),
    ],
)
def test_backup_goes_on_meaning_aws_backup_on_aws(written: dict[str, Any], aws: bool, kind: RepositoryKind) -> None:  # noqa: FBT001 - a row
    assert BackupSettings.model_validate_json(json.dumps(written)).kind_on(aws=aws) is kind


class Volume:
    """A data volume, and another one for the copy."""

    def __init__(self, folder: Path) -> None:
        self.data, self.copy = folder / "data", folder / "copy"
        for path in (self.data / "uploads", self.data / "vector_db" / "segment", self.copy):
            path.mkdir(parents=True)

    def fill(self, name: str, *uploads: str) -> None:
        """Make its database, its vectors and these uploads say `name`."""
        with closing(sqlite3.connect(self.data / files.DATABASE)) as connection, connection:
            connection.execute("PRAGMA journal_mode=WAL")
            for table in ("user", "chat", "chat_message", "file"):
                connection.execute(f'CREATE TABLE IF NOT EXISTS "{table}" (id TEXT)')
            connection.execute('DELETE FROM "user"')
            connection.execute('INSERT INTO "user" VALUES (?)', (name,))
        (self.data / "vector_db" / "segment" / "data_level0.bin").write_text(name)
        for upload in uploads:
            (self.data / "uploads" / upload).write_text(f"content of {upload}")

    def state(self) -> tuple[str, str]:
        """Return what its database and its vectors say."""
        with closing(sqlite3.connect(self.data / files.DATABASE)) as connection:
            (name,) = connection.execute('SELECT id FROM "user"').fetchone()
        return name, (self.data / "vector_db" / "segment" / "data_level0.bin").read_text()

    def uploads(self) -> set[str]:
        return {path.name for path in (self.data / "uploads").iterdir()}

    def stage(self) -> None:
        """Lay beside the data what a backup of it holds, as restic would."""
        new = self.data / files.STAGING / "new"
        shutil.copytree(self.data / "uploads", new / "data" / "uploads")
        shutil.copytree(self.copy, new / "copy")
        lines = [
            f"{sha256(path.read_bytes()).hexdigest()}  uploads/{path.name}\n"
            for path in sorted((self.data / "uploads").iterdir())
        ]
        (new / "copy" / "uploads.sha256").write_text("".join(lines))


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Volume:
    made = Volume(tmp_path)
    monkeypatch.setattr(files, "DATA", made.data)
    monkeypatch.setattr(files, "COPY", made.copy)
    monkeypatch.setattr(files, "CONFIG", tmp_path)
    monkeypatch.setattr(files, "version", lambda: "0.12.4")
    return made


def test_a_copy_has_what_a_writer_has_not_finished_with(volume: Volume) -> None:
    volume.fill("then")
    with closing(sqlite3.connect(volume.data / files.DATABASE)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO chat VALUES ('never committed')")
        files.copy()
    assert json.loads((volume.copy / "manifest.json").read_text()) == {
        "format": 1,
        "database": "sqlite",
        "open_webui": "0.12.4",
        "counts": {"users": 1, "chats": 0, "messages": 0, "files": 0},
    }
    assert (volume.copy / "tags").read_text() == "users=1,chats=0,messages=0,files=0"
    assert sorted(path.name for path in (volume.copy / "files").iterdir()) == ["vector_db", "webui.db"]


def test_the_secret_key_is_in_a_copy_that_is_encrypted_alone(volume: Volume, tmp_path: Path) -> None:
    volume.fill("then")
    (tmp_path / "secret_key").write_text("hunter22")
    files.copy()
    assert (volume.copy / "secret_key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "secret_key").unlink()
    files.copy()
    assert not (volume.copy / "secret_key").exists()


def test_a_restore_brings_back_then_and_nothing_of_now(volume: Volume) -> None:
    _staged(volume)
    files.check()
    files.swap()
    files.finish()
    assert volume.state() == ("then", "then")
    assert volume.uploads() == {"old", "both"}
    assert not (volume.data / files.STAGING).exists()


def test_what_was_replaced_comes_back(volume: Volume) -> None:
    _staged(volume)
    files.swap()
    assert volume.state() == ("then", "then")
    files.undo()
    assert volume.state() == ("now", "now")
    assert volume.uploads() >= {"both", "new"}
    assert (volume.data / "uploads" / "both").read_text() == "content of both"
    assert not (volume.data / files.STAGING).exists()


def test_the_snapshots_that_a_journal_names_are_of_its_own_volume(volume: Volume) -> None:
    journal = volume.data / files.JOURNAL
    theirs = {"version": "0.11.4", "attempt": None, "kept": {"database": "theirs"}, "unwanted": [{"name": "theirs"}]}
    ours = {"version": "0.12.9", "attempt": None, "kept": {"database": "ours"}, "unwanted": []}
    _staged(volume)
    (volume.data / files.STAGING / "new" / "data" / files.JOURNAL).write_text(json.dumps(theirs))
    journal.write_text(json.dumps(ours))
    files.swap()
    # The version is that of the image which made the backup.
    assert json.loads(journal.read_text()) == {**ours, "version": "0.12.4"}
    files.undo()
    assert json.loads(journal.read_text()) == ours


@pytest.mark.parametrize("name", ["report ", "back\\slash", "two\nlines", " leading"])
def test_an_upload_of_any_name_is_found_again(volume: Volume, name: str) -> None:
    volume.fill("then", name)
    files.copy()
    volume.stage()
    listed = volume.data / files.STAGING / "new" / "copy" / "uploads.sha256"
    listed.write_text(
        subprocess.run(
            ["find", "uploads", "-type", "f", "-exec", "sha256sum", "{}", "+"],  # noqa: S607
            cwd=volume.data, check=True, capture_output=True, text=True,
        ).stdout
    )  # fmt: skip
    files.check()
    files.swap()
    files.finish()
    assert volume.uploads() == {name}


def _staged(volume: Volume) -> None:
    volume.fill("then", "old", "both")
    files.copy()
    volume.stage()
    (volume.data / "uploads" / "old").unlink()
    volume.fill("now", "new")


class KilledError(Exception):
    """The container went away."""


_CHANGES = ("replace", "unlink", "rmdir", "link")
_MOST_CHANGES = 60


@contextmanager
def power_for(changes: int) -> Iterator[list[str]]:
    """Let so many changes reach the disk, and no further one; which those were is known afterwards."""
    made: list[str] = []

    def limited(name: str) -> Callable[..., None]:
        change = getattr(os, name)

        def made_or_not(*arguments: Any, **options: Any) -> None:
            if len(made) == changes:
                raise KilledError
            made.append(name)
            change(*arguments, **options)

        return made_or_not

    with pytest.MonkeyPatch.context() as patched:
        for name in _CHANGES:
            patched.setattr(os, name, limited(name))
        yield made


def ended() -> None:
    """Do what `make restore` does first."""
    if files.progress() == "forwards":
        files.commit()
        files.finish()
    else:
        files.undo()


def assert_nothing_is_left(volume: Volume) -> None:
    assert [path.name for path in volume.data.iterdir() if "restore" in path.name or path.name.endswith("-wal")] == []


@pytest.mark.parametrize("changes", range(_MOST_CHANGES))
def test_a_restore_that_is_cut_short_leaves_all_of_then_or_all_of_now(changes: int, volume: Volume) -> None:
    _staged(volume)
    swapped_in = done = False
    with power_for(changes), suppress(KilledError):
        files.swap()
        swapped_in = True
        files.finish()
        done = True
    assert done or files.progress() == "forwards" or not swapped_in or not (volume.data / files.STAGING).exists()
    # Open WebUI does not start on data that is inconsistent or to be rolled back.
    assert launch.is_half_restored(volume.data) == (bool(files.progress()) and not swapped_in)
    ended()
    assert not launch.is_half_restored(volume.data)
    then = volume.state() == ("then", "then")
    assert then or (not swapped_in and volume.state() == ("now", "now"))
    # Unknown files may stay, and known ones must not be deleted.
    assert volume.uploads() >= ({"old", "both"} if then else {"both", "new"})
    assert not done or volume.uploads() == {"old", "both"}
    assert_nothing_is_left(volume)
    assert (volume.data / files.JOURNAL).exists() == then


@pytest.mark.parametrize("changes", range(_MOST_CHANGES))
def test_an_undoing_that_is_cut_short_leaves_all_of_now(changes: int, volume: Volume) -> None:
    (volume.data / files.JOURNAL).write_text('{"version": "0.12.3"}')
    _staged(volume)
    files.swap()
    with power_for(changes), suppress(KilledError):
        files.undo()
    # Before the first change no rollback is recorded.
    assert files.progress() == ("forwards" if changes == 0 else "back") or changes > 1
    assert launch.is_half_restored(volume.data) == (files.progress() == "back")
    (files.undo if changes == 0 else ended)()
    assert volume.state() == ("now", "now")
    assert volume.uploads() >= {"both", "new"}
    assert json.loads((volume.data / files.JOURNAL).read_text()) == {"version": "0.12.3"}
    assert_nothing_is_left(volume)


def test_these_cuts_reach_beyond_the_last_change(volume: Volume) -> None:
    _staged(volume)
    with power_for(_MOST_CHANGES) as made:
        files.swap()
        files.finish()
    assert 10 < len(made) < _MOST_CHANGES
    _staged(volume)
    with power_for(_MOST_CHANGES) as made:
        files.swap()
        swapped = len(made)
        files.undo()
    assert 10 < len(made) - swapped < _MOST_CHANGES


def test_a_backup_that_was_never_read_whole_leaves_no_trace(volume: Volume) -> None:
    _staged(volume)
    # As a full disk, or a kill, leaves it.
    (volume.data / files.STAGING / "new" / "copy" / "manifest.json").write_text("")
    assert not files.progress()
    files.undo()
    assert volume.state() == ("now", "now")
    assert_nothing_is_left(volume)


def test_what_a_failed_start_wrote_of_versions_goes_with_what_it_was_about(volume: Volume) -> None:
    ours = {"version": "0.12.4", "attempt": None, "kept": {"name": "ours"}, "unwanted": []}
    journal = volume.data / files.JOURNAL
    journal.write_text(json.dumps(ours))
    _staged(volume)
    files.swap()
    # Its snapshot is of the backup's data: who took it for ours would lose those of now.
    journal.write_text(json.dumps({**ours, "version": "0.11.4", "attempt": {"name": "of then"}}))
    files.undo()
    assert json.loads(journal.read_text()) == ours


def test_no_dump_of_a_database_stays_in_the_volume(volume: Volume) -> None:
    _staged(volume)
    files.merge("0123456789abcdef")
    for end in ("", ".new", ".sql", ".first", ".last"):
        (volume.data / files.STAGING / "old" / f"database.dump{end}").write_text("everything in clear")
    files.undo()
    assert not [path for path in volume.data.rglob("*") if "dump" in path.name]


def test_what_was_written_after_a_cut_restore_is_not_undone(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {"version": "0.12.3", "attempt": None, "kept": None, "unwanted": []}
    journal = volume.data / files.JOURNAL
    journal.write_text(json.dumps(ours))
    _staged(volume)
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target == volume.data / files.DATABASE:
            raise KilledError
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        with pytest.raises(KilledError):
            files.swap()
    assert files.progress() == "merging"
    # Open WebUI goes on, is updated, and is killed itself.
    later = {**ours, "version": "0.12.5"}
    journal.write_text(json.dumps(later))
    writer = sqlite3.connect(volume.data / files.DATABASE)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("INSERT INTO chat VALUES ('weeks later')")
    writer.commit()
    copied = {end: (volume.data / f"{files.DATABASE}{end}").read_bytes() for end in ("", "-wal")}
    writer.close()
    for end, content in copied.items():
        (volume.data / f"{files.DATABASE}{end}").write_bytes(content)
    ended()
    with closing(sqlite3.connect(volume.data / files.DATABASE)) as connection:
        assert connection.execute("SELECT id FROM chat").fetchall() == [("weeks later",)]
    assert json.loads(journal.read_text()) == later
    assert not files.progress()


def test_a_journal_that_was_not_there_is_not_there_after_an_undone_restore(volume: Volume) -> None:
    _staged(volume)
    files.swap()
    assert json.loads((volume.data / files.JOURNAL).read_text())["version"] == "0.12.4"
    files.undo()
    assert not (volume.data / files.JOURNAL).exists()


def test_an_upload_with_another_content_is_no_backup(volume: Volume) -> None:
    _staged(volume)
    staged = volume.data / files.STAGING / "new" / "data" / "uploads"
    (staged / "old").write_text("something else")
    (staged / "both").unlink()
    with pytest.raises(ValueError, match="uploads/both is missing; uploads/old has different content"):
        files.check()


@pytest.mark.parametrize(("older", "newer"), [("0.9.10", "0.12.4"), ("0.12.4", "0.12.10"), ("0.12.4", "1.0.0")])
def test_versions_are_compared_as_numbers(older: str, newer: str) -> None:
    assert release(older) < release(newer)


def test_a_snapshot_is_listed_by_what_it_holds() -> None:
    tags = ["users=1", "chats=2", "messages=3", "files=4", "number=1790.12.1"]
    snapshot = {"short_id": "9d8cdc42", "time": "2026-11-25T03:28:19.9Z", "tags": tags}
    assert line(snapshot) == "9d8cdc42  2026-11-25 03:28  users 1, chats 2, messages 3, files 4"


def test_a_folder_for_backups_is_empty_or_holds_backups(tmp_path: Path) -> None:
    require_own_folder(tmp_path / "not-there-yet")
    for name in ("config", "data", "index", "keys", "snapshots"):
        (tmp_path / name).mkdir()
    require_own_folder(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ProblemError, match="is not a folder"):
        require_own_folder(tmp_path / "file")
    with pytest.raises(ProblemError, match=r"contains other files \(file\)"):
        require_own_folder(tmp_path)


def test_a_folder_without_backups_is_told_from_one_with(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="contains no backups: the file `config`"):
        repository_files(tmp_path)
    (tmp_path / "config").write_text("")
    (tmp_path / "data" / "00").mkdir(parents=True)
    (tmp_path / "data" / "00" / "0011").write_text("")
    (tmp_path / "data" / "00" / "0012.new").write_text("cut short")
    assert list(repository_files(tmp_path)) == ["data/00/0011", "config"]


def test_what_an_upgrade_keeps_for_itself_is_in_no_backup_by_either_script() -> None:
    assert files.JOURNAL == upgrade.JOURNAL
    assert {upgrade.SNAPSHOTS, upgrade.LOCK} <= set(files.EXCLUDED)
    script = delivery.program("backup/database.sh")
    assert all(f" {path}" in script for path in (upgrade.SNAPSHOTS, upgrade.LOCK))
    assert upgrade.JOURNAL in delivery.program("backup/restic.sh")
