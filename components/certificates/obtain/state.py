"""What the container remembers, and what it shows of that."""

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

SHOWN = Path("/var/lib/open-webui-edge/state.json")
"""What `make certificate` shows, in the volume that the proxy reads."""
FIGURES = Path("/var/lib/open-webui-edge/renewal.prom")
"""What Prometheus is told of that, beside it."""
PRIVATE = Path("/tmp/open-webui-edge")  # noqa: S108 - of this container alone, in memory, for root
HERE = PRIVATE / "state.json"
"""A copy of it: right even when the disk is full."""
REMEMBERED = Path("/etc/letsencrypt/open-webui-edge.json")
"""What must outlive the container, so that a restart burns no limit; beside the account that the limit is about."""


def iso(moment: datetime | None) -> str | None:
    """Return a moment as it is written down."""
    return None if moment is None else moment.isoformat(timespec="seconds")


@dataclass
class OfIssuer:
    """How one issuer did lately."""

    failures: int = 0
    """In a row, dry runs too."""
    real_failures: int = 0
    """Those of them that counted against its limits."""
    not_before: str | None = None
    """Until when not to ask it."""
    limited: bool = False
    """Whether it said so itself."""


@dataclass
class Memory:
    """What must not be forgotten."""

    settings: str = ""
    """Fingerprint of those that it is about; others begin anew."""
    issuers: dict[str, OfIssuer] = field(default_factory=dict[str, OfIssuer])
    """By directory."""
    attempts: int = 0
    """That failed in a row, whichever issuer was asked."""
    issued: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """Serial number of the last certificate, directory and profile that it came from."""

    def of(self, directory: str) -> OfIssuer:
        """Return what is known of an issuer."""
        return self.issuers.setdefault(directory, OfIssuer())


def remembered(fingerprint: str, file: Path = REMEMBERED) -> Memory:
    """Return what was remembered for these settings; nothing, where they are others or the file is damaged."""
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        if found["settings"] != fingerprint:
            return Memory(fingerprint, issued=found["issued"])
        issuers = {directory: OfIssuer(**values) for directory, values in found["issuers"].items()}
        return Memory(fingerprint, issuers, found["attempts"], found["issued"])
    except (OSError, ValueError, KeyError, TypeError):
        return Memory(fingerprint)


def remember(memory: Memory, file: Path = REMEMBERED) -> None:
    """Write it down; raises OSError."""
    write(file, json.dumps(asdict(memory)).encode(), 0o600)


def show(document: dict[str, Any], file: Path = SHOWN) -> None:
    """Replace what is shown; raises OSError."""
    write(file, json.dumps(document, indent=1).encode() + b"\n", 0o644)


def figures(document: dict[str, Any]) -> str:
    """Return what Prometheus is told of it, in its text format; the proxy passes it on."""
    last = document["last_attempt"]
    failing = int(last is not None and last["error"] is not None)
    name = "open_webui_edge_renewal_failing"
    return f"# HELP {name} Whether the last attempt at a certificate failed.\n# TYPE {name} gauge\n{name} {failing}\n"


def shown(file: Path = SHOWN) -> dict[str, Any] | None:
    """Return what is shown; None before there is anything."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None


def write(file: Path, content: bytes, mode: int) -> None:
    """Replace a file by one rename, so that a full disk or a killed process leaves the old one; raises OSError."""
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
