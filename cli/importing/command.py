"""`make import FROM=…`: from words to a stack file and a report."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.importing import engine_facts, report, site, sources, storage, validation, variables
from open_webui_edge.cli.importing.engine_facts import ContainerFacts, DockerFacts
from open_webui_edge.cli.importing.translation import Translation


def translate(given: Sequence[str], folder: Path, stack: str, engine: DockerFacts) -> tuple[Translation, str]:
    """Read, translate and check; return the stack in the making, and what is said about it.

    Raises:
        ProblemError: something cannot be read, or makes no stack.

    """
    source = sources.read(given, folder)
    existing = engine_facts.existing_container(source, engine.containers())
    facts = ContainerFacts() if existing is None else engine.facts_of(existing)
    t = Translation(source, stack, engine, existing, facts)
    site.translate(t)
    variables.secret_key(t)
    variables.translate(t)
    storage.translate(t)
    site.requests(t)
    validation.check(t)
    return t, report.report(t, before=storage.conflicts(t))


def given_sources() -> list[str]:
    """Return what FROM names, split as a shell would."""
    words = os.environ.get("FROM", "")
    try:
        return shlex.split(words)
    except ValueError:
        raise ProblemError(f"FROM={words} has a quote that is not closed.") from None


def refuse_existing(stack: str, file: Path) -> None:
    """Refuse to write over a stack that is there: raise ProblemError if its file exists."""
    if file.exists():
        raise ProblemError(
            f"stacks/{file.name} exists already, and an import writes over nothing: choose another name"
            f" (STACK={stack}-imported), or move that file away."
        )
