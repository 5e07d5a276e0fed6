"""Recipe of the image that keeps backups: Debian's restic, at the official image's path."""

from pathlib import Path

from open_webui_edge.bootstrap.console import Step
from open_webui_edge.bootstrap.images import rootfs

HERE = Path(__file__).parent
SUITE = "forky"
"""Its restic is of the same series as the official image."""


def fill(root: Path, step: Step) -> None:
    """Make the image's file system in the folder `root`."""
    rootfs.make(SUITE, root, rootfs.packages_in(HERE / "packages.txt"), step)
