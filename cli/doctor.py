"""`make doctor`: checks a stack, or any URL, from outside and inside."""

from dataclasses import replace

from open_webui_edge.bootstrap import paths
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli import doctor_subject, session
from open_webui_edge.cli.doctor_fixes import apply_fixes
from open_webui_edge.cli.user_input import is_requested, variable
from open_webui_edge.diagnostics import command_line
from open_webui_edge.diagnostics.finding import redacted
from open_webui_edge.diagnostics.inside.questions import end_session, token_of
from open_webui_edge.diagnostics.question import Diagnosis
from open_webui_edge.diagnostics.subject import Subject


def doctor(name: str) -> int:
    """Diagnose the site at URL, else the stack; return 0 for OK, 1 for warnings, 2 for failures."""
    as_json, fixes, long = (is_requested(name) for name in ("JSON", "FIX", "LONG"))
    url = variable("URL")
    if url is not None:
        if fixes:
            raise ProblemError("FIX=yes fixes a stack of this project, and URL is only checked; remove one of them.")
        problem = command_line.wrong_url(url)
        if problem:
            raise ProblemError(f"URL={problem}.")
        diagnosis = command_line.examine(Subject(url.rstrip("/"), long=long))
        return command_line.report(diagnosis, as_json=as_json, html=paths.BUILD / "doctor-url.html")
    return _diagnose_stack(name, as_json=as_json, fixes=fixes, long=long)


def _diagnose_stack(name: str, *, as_json: bool, fixes: bool, long: bool) -> int:
    target = session.stack_of(name)

    def examine() -> Diagnosis:
        subject = doctor_subject.subject_of(target)
        subject.long = long
        try:
            # Measuring how long a response may be silent needs an account.
            subject.token = token_of(subject) if long else None
            result = command_line.examine(subject)
        finally:
            end_session(subject)
        return without_secrets(result)

    diagnosis = examine()
    if fixes:
        if not as_json:
            command_line.report(diagnosis, as_json=False, html=None)
        diagnosis = apply_fixes(diagnosis, examine)
    return command_line.report(diagnosis, as_json=as_json, html=paths.BUILD / f"doctor-{name}.html")


def without_secrets(diagnosis: Diagnosis) -> Diagnosis:
    """Redact the stack's secrets in all findings."""
    inside = diagnosis.subject.inside
    secrets = frozenset[str]() if inside is None else inside.secrets
    return replace(diagnosis, findings=tuple(redacted(one, secrets) for one in diagnosis.findings))
