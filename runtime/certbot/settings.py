"""The container's settings: JSON in a file that only root can read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_webui_edge.runtime.contract import CONFIG_DIR

FILE = Path(CONFIG_DIR, "settings.json")
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
_OWN_STAGING = {LETS_ENCRYPT: LETS_ENCRYPT_STAGING, LETS_ENCRYPT_STAGING: LETS_ENCRYPT_STAGING}


@dataclass(frozen=True)
class Issuer:
    """An ACME issuer."""

    directory: str
    directory_ca: str | None = None
    email: str | None = None
    external_account: Mapping[str, str] | None = None
    """Its `key_id` and `hmac_key`."""
    profile: str | None = None
    staging_directory: str | None = None

    @property
    def staging(self) -> str | None:
        """Its staging directory for dry runs, with rate limits of its own; None if there is none."""
        return self.staging_directory or _OWN_STAGING.get(self.directory)


@dataclass(frozen=True)
class Route53:
    """Access to the hosted zone for the DNS challenge."""

    access_key_id: str | None = None
    secret_access_key: str | None = None
    region: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True)
class Proxy:
    """Address of the proxy."""

    host: str = "nginx"
    port: int = 443

    def __str__(self) -> str:
        """Return host:port."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Outbound:
    """How certbot reaches the issuers and Route 53."""

    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables that name a proxy."""
    certificate_authorities: str | None = None
    """PEM of CAs to trust in addition to the system's."""


@dataclass(frozen=True)
class Timing:
    """Intervals and time-outs in seconds."""

    shortest_check: float = 60
    longest_check: float = 12 * 3600
    checks_per_lifetime: float = 100
    rehearsals: Sequence[float] = (60, 3600)
    """First and longest back-off when the next or the last attempt is a dry run, which counts against no limit."""
    attempts: Sequence[float] = (300, 12 * 3600)
    """First and longest back-off between two orders."""
    jitter: float = 0.1
    """Relative jitter of the intervals, so that not all sites contact an issuer at the same moment."""
    served_within: float = 60
    """Time-out for the proxy to serve a published certificate."""
    look_again: float = 30
    """Interval between checks until the proxy serves it."""
    certbot: float = 45 * 60
    """Time-out of a run of certbot: it waits up to half an hour for an issuer, and ten minutes for DNS."""


@dataclass(frozen=True)
class Settings:
    """All settings of the container."""

    names: tuple[str, ...]
    challenge: str
    issuers: tuple[Issuer, ...]
    """In order of preference: the next one is the fallback."""
    route53: Route53 | None
    outbound: Outbound
    proxy: Proxy
    proxy_protocol: bool
    """Whether the proxy expects a PROXY protocol header on each connection."""
    timing: Timing
    fingerprint: str
    """Changes with any setting that can make a failed attempt succeed."""


def read() -> Settings:
    """Read the settings."""
    return parse(json.loads(FILE.read_text(encoding="utf-8")))


def parse(given: dict[str, Any]) -> Settings:
    """Return the settings of a document."""
    route53 = given.get("route53")
    issue = {key: value for key, value in given.items() if key != "timing"}
    return Settings(
        names=without_redundant(given["names"]),
        challenge=given["challenge"],
        issuers=tuple(Issuer(**issuer) for issuer in given["issuers"]),
        route53=None if route53 is None else Route53(**route53),
        outbound=Outbound(**given.get("outbound", {})),
        proxy=Proxy(**given.get("proxy", {})),
        proxy_protocol=bool(given.get("proxy_protocol")),
        timing=Timing(**given.get("timing", {})),
        fingerprint=hashlib.sha256(json.dumps(issue, sort_keys=True).encode()).hexdigest()[:16],
    )


def without_redundant(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names in lower case, each once, without those that a wildcard among them covers.

    Let's Encrypt refuses an order that holds both.
    """
    unique = dict.fromkeys(name.lower() for name in names)
    return tuple(name for name in unique if not any(covers(other, name) for other in unique if other != name))


def covers(pattern: str, name: str) -> bool:
    """Whether a name in a certificate, maybe a wildcard, is good for a name; a wildcard stands for one label."""
    if pattern == name:
        return True
    return pattern.startswith("*.") and not name.startswith("*.") and name.partition(".")[2] == pattern[2:]
