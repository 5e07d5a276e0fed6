"""The diagnosis for machines.

- `version`: of this shape. It grows when something that was there is no longer, or means another thing.
- `url`, `asked_at` (UTC, ISO 8601), `seconds`.
- `verdict`: `ok`, `warning` or `failure`; `exit_code`: 0, 1 or 2 in the same order.
- `findings`: the first one is what to begin with. Each has `check` (a name that stays), `severity` (`failure`,
  `warning`, `unknown`, `note`, `ok`), `hop` (`name`, `host`, `outer-proxy`, `proxy`, `application`, `database`,
  `redis`, `models`, `engine`), `question`, `seen`, `why`, `fix`, `setting` and `value` (or null),
  `remedy` (what `FIX=yes` would do, or null), and `explains`: findings of the same shape that follow from it.
"""

from typing import Any

from open_webui_edge.diagnostics.finding import Finding
from open_webui_edge.diagnostics.question import Diagnosis

VERSION = 1
_VERDICTS = ("ok", "warning", "failure")


def document(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return it as JSON has it."""
    return {
        "version": VERSION,
        "url": diagnosis.subject.url,
        "asked_at": diagnosis.asked_at.isoformat(timespec="seconds"),
        "seconds": round(diagnosis.seconds, 1),
        "verdict": _VERDICTS[diagnosis.exit_code],
        "exit_code": diagnosis.exit_code,
        "findings": [
            {
                **_plain(one.finding, diagnosis),
                "explains": [{**_plain(other, diagnosis), "explains": []} for other in one.explained],
            }
            for one in diagnosis.ranked
        ],
    }


def _plain(finding: Finding, diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "hop": finding.hop.value,
        "question": diagnosis.titles.get(finding.check, ""),
        "seen": finding.seen,
        "why": finding.why,
        "fix": finding.fix,
        "setting": finding.setting,
        "value": finding.value,
        "remedy": finding.remedy.description if finding.remedy else None,
    }
