"""Does the host's clock agree with this one?"""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import http_client
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

_WARN, _FAIL = 30.0, 300.0
"""Seconds: identity providers mostly forgive a minute, and certificates and sessions five."""


def _clock(subject: Subject) -> Iterator[Finding]:
    # Past any cache, which would show the hour when it was filled.
    answer = http_client.ask(subject, "/api/version", headers=[("Cache-Control", "no-cache")])
    said = answer.all("Date")
    if not said or answer.header("Age"):
        yield Hop.HOST.note("clock.skew", "No answer tells the host's time.")
        return
    try:
        there = parsedate_to_datetime(said[0])
    except ValueError:
        yield Hop.HOST.unknown("clock.skew", f"The header Date cannot be read: {said[0]!r}.")
        return
    # The header has whole seconds, and was written while the answer was on its way.
    here = datetime.fromtimestamp(answer.began + answer.seconds / 2, UTC)
    skew = (there - here).total_seconds() + 0.5
    off = abs(skew) - answer.seconds / 2 - 0.5
    if off <= _WARN:
        yield Hop.HOST.ok("clock.skew", f"The clocks differ by less than {max(1, round(abs(skew)) + 1)} s.")
        return
    direction = "ahead of" if skew > 0 else "behind"
    problem = Hop.HOST.failure if off > _FAIL else Hop.HOST.warning
    yield problem(
        "clock.skew",
        f"The host's clock is {_span(abs(skew))} {direction} this machine's.",
        "Sign-in by an identity provider fails (a token from the future, or one that is over), sessions end early, and "
        "certificates count as expired or not yet valid.",
        "Keep it right on the host: `timedatectl set-ntp true` (chrony or systemd-timesyncd); or it is this machine's "
        "clock that is wrong.",
    )


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


QUESTIONS = (Question("clock.skew", Hop.HOST, "clock", ("app.answers",), _clock),)
