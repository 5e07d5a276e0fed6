"""Of two runs that share an engine, one has a turn, and the other waits for it."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lanes import TURNS
from tests.support.turns import turn

ROOT = Path(__file__).parents[3]
ANOTHER_RUN = """
import sys
from tests.support.turns import turn
with turn():
    print("begun", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[str]:
    monkeypatch.setenv(TURNS, str(tmp_path))
    words = [sys.executable, "-c", ANOTHER_RUN]
    return subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours


def test_a_turn_is_one_run_s_alone_and_ends_with_its_process(
    another_run: subprocess.Popen[str], tmp_path: Path
) -> None:
    with another_run as other, (tmp_path / "turn").open("w") as mine:
        assert other.stdout is not None
        assert other.stdout.readline() == "begun\n"
        with pytest.raises(BlockingIOError):
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.kill()
    with turn(), (tmp_path / "turn").open("w") as theirs, pytest.raises(BlockingIOError):
        fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_without_another_run_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TURNS, raising=False)
    with turn(), turn():
        pass
