"""The recipes of the images that are built here: what is in an image's file system, and in which folder it says so."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from open_webui_edge.bootstrap.console import Step
from open_webui_edge.bootstrap.images import instance, nginx, open_webui, postgres, rootfs
from open_webui_edge.settings.images import (
    ACME_TOOLS,
    BENCH_TOOLS,
    CERTBOT,
    INSTANCE,
    NGINX,
    NGINX_METRICS,
    POSTGRES,
    PROMETHEUS,
    REDIS,
    RESTIC,
    Image,
)


@dataclass(frozen=True)
class Recipe:
    """How one image is built."""

    folder: Path
    """Holds its list of packages, `packages.txt`, and its configuration, `config.json`."""
    fill: Callable[[Path, Step], None]
    """Makes its file system in a folder."""


def recipe_of(image: Image) -> Recipe:
    """Return the recipe of an image of a stack."""
    if image.role in RECIPES:
        return RECIPES[image.role]
    return Recipe(open_webui.HERE, lambda root, step: open_webui.fill(root, image.version, step))


def _debian(name: str, change: Callable[[Path], None] = lambda _: None) -> Recipe:
    """Return the recipe of Debian's packages at the official image's paths; `change` is made once they are there."""
    folder = Path(__file__).with_name(name)

    def fill(root: Path, step: Step) -> None:
        rootfs.make("forky", root, rootfs.packages_in(folder / "packages.txt"), step)
        change(root)

    return Recipe(folder, fill)


def _link_exporter(root: Path) -> None:
    (root / "usr/bin/nginx-prometheus-exporter").symlink_to("prometheus-nginx-exporter")


RECIPES = {
    NGINX.role: Recipe(nginx.HERE, nginx.fill),
    NGINX_METRICS.role: _debian("nginx_metrics", _link_exporter),
    PROMETHEUS.role: _debian("prometheus"),
    POSTGRES.role: Recipe(postgres.HERE, postgres.fill),
    # Valkey, of which this is the first Debian with 9.
    REDIS.role: _debian("redis", lambda root: (root / "data").mkdir()),
    # The first Debian with certbot 5. With the plugin for DNS at Route 53.
    CERTBOT.role: _debian("certbot"),
    # Its restic is of the same series as the official image.
    RESTIC.role: _debian("restic"),
    # The Debian that the proxy's image is made from: the same OpenSSL on both sides, and current peers.
    BENCH_TOOLS: _debian("bench_tools"),
    # The first Debian whose pebble tells when to renew, and has profiles.
    ACME_TOOLS: _debian("acme_tools"),
    INSTANCE: Recipe(instance.HERE, instance.fill),
}
"""By the role of an image, or by the whole name of one that only tests use. Open WebUI's depends on its version."""
