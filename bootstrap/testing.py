"""The tests, in two runs at once: those against a cloud mostly wait, so they need not wait for the others.

What the second run writes is shown in one piece when both have ended.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bootstrap import console, places

ALL = "tests"
BESIDE = "tests/aws"
NOTHING_RAN = 5
"""Pytest's exit code where nothing was selected."""
SECONDS_TO_END = 30
"""What an interrupted run gets to end the programs that it started."""


@dataclass(frozen=True)
class Division:
    """Which words go to which run; None where a run has nothing to do."""

    first: Sequence[str] | None
    beside: Sequence[str] | None


def divide(arguments: Sequence[str]) -> Division:
    """Give each run its paths, and every other word to both."""
    paths = [word for word in arguments if _names_tests(word)]
    rest = [word for word in arguments if word not in paths]
    of_all = not paths or any(Path(path) == Path(ALL) for path in paths)
    for_beside = [BESIDE] if of_all else [path for path in paths if Path(path).is_relative_to(BESIDE)]
    for_first = [path for path in paths if not Path(path).is_relative_to(BESIDE)] or ([ALL] if of_all else [])
    return Division(
        first=[*for_first, f"--ignore={BESIDE}", *rest] if for_first else None,
        beside=[*for_beside, *rest] if for_beside else None,
    )


def _names_tests(word: str) -> bool:
    path = Path(word.partition("::")[0])
    return path.is_relative_to(ALL) and (places.CHECKOUT / path).exists()


@dataclass(frozen=True)
class Beside:
    """A run that goes on while another one is watched."""

    process: subprocess.Popen[bytes]
    output: Path

    def finish(self) -> int:
        """Wait for its end, show what it wrote, and return its exit code."""
        if self.process.poll() is None:
            with console.step(BESIDE) as shown:
                shown.now("the other tests are through; these still run")
                self.process.wait()
                shown.done("through")
        # At once after the other run's words, which no buffer of this process holds.
        with self.output.open("rb") as written:
            shutil.copyfileobj(written, sys.stdout.buffer)
        sys.stdout.flush()
        return self.process.returncode


@contextmanager
def beside(arguments: Sequence[str] | None, environment: Mapping[str, str], output: Path) -> Generator[Beside | None]:
    """Run pytest while the block runs; it ends with the block, whatever ends that."""
    if arguments is None:
        yield None
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    # Two runs at once cannot share the memory of what failed last.
    words = ["nice", "-n", "10", places.PYTHON, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603  # a list of arguments, no shell
            words,
            cwd=places.CHECKOUT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, which can be ended whole
        )
    try:
        yield Beside(process, output)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def together(codes: Sequence[int]) -> int:
    """Return one exit code for all runs; one that selected nothing is no failure where another ran something."""
    ran = [code for code in codes if code != NOTHING_RAN]
    return next((code for code in ran if code), 0) if ran else NOTHING_RAN
