"""The container's log, the state that outlives it, and the status that others read."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from .settings import covers

STATUS_FILE = Path("/var/lib/open-webui-edge/state.json")
"""The status that `make certificate` shows, in the volume that the proxy reads."""
METRICS_FILE = Path("/var/lib/open-webui-edge/renewal.prom")
"""The metric of it, next to it."""
PRIVATE = Path("/tmp/open-webui-edge")  # noqa: S108 - of this container alone, in memory, for root
TMP_COPY = PRIVATE / "state.json"
"""A copy of the status in memory, which is current even if the disk is full."""
STATE_FILE = Path("/etc/letsencrypt/open-webui-edge.json")
"""State that outlives the container, so that a restart respects rate limits; next to the account that they apply to."""


def say(words: str) -> None:
    """Write a line into the container's log."""
    print(f"certificate: {words}", flush=True)  # noqa: T201 - the container's log


def iso(moment: datetime) -> str:
    """Return a moment in ISO 8601."""
    return moment.isoformat(timespec="seconds")


@dataclass
class IssuerState:
    """Failures of one issuer."""

    failures: int = 0
    """In a row, dry runs too."""
    real_failures: int = 0
    """Those that counted against its rate limits."""
    not_before: str | None = None
    """End of the back-off."""
    limited: bool = False
    """Whether the issuer itself demanded the back-off."""


@dataclass
class Memory:
    """State that outlives the container."""

    settings: str = ""
    """Fingerprint of the settings that it belongs to; other settings reset it."""
    issuers: dict[str, IssuerState] = field(default_factory=dict[str, IssuerState])
    """By directory."""
    attempts: int = 0
    """Failed attempts in a row, over all issuers."""
    issued: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """Serial number, directory and profile of the last certificate."""

    def for_issuer(self, directory: str) -> IssuerState:
        """Return the state of an issuer."""
        return self.issuers.setdefault(directory, IssuerState())


def load(fingerprint: str, file: Path = STATE_FILE) -> Memory:
    """Return the state for these settings; an empty one if they changed or the file is damaged."""
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if document["settings"] != fingerprint:
            return Memory(fingerprint, issued=document["issued"])
        issuers = {directory: IssuerState(**values) for directory, values in document["issuers"].items()}
        return Memory(fingerprint, issuers, document["attempts"], document["issued"])
    except (OSError, ValueError, KeyError, TypeError):
        return Memory(fingerprint)


def save(memory: Memory, file: Path = STATE_FILE) -> None:
    """Write the state; raises OSError."""
    write(file, json.dumps(asdict(memory)).encode(), 0o600)


def write_status(document: dict[str, Any], file: Path = STATUS_FILE) -> None:
    """Replace a status file; raises OSError."""
    write(file, json.dumps(document, indent=1).encode() + b"\n", 0o644)


def metrics(document: dict[str, Any]) -> str:
    """Return the metric of the status in Prometheus' text format; the proxy serves it."""
    last = document["last_attempt"]
    failing = int(last is not None and last["error"] is not None)
    name = "open_webui_edge_renewal_failing"
    return f"# HELP {name} Whether the last attempt at a certificate failed.\n# TYPE {name} gauge\n{name} {failing}\n"


def read_status(file: Path = STATUS_FILE) -> dict[str, Any] | None:
    """Return the status; None if there is none yet."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def judge(document: Mapping[str, Any] | None, now: datetime) -> tuple[bool, str]:
    """Return whether certbot is healthy, and a line about it.

    A failing renewal is reported but not unhealthy: the served certificate is valid until it expires.
    """
    if document is None:
        return False, "no attempt yet"
    last = document["last_attempt"]
    failed = "" if last is None or last["error"] is None else _failure(last, document)
    served = document["served"]
    if served is None:
        return False, failed or "no certificate yet: the first attempt is in progress"
    missing = [name for name in document["wanted"] if not any(covers(own, name) for own in served["names"])]
    left = datetime.fromisoformat(served["not_after"]) - now
    if missing:
        return False, f"no certificate for {', '.join(missing)} yet; {failed or 'the attempt is in progress'}"
    if left.total_seconds() <= 0:
        return False, f"the certificate expired at {served['not_after']}; {failed or 'it is being renewed'}"
    days = f"{left.days} days" if left.days else f"{left.total_seconds() / 3600:.1f} hours"
    return True, "; ".join(filter(None, [f"{', '.join(document['wanted'])}: {days} left", failed]))


def _failure(last: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    following = f" Next attempt: {document['next_attempt']}." if document["next_attempt"] else ""
    return f"{last['kind']} at {last['directory']} failed at {last['at']}: {last['error']} -- {last['hint']}{following}"


def write(file: Path, content: bytes, mode: int) -> None:
    """Replace a file atomically: a full disk or a killed process leaves the old one; raises OSError."""
    unfinished = file.with_name(f"{file.name}.new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.chmod(mode)
        unfinished.replace(file)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
