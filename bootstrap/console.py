"""What a person sees while something takes long.

All of that goes to standard error: standard output is for what was asked for.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HEARTBEAT_SECONDS = 15
"""How often a line says that a long step still lives, where no terminal can be redrawn."""

_writing = threading.Lock()


def say(text: str) -> None:
    """Write one line for the person."""
    with _writing:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def put(text: str) -> None:
    """Write one line of what was asked for, to standard output."""
    with _writing:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def duration(seconds: float) -> str:
    """Write a span of time the way a person says it: 0.4 s, 12 s, 3 min 5 s."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Step:
    """One thing that `make` does: its title, what it is at, and how long it took so far."""

    def __init__(self, title: str) -> None:
        """Name a step that has not begun."""
        self.title = title
        self.doing = ""
        self.result = ""
        self._began = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def now(self, doing: str) -> None:
        """Say what the step is at."""
        self.doing = doing
        say(f"     {self.title}: {doing}")

    def done(self, result: str) -> None:
        """Say how the step ended, in the line that closes it."""
        self.result = result

    def show_life(self, over: threading.Event) -> None:
        """Say now and then that the step still runs, until it is over."""
        while not over.wait(HEARTBEAT_SECONDS):
            say(f"     {self.title}: {self.doing or 'at it'}, {duration(self.spent)} so far")


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Run a block as one visible step."""
    shown = Step(title)
    over = threading.Event()
    threading.Thread(target=shown.show_life, args=(over,), daemon=True).start()
    mark, result = "FAIL", "it did not work"
    try:
        yield shown
        mark, result = "ok  ", shown.result or "done"
    finally:
        over.set()
        say(f"{mark} {title}: {result} ({duration(shown.spent)})")
