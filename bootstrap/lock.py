"""Two `make up` at once, of two checkouts or two stacks: one prepares, the other waits and finds it done."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from bootstrap import places
from bootstrap.console import Step


@contextmanager
def alone(name: str, step: Step) -> Iterator[None]:
    """Run a block while nobody else on this machine runs one of the same name."""
    folder = places.cache()
    folder.mkdir(parents=True, exist_ok=True)
    # The kernel drops the lock with the process, so a killed run leaves nothing to clean up.
    with (folder / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            step.now("another run prepares the same; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
