"""Questions that need the stack itself: its engine, its settings, its administrator's account."""

from diagnostics.inside.questions import QUESTIONS

__all__ = ["QUESTIONS"]
