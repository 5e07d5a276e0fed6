"""`make doctor FIX=yes`: what is safe, shown before it is done. No remedy deletes data."""

import os
import sys
from collections.abc import Callable

from bootstrap import console
from diagnostics.finding import Remedy
from diagnostics.question import Diagnosis

ROUNDS = 3
"""What one remedy brings to light the next round may mend."""


def mend(diagnosis: Diagnosis, again: Callable[[], Diagnosis]) -> Diagnosis:
    """Apply what is safe, look again, and return what is found then.

    Args:
        diagnosis: what was found.
        again: looks anew.

    """
    tried: set[str] = set()
    for number in range(ROUNDS):
        remedies = [remedy for remedy in remedies_of(diagnosis) if remedy.description not in tried]
        if not remedies:
            if number == 0:
                console.say("There is nothing here that could be mended without you.")
            break
        console.say("What can be mended:")
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
    """Return the remedies of causes, each once: what they explain mends itself, or is found in the next round."""
    found: dict[str, Remedy] = {}
    for one in diagnosis.ranked:
        remedy = one.finding.remedy
        if remedy is not None and one.finding.is_trouble:
            found.setdefault(remedy.description, remedy)
    # What starts things goes before what updates the whole.
    return sorted(found.values(), key=lambda remedy: remedy.asks)


def _apply(remedy: Remedy) -> bool:
    if remedy.asks and not _agreed(remedy):
        console.say(f"not done: {remedy.description}")
        return False
    try:
        console.say(f"done: {remedy.apply()}")
    except (OSError, RuntimeError) as fault:
        console.say(f"it did not work: {remedy.description}: {fault}")
        return False
    return True


def _agreed(remedy: Remedy) -> bool:
    if os.environ.get("YES") == "1":
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        console.say("That asks first, and nobody is there to answer; YES=1 answers for automation.")
        return False
    sys.stderr.write(f"{remedy.description}? Type yes to go on: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"yes", "y"}
