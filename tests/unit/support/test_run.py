"""Several runs of the tests at once: which words go where, and what comes of all."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.bootstrap import paths
from open_webui_edge.bootstrap.console import ProblemError
from tests.support import lanes, run
from tests.support.lanes import Surroundings

FakePytest = Callable[[str], None]

NO_ENGINE = Surroundings({})
BACKUP = "tests/integration/test_backup.py"
OTHERS = ["tests/integration/test_lets_encrypt.py", "tests/integration/test_no_op.py"]
PROXY = ["tests/acme", "tests/diagnostics", "tests/monitoring", "tests/nginx", BACKUP, *OTHERS]
LEFT_OUT = [f"--ignore={path}" for path in (*PROXY, "tests/unit", "tests/aws")]
ALL = {"stacks": ["tests", *LEFT_OUT], "proxy": PROXY, "unit": ["tests/unit"], "cloud": ["tests/aws"]}


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        ([], ALL),
        (["-m", "not long"], {name: [*words, "-m", "not long"] for name, words in ALL.items()}),
        (["tests"], ALL),
        (["tests/aws", "-k", "small"], {"cloud": ["tests/aws", "-k", "small"]}),
        (["tests/aws/test_harness.py::test_x"], {"cloud": ["tests/aws/test_harness.py::test_x"]}),
        (["tests/unit", "-x"], {"unit": ["tests/unit", "-x"]}),
        (["tests/browser", "tests/aws"], {"stacks": ["tests/browser", *LEFT_OUT], "cloud": ["tests/aws"]}),
        (["tests/integration"], {"stacks": ["tests/integration", *LEFT_OUT], "proxy": [BACKUP, *OTHERS]}),
        ([BACKUP, "tests/nginx"], {"proxy": [BACKUP, "tests/nginx"]}),
        (["-k", "tests/nowhere"], {name: [*words, "-k", "tests/nowhere"] for name, words in ALL.items()}),
    ],
    ids=[
        *("nothing", "a mark", "all", "cloud", "one of the cloud's", "units", "some of each"),
        *("a folder of two lanes", "some of one lane", "no path"),
    ],
)
def test_each_run_gets_its_paths_and_all_other_words(words: Sequence[str], runs: dict[str, Sequence[str]]) -> None:
    assert {run.lane.name: run.words for run in lanes.divide(words)} == runs


def test_what_is_watched_needs_an_engine_if_anything_does() -> None:
    needs = [run.lane.needs_engine for run in lanes.divide([])]
    assert needs == sorted(needs, reverse=True)


def test_every_path_of_a_lane_is_there() -> None:
    assert [path for lane in lanes.OTHERS for path in lane.paths if not (paths.CHECKOUT / path).exists()] == []


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 0), 0), ((1, 0), 1), ((0, 1), 1), ((5, 0), 0), ((0, 5), 0), ((5, 5), 5), ((5, 2), 2)]
)
def test_a_failure_of_any_run_is_a_failure_and_an_empty_one_is_none(codes: Sequence[int], code: int) -> None:
    assert lanes.combine(codes) == code


@pytest.mark.parametrize(
    ("ci", "named", "recent"), [("1", "", True), ("1", "unix:///elsewhere", False), ("", "", False)]
)
def test_tests_bring_an_engine_in_ci_where_none_is_named(
    pytest_is: FakePytest, monkeypatch: pytest.MonkeyPatch, ci: str, named: str, *, recent: bool
) -> None:
    lent: list[bool] = []

    def engine(*, recent: bool) -> nullcontext[Surroundings]:
        lent.append(recent)
        return nullcontext(NO_ENGINE)

    pytest_is("exit 0")
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("DOCKER_HOST", named)
    monkeypatch.setattr(run, "engine_for_tests", engine)
    run.run("test", [])
    assert lent == [recent]
    lent.clear()
    run.run("test-long", [])
    assert lent == ([False, True] if recent else [recent])


def test_every_lane_with_an_engine_runs_on_the_machine_s_own_one(
    pytest_is: FakePytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, bool]] = []

    def with_engine(runs: Sequence[lanes.Run], _: object, *, recent: bool) -> list[int]:
        ran.extend((run.lane.name, recent) for run in runs)
        return [0]

    pytest_is("exit 0")
    monkeypatch.setenv("CI", "1")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(run, "_with_engine", with_engine)
    run.run("test-long", [])
    assert ran == [("stacks", False), ("proxy", False), ("stacks", True), ("proxy", True)]


def test_tests_run_next_to_their_engine(
    pytest_is: FakePytest, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    pytest_is('echo "$WHERE $ENGINE $kind"')
    surroundings = Surroundings({"ENGINE": "28"}, ("env", "WHERE=there"))
    monkeypatch.setattr(run, "engine_for_tests", lambda **_: nullcontext(surroundings))
    run.run("test", ["tests/browser", "tests/nginx"])
    assert capfdbinary.readouterr().out.decode().splitlines() == ["there 28 stacks", "there 28 proxy"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "-m pytest tests/unit"),
        (("-k", "drain"), "-m pytest tests/unit -k drain"),
        (("tests/unit/test_drain.py", "-x"), "-m pytest tests/unit/test_drain.py -x"),
    ],
    ids=["all", "no path", "a path"],
)
def test_units_need_nothing_else(
    pytest_is: FakePytest,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    words: Sequence[str],
    said: str,
) -> None:
    def unwanted(*_: object, **__: object) -> NoReturn:
        raise AssertionError("nothing is to be made ready")

    pytest_is('echo "$*"')
    monkeypatch.setattr(run, "pulumi_for_tests", unwanted)
    monkeypatch.setattr(run, "engine_for_tests", unwanted)
    assert run.run("test-unit", words) == 0
    assert capfdbinary.readouterr().out.decode() == f"{said}\n"


@pytest.mark.parametrize("path", ["tests/unit", "tests/aws"])
def test_what_needs_no_engine_makes_none_ready(
    pytest_is: FakePytest, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def engine(**_: bool) -> NoReturn:
        raise AssertionError("no engine is to be made ready")

    pytest_is("exit 0")
    monkeypatch.setattr(run, "engine_for_tests", engine)
    assert run.run("test", [path]) == 0


@pytest.fixture(autouse=True)
def _interrupts_arrive() -> Generator[None]:
    # A shell that runs these tests in the background ignores these signals, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


NOTES_ITSELF = 'echo $$ >"{0}/$kind.part"; mv "{0}/$kind.part" "{0}/$kind"'
KIND = """case "$*" in
*--ignore*) kind=stacks;; *tests/nginx*) kind=proxy;; *tests/unit*) kind=unit;; *) kind=cloud;;
esac"""


@pytest.fixture
def pytest_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePytest:
    """Let a shell script stand in for `python -m pytest`; `$kind` says which run asks."""

    def as_script(body: str) -> None:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{KIND}\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setattr(paths, "PYTHON", program)

    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(run, "pulumi_for_tests", dict)
    monkeypatch.setattr(run, "engine_for_tests", lambda **_: nullcontext(NO_ENGINE))
    return as_script


def test_what_all_runs_write_is_shown_whole_and_one_after_the_other(
    pytest_is: FakePytest, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    pytest_is('for i in 1 2 3; do echo "$kind $i"; sleep 0.1; done; echo "$kind: passed"')
    assert run.run("test", []) == 0
    assert capfdbinary.readouterr().out.decode().splitlines() == [
        line for kind in ALL for line in (*(f"{kind} {number}" for number in (1, 2, 3)), f"{kind}: passed")
    ]


@pytest.mark.parametrize("failing", ALL)
def test_each_run_fails_all(pytest_is: FakePytest, failing: str) -> None:
    pytest_is(f'[ "$kind" != {failing} ] || exit 1')
    assert run.run("test", []) == 1


def test_runs_without_an_engine_begin_before_it_is_ready(
    pytest_is: FakePytest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = [tmp_path / kind for kind in ("unit", "cloud")]
    pytest_is(f'touch "{tmp_path}/$kind"')

    @contextmanager
    def engine(**_: bool) -> Iterator[Surroundings]:
        wait_until(lambda: all(file.exists() for file in begun), what="the runs without an engine")
        yield NO_ENGINE

    monkeypatch.setattr(run, "engine_for_tests", engine)
    assert run.run("test", []) == 0


def test_without_an_engine_no_other_run_stays(
    pytest_is: FakePytest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / kind for kind in ("unit", "cloud")]
    pytest_is(f"{NOTES_ITSELF.format(tmp_path)}; exec sleep 60")

    def engine(**_: bool) -> NoReturn:
        wait_until(lambda: all(file.exists() for file in files), what="the runs without an engine")
        raise ProblemError("no engine")

    monkeypatch.setattr(run, "engine_for_tests", engine)
    with pytest.raises(ProblemError, match="no engine"):
        run.run("test", [])
    assert not any(Path(f"/proc/{file.read_text().strip()}").exists() for file in files)


def test_ctrl_c_ends_all_runs_once_they_have_removed_what_they_made(pytest_is: FakePytest, tmp_path: Path) -> None:
    removes = f"""trap 'sleep 1; touch "{tmp_path}/$kind.removed"; exit 2' INT"""
    pytest_is(f"{removes}; {NOTES_ITSELF.format(tmp_path)}; while :; do sleep 0.1; done")
    program = (
        "from pathlib import Path\n"
        "from contextlib import nullcontext\n"
        "from open_webui_edge.bootstrap import paths\n"
        "from tests.support import run\n"
        "from tests.support.lanes import Surroundings\n"
        f"paths.PYTHON = Path({str(paths.PYTHON)!r})\n"
        f"paths.BUILD = Path({str(tmp_path)!r})\n"
        "run.pulumi_for_tests = dict\n"
        "run.engine_for_tests = lambda **_: nullcontext(Surroundings({}))\n"
        "run.run('test', [])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=paths.CHECKOUT, start_new_session=True)  # noqa: S603
    files = [tmp_path / kind for kind in ALL]
    wait_until(lambda: all(file.exists() for file in files), what="all runs")
    # As a terminal does: to the whole group, which only the watched run is in.
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=20)
    assert not any(Path(f"/proc/{file.read_text().strip()}").exists() for file in files)
    assert all((tmp_path / f"{kind}.removed").exists() for kind in ALL)
