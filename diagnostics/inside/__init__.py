"""Questions that need the stack itself: its engine, its settings, its administrator's account."""

from diagnostics.question import Question

QUESTIONS: tuple[Question, ...] = ()
