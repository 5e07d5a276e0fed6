"""The report of an import: a table of everything that was read, and the next steps."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from open_webui_edge.cli.importing.translation import Outcome, Row, Translation, masked

_WIDTH = 120
_WIDEST_COLUMN = 50


def report(t: Translation, *, before: Sequence[str]) -> str:
    """Return the report; `before` lists what must stop before `make up`."""
    sources = ", ".join(t.source.sources)
    old = (
        ""
        if t.existing is None
        else f" The container {t.existing.name} ({t.existing.image}) was inspected, and not changed."
    )
    said = [replace(row, what=masked(row.what), text=masked(row.text)) for row in t.rows]
    parts = [textwrap.fill(f"Read {sources}.{old}", _WIDTH, break_long_words=False, break_on_hyphens=False)]
    for outcome in Outcome:
        rows = [row for row in said if row.outcome is outcome]
        if rows:
            title = f"{outcome[0].upper()}{outcome[1:]} ({len(rows)})"
            parts.append("\n".join([title, *_table(rows, with_setting=outcome is Outcome.SETTING)]))
    points = [masked(point) for point in (*before, *t.to_do)]
    if points:
        parts.append(
            "\n".join([f"Before `make up STACK={t.stack}`", *(line for point in points for line in _point(point))])
        )
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
        lines += textwrap.wrap(
            row.text,
            _WIDTH,
            initial_indent=head,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [head.rstrip()]
    return lines


def _point(point: str) -> list[str]:
    first, *commands = point.splitlines()
    lines = textwrap.wrap(
        first, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    # A command is copied as it is.
    return [*lines, *(f"  {command}" for command in commands)]
