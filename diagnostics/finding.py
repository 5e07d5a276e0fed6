"""The result of a question: what was seen, why it matters, what to change."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypedDict, Unpack
from urllib.parse import quote

REDACTED = "[secret]"
_SHORTEST = 4
"""Shorter secrets occur in every text by chance."""


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing has to be done."""
    WARNING = "warning"
    """It works, and will not for everybody, or not for long."""
    FAILURE = "failure"
    """People see it."""
    UNKNOWN = "unknown"
    """It could not be asked; `seen` says why."""


@dataclass(frozen=True)
class Remedy:
    """What `FIX=yes` may do by itself."""

    description: str
    """What will be done, in a sentence that is shown before it is."""
    apply: Callable[[], str]
    """Do it, and return what came of it in a sentence; raises OSError or RuntimeError if it does not work."""
    asks: bool = False
    """Whether it needs a confirmation, because it changes more than what was found."""


class Further(TypedDict, total=False):
    """What not every trouble has; `Finding` says what each is."""

    setting: str | None
    value: str | None
    remedy: Remedy | None
    explains: tuple[str, ...]


class Hop(StrEnum):
    """A hop between the browser and the answer: a box of the picture."""

    NAME = "name"
    HOST = "host"
    OUTER_PROXY = "outer-proxy"
    PROXY = "proxy"
    APPLICATION = "application"
    DATABASE = "database"
    REDIS = "redis"
    MODELS = "models"
    ENGINE = "engine"

    def ok(self, check: str, seen: str) -> "Finding":
        """Return a finding that all is well."""
        return Finding(check, Severity.OK, self, seen)

    def note(self, check: str, seen: str, why: str = "") -> "Finding":
        """Return a finding that asks for nothing."""
        return Finding(check, Severity.NOTE, self, seen, why)

    def unknown(self, check: str, seen: str, why: str = "") -> "Finding":
        """Return that it could not be asked, and why."""
        return Finding(check, Severity.UNKNOWN, self, seen, why)

    def warning(self, check: str, seen: str, why: str, fix: str, **further: Unpack[Further]) -> "Finding":
        """Return what will not work for everybody, or not for long."""
        return Finding(check, Severity.WARNING, self, seen, why, fix, **further)

    def failure(self, check: str, seen: str, why: str, fix: str, **further: Unpack[Further]) -> "Finding":
        """Return what people see."""
        return Finding(check, Severity.FAILURE, self, seen, why, fix, **further)


@dataclass(frozen=True)
class Finding:
    """One answer."""

    check: str
    """What this is, for ever: such as websocket.upgrade."""
    severity: Severity
    hop: Hop
    seen: str
    """What was seen, with the figures."""
    why: str = ""
    """Why that matters to people."""
    fix: str = ""
    """What to change, setting and value, in words that can be followed."""
    setting: str | None = None
    """The setting of the stack file that the fix is about."""
    value: str | None = None
    """What to write there."""
    remedy: Remedy | None = None
    explains: tuple[str, ...] = ()
    """Checks that this one explains and that are folded under it; `tls.*` means all that begin with tls."""
    explained_by: tuple[str, ...] = ()
    """Checks whose failure explains this one."""

    @property
    def is_trouble(self) -> bool:
        """Whether something has to be done."""
        return self.severity in {Severity.WARNING, Severity.FAILURE}


def redact(text: str, secrets: Collection[str]) -> str:
    """Return a text without any of the secrets, also in percent-encoded form."""
    forms = {form for secret in secrets for form in (secret, quote(secret, safe=""), quote(secret))}
    for form in sorted(forms, key=len, reverse=True):
        if len(form) >= _SHORTEST:
            text = text.replace(form, REDACTED)
    return text


def redacted(finding: Finding, secrets: Collection[str]) -> Finding:
    """Return a finding without any of the secrets."""
    return replace(
        finding,
        seen=redact(finding.seen, secrets),
        why=redact(finding.why, secrets),
        fix=redact(finding.fix, secrets),
        value=None if finding.value is None else redact(finding.value, secrets),
    )


def parse_time(value: object) -> datetime | None:
    """Read a time in ISO 8601, in UTC unless it states an offset; None if it is not one."""
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
