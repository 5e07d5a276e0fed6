"""`make doctor`: a stack, or somebody else's URL, asked what a user would ask."""

import os
from dataclasses import replace

from bootstrap import examination, places
from bootstrap.mending import mend
from bootstrap.problem import ProblemError
from diagnostics import command_line
from diagnostics.inside import hiding
from diagnostics.inside.questions import end_session, token_of
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
        diagnosis = command_line.examine(subject)
        return command_line.report(diagnosis, as_json=as_json, html=file)
    return _of_a_stack(name, as_json=as_json, mending=mending, long=long)


def _of_a_stack(name: str, *, as_json: bool, mending: bool, long: bool) -> int:
    from bootstrap.commands import stack_of  # noqa: PLC0415  # they load this module in turn

    target = stack_of(name)

    def examine() -> Diagnosis:
        subject = examination.subject_of(target)
        subject.long = long
        try:
            # How long an answer may be silent is measured with an account.
            subject.token = token_of(subject) if long else None
            found = command_line.examine(subject)
        finally:
            end_session(subject)
        return without_secrets(found)

    diagnosis = examine()
    if mending:
        if not as_json:
            command_line.report(diagnosis, as_json=False, html=None)
        diagnosis = mend(diagnosis, examine)
    return command_line.report(diagnosis, as_json=as_json, html=BUILD / f"doctor-{name}.html")


def without_secrets(diagnosis: Diagnosis) -> Diagnosis:
    """Return it with no secret of the stack in any finding."""
    inside = diagnosis.subject.inside
    secrets = frozenset[str]() if inside is None else inside.secrets
    return replace(diagnosis, findings=tuple(hiding.without_secrets(one, secrets) for one in diagnosis.findings))


def _said(variable: str) -> bool:
    value = os.environ.get(variable, "")
    if value not in {"", "yes", "no"}:
        raise ProblemError(f"{variable}={value} says nothing: write {variable}=yes, or leave it out.")
    return value == "yes"
