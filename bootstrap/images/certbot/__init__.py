"""Recipe of the certbot image: Debian's package, with the plugin for DNS at Route 53."""

from pathlib import Path

from open_webui_edge.bootstrap.console import Step
from open_webui_edge.bootstrap.images import rootfs

HERE = Path(__file__).parent
SUITE = "forky"
"""The first Debian with certbot 5."""


def fill(root: Path, step: Step) -> None:
    """Make the image's file system in the folder `root`."""
    rootfs.make(SUITE, root, rootfs.packages_in(HERE / "packages.txt"), step)
