"""The health check: whether the proxy serves a valid certificate for all names of the site."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from . import state
from .log import out
from .settings import covers


def check() -> int:
    """Print the state in one line; return an exit code."""
    document = state.read_status(state.TMP_COPY) or state.read_status()
    healthy, words = judge(document, datetime.now(UTC))
    out(words)
    return 0 if healthy else 1


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
