"""`make doctor`: a stack, or somebody else's URL, asked what a user would ask."""

import os

from bootstrap import places
from bootstrap.problem import ProblemError
from diagnostics import command_line
from diagnostics.question import Diagnosis
from diagnostics.subject import Subject

BUILD = places.CHECKOUT / "build"


def doctor(name: str) -> int:
    """Diagnose what URL names, or else the stack; 0 well, 1 warnings, 2 failures."""
    as_json, mending, long = (_said(variable) for variable in ("JSON", "FIX", "LONG"))
    url = os.environ.get("URL", "")
    if url:
        if mending:
            raise ProblemError(
                "FIX=yes mends a stack of this project; somebody else's URL is only looked at. Drop one."
            )
        problem = command_line.wrong_url(url)
        if problem:
            raise ProblemError(f"URL={problem}.")
        subject, file = Subject(url.rstrip("/"), long=long), BUILD / "doctor-url.html"
    else:
        subject, file = subject_of(name), BUILD / f"doctor-{name}.html"
        subject.long = long
    diagnosis = command_line.examine(subject)
    code = command_line.report(diagnosis, as_json=as_json, html=file)
    return mend(diagnosis) if mending else code


def subject_of(name: str) -> Subject:
    """Return what is known of a stack: its outputs, its settings, its engine."""
    raise NotImplementedError(name)


def mend(diagnosis: Diagnosis) -> int:
    """Apply what is safe, after it was shown."""
    return diagnosis.exit_code


def _said(variable: str) -> bool:
    value = os.environ.get(variable, "")
    if value not in {"", "yes", "no"}:
        raise ProblemError(f"{variable}={value} says nothing: write {variable}=yes, or leave it out.")
    return value == "yes"
