"""`make import FROM=…`: from words to a stack file and a report."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from bootstrap.importing import checking, old, places, report, sources, storage, variables
from bootstrap.importing.old import Asked, Inside
from bootstrap.importing.translation import Translation
from bootstrap.problem import ProblemError


def translated(given: Sequence[str], folder: Path, stack: str, asked: Asked) -> tuple[Translation, str]:
    """Read, translate and check; return the stack in the making, and what is said about it.

    Raises:
        ProblemError: something cannot be read, or makes no stack.

    """
    found = sources.read(given, folder)
    counterpart = old.counterpart(found, asked.containers())
    inside = Inside() if counterpart is None else asked.inside(counterpart)
    t = Translation(found, stack, asked, counterpart, inside)
    places.translate(t)
    variables.secret_key(t)
    variables.translate(t)
    storage.translate(t)
    places.requests(t)
    checking.check(t)
    return t, report.report(t, before=storage.in_the_way(t))


def given_sources() -> list[str]:
    """Return what FROM names, split as a shell would."""
    words = os.environ.get("FROM", "")
    try:
        return shlex.split(words)
    except ValueError:
        raise ProblemError(f"FROM={words} has a quote that is not closed.") from None


def refuse_existing(stack: str, file: Path) -> None:
    """Refuse to write over a stack that is there.

    Raises:
        ProblemError: its file exists.

    """
    if file.exists():
        raise ProblemError(
            f"stacks/{file.name} exists already, and an import writes over nothing: choose another name"
            f" (STACK={stack}-imported), or move that file away."
        )
