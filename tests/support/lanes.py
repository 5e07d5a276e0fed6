"""The tests, in lanes: several runs of pytest at once, since most of what they do is waiting.

One run is watched; what another one writes is shown in one piece, when the watched one has ended.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from open_webui_edge.bootstrap import console, paths

ALL = "tests"
UNIT = "tests/unit"
TURNS = "OPEN_WEBUI_EDGE_TURNS"
"""Variable that names a folder, in which two runs with one engine take turns: see tests/support/turns.py."""
NOTHING_RAN = 5
"""Pytest's exit code where nothing was selected."""
STOP_TIMEOUT = 30
"""What an interrupted run gets to end the programs that it started."""


@dataclass(frozen=True)
class Lane:
    """Tests that run one after the other, beside those of the other lanes."""

    name: str
    paths: tuple[str, ...]
    needs_engine: bool


MAIN = Lane("stacks", (ALL,), needs_engine=True)
"""All tests that no other lane has: most of them are stacks by the real engine."""
PROXY = Lane(
    "proxy",
    (
        *("tests/acme", "tests/diagnostics", "tests/monitoring", "tests/nginx"),
        # With these it takes about as long as the stacks.
        *(f"tests/integration/test_{name}.py" for name in ("backup", "lets_encrypt", "no_op")),
    ),
    needs_engine=True,
)
OTHERS = (PROXY, Lane("unit", (UNIT,), needs_engine=False), Lane("cloud", ("tests/aws",), needs_engine=False))


@dataclass(frozen=True)
class Run:
    """What one lane has to do."""

    lane: Lane
    words: Sequence[str]
    """Pytest's arguments."""


def divide(arguments: Sequence[str]) -> list[Run]:
    """Give each lane its paths and every other word; return the runs that have something to do, watched one first."""
    paths = [word for word in arguments if names_tests(word)]
    rest = [word for word in arguments if word not in paths]
    of_all = not paths or any(Path(path) == Path(ALL) for path in paths)
    taken = [path for path in paths if any(_is_in(lane, path) for lane in OTHERS)]
    of_main = [path for path in paths if path not in taken] or ([ALL] if of_all else [])
    left_out = [f"--ignore={path}" for lane in OTHERS for path in lane.paths]
    runs = [(MAIN, [*of_main, *left_out] if of_main else [])]
    runs += [(lane, list(lane.paths) if of_all else _given(lane, paths)) for lane in OTHERS]
    return [Run(lane, [*words, *rest]) for lane, words in runs if words]


def _given(lane: Lane, paths: Sequence[str]) -> list[str]:
    """Return which paths are a lane's; of a folder that holds some of them, those alone."""
    return [
        *(path for path in paths if _is_in(lane, path)),
        *(own for own in lane.paths for path in paths if own != path and Path(own).is_relative_to(path)),
    ]


def _is_in(lane: Lane, path: str) -> bool:
    return any(Path(path.partition("::")[0]).is_relative_to(own) for own in lane.paths)


def names_tests(word: str) -> bool:
    """Tell whether a word is the path of tests, with or without the name of one."""
    path = Path(word.partition("::")[0])
    return path.is_relative_to(ALL) and (paths.CHECKOUT / path).exists()


@dataclass(frozen=True)
class Surroundings:
    """Where tests run that need a Docker engine."""

    environment: Mapping[str, str]
    """Variables by which they find the engine and its images."""
    before: Sequence[str] = ()
    """Words before a program's own that run it next to the engine."""


def run_watched(run: Run, surroundings: Surroundings) -> int:
    """Run pytest in the foreground and return its exit code; Ctrl-C reaches it, and it removes what it made."""
    process = subprocess.Popen(  # noqa: S603  # a list of arguments, no shell
        _pytest_words(run, surroundings), cwd=paths.CHECKOUT, env={**os.environ, **surroundings.environment}
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The terminal has interrupted pytest as well, and ends it at once with a second Ctrl-C.
        process.wait()
        raise
    finally:
        _end(process, os.kill)


@contextmanager
def run_in_background(run: Run, surroundings: Surroundings) -> Generator[Callable[[], int]]:
    """Run pytest while the block runs; it ends with the block, whatever ends that. What it writes is in build/.

    Yields a function that waits for its end, shows what it wrote, and returns its exit code.
    """
    paths.BUILD.mkdir(parents=True, exist_ok=True)
    output = paths.BUILD / f"tests-{run.lane.name}.log"
    # Two runs at once cannot share the memory of what failed last.
    words = [*_pytest_words(run, surroundings), "-p", "no:cacheprovider"]
    if not run.lane.needs_engine:
        # The lowest priority: its many programs together would take most of the machine from the containers.
        words = ["nice", "-n", "19", *words]
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603  # a list of arguments, no shell
            words,
            cwd=paths.CHECKOUT,
            env={**os.environ, **surroundings.environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, which can be ended whole
        )
    try:
        yield partial(_finish, run.lane.name, process, output)
    finally:
        _end(process, os.killpg)


def _pytest_words(run: Run, surroundings: Surroundings) -> list[str]:
    return [*surroundings.before, str(paths.PYTHON), "-m", "pytest", *run.words]


def _finish(name: str, process: subprocess.Popen[bytes], output: Path) -> int:
    if process.poll() is None:
        with console.step(f"tests: {name}") as shown:
            shown.now("the others have ended; these still run")
            process.wait()
            shown.done("ended")
    # At once after the other run's words, which no buffer of this process holds.
    with output.open("rb") as written:
        shutil.copyfileobj(written, sys.stdout.buffer)
    sys.stdout.flush()
    return process.returncode


def _end(process: subprocess.Popen[bytes], send: Callable[[int, int], None]) -> None:
    if process.poll() is None:
        send(process.pid, signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            send(process.pid, signal.SIGKILL)
            process.wait()


def combine(codes: Sequence[int]) -> int:
    """Return one exit code for all runs; one that selected nothing is no failure where another ran something."""
    ran = [code for code in codes if code != NOTHING_RAN]
    return next((code for code in ran if code), 0) if ran else NOTHING_RAN
