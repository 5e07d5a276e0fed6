"""What the user of a command says: variables of `make`, and answers on the terminal."""

import os
import sys

from open_webui_edge.bootstrap.console import ProblemError


def variable(name: str) -> str | None:
    """Return a variable of `make`, or None."""
    return os.environ.get(name) or None


def is_requested(name: str, value: str = "yes", *, purpose: str = "", default: str = "no") -> bool:
    """Return whether a variable has its one value; `default` says the same as none, and any other is a ProblemError."""
    said = os.environ.get(name, "")
    if said not in {"", default, value}:
        raise ProblemError(f"invalid {name}={said}; use {name}={value}{purpose} or omit it.")
    return said == value


def confirmation(question: str, *, reason: str) -> str | None:
    """Return the user's answer, None if YES=1 confirms it; with no terminal, a ProblemError starts with `reason`."""
    if os.environ.get("YES") == "1":
        return None
    if sys.stdin is None or not sys.stdin.isatty():
        raise ProblemError(f"{reason} and there is no terminal; set YES=1 to confirm.")
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def confirm_by_name(name: str, warning: str, *, reason: str, otherwise: str) -> None:
    """Let the user confirm a warning by typing the stack's name, or raise a ProblemError: nothing was `otherwise`."""
    if confirmation(f"{warning} Type {name} to continue: ", reason=reason) not in {None, name}:
        raise ProblemError(f"That is not the stack's name; nothing was {otherwise}.")
