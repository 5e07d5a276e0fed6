"""Questions, and the one who asks them: in order, side by side where none waits for another."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from open_webui_edge.diagnostics.finding import Finding, Hop, Severity
from open_webui_edge.diagnostics.subject import Subject

SIDE_BY_SIDE = 6
"""More at once would be a flood to a small deployment, and time each other."""
SECONDS = 20.0
"""How long a question may take."""


@dataclass(frozen=True)
class Question:
    """One thing to ask."""

    id: str
    """What its first finding is called; further ones have names of their own."""
    hop: Hop
    title: str
    """What is asked, as the progress shows it."""
    needs: tuple[str, ...]
    """Questions that must have passed: without them this one would only repeat their trouble."""
    ask: Callable[[Subject], Iterable[Finding]]
    seconds: float = SECONDS
    alone: bool = False
    """Whether nothing else is asked meanwhile, as where time is measured."""


@dataclass(frozen=True)
class Ranked:
    """A finding, and those that it explains."""

    finding: Finding
    explained: tuple[Finding, ...] = ()

    @property
    def severity(self) -> Severity:
        """The worst of it and what it explains."""
        return min((one.severity for one in (self.finding, *self.explained)), key=WORST_FIRST.index)


@dataclass(frozen=True)
class Diagnosis:
    """All answers."""

    subject: Subject
    findings: tuple[Finding, ...]
    """In the order of the questions."""
    titles: dict[str, str] = field(default_factory=dict[str, str])
    """Check -> what was asked."""
    seconds: float = 0.0
    asked_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def ranked(self) -> tuple[Ranked, ...]:
        """Explanations first, then by severity, then in the order of the hops."""
        return ranked(self.findings)

    @property
    def exit_code(self) -> int:
        """0: all is well, notes included; 1: warnings; 2: failures."""
        severities = {finding.severity for finding in self.findings}
        return 2 if Severity.FAILURE in severities else 1 if Severity.WARNING in severities else 0


WORST_FIRST = (Severity.FAILURE, Severity.WARNING, Severity.UNKNOWN, Severity.NOTE, Severity.OK)


def diagnose(
    subject: Subject, questions: Sequence[Question], ends: Callable[[Question], None] = lambda _: None
) -> Diagnosis:
    """Ask everything, and call `ends` after each question; no fault of a question is one of the doctor's."""
    began = time.monotonic()
    answers = _Run(subject, questions, ends).answers()
    findings = tuple(_addressed(finding, subject) for question in questions for finding in answers[question.id])
    titles = {finding.check: question.title for question in questions for finding in answers[question.id]}
    return Diagnosis(subject, findings, titles, time.monotonic() - began)


def _addressed(finding: Finding, subject: Subject) -> Finding:
    """Return a finding without the stack's setting where there is no stack; variables and directives stay."""
    if subject.of_a_stack or finding.setting is None or "." not in finding.setting:
        return finding
    return replace(finding, setting=None, value=None)


def ranked(findings: Sequence[Finding]) -> tuple[Ranked, ...]:
    """Fold each finding under the one that explains it, and put the worst first."""
    owners = {index: owner for index in range(len(findings)) if (owner := _owner(findings, index)) is not None}
    for index in sorted(owners):
        if _root(owners, index) == index:  # a circle, which begins somewhere
            del owners[index]
    folded: dict[int, list[Finding]] = {}
    for index in owners:
        folded.setdefault(_root(owners, index), []).append(findings[index])
    tops = [
        (index, Ranked(findings[index], tuple(folded.get(index, ()))))
        for index in range(len(findings))
        if index not in owners
    ]
    tops.sort(key=lambda top: (WORST_FIRST.index(top[1].severity), WORST_FIRST.index(top[1].finding.severity), top[0]))
    return tuple(one for _, one in tops)


def _owner(findings: Sequence[Finding], index: int) -> int | None:
    """Return the finding that explains one; None if it needs no explanation."""
    mine = findings[index]
    if mine.severity in {Severity.OK, Severity.NOTE}:
        return None
    for other, finding in enumerate(findings):
        # Of two that explain each other the first one is the cause.
        if other != index and _explains(finding, mine) and not (_explains(mine, finding) and index < other):
            return other
    return None


def _explains(cause: Finding, effect: Finding) -> bool:
    if cause.severity in {Severity.OK, Severity.NOTE}:
        return False
    if cause.check in effect.explained_by:
        return True
    return cause.is_trouble and any(fnmatchcase(effect.check, pattern) for pattern in cause.explains)


def _root(owners: dict[int, int], index: int) -> int:
    seen = {index}
    while index in owners:
        index = owners[index]
        if index in seen:
            return min(seen)
        seen.add(index)
    return index


class _Run:
    """One round of questions. Threads that hang are left behind: nothing waits for them."""

    def __init__(self, subject: Subject, questions: Sequence[Question], ends: Callable[[Question], None]) -> None:
        self.subject = subject
        self.ends = ends
        self.waiting = list(questions)
        self.known = {question.id for question in questions}
        self.running: dict[str, tuple[Question, float]] = {}
        self.done: dict[str, tuple[Finding, ...]] = {}
        self.answered: queue.Queue[tuple[str, tuple[Finding, ...]]] = queue.Queue()

    def answers(self) -> dict[str, tuple[Finding, ...]]:
        """Return question -> findings."""
        while self.waiting or self.running:
            self._start_what_can()
            if self.running:
                self._take_one()
        return self.done

    def _start_what_can(self) -> None:
        were_done = len(self.done)
        for question in tuple(self.waiting):
            needed = [need for need in question.needs if need in self.known]
            missing = next((need for need in needed if need in self.done and not self._passed(need, question)), None)
            if missing is not None:
                self.waiting.remove(question)
                self._close(question, (self._not_asked(question, missing),))
            elif all(need in self.done for need in needed) and self._has_room_for(question):
                self.waiting.remove(question)
                self._start(question)
        if self.waiting and not self.running and len(self.done) == were_done:
            raise ValueError(f"questions wait for each other: {', '.join(question.id for question in self.waiting)}")

    def _passed(self, need: str, question: Question) -> bool:
        """Tell whether one question may follow another: a mere warning keeps back only what it explains."""
        return not any(
            finding.severity in {Severity.FAILURE, Severity.UNKNOWN}
            or (finding.is_trouble and any(fnmatchcase(question.id, pattern) for pattern in finding.explains))
            for finding in self.done[need]
        )

    def _has_room_for(self, question: Question) -> bool:
        alone = question.alone or any(running.alone for running, _ in self.running.values())
        return not self.running if alone else len(self.running) < SIDE_BY_SIDE

    def _start(self, question: Question) -> None:
        self.running[question.id] = (question, time.monotonic() + question.seconds)
        threading.Thread(target=self._ask, args=(question,), name=question.id, daemon=True).start()

    def _ask(self, question: Question) -> None:
        try:
            findings = tuple(question.ask(self.subject))
        except Exception as fault:  # noqa: BLE001  # whatever goes wrong, the other questions are answered
            findings = (question.hop.unknown(question.id, f"It could not be asked: {_words(fault)}"),)
        self.answered.put((question.id, findings))

    def _take_one(self) -> None:
        patience = min(end for _, end in self.running.values()) - time.monotonic()
        try:
            name, findings = self.answered.get(timeout=max(patience, 0.01))
        except queue.Empty:
            now = time.monotonic()
            for question, end in tuple(self.running.values()):
                if end <= now:
                    del self.running[question.id]
                    words = f"No answer within {question.seconds:g} s, so it was given up."
                    self._close(question, (question.hop.unknown(question.id, words),))
            return
        if name in self.running:  # or it was given up, and answers late
            question, _ = self.running.pop(name)
            self._close(question, findings)

    def _not_asked(self, question: Question, missing: str) -> Finding:
        words = f"Not asked, because {missing} did not pass."
        reasons = tuple(one.check for one in self.done[missing] if one.severity not in {Severity.OK, Severity.NOTE})
        return replace(question.hop.unknown(question.id, words), explained_by=reasons)

    def _close(self, question: Question, findings: tuple[Finding, ...]) -> None:
        self.done[question.id] = findings
        self.ends(question)


def _words(fault: Exception) -> str:
    return f"{type(fault).__name__}: {' '.join(str(fault).split())}"[:300].removesuffix(": ")
