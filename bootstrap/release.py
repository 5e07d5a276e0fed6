"""From the files in changes/ to a section of CHANGELOG.md, and from one version to the next."""

import re
from collections.abc import Mapping
from datetime import date

from bootstrap import places
from bootstrap.problem import ProblemError

CHANGES = places.CHECKOUT / "changes"
CHANGELOG = places.CHECKOUT / "CHANGELOG.md"
PROJECT = places.CHECKOUT / "pyproject.toml"
TITLE = "# What has changed\n"
KINDS: Mapping[str, str] = {
    "upgrade": "When you come from the version before",
    "added": "Added",
    "changed": "Changed",
    "fixed": "Fixed",
}
"""Last part but one of a file's name -> heading, in the order in which they stand."""
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_IN_PROJECT = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)


def current() -> str:
    """Return the version that the project says it is."""
    found = _IN_PROJECT.search(PROJECT.read_text())
    if found is None:
        message = f'{PROJECT.name} says no version; it has a line such as version = "0.1.0".'
        raise ProblemError(message)
    return found[1]


def section(version: str, day: date) -> str:
    """Write what the files say, as the changelog's section on a version.

    Raises:
        ProblemError: there is nothing to say, or a file's name does not say what kind of change it is.

    """
    files = sorted(CHANGES.glob("*"))
    strange = [file.name for file in files if file.suffix != ".md" or file.suffixes[-2:-1] not in _suffixes()]
    if strange:
        message = f"changes/ holds what is of no kind ({', '.join(strange)}); write NAME.KIND.md: {', '.join(KINDS)}."
        raise ProblemError(message)
    if not files:
        raise ProblemError("changes/ is empty: since the last version nothing has changed that anybody notices.")
    lines = [f"## {version} ({day.isoformat()})", ""]
    for kind, heading in KINDS.items():
        said = [_as_items(file.read_text()) for file in files if file.suffixes[-2] == f".{kind}"]
        if said:
            lines += [f"### {heading}", "", *said, ""]
    return "\n".join(lines)


def cut(version: str, day: date) -> None:
    """Move what the files say into the changelog, and write the version where the project says it.

    Raises:
        ProblemError: nothing was written, and why.

    """
    if not _VERSION.fullmatch(version):
        message = f"VERSION={version} is no version; write one such as 0.1.0."
        raise ProblemError(message)
    before = CHANGELOG.read_text().removeprefix(TITLE).lstrip("\n") if CHANGELOG.exists() else ""
    newest = re.search(r"^## (\S+)", before, re.MULTILINE)
    if newest is not None and _numbers(version) <= _numbers(newest[1]):
        message = f"VERSION={version} does not come after {newest[1]}, the last one; write a higher one."
        raise ProblemError(message)
    current()
    said = section(version, day)
    CHANGELOG.write_text(f"{TITLE}\n{said}\n{before}".rstrip("\n") + "\n")
    PROJECT.write_text(_IN_PROJECT.sub(f'version = "{version}"', PROJECT.read_text(), count=1))
    for file in sorted(CHANGES.glob("*.md")):
        file.unlink()


def _suffixes() -> list[list[str]]:
    return [[f".{kind}"] for kind in KINDS]


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _as_items(text: str) -> str:
    """Write a file as entries of a list; one that is a list stays as it is."""
    text = text.strip("\n")
    if text.startswith("- "):
        return text
    first, *others = text.splitlines()
    return "\n".join([f"- {first}", *(f"  {line}" if line else "" for line in others)])


def day_of(text: str | None) -> date:
    """Return the day of a release: today's, or what DATE says."""
    try:
        return date.fromisoformat(text) if text else date.today()  # noqa: DTZ011 - the person's own day
    except ValueError:
        message = f"DATE={text} is no day; write one such as 2026-11-25."
        raise ProblemError(message) from None
