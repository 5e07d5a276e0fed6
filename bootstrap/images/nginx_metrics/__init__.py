"""Recipe of the image with the exporter of Nginx's metrics: Debian's package, at the official image's path."""

from pathlib import Path

from open_webui_edge.bootstrap.console import Step
from open_webui_edge.bootstrap.images import rootfs

HERE = Path(__file__).parent
SUITE = "forky"


def fill(root: Path, step: Step) -> None:
    """Make the image's file system in the folder `root`."""
    rootfs.make(SUITE, root, rootfs.packages_in(HERE / "packages.txt"), step)
    (root / "usr/bin/nginx-prometheus-exporter").symlink_to("prometheus-nginx-exporter")
