"""Questions that need nothing but a URL; they only read."""

from diagnostics.outside import reachable
from diagnostics.question import Question

QUESTIONS: tuple[Question, ...] = (*reachable.QUESTIONS,)
