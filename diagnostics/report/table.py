"""The diagnosis for people at a terminal."""

from diagnostics.finding import Finding
from diagnostics.question import Diagnosis


def table(diagnosis: Diagnosis, *, colour: bool = False, width: int = 100) -> str:
    """Return it as text."""
    del colour, width
    lines: list[str] = []
    for one in diagnosis.ranked:
        lines += _lines(one.finding)
        lines += [f"          explains {other.check}: {other.seen}" for other in one.explains]
    return "\n".join(lines)


def _lines(finding: Finding) -> list[str]:
    parts = [f"{finding.severity.value:8} {finding.check}: {finding.seen}"]
    return [*parts, *(f"         {text}" for text in (finding.why, finding.fix) if text)]
