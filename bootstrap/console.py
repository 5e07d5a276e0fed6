"""Progress on the terminal, and the error that ends a command.

Progress goes to standard error; standard output is for results.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HEARTBEAT_INTERVAL = 15
"""Seconds between progress lines of a long step."""

_writing = threading.Lock()


class ProblemError(Exception):
    """One sentence that tells the user what happened and what to do; printed without a traceback."""


def say(text: str) -> None:
    """Write one line to standard error."""
    with _writing:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def put(text: str) -> None:
    """Write one line of the result to standard output."""
    with _writing:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def duration(seconds: float) -> str:
    """Format a duration: 0.4 s, 12 s, 3 min 5 s."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Step:
    """One step of a command: its title, its current activity, and its duration."""

    def __init__(self, title: str) -> None:
        """Start a step."""
        self.title = title
        self.doing = ""
        self.result = ""
        self._began = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    def now(self, doing: str) -> None:
        """Report the current activity."""
        self.doing = doing
        say(f"     {self.title}: {doing}")

    def done(self, result: str) -> None:
        """Set the result for the step's last line."""
        self.result = result

    def show_life(self, over: threading.Event) -> None:
        """Report progress at an interval until the step is over."""
        while not over.wait(HEARTBEAT_INTERVAL):
            say(f"     {self.title}: {self.doing or 'at it'}, {duration(self.spent)} so far")


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Run a block as one reported step."""
    shown = Step(title)
    over = threading.Event()
    threading.Thread(target=shown.show_life, args=(over,), daemon=True).start()
    mark, result = "FAIL", "failed"
    try:
        yield shown
        mark, result = "ok  ", shown.result or "done"
    finally:
        over.set()
        say(f"{mark} {title}: {result} ({duration(shown.spent)})")
