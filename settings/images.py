"""Every container image: its repository and version. The only place with a version besides requirements.txt.

The digest that a name resolved to is kept in the stack's state, so the same settings keep running the same image.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class ImageSource(StrEnum):
    """Where a stack's images come from."""

    PULLED = "pulled"
    BUILT = "built"


@dataclass(frozen=True)
class Image:
    """One image: the official name, and the name of the one that `bootstrap` builds where nothing can be pulled."""

    role: str
    repository: str
    version: str
    built_tag: str | None
    """Tag of the image built from distribution packages; None where it cannot be built."""
    tag_format: str = "{}"
    """How the official tag is made of `version`."""
    registry: str = "docker.io"
    """Host of the registry that publishes the official image."""

    @property
    def tag(self) -> str:
        """The official tag for `version`."""
        return self.tag_format.format(self.version)

    def reference(self, source: ImageSource, registry: str | None) -> str:
        """Return the name to run: below `registry` (a mirror) where one is set, else the official or built one.

        Raises:
            LookupError: the image cannot be built from packages.

        """
        if source is ImageSource.PULLED:
            return f"{registry or self.registry}/{self.repository}:{self.tag}"
        if self.built_tag is None:
            raise LookupError(self.role)
        return f"open-webui-edge/{self.role}:{self.built_tag}"


NGINX = Image("nginx", repository="library/nginx", version="1.30.6", built_tag="1.30-debian-2")
NGINX_METRICS = Image(
    "nginx-metrics", repository="nginx/nginx-prometheus-exporter", version="1.5.1", built_tag="1-debian"
)
PROMETHEUS = Image("prometheus", repository="prom/prometheus", version="3.5.3", built_tag="3-debian", tag_format="v{}")

CERTBOT = Image("certbot", repository="certbot/certbot", version="5.5.0", built_tag="5-debian", tag_format="v{}")
CERTBOT_ROUTE53 = replace(CERTBOT, repository="certbot/dns-route53")
"""Certbot with the plugin for DNS at Route 53; the built image holds it anyway."""

OLLAMA = Image("ollama", repository="ollama/ollama", version="0.34.2", built_tag=None)

POSTGRES_MAJOR = 18
"""What the data of a database is tied to: another major version does not read it."""

POSTGRES = Image(
    "postgres",
    repository="pgvector/pgvector",
    version="0.8.7",
    built_tag=f"{POSTGRES_MAJOR}-debian",
    tag_format=f"{{}}-pg{POSTGRES_MAJOR}",
)
REDIS = Image("redis", repository="valkey/valkey", version="9.1.2", built_tag="9-debian")
RESTIC = Image("backup", repository="restic/restic", version="0.19.1", built_tag="0.19-debian")

BENCH_TOOLS = "open-webui-edge/bench-tools:1-debian"
"""What measures a stack and never runs in one, so it has no official name."""

ACME_TOOLS = "open-webui-edge/acme-tools:1-debian"
"""An ACME server and a DNS server for the tests; it has no official name."""

INSTANCE = "open-webui-edge/instance:1-debian"
"""A stand-in for a virtual machine of a cloud in tests; it has no official name."""

OPEN_WEBUI_VERSION = "0.12.4"


def certbot(*, route53: bool) -> Image:
    """Return certbot's image: with the plugin for DNS at Route 53, or without."""
    return CERTBOT_ROUTE53 if route53 else CERTBOT


def open_webui(version: str) -> Image:
    """Return the Open WebUI image of a release, such as 0.12.4."""
    repository, built_tag = "open-webui/open-webui", f"{version}-debian-2"
    return Image("open-webui", repository, version, built_tag, tag_format="v{}", registry="ghcr.io")


PINNED_ROLES = (
    *(image.role for image in (NGINX, NGINX_METRICS, PROMETHEUS, CERTBOT, OLLAMA, POSTGRES, REDIS, RESTIC)),
    open_webui(OPEN_WEBUI_VERSION).role,
    "readiness",
    "request-counter",
    "backup-copy",
    "backup-database",
    # Of stacks that 0.1.0 brought up.
    "mtail",
)
"""For which a stack may hold a name of its own on an engine; some run another one's image under one of their own."""


@dataclass(frozen=True)
class ImageSize:
    """How much disk an official image takes, in megabytes."""

    compressed: int
    """What a registry sends."""
    uncompressed: int


IMAGE_SIZES = {
    "nginx": ImageSize(80, 220),
    "nginx-metrics": ImageSize(20, 50),
    "prometheus": ImageSize(140, 360),
    "certbot": ImageSize(110, 320),
    "ollama": ImageSize(2200, 4500),
    "postgres": ImageSize(200, 560),
    "redis": ImageSize(60, 190),
    "backup": ImageSize(30, 80),
    "open-webui": ImageSize(2200, 6800),
}
"""By role, of the larger architecture, rounded up by a tenth or more.

Open WebUI: what its users report (issues 6447 and 14788 of open-webui/open-webui: 4.2 GB in 2024, over 6 GB in 2025).
The others: estimates by what their parts take as Debian's packages. A number too small costs little: the engine says
itself that its disk is full. What a registry holds is asked for nothing here: each question counts against its limit.
"""
