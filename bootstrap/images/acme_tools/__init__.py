"""Recipe of the image that the tests of certificates need: an ACME server and a DNS server to practise with."""

from pathlib import Path

from open_webui_edge.bootstrap.console import Step
from open_webui_edge.bootstrap.images import rootfs

HERE = Path(__file__).parent
SUITE = "forky"
"""The first Debian whose pebble tells when to renew, and has profiles."""


def fill(root: Path, step: Step) -> None:
    """Make the image's file system in the folder `root`."""
    rootfs.make(SUITE, root, rootfs.packages_in(HERE / "packages.txt"), step)
