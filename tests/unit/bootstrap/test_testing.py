"""Two runs of the tests at once: which words go where, and what comes of both."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from bootstrap import commands, places, testing
from bootstrap.problem import ProblemError
from tests.support.waiting import wait_until

FakePytest = Callable[[str], None]

ALL_BUT_CLOUD = ["tests", "--ignore=tests/aws"]


@pytest.mark.parametrize(
    ("words", "first", "beside"),
    [
        ([], ALL_BUT_CLOUD, ["tests/aws"]),
        (["-m", "not long"], [*ALL_BUT_CLOUD, "-m", "not long"], ["tests/aws", "-m", "not long"]),
        (["tests"], ALL_BUT_CLOUD, ["tests/aws"]),
        (["tests/aws", "-k", "small"], None, ["tests/aws", "-k", "small"]),
        (["tests/aws/test_harness.py::test_x"], None, ["tests/aws/test_harness.py::test_x"]),
        (["tests/unit", "-x"], ["tests/unit", "--ignore=tests/aws", "-x"], None),
        (["tests/unit", "tests/aws"], ["tests/unit", "--ignore=tests/aws"], ["tests/aws"]),
        (["-k", "tests/nowhere"], [*ALL_BUT_CLOUD, "-k", "tests/nowhere"], ["tests/aws", "-k", "tests/nowhere"]),
    ],
    ids=["nothing", "a mark", "all", "cloud", "one of the cloud's", "others", "some of each", "no path"],
)
def test_each_run_gets_its_paths_and_all_other_words(
    words: Sequence[str], first: Sequence[str] | None, beside: Sequence[str] | None
) -> None:
    assert testing.divide(words) == testing.Division(first, beside)


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 0), 0), ((1, 0), 1), ((0, 1), 1), ((5, 0), 0), ((0, 5), 0), ((5, 5), 5), ((5, 2), 2)]
)
def test_a_failure_of_either_run_is_a_failure_and_an_empty_one_is_none(codes: Sequence[int], code: int) -> None:
    assert testing.together(codes) == code


@pytest.fixture(autouse=True)
def _interrupts_arrive() -> Generator[None]:
    # Whoever runs these tests in the background hands down that they are ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def pytest_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePytest:
    """Let a shell script stand in for `python -m pytest`; `$kind` says which run asks."""

    def as_script(body: str) -> None:
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\ncase "$*" in *--ignore*) kind=first;; *) kind=beside;; esac\n{body}\n')
        program.chmod(0o755)
        monkeypatch.setattr(places, "PYTHON", program)

    monkeypatch.setattr(commands, "BUILD", tmp_path)
    monkeypatch.setattr(commands, "_pulumi_for_tests", dict)
    monkeypatch.setattr(commands, "_engine_for_tests", dict)
    return as_script


def test_what_both_runs_write_is_shown_whole_and_one_after_the_other(
    pytest_is: FakePytest, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    pytest_is('for i in 1 2 3; do echo "$kind $i"; sleep 0.1; done; echo "$kind: passed"')
    assert commands.test() == 0
    assert capfdbinary.readouterr().out.decode().splitlines() == [
        *(f"first {number}" for number in (1, 2, 3)),
        "first: passed",
        *(f"beside {number}" for number in (1, 2, 3)),
        "beside: passed",
    ]


@pytest.mark.parametrize("failing", ["first", "beside"])
def test_either_run_fails_both(pytest_is: FakePytest, failing: str) -> None:
    pytest_is(f'[ "$kind" != {failing} ] || exit 1')
    assert commands.test() == 1


def test_the_second_run_begins_before_the_engine_is_ready(
    pytest_is: FakePytest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "begun"
    pytest_is(f'[ "$kind" = first ] || touch "{begun}"')

    def engine() -> dict[str, str]:
        wait_until(begun.exists, what="the second run")
        return {}

    monkeypatch.setattr(commands, "_engine_for_tests", engine)
    assert commands.test() == 0


def test_without_an_engine_the_second_run_does_not_stay(
    pytest_is: FakePytest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pid"
    pytest_is(f'echo $$ >"{file}"; exec sleep 60')

    def engine() -> NoReturn:
        wait_until(lambda: file.exists() and file.read_text(), what="the second run")
        raise ProblemError("no engine")

    monkeypatch.setattr(commands, "_engine_for_tests", engine)
    with pytest.raises(ProblemError, match="no engine"):
        commands.test()
    assert not Path(f"/proc/{file.read_text().strip()}").exists()


def test_ctrl_c_ends_both_runs(pytest_is: FakePytest, tmp_path: Path) -> None:
    pytest_is(f'echo $$ >"{tmp_path}/$kind.part"; mv "{tmp_path}/$kind.part" "{tmp_path}/$kind"; exec sleep 60')
    program = (
        "from pathlib import Path\n"
        "from bootstrap import commands, places\n"
        f"places.PYTHON = Path({str(places.PYTHON)!r})\n"
        f"commands.BUILD = Path({str(tmp_path)!r})\n"
        "commands._pulumi_for_tests = commands._engine_for_tests = dict\n"
        "commands.test()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=places.CHECKOUT, start_new_session=True)  # noqa: S603
    files = [tmp_path / kind for kind in ("first", "beside")]
    wait_until(lambda: all(file.exists() for file in files), what="both runs")
    # As a terminal does: to the whole group, which the second run is not in.
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=20)
    assert not any(Path(f"/proc/{file.read_text().strip()}").exists() for file in files)
