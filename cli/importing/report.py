"""The report of an import: a table of everything that was read, and the next steps."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from open_webui_edge.cli.importing.translation import Outcome, Row, Translation, masked

_WIDTH = 120
_WIDEST_COLUMN = 50


def report(t: Translation, *, before: Sequence[str]) -> str:
    """Return the report; `before` lists what must stop before `make up`."""
    old = (
        ""
        if t.existing is None
        else f" The container {t.existing.name} ({t.existing.image}) was inspected, and not changed."
    )
    said = [replace(row, what=masked(row.what), text=masked(row.text)) for row in t.rows]
    parts = ["\n".join(_wrapped(f"Read {', '.join(t.source.sources)}.{old}"))]
    for outcome in Outcome:
        rows = [row for row in said if row.outcome is outcome]
        if rows:
            title = f"{outcome[0].upper()}{outcome[1:]} ({len(rows)})"
            parts.append("\n".join([title, *_table(rows, with_setting=outcome is Outcome.SETTING)]))
    points = [masked(point) for point in (*before, *t.to_do)]
    if points:
        parts.append("\n".join([f"Before `make up STACK={t.stack}`", *chain.from_iterable(map(_point, points))]))
    parts.append(
        f"stacks/Pulumi.{t.stack}.yaml has all these settings. Nothing was started, stopped or changed; `make up"
        f" STACK={t.stack}` does that."
    )
    return "\n\n".join(parts)


def _table(rows: Sequence[Row], *, with_setting: bool) -> list[str]:
    columns = [[row.what, row.setting] if with_setting else [row.what] for row in rows]
    widths = [min(_WIDEST_COLUMN, max(len(column[index]) for column in columns)) for index in range(len(columns[0]))]
    lines: list[str] = []
    for row, cells in zip(rows, columns, strict=True):
        head = "  " + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + "  "
        indent = " " * (2 + sum(width + 2 for width in widths))
        if len(head) > len(indent):
            lines.append(head.rstrip())
            head = indent
        lines += _wrapped(row.text, head, indent) or [head.rstrip()]
    return lines


def _point(point: str) -> list[str]:
    first, *commands = point.splitlines()
    # A command is copied as it is.
    return [*_wrapped(first, "- ", "  "), *(f"  {command}" for command in commands)]


def _wrapped(text: str, first: str = "", further: str = "") -> list[str]:
    """Wrap a text, its first line and the further ones indented; a long word such as a URL stays whole."""
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )
