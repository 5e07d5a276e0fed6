"""Recipe of the image with Prometheus and with mtail, which counts for it what Nginx logs: Debian's packages."""

from pathlib import Path

from bootstrap.console import Step
from bootstrap.images import rootfs

HERE = Path(__file__).parent
SUITE = "forky"


def fill(root: Path, step: Step) -> None:
    """Make the image's file system in the folder `root`."""
    rootfs.make(SUITE, root, rootfs.packages_in(HERE / "packages.txt"), step)
