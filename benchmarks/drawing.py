"""Bars as SVG, written by hand: a library that draws would be the largest of this project's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH = 880
_LEFT, _RIGHT = 170, 90
_ROW, _HEAD, _GAP = 19, 34, 16
_BAR = 13
_FONT = "font-family='system-ui, sans-serif'"
_OURS, _OTHERS, _TEXT, _GRID = "#2563eb", "#94a3b8", "#334155", "#e2e8f0"


@dataclass(frozen=True)
class Bar:
    """One bar."""

    label: str
    value: float
    text: str
    """What is written at its end."""
    is_ours: bool = False


@dataclass(frozen=True)
class Panel:
    """Bars with one scale."""

    title: str
    bars: Sequence[Bar]
    logarithmic: bool = False


def draw(title: str, panels: Sequence[Panel]) -> str:
    """Return an SVG with the panels below each other."""
    parts: list[str] = []
    top = 40
    for panel in panels:
        parts.append(_panel(panel, top))
        top += _HEAD + _ROW * len(panel.bars) + _GAP
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {top}' width='{_WIDTH}' height='{top}' "
        f"role='img' aria-label='{_quoted(title)}'>\n<rect width='100%' height='100%' fill='#ffffff'/>\n"
        + "\n".join([_text((16, 26), title, size=17, weight=600), *parts])
        + "\n</svg>\n"
    )


def length(value: float, values: Sequence[float], *, logarithmic: bool) -> float:
    """Return how long a bar is, between 0 and 1; on a logarithmic scale the smallest still has a tenth of the width."""
    largest = max(values)
    if largest <= 0:
        return 0.0
    if not logarithmic:
        return max(0.0, value) / largest
    if value <= 0:
        return 0.0
    smallest = min(one for one in values if one > 0)
    span = math.log(largest / smallest)
    return 0.1 + 0.9 * math.log(value / smallest) / span if span else 1.0


def _panel(panel: Panel, top: int) -> str:
    values = [bar.value for bar in panel.bars]
    scale = " (logarithmic)" if panel.logarithmic else ""
    lines = [_text((16, top + 18), panel.title + scale, size=13, weight=600)]
    room = _WIDTH - _LEFT - _RIGHT
    for number, bar in enumerate(panel.bars):
        y = top + _HEAD + number * _ROW - 6
        width = max(1.0, room * length(bar.value, values, logarithmic=panel.logarithmic))
        colour, weight = (_OURS, 600) if bar.is_ours else (_OTHERS, 400)
        lines += [
            _text((_LEFT - 8, y + 11), bar.label, weight=weight, anchor="end"),
            f"<rect x='{_LEFT}' y='{y}' width='{room}' height='{_BAR}' fill='{_GRID}'/>",
            f"<rect x='{_LEFT}' y='{y}' width='{width:.1f}' height='{_BAR}' fill='{colour}'/>",
            _text((_WIDTH - _RIGHT + 6, y + 11), bar.text, weight=weight),
        ]
    return "\n".join(lines)


def _text(at: tuple[int, int], text: str, *, size: int = 12, weight: int = 400, anchor: str = "start") -> str:
    return (
        f"<text x='{at[0]}' y='{at[1]}' {_FONT} font-size='{size}' font-weight='{weight}' text-anchor='{anchor}' "
        f"fill='{_TEXT}'>{escape(text)}</text>"
    )


def _quoted(text: str) -> str:
    return escape(text, {"'": "&apos;"})
