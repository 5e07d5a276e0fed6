"""Runs other programs; turns their failures into messages instead of tracebacks."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from open_webui_edge.bootstrap.console import ProblemError

TAIL_LINES = 8
"""Number of last lines of a failed program's output that the user sees."""


def output(
    arguments: Sequence[str | Path],
    *,
    purpose: str,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Run a program to its end and return what it wrote to standard output.

    Raises:
        ProblemError: the program is missing or failed; the message has `purpose` and the program's last lines.

    """
    ended = attempt(arguments, environment=environment, folder=folder)
    if ended.returncode:
        raise failure(purpose, arguments, ended.returncode, f"{ended.stdout}\n{ended.stderr}")
    return ended.stdout


def attempt(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout: float | None = None,
    given: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and return its result, even if it fails; `given` is its standard input.

    As in a shell, a missing program exits with 127, and one that timed out with 124.
    """
    words = [str(argument) for argument in arguments]
    try:
        return subprocess.run(  # noqa: S603  # a list of arguments, no shell
            words,
            stdin=subprocess.DEVNULL if given is None else None,
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            env=None if environment is None else {**os.environ, **environment},
            cwd=folder,
            timeout=timeout,
            check=False,
            encoding="utf-8",
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, "", f"{words[0]}: command not found")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"{words[0]}: no answer within {timeout:g} s")


def failure(purpose: str, arguments: Sequence[str | Path], code: int, words: str) -> ProblemError:
    """Return the error for a failed program."""
    if is_full_disk(words):
        return ProblemError(f"{purpose}: the disk is full (no space left on device); free some space and run it again.")
    tail = "\n".join(f"    {line}" for line in words.strip().splitlines()[-TAIL_LINES:])
    program = " ".join(str(argument) for argument in arguments[:2])
    return ProblemError(f"{purpose}: `{program}` failed with exit code {code}:\n{tail}")


def last_line(words: str) -> str:
    """Return the last line of what a program wrote, which has its reason."""
    return (words.strip().splitlines() or ["no reason given"])[-1]


def is_full_disk(words: str) -> bool:
    """Return whether a program's output reports a full disk."""
    return "no space left on device" in words.lower() or "enospc" in words.lower()


def pass_through(
    arguments: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> int:
    """Run a program in the foreground and return its exit code."""
    words = [str(argument) for argument in arguments]
    whole = None if environment is None else {**os.environ, **environment}
    return subprocess.run(words, env=whole, cwd=folder, check=False).returncode  # noqa: S603  # no shell
