"""Recipe of the image with the tools that measure: load generators, the proxies to compare with, a grader of TLS."""

from pathlib import Path

from open_webui_edge.bootstrap.console import Step
from open_webui_edge.bootstrap.images import rootfs

HERE = Path(__file__).parent
SUITE = "forky"
"""The Debian that the proxy's image is made from: the same OpenSSL on both sides, and current peers."""


def fill(root: Path, step: Step) -> None:
    """Make the image's file system in the folder `root`."""
    rootfs.make(SUITE, root, rootfs.packages_in(HERE / "packages.txt"), step)
