"""Checks for free disk space before long builds and downloads."""

import shutil
from pathlib import Path

from open_webui_edge.bootstrap.console import ProblemError

MEGABYTE = 10**6
GIGABYTE = 10**9


def require(needed: int, folder: Path, purpose: str) -> None:
    """Raise a ProblemError with both numbers if the disk of `folder` has less than `needed` bytes free."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ProblemError(
            f"{purpose} needs {needed / GIGABYTE:.1f} GB at {folder}, but only {free / GIGABYTE:.1f} GB are free "
            "there; free some space and run it again."
        )
