"""The diagnosis for people at a terminal: what to do first stands first."""

import textwrap
from collections.abc import Iterator

from open_webui_edge.diagnostics.finding import Finding, Severity
from open_webui_edge.diagnostics.question import Diagnosis, Ranked
from open_webui_edge.diagnostics.report.wording import HOPS, parts, printable, verdict

_COLOURS = {
    Severity.FAILURE: "\x1b[1;31m",
    Severity.WARNING: "\x1b[1;33m",
    Severity.UNKNOWN: "\x1b[1;35m",
    Severity.NOTE: "\x1b[36m",
    Severity.OK: "\x1b[32m",
}
_PLAIN = "\x1b[0m"
_INDENT = 9


def table(diagnosis: Diagnosis, *, colour: bool = False, width: int = 100) -> str:
    """Return it as text; `width` is in signs."""
    ranked = diagnosis.ranked
    lines = [f"{printable(diagnosis.subject.url)}: {verdict(diagnosis)} ({diagnosis.seconds:.0f} s)"]
    for one in ranked:
        if one.finding.severity is not Severity.OK:
            lines += ["", *_block(one, colour=colour, width=width)]
    fine = [one.finding for one in ranked if one.finding.severity is Severity.OK]
    if fine:
        lines += ["", _coloured("OK", Severity.OK, colour=colour) + " " * (_INDENT - 2) + _listed(fine, width)]
    return "\n".join(lines)


def _block(one: Ranked, *, colour: bool, width: int) -> Iterator[str]:
    finding = one.finding
    word = finding.severity.name
    head = f"{_coloured(word, finding.severity, colour=colour)}{' ' * (_INDENT - len(word))}"
    yield f"{head}{printable(finding.check)} ({HOPS[finding.hop]})"
    troubles = [("so also", f"{other.check}: {other.seen}") for other in one.explained if other.is_trouble]
    rest = ", ".join(other.check for other in one.explained if not other.is_trouble)
    for label, text in (*parts(finding), *troubles, ("so not asked", rest)):
        yield from _text(label, text, width)


def _text(label: str, text: str, width: int) -> list[str]:
    if not text:
        return []
    words = f"{label}: {printable(text)}"
    indent = " " * _INDENT
    return textwrap.wrap(
        words,
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _listed(fine: list[Finding], width: int) -> str:
    words = ", ".join(printable(finding.check) for finding in fine)
    indent = " " * _INDENT
    return textwrap.fill(words, max(width, 40), initial_indent=indent, subsequent_indent=indent).strip()


def _coloured(word: str, severity: Severity, *, colour: bool) -> str:
    return f"{_COLOURS[severity]}{word}{_PLAIN}" if colour else word
