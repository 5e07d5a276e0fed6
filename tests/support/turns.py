"""Turns of two runs of tests that share a Docker engine.

`make test` has two lanes with the engine. A browser gives up its requests whenever a network of the machine changes, as
it does with every container that comes or goes; so a test with the mark `alone` has the engine for itself. The tests of
the other lane take a turn each. Without a second run nothing is waited for.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.support.lanes import TURNS


@contextmanager
def turn() -> Generator[None]:
    """Wait until no test of another run has a turn, and have it while the block runs, or until this process ends."""
    folder = os.environ.get(TURNS)
    if folder is None:
        yield
        return
    # A run that ends its turn could take the next one at once; so there is a queue, and the first in it is next.
    with (Path(folder) / "queue").open("w") as queue, (Path(folder) / "turn").open("w") as mine:
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(mine, fcntl.LOCK_EX)
        fcntl.flock(queue, fcntl.LOCK_UN)
        yield
