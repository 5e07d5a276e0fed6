"""`make doctor FIX=yes`: applies safe fixes, after listing them. No fix deletes data."""

from collections.abc import Callable

from open_webui_edge.bootstrap import console
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.user_input import confirmation
from open_webui_edge.diagnostics.finding import Remedy
from open_webui_edge.diagnostics.question import Diagnosis

ROUNDS = 3
"""A fix may reveal another problem, which the next round may fix."""


def apply_fixes(diagnosis: Diagnosis, again: Callable[[], Diagnosis]) -> Diagnosis:
    """Apply safe fixes, diagnose `again`, and return the new diagnosis."""
    tried: set[str] = set()
    for number in range(ROUNDS):
        remedies = [remedy for remedy in remedies_of(diagnosis) if remedy.description not in tried]
        if not remedies:
            if number == 0:
                console.say("There is nothing here that can be fixed automatically.")
            break
        console.say("What can be fixed:")
        for remedy in remedies:
            console.say(f"  {remedy.description}{' (asks first)' if remedy.asks else ''}")
        applied = [_apply(remedy) for remedy in remedies]
        tried |= {remedy.description for remedy in remedies}
        if not any(applied):
            break
        console.say("Looking again.")
        diagnosis = again()
    return diagnosis


def remedies_of(diagnosis: Diagnosis) -> list[Remedy]:
    """Return the remedies of root causes, each once: their symptoms go with them, or the next round finds them."""
    remedies: dict[str, Remedy] = {}
    for one in diagnosis.ranked:
        remedy = one.finding.remedy
        if remedy is not None and one.finding.is_trouble:
            remedies.setdefault(remedy.description, remedy)
    # Starting single containers goes before an update of the whole stack.
    return sorted(remedies.values(), key=lambda remedy: remedy.asks)


def _apply(remedy: Remedy) -> bool:
    if remedy.asks and not _agreed(remedy):
        console.say(f"not done: {remedy.description}")
        return False
    try:
        console.say(f"done: {remedy.apply()}")
    except (OSError, RuntimeError) as fault:
        console.say(f"failed: {remedy.description}: {fault}")
        return False
    return True


def _agreed(remedy: Remedy) -> bool:
    try:
        said = confirmation(f"{remedy.description}? Type yes to continue: ", reason="Confirmation is needed")
    except ProblemError as problem:
        console.say(str(problem))
        return False
    return said is None or said.lower() in {"yes", "y"}
