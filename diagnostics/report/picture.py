"""The way from a browser to an answer, drawn; where it breaks is marked by colour, by sign and by word."""

from collections.abc import Sequence
from html import escape

from open_webui_edge.diagnostics.finding import Hop, Severity
from open_webui_edge.diagnostics.question import WORST_FIRST, Diagnosis
from open_webui_edge.diagnostics.report.wording import HOPS

_WIDTH, _HEIGHT, _GAP, _TOP, _ROW = 108, 64, 30, 92, 84
_UPSTREAMS = (Hop.DATABASE, Hop.REDIS, Hop.MODELS)
_WORDS = {Severity.FAILURE: "fails", Severity.NOTE: "ok"}
"""Others are called by their own value."""
_SIGNS = {"fails": "\N{BALLOT X} ", "warning": "! ", "unknown": "? ", "ok": "\N{CHECK MARK} "}


def picture(diagnosis: Diagnosis) -> str:
    """Return the drawing as an SVG element; its colours are classes of the page's style."""
    states = _states(diagnosis)
    row = [
        hop for hop in (Hop.NAME, Hop.HOST, Hop.OUTER_PROXY, Hop.PROXY, Hop.APPLICATION) if _is_drawn(hop, diagnosis)
    ]
    names = {**HOPS, Hop.PROXY: "Nginx"} if diagnosis.subject.of_a_stack else HOPS
    boxes = [_box(0, _TOP, "browser", "", "asked")]
    lines: list[str] = []
    for number, hop in enumerate(row, start=1):
        left = number * (_WIDTH + _GAP)
        boxes.append(_box(left, _TOP, names[hop], *states[hop]))
        lines.append(_arrow(left - _GAP, _TOP + _HEIGHT / 2, left, _TOP + _HEIGHT / 2, states[hop][1]))
    end = len(row) * (_WIDTH + _GAP) + _WIDTH
    for number, hop in enumerate(_UPSTREAMS):
        top = _TOP + (number - 1) * _ROW
        boxes.append(_box(end + 2 * _GAP, top, names[hop], *states[hop]))
        lines.append(_arrow(end, _TOP + _HEIGHT / 2, end + 2 * _GAP, top + _HEIGHT / 2, states[hop][1]))
    if Hop.ENGINE in {finding.hop for finding in diagnosis.findings}:
        start = (1 + row.index(Hop.PROXY)) * (_WIDTH + _GAP)
        boxes.append(_box(start, _TOP + _ROW, names[Hop.ENGINE], *states[Hop.ENGINE], width=end - start))
    whole = end + 2 * _GAP + _WIDTH
    return (
        f'<svg viewBox="-4 0 {whole + 8} {_TOP + _ROW + _HEIGHT + 8}" role="img" aria-labelledby="drawn">'
        f'<title id="drawn">{escape(_in_words(row, states))}</title>{"".join(lines)}{"".join(boxes)}</svg>'
    )


def _is_drawn(hop: Hop, diagnosis: Diagnosis) -> bool:
    if hop is not Hop.OUTER_PROXY:
        return True
    seen = any(
        finding.hop is hop and not finding.explained_by and finding.severity is not Severity.OK
        for finding in diagnosis.findings
    )
    return seen or diagnosis.subject.expectations.outer_proxy


def _states(diagnosis: Diagnosis) -> dict[Hop, tuple[str, str]]:
    """Return for each hop what is written in its box, and its class."""
    states: dict[Hop, tuple[str, str]] = {}
    for hop in Hop:
        mine = [one.finding.severity for one in diagnosis.ranked if one.finding.hop is hop]
        if mine:
            worst = min(mine, key=WORST_FIRST.index)
            states[hop] = (
                _WORDS.get(worst, worst.value),
                "ok" if worst in {Severity.OK, Severity.NOTE} else worst.value,
            )
        else:
            states[hop] = ("not asked", "silent")
    return states


def _box(  # noqa: PLR0913 - where, and what
    left: float, top: float, name: str, state: str, kind: str, *, width: float = _WIDTH
) -> str:
    middle = left + width / 2
    below = f'<text class="state" x="{middle:g}" y="{top + 47:g}">{_SIGNS.get(state, "")}{escape(state)}</text>'
    return (
        f'<g class="{kind}"><rect x="{left:g}" y="{top:g}" width="{width:g}" height="{_HEIGHT}" rx="8"/>'
        f'<text x="{middle:g}" y="{top + (26 if state else 37):g}">{escape(name)}</text>{below if state else ""}</g>'
    )


def _arrow(left: float, from_top: float, right: float, to_top: float, kind: str) -> str:
    line, tip = f"M{left:g} {from_top:g} L{right:g} {to_top:g}", f"M{right - 8:g} {to_top - 5:g}"
    tip += f" L{right:g} {to_top:g} L{right - 8:g} {to_top + 5:g}"
    return f'<path class="way {kind}" d="{line}"/><path class="way tip {kind}" d="{tip}"/>'


def _in_words(row: Sequence[Hop], states: dict[Hop, tuple[str, str]]) -> str:
    said = [f"{HOPS[hop]} {states[hop][0]}" for hop in (*row, *_UPSTREAMS)]
    return f"From the browser to an answer: {', '.join(said)}"
