"""The doctor in this process, for a stack of a workshop: what it finds, without what a command takes to start."""

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pytest

from open_webui_edge.bootstrap import paths
from open_webui_edge.bootstrap.pulumi_cli import PulumiCLI
from open_webui_edge.cli import doctor_subject
from open_webui_edge.cli import stack as stacks
from open_webui_edge.cli.doctor import without_secrets
from open_webui_edge.cli.stack import Stack
from open_webui_edge.diagnostics import inside, outside
from open_webui_edge.diagnostics.finding import Finding
from open_webui_edge.diagnostics.inside.questions import end_session
from open_webui_edge.diagnostics.question import Diagnosis, Question, diagnose
from open_webui_edge.diagnostics.report import document, page, table
from open_webui_edge.diagnostics.subject import Subject
from tests.support.stack import StackUnderTest

# From outside only what tells whether anybody gets in.
_OUTSIDE = {"name.resolves", "port.open", "tls.handshake", "redirect.home", "app.answers", "app.ready"}
_SLOWER = 4
"""A machine on which tests run may be busy with others."""
_SLOW = {"stack.pending", "stream.buffered"}


def all_questions() -> tuple[Question, ...]:
    """Return every question that the doctor asks of a stack."""
    better = {question.id for question in inside.QUESTIONS}
    return (*(question for question in outside.QUESTIONS if question.id not in better), *inside.QUESTIONS)


QUICK = tuple(
    question
    for question in all_questions()
    if question.id not in _SLOW and (question.id in _OUTSIDE or question in inside.QUESTIONS)
)
"""What is asked again and again in a test."""


@dataclass
class Doctor:
    """The doctor, with what it knows of one stack since its last update."""

    stack: StackUnderTest
    secrets: Sequence[str]
    """What no report may hold."""
    subject: Subject | None = None

    def learn(self) -> Self:
        """Read the stack's settings and state again."""
        environment = self.stack.workshop.environment
        executable = shutil.which("pulumi", path=environment["PATH"])
        assert executable is not None
        target = Stack(self.stack.name, PulumiCLI(Path(executable), "test", {}), dict(environment))
        self.subject = doctor_subject.subject_of(target)
        return self

    def look(self, questions: Sequence[Question] = QUICK) -> Diagnosis:
        """Ask, and return what was found; fails where any report holds a secret."""
        assert self.subject is not None
        subject = replace(self.subject, _known={}, _lock=threading.Lock())
        assert subject.inside is not None
        subject.inside = replace(subject.inside, patience=subject.inside.patience * _SLOWER)
        try:
            diagnosis = without_secrets(
                diagnose(subject, [replace(one, seconds=one.seconds * _SLOWER) for one in questions])
            )
        finally:
            end_session(subject)
        reports = f"{table(diagnosis)}\n{document(diagnosis)}\n{page(diagnosis)}"
        for secret in self.secrets:
            assert secret not in reports, "a report holds a secret"
        return diagnosis

    def result(self, questions: Sequence[Question] = QUICK) -> list[str]:
        """Return the checks of what needs an action, the causes alone, in the reports' order."""
        return [finding.check for finding in causes(self.look(questions))]


def causes(diagnosis: Diagnosis) -> list[Finding]:
    """Return what is wrong, without what follows from it; fails where something could not be asked for no reason."""
    tops = [one.finding for one in diagnosis.ranked]
    troubles = [finding for finding in tops if finding.is_trouble]
    unknown = [f"{finding.check}: {finding.seen}" for finding in tops if finding.severity == "unknown"]
    assert not unknown or troubles, unknown
    return troubles


@contextmanager
def at_home(stack: StackUnderTest) -> Iterator[None]:
    """Have the program's own modules look for stack files in the workshop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "CHECKOUT", stack.workshop.directory)
        patch.setattr(stacks, "FOLDER", stack.workshop.directory / "stacks")
        yield
