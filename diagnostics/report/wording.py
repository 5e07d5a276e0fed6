"""What all reports call things, and how a stranger's words get into them."""

from open_webui_edge.diagnostics.finding import Finding, Hop, Severity
from open_webui_edge.diagnostics.question import Diagnosis

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
_COUNTED = {
    Severity.FAILURE: ("failure", "failures"),
    Severity.WARNING: ("warning", "warnings"),
    Severity.OK: ("passed", "passed"),
    Severity.UNKNOWN: ("skipped", "skipped"),
    Severity.NOTE: ("note", "notes"),
}


def printable(text: str) -> str:
    """Return text without characters that move the cursor, change colours or reverse the line."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def parts(finding: Finding) -> list[tuple[str, str]]:
    """Return label and text of what a report says of a finding; a text may be empty."""
    setting = "" if finding.setting is None else finding.setting
    value = "" if finding.value is None else f": {finding.value}"
    return [
        ("Seen", finding.seen),
        ("Why", finding.why),
        ("Fix", finding.fix),
        ("Setting", f"{setting}{value}" if setting else ""),
        ("FIX=yes", finding.remedy.description if finding.remedy else ""),
    ]


def verdict(diagnosis: Diagnosis) -> str:
    """Return the number of findings by severity: 1 failure, 2 warnings, 30 passed, 4 skipped."""
    counted = dict.fromkeys(Severity, 0)
    for finding in diagnosis.findings:
        if not finding.explained_by:
            counted[finding.severity] += 1
    return ", ".join(
        f"{counted[each]} {words[counted[each] != 1]}"
        for each, words in _COUNTED.items()
        if counted[each] or each is Severity.OK
    )
