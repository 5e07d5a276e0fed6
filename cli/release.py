"""Makes a release: moves the files in changes/ into a section of CHANGELOG.md and writes the new version."""

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from textwrap import indent

from open_webui_edge.bootstrap import paths
from open_webui_edge.bootstrap.console import ProblemError

CHANGES = paths.CHECKOUT / "changes"
CHANGELOG = paths.CHECKOUT / "CHANGELOG.md"
PROJECT = paths.CHECKOUT / "pyproject.toml"
TITLE = "# What has changed\n"
KINDS: Mapping[str, str] = {
    "upgrade": "When you come from the version before",
    "added": "Added",
    "changed": "Changed",
    "fixed": "Fixed",
}
"""Kind, the last but one part of a file's name -> heading, in the order of the changelog."""
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_IN_PROJECT = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)


def current() -> str:
    """Return the version in pyproject.toml."""
    match = _IN_PROJECT.search(PROJECT.read_text(encoding="utf-8"))
    if match is None:
        raise ProblemError(f'{PROJECT.name} has no version; add a line such as version = "0.1.0".')
    return match[1]


def section(version: str, day: date) -> str:
    """Return the changelog's section for a version, from changes/; raises ProblemError if it cannot be made."""
    files = notes()
    suffixes = [[f".{kind}", ".md"] for kind in KINDS]
    strange = [file.name for file in files if file.suffixes[-2:] not in suffixes]
    if strange:
        raise ProblemError(
            f"changes/ has files without a kind ({', '.join(strange)}); name them NAME.KIND.md: {', '.join(KINDS)}."
        )
    empty = [file.name for file in files if not file.read_text(encoding="utf-8").strip()]
    if empty:
        raise ProblemError(f"changes/ has files without text ({', '.join(empty)}); write what changed, or remove them.")
    if not files:
        raise ProblemError("changes/ is empty: there is nothing to release since the last version.")
    lines = [f"## {version} ({day.isoformat()})", ""]
    for kind, heading in KINDS.items():
        said = [_as_items(file.read_text(encoding="utf-8")) for file in files if file.suffixes[-2] == f".{kind}"]
        if said:
            lines += [f"### {heading}", "", *said, ""]
    return "\n".join(lines)


def cut(version: str, day: date) -> None:
    """Move changes/ into the changelog and the version into pyproject.toml; a ProblemError leaves both as they were."""
    if not _VERSION.fullmatch(version):
        raise ProblemError(f"VERSION={version} is not a version; use one such as 0.1.0.")
    before = CHANGELOG.read_text(encoding="utf-8").removeprefix(TITLE).lstrip("\n") if CHANGELOG.exists() else ""
    newest = re.search(r"^## (\S+)", before, re.MULTILINE)
    if newest is not None and _numbers(version) <= _numbers(newest[1]):
        raise ProblemError(f"VERSION={version} is not higher than {newest[1]}, the last release; use a higher one.")
    current()
    said = section(version, day)
    CHANGELOG.write_text(f"{TITLE}\n{said}\n{before}".rstrip("\n") + "\n", encoding="utf-8")
    project = _IN_PROJECT.sub(f'version = "{version}"', PROJECT.read_text(encoding="utf-8"), count=1)
    PROJECT.write_text(project, encoding="utf-8")
    for file in notes():
        file.unlink()


def notes() -> list[Path]:
    """Return the files that describe a change: all in the folder except its README."""
    return sorted(file for file in CHANGES.glob("*") if file.name != "README.md")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _as_items(text: str) -> str:
    """Return a file's text as list entries; a list stays unchanged."""
    text = text.strip("\n")
    return text if text.startswith("- ") else f"- {indent(text, '  ').removeprefix('  ')}"


def day_of(text: str | None) -> date:
    """Return the day of a release: DATE, or today."""
    try:
        return date.fromisoformat(text) if text else date.today()  # noqa: DTZ011 - the user's local date
    except ValueError:
        raise ProblemError(f"DATE={text} is not a date; use one such as 2026-11-25.") from None
