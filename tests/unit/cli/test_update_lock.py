"""What killed updates leave locked."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from open_webui_edge.bootstrap import paths
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli import update_lock

NOW = datetime.now(UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the locks of the stack `local` are."""
    folder = tmp_path / "a state/.pulumi/locks/organization/open-webui-edge/local"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


@pytest.fixture
def runs() -> Iterator[int]:
    """The number of a process that runs, and is younger than any lock of these tests that is an hour old."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def lock(folder: Path, pid: int, since: datetime = NOW, host: str | None = None) -> Path:
    """Write a lock as Pulumi does."""
    said = {"pid": pid, "username": "ada", "hostname": host or socket.gethostname(), "timestamp": since.isoformat()}
    file = folder / f"{pid}.json"
    file.write_text(json.dumps(said))
    file.with_name(f"{file.name}.attrs").write_text("{}")
    return file


def lift(folder: Path, url: str | None = None) -> None:
    """Lift what is abandoned of the stack `local`."""
    state = folder.parents[4]
    update_lock.lift_abandoned("local", "open-webui-edge", {"PULUMI_BACKEND_URL": url or f"file://{state}"})


def test_a_lock_whose_process_is_gone_is_lifted_with_a_line_that_says_so(
    folder: Path, gone: int, capfd: pytest.CaptureFixture[str]
) -> None:
    lock(folder, gone)
    lift(folder)
    assert list(folder.iterdir()) == []
    assert capfd.readouterr().err == (
        f"An update of local was killed and left it locked (process {gone}, since {NOW:%Y-%m-%d %H:%M:%S} UTC);"
        " the lock was removed.\n"
    )


def test_the_lock_of_a_process_whose_number_another_program_has_by_now_is_lifted(folder: Path, runs: int) -> None:
    lock(folder, runs, NOW - timedelta(hours=1))
    lift(folder)
    assert list(folder.iterdir()) == []


def test_a_process_that_has_ended_and_is_not_waited_for_holds_nothing(folder: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert ended.stdout is not None
    ended.stdout.read()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    lock(folder, ended.pid)
    lift(folder)
    assert list(folder.iterdir()) == []
    ended.wait()


def test_the_lock_of_an_update_that_runs_here_stays(folder: Path) -> None:
    file = lock(folder, os.getpid())
    with pytest.raises(ProblemError) as refused:
        lift(folder)
    assert str(refused.value) == (
        f"An update of local runs on this machine (process {os.getpid()}, since {NOW:%Y-%m-%d %H:%M:%S} UTC). Wait for"
        f" it; or stop it with `kill -INT {os.getpid()}` and, once it has ended, run this again."
    )
    assert file.exists()


def test_pulumi_itself_may_be_younger_than_its_lock_on_a_clock_that_was_set_meanwhile(
    folder: Path, tmp_path: Path
) -> None:
    # The kernel takes a process's name from the file.
    program = tmp_path / "pulumi"
    program.symlink_to("/bin/cat")
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:  # noqa: S603 - the test's own words
        file = lock(folder, process.pid, NOW - timedelta(hours=1))
        with pytest.raises(ProblemError, match="runs on this machine"):
            lift(folder)
        assert process.stdin is not None
        process.stdin.close()
    assert file.exists()


def test_another_machines_lock_is_explained_with_the_whole_command(
    folder: Path, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "CHECKOUT", Path("/home/ada/open webui edge"))
    file = lock(folder, gone, host="elsewhere")
    with pytest.raises(ProblemError) as refused:
        lift(folder)
    assert str(refused.value) == (
        f"ada@elsewhere has locked local (process {gone}, since {NOW:%Y-%m-%d %H:%M:%S} UTC): an update runs there, or"
        " was killed. Wait for it; or, if none runs there any more, unlock the stack: (cd '/home/ada/open webui edge'"
        ' && eval "$(make -s env STACK=local)" && pulumi cancel --yes --stack local)'
    )
    assert file.exists()


def test_what_is_abandoned_is_lifted_beside_what_is_not(folder: Path, gone: int) -> None:
    lock(folder, gone)
    held = lock(folder, os.getpid())
    with pytest.raises(ProblemError):
        lift(folder)
    assert {file for file in folder.iterdir() if file.suffix != ".attrs"} == {held}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "timestamp": "soon"}'])
def test_a_lock_that_a_power_loss_cut_short_is_lifted(folder: Path, text: str) -> None:
    (folder / "0.json").write_text(text)
    lift(folder)
    assert list(folder.iterdir()) == []


def test_other_stacks_are_left_alone(folder: Path, gone: int) -> None:
    other = folder.with_name("other")
    other.mkdir()
    file = lock(other, gone)
    lift(folder)
    assert file.exists()


def test_a_state_from_before_there_were_projects_in_it_is_looked_at_too(folder: Path, gone: int) -> None:
    former = folder.parents[2] / "local"
    former.mkdir()
    lock(former, gone)
    lift(folder)
    assert list(former.iterdir()) == []


@pytest.mark.parametrize("url", ["s3://states", "https://api.pulumi.com", "file:///nowhere"])
def test_a_backend_without_such_files_has_none(folder: Path, gone: int, url: str) -> None:
    file = lock(folder, gone)
    lift(folder, url)
    assert file.exists()


@pytest.mark.parametrize("url", ["file://~", "file://~/", "file://.", "file://./"])
def test_a_backend_is_found_as_pulumi_finds_it(
    tmp_path: Path, gone: int, url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path)
    there = (home if "~" in url else tmp_path) / ".pulumi/locks/organization/open-webui-edge/local"
    there.mkdir(parents=True)
    lock(there, gone)
    update_lock.lift_abandoned("local", "open-webui-edge", {"PULUMI_BACKEND_URL": url})
    assert list(there.iterdir()) == []


def test_a_backend_that_was_logged_in_to_is_found(folder: Path, gone: int, tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text(json.dumps({"current": f"file://{folder.parents[4]}"}))
    lock(folder, gone)
    update_lock.lift_abandoned("local", "open-webui-edge", {"PULUMI_CREDENTIALS_PATH": str(tmp_path)})
    assert list(folder.iterdir()) == []


def test_where_the_kernel_has_no_files_for_processes_ps_is_asked(
    folder: Path, runs: int, gone: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ps = tmp_path / "bin/ps"
    ps.parent.mkdir()
    began = NOW.strftime("%a %b %d %H:%M:%S %Y")
    ps.write_text(f"#!/bin/sh\necho '{began} S    /usr/local/bin/pulumi-like thing'\n")
    ps.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ps.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(update_lock, "_KERNEL", tmp_path / "none")
    lock(folder, gone)
    lock(folder, runs, NOW - timedelta(hours=1))
    lift(folder)
    held = lock(folder, runs, NOW + timedelta(hours=1))
    with pytest.raises(ProblemError, match="runs on this machine"):
        lift(folder)
    assert held.exists()
