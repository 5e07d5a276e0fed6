"""Questions that need the stack itself: its engine, its settings, its administrator's account."""

from open_webui_edge.diagnostics.inside.questions import QUESTIONS

__all__ = ["QUESTIONS"]
