"""What all reports call things, and how a stranger's words get into them."""

from diagnostics.finding import Hop, Severity
from diagnostics.question import Diagnosis

HOPS = {
    Hop.NAME: "name",
    Hop.HOST: "host",
    Hop.OUTER_PROXY: "outer proxy",
    Hop.PROXY: "proxy",
    Hop.APPLICATION: "Open WebUI",
    Hop.DATABASE: "database",
    Hop.REDIS: "Redis",
    Hop.MODELS: "models",
    Hop.ENGINE: "engine",
}
SEVERITIES = {
    Severity.FAILURE: "FAILURE",
    Severity.WARNING: "WARNING",
    Severity.UNKNOWN: "UNKNOWN",
    Severity.NOTE: "NOTE",
    Severity.OK: "OK",
}
_PLURALS = {
    Severity.FAILURE: ("failure", "failures"),
    Severity.WARNING: ("warning", "warnings"),
    Severity.UNKNOWN: ("unknown", "unknown"),
    Severity.NOTE: ("note", "notes"),
}


def printable(text: str) -> str:
    """Return text in which nothing moves a cursor, changes a colour or turns the line round, whoever wrote it."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def verdict(diagnosis: Diagnosis) -> str:
    """Say in a few words how it is: 1 failure, 2 warnings, 30 well."""
    counted = dict.fromkeys(Severity, 0)
    for finding in diagnosis.findings:
        if not finding.because:
            counted[finding.severity] += 1
    parts = [f"{counted[each]} {words[counted[each] != 1]}" for each, words in _PLURALS.items() if counted[each]]
    return ", ".join([*parts, f"{counted[Severity.OK]} well"])
