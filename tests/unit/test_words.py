"""The project's words are those of the field: some words are ruled out, in text and as names.

Write "a user", "the operator" or a passive for *whoever* and *somebody*, "again" or "recreate" for *anew*, "fix" for
*mend*, "no user" or "no response" for *nobody*; name a variable after its content, not after how it was obtained.
"""

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import ROOT

_WORDS = re.compile(r"\b(whoever|whosoever|somebody|anew|likewise|mend|mended)\b", re.IGNORECASE)
_NOBODY = re.compile(r"(?<![\"'`:/=])\bnobody\b(?![\"'`:/=])", re.IGNORECASE)
"""Except as the name of a user, which has quotes or a separator next to it."""
_NAMES = frozenset({"wanted", "told", "found", "kept", "brought", "trouble", "behind"})
"""No name has one of these as a whole or as its first word; `not_found` may stay, and so may names of tests."""
_SHELL_NAME = re.compile(r"^\s*(?:local |export |readonly )?([A-Za-z_]\w*)(?:=|\(\))")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

_EXCLUDED = ("CHANGELOG.md", "docs/decisions/", "tests/unit/test_words.py", "tests/states/")
"""History, and what states of former releases hold."""
_WITHOUT_PROSE = {".png", ".svg", ".webp", ".txt.gz", ".lock"}


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)  # noqa: S607 - git of the PATH
    paths = [Path(line) for line in listed.stdout.splitlines() if not line.startswith(_EXCLUDED)]
    return [path for path in paths if (ROOT / path).is_file() and path.suffix not in _WITHOUT_PROSE]


def _folder(path: Path) -> str:
    return path.parts[0] if len(path.parts) > 1 else "."


FOLDERS = sorted({_folder(path) for path in _tracked()})


def ruled_out_words(text: str) -> Iterator[str]:
    """Yield each word that is ruled out, with its line number."""
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern in (_WORDS, _NOBODY):
            yield from (f"{number}: {match[0]}" for match in pattern.finditer(line))


def ruled_out_names(source: str) -> Iterator[str]:
    """Yield each name of a Python program that is ruled out, with its line number."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and _is_ruled_out(token.string):
            yield f"{token.start[0]}: {token.string}"


def ruled_out_names_of_shell(source: str) -> Iterator[str]:
    """Yield each variable and function of a shell program that is ruled out, with its line number."""
    for number, line in enumerate(source.splitlines(), start=1):
        match = _SHELL_NAME.match(line)
        if match is not None and _is_ruled_out(match[1]):
            yield f"{number}: {match[1]}"


def _is_ruled_out(name: str) -> bool:
    first = _WORD.match(name.lstrip("_"))
    return first is not None and first[0].lower() in _NAMES


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_word_is_ruled_out(folder: str) -> None:
    faults: list[str] = []
    for path in _tracked():
        if _folder(path) != folder:
            continue
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        words = [*ruled_out_words(text)]
        if path.suffix == ".py":
            words += ruled_out_names(text)
        elif path.suffix == ".sh":
            words += ruled_out_names_of_shell(text)
        faults += [f"{path}:{word}" for word in words]
    assert not faults, "these words are ruled out (see the top of this file):\n" + "\n".join(faults)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Whoever asks.", ["1: Whoever"]),
        ("It is made\nanew.", ["2: anew"]),
        ("Nobody answers.", ["1: Nobody"]),
        ('user = "nobody"', []),
        ("USER nobody:nogroup", []),
        ("amended, renewal", []),
        ("def test_somebody_else(): ...", []),
    ],
)
def test_words_are_recognized_as_a_whole(text: str, expected: list[str]) -> None:
    assert list(ruled_out_words(text)) == expected


@pytest.mark.parametrize(
    ("name", "is_ruled_out"),
    [
        ("found", True),
        ("_found", True),
        ("kept_volumes", True),
        ("WANTED", True),
        ("TroubleError", True),
        ("not_found", False),
        ("foundation", False),
        ("test_kept_volume", False),
    ],
)
def test_names_are_recognized_by_their_first_word(name: str, is_ruled_out: bool) -> None:  # noqa: FBT001 - a case
    assert bool(list(ruled_out_names(f"{name} = 1\n"))) is is_ruled_out
