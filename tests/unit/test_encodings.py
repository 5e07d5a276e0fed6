"""Text is UTF-8 in every locale: no file and no pipe is read or written in the locale's encoding."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.machine import ROOT

_OF_TEXT = {"read_text", "write_text"}
_OPEN = {"open", "fdopen", "NamedTemporaryFile", "TemporaryFile"}
_OTHERS = {"tarfile", "gzip", "zipfile", "webbrowser", "os", "Image"}
"""Modules with an `open` of another kind; `os.fdopen` is one of ours all the same."""
_PIPES = {"run", "Popen", "check_output"}


def calls_without_encoding(source: str) -> Iterator[ast.Call]:
    """Yield the calls of a program that leave the encoding of text to the locale."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _is_of_text(node) and "encoding" not in {word.arg for word in node.keywords}:
            yield node


def _is_of_text(call: ast.Call) -> bool:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    owner = getattr(function.value, "id", "") if isinstance(function, ast.Attribute) else ""
    given = {word.arg: word.value for word in call.keywords}
    if None in given:
        # Words that are passed on are another call's.
        return False
    if name in _OF_TEXT:
        # `encoding` may be given by its place.
        return len(call.args) < (1 if name == "read_text" else 2)
    if name in _OPEN and (owner not in _OTHERS or name == "fdopen"):
        return _is_text_mode(name, owner, call, given)
    if name in _PIPES and owner == "subprocess":
        return any(isinstance(given.get(word), ast.Constant) for word in ("text", "universal_newlines"))
    return False


def _is_text_mode(name: str, owner: str, call: ast.Call, given: dict[str | None, ast.expr]) -> bool:
    # A file is the first word of the function, and the owner of the method.
    is_method = name == "open" and isinstance(call.func, ast.Attribute) and owner != "io"
    place = 0 if is_method or name.endswith("TemporaryFile") else 1
    mode = given.get("mode") or (call.args[place] if len(call.args) > place else None)
    if mode is None:
        return not name.endswith("TemporaryFile")
    return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" not in mode.value


def _programs() -> list[str]:
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True).stdout.split()  # noqa: S603 - our own words


def test_no_program_leaves_the_encoding_to_the_locale() -> None:
    result = [
        f"{file}:{call.lineno}"
        for file in _programs()
        # Tests write what they read themselves.
        if not file.startswith("tests/") and (ROOT / file).exists()
        for call in calls_without_encoding((ROOT / file).read_text(encoding="utf-8"))
    ]
    assert not result, f"give these encoding='utf-8': {' '.join(result)}"


def test_other_programs_are_spoken_to_in_utf_8_where_the_locale_has_another_encoding() -> None:
    script = "from bootstrap import command; print(ascii(command.attempt(['cat'], given='Z\\xfcrich\\u2026').stdout))"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-X", "utf8=0", "-c", script]
    answer = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, check=False)  # noqa: S603 - ours
    assert (answer.stdout, answer.stderr) == (b"'Z\\xfcrich\\u2026'\n", b"")


@pytest.mark.parametrize(
    ("call", "is_found"),
    [
        ("path.read_text()", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text(text)", True),
        ("path.write_text(text, 'utf-8')", False),
        ("open(name)", True),
        ("open(name, 'rb')", False),
        ("path.open()", True),
        ("path.open('w')", True),
        ("path.open('ab')", False),
        ("os.fdopen(number, 'w')", True),
        ("os.open(name, flags)", False),
        ("tarfile.open(name)", False),
        ("tempfile.NamedTemporaryFile()", False),
        ("tempfile.NamedTemporaryFile('w')", True),
        ("subprocess.run(words, text=True)", True),
        ("subprocess.run(words, text=True, encoding='utf-8')", False),
        ("subprocess.run(words)", False),
    ],
)
def test_what_is_found(call: str, *, is_found: bool) -> None:
    assert bool(list(calls_without_encoding(call))) is is_found
