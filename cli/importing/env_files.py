"""Reads text files and .env files, with a message for each way to fail."""

import re
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from open_webui_edge.bootstrap.console import ProblemError

_LARGEST = 4 << 20


def text_of(path: Path, shown: str) -> str:
    """Return a file's text; raise ProblemError if it does not exist, cannot be read, or is not text."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ProblemError(f"{shown} is larger than 4 MiB, so it is not a settings file; name another one in FROM.")
        return text_in(path.read_bytes(), shown)
    except FileNotFoundError:
        raise ProblemError(f"There is no file {shown}; FROM=… names the files to read, or a folder.") from None
    except PermissionError:
        raise ProblemError(
            f"{shown} cannot be read by this user; fix its permissions or run as a user who can read it."
        ) from None
    except IsADirectoryError:
        raise ProblemError(f"{shown} is a folder, not a file; name the file in it.") from None
    except OSError as fault:
        raise ProblemError(f"{shown} cannot be read ({fault.strerror}); name another file.") from None


def path_in(folder: Path, written: str, where: str) -> Path:
    """Return a path with ~ expanded, relative to a folder; raise ProblemError for the home of an unknown user."""
    try:
        return folder / Path(written).expanduser()
    except RuntimeError:
        raise ProblemError(
            f"{where}: {written} is below the home of a user whom this machine does not have; write the whole path."
        ) from None


def text_in(content: bytes, shown: str) -> str:
    """Return what bytes say; raise ProblemError if they are no text."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ProblemError(f"{shown} is not text in UTF-8; FROM names a .env, compose, run.sh or Nginx site file.")
    return text.replace("\r\n", "\n")


def variables_in(text: str, shown: str) -> dict[str, str | None]:
    """Return a .env file's variables by python-dotenv's rules (None without =); raise ProblemError for other lines."""
    raw: dict[str, str | None] = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            line = binding.original.line + len(re.match(r"\s*", binding.original.string)[0].split("\n")) - 1  # type: ignore[index] - it always matches
            raise ProblemError(f"{shown}: line {line}: this is not NAME=value; fix the line or put a # before it.")
        if binding.key is not None:
            raw[binding.key] = binding.value
    known: dict[str, str | None] = {}
    for name, value in raw.items():
        known[name] = value if value is None else substituted(value, known, lambda _: "", bare=False)
    return known


def literal_variables_in(text: str, shown: str) -> dict[str, str | None]:
    """Return the variables of a file for `docker run --env-file`, where quotes and blanks belong to the value.

    Raises:
        ProblemError: a line is something else.

    """
    variables: dict[str, str | None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.lstrip().partition("=")
        if not name or any(character.isspace() for character in name):
            raise ProblemError(f"{shown}: line {number}: this is not NAME=value; fix the line or put a # before it.")
        variables[name] = value if equals else None
    return variables


_REFERENCE = re.compile(r"\$(\{|\$|[A-Za-z_][A-Za-z0-9_]*)")
_IN_BRACES = re.compile(r"\$(\{)")
_EXPRESSION = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:?)(.?)(.*)", re.DOTALL)
"""A name, whether an empty value counts as none, an operator, and its text."""


def substituted(text: str, known: Mapping[str, str | None], missing: Callable[[str], str], *, bare: bool = True) -> str:
    """Interpolate ${NAME}, ${NAME:-default} and the like, by compose's documented rules.

    `missing` returns the text for a name without value and default, or raises. Without `bare`, $NAME is not replaced.
    """
    result = ""
    while match := (_REFERENCE if bare else _IN_BRACES).search(text):
        result += text[: match.start()]
        text = text[match.end() :]
        if match[1] == "{":
            end = _closing(text)
            result += _expression(text[:end], known, missing, bare=bare)
            text = text[end + 1 :]
        elif match[1] == "$":
            result += "$"
        else:
            value = known.get(match[1])
            result += missing(match[1]) if value is None else value
    return result + text


def _closing(text: str) -> int:
    """Return where the brace is that closes one before the text."""
    depth = 1
    for match in re.finditer(r"\$\{|\}", text):
        depth += -1 if match[0] == "}" else 1
        if depth == 0:
            return match.start()
    return len(text)


def _expression(words: str, known: Mapping[str, str | None], missing: Callable[[str], str], *, bare: bool) -> str:
    match = _EXPRESSION.match(words)
    if match is None:
        return "${" + words + "}"
    name, colon, operator, otherwise = match.groups()
    value = (known.get(name) or None) if colon else known.get(name)
    if operator == "+":
        return "" if value is None else substituted(otherwise, known, missing, bare=bare)
    if value is not None:
        return value
    if operator == "-":
        return substituted(otherwise, known, missing, bare=bare)
    return missing(name if operator != "?" else f"{name}?{otherwise}")
