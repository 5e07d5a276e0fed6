"""Exclusive locks between runs of this program, for example two `make up` of two checkouts: the second one waits."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from open_webui_edge.bootstrap import paths
from open_webui_edge.bootstrap.console import Step


@contextmanager
def exclusive(name: str, step: Step) -> Iterator[None]:
    """Hold an exclusive lock of this machine and name while the block runs."""
    folder = paths.cache()
    folder.mkdir(parents=True, exist_ok=True)
    # The kernel drops the lock with the process, so a killed run leaves nothing to clean up.
    with (folder / f"{name}.lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            step.now("waiting for another run that prepares the same")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
