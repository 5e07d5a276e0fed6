"""Is there room for what is about to be written? Better said before ten minutes of building than after."""

import shutil
from pathlib import Path

from bootstrap.problem import ProblemError

GIGABYTE = 10**9


def require(needed: int, folder: Path, purpose: str) -> None:
    """Stop when the disk below `folder` has less than `needed` bytes left.

    Raises:
        ProblemError: with what is needed and what is there.

    """
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        message = (
            f"{purpose} needs {needed / GIGABYTE:.1f} GB at {folder}, but only {free / GIGABYTE:.1f} GB are free "
            "there; free some space and run it again."
        )
        raise ProblemError(message)
