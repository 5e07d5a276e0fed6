"""The diagnosis for machines."""

from typing import Any

from diagnostics.finding import Finding
from diagnostics.question import Diagnosis

VERSION = 1
"""Grows when something that was there is no longer, or means another thing; what is added changes nothing."""


def document(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return it as JSON has it."""
    return {
        "version": VERSION,
        "url": diagnosis.subject.url,
        "exit_code": diagnosis.exit_code,
        "seconds": round(diagnosis.seconds, 1),
        "findings": [
            {**_plain(one.finding), "explains": [_plain(other) for other in one.explains]} for one in diagnosis.ranked
        ],
    }


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "hop": finding.hop.value,
        "seen": finding.seen,
        "why": finding.why,
        "fix": finding.fix,
        "setting": finding.setting,
        "value": finding.value,
        "remedy": finding.remedy.description if finding.remedy else None,
    }
