"""No secret in a report, whatever a program's last words quoted."""

from collections.abc import Collection
from dataclasses import replace
from urllib.parse import quote

from diagnostics.finding import Finding

HIDDEN = "[secret]"
_SHORTEST = 4
"""Of less than that every text has some."""


def hidden(text: str, secrets: Collection[str]) -> str:
    """Return a text without any of the secrets, also as a URL writes them."""
    forms = {form for secret in secrets for form in (secret, quote(secret, safe=""), quote(secret))}
    for form in sorted(forms, key=len, reverse=True):
        if len(form) >= _SHORTEST:
            text = text.replace(form, HIDDEN)
    return text


def without_secrets(finding: Finding, secrets: Collection[str]) -> Finding:
    """Return a finding that quotes none."""
    return replace(
        finding,
        seen=hidden(finding.seen, secrets),
        why=hidden(finding.why, secrets),
        fix=hidden(finding.fix, secrets),
        value=None if finding.value is None else hidden(finding.value, secrets),
    )
