"""What came of a question: what was seen, why it matters, what to change."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


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


class Hop(StrEnum):
    """Where on the way from a browser to an answer: a box of the picture."""

    NAME = "name"
    HOST = "host"
    OUTER_PROXY = "outer-proxy"
    PROXY = "proxy"
    APPLICATION = "application"
    DATABASE = "database"
    REDIS = "redis"
    MODELS = "models"
    ENGINE = "engine"


@dataclass(frozen=True)
class Remedy:
    """What `FIX=yes` may do by itself."""

    description: str
    """What will be done, in a sentence that is shown before it is."""
    apply: Callable[[], str]
    """Do it, and return what came of it in a sentence; raises OSError or RuntimeError if it does not work."""
    asks: bool = False
    """Whether somebody must agree to it first: it changes more than what was found."""


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
    causes: tuple[str, ...] = ()
    """Checks that this one explains, which then are not shown on their own; `tls.*` stands for all that begin so."""
    because: tuple[str, ...] = ()
    """The other way round: checks whose trouble explains this one."""

    @property
    def is_trouble(self) -> bool:
        """Whether somebody has to do something."""
        return self.severity in {Severity.WARNING, Severity.FAILURE}


def well(check: str, hop: Hop, seen: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Severity.OK, hop, seen)


def noted(check: str, hop: Hop, seen: str, why: str = "") -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(check, Severity.NOTE, hop, seen, why)


def unknown(check: str, hop: Hop, seen: str, why: str = "") -> Finding:
    """Return that it could not be asked, and why."""
    return Finding(check, Severity.UNKNOWN, hop, seen, why)
