"""Programs and configuration as a container receives them: without comments and docstrings, contract.py inlined.

A change of a delivered text replaces the container. So a reworded comment must not change the text, and a new constant
in contract.py must change only the programs that use it.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from open_webui_edge.runtime import contract

_FOLDER = Path(__file__).parent
# Python 3.12 and later take f-strings apart.
_IN_STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
_BEFORE_A_STATEMENT = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
_IMPORT = re.compile(r"(?m)^from open_webui_edge\.runtime\.contract import (?P<names>\([^)]*\)|.*)$")
# An escaped character, or a quoted text that ends; a backslash in single quotes is a plain character.
_WITHOUT_OPEN_QUOTE = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""")
_HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)")


@cache
def program(path: str) -> str:
    """Return the text of a program below runtime/.

    Args:
        path: such as open_webui/launch.py.

    """
    text = (_FOLDER / path).read_text(encoding="utf-8")
    return python(text) if path.endswith(".py") else shell(text)


def package(folder: str) -> dict[str, str]:
    """Return the modules of a package below runtime/, by file name."""
    return {file.name: program(f"{folder}/{file.name}") for file in sorted((_FOLDER / folder).glob("*.py"))}


def python(text: str) -> str:
    """Return Python without comments, docstrings and blank lines; imports from contract.py become values."""
    # By tokens: Python's parser, until 3.11.8, may fail where two threads use it at once, and Pulumi has threads.
    text = _IMPORT.sub(_values, text)
    lines = text.splitlines(keepends=True)
    for (first, begin), (last, end), replacement in sorted(_edits(_tokens(text)), reverse=True):
        lines[first - 1 : last] = [f"{lines[first - 1][:begin]}{replacement}{lines[last - 1][end:]}"]
    # A file without content is none to the Docker provider.
    return _without_blank_lines("".join(lines)) or "pass\n"


def shell(text: str) -> str:
    """Return a shell program without comments and blank lines; a comment that follows a command stays."""
    delivered: list[str] = []
    quote = ends = ""
    for number, line in enumerate(text.splitlines()):
        if ends:
            ends = "" if line == ends else ends
            delivered.append(line)
            continue
        if not quote:
            is_shebang = number == 0 and line.startswith("#!")
            if not line.strip() or (line.lstrip().startswith("#") and not is_shebang):
                continue
            heredoc = _HEREDOC.search(line)
            ends = heredoc[1] if heredoc else ""
        quote = _open_quote(line, quote)
        delivered.append(line)
    return "".join(f"{line}\n" for line in delivered)


def configuration(text: str) -> str:
    """Return a configuration, of Nginx or in YAML, without the lines that are comments, and one blank line at most.

    A quoted text that spans lines stays as it is.
    """
    delivered: list[str] = []
    quote = ""
    for line in text.splitlines():
        is_comment = not quote and line.lstrip().startswith("#")
        is_second_blank = not quote and not line.strip() and (not delivered or not delivered[-1].strip())
        if is_comment or is_second_blank:
            continue
        quote = _open_quote(line, quote)
        delivered.append(line)
    return "".join(f"{line}\n" for line in delivered)


def page(text: str) -> str:
    """Return an HTML page without the lines that are comments, of its own or of its scripts."""
    return re.sub(r"(?m)^[ \t]*(//.*|<!--[^\n]*-->)\n", "", text)


_Edit = tuple[tuple[int, int], tuple[int, int], str]
"""Where it begins and ends (line from 1, column in characters), and what is there instead."""


def _values(imported: re.Match[str]) -> str:
    names = re.findall(r"\w+", imported["names"])
    return "\n".join(f"{name} = {getattr(contract, name)!r}" for name in names)


def _edits(tokens: list[tokenize.TokenInfo]) -> Iterator[_Edit]:
    """Leave out comments, and statements that are nothing but text: docstrings."""
    for token in tokens:
        if token.type == tokenize.COMMENT and not (token.start == (1, 0) and token.string.startswith("#!")):
            yield token.start, token.end, ""
    code = [token for token in tokens if token.type not in {tokenize.COMMENT, tokenize.NL}]
    for before, token, after, following in zip([None, *code], code, code[1:], code[2:], strict=False):
        begins = before is None or before.type in _BEFORE_A_STATEMENT
        if begins and token.type == tokenize.STRING and after.type == tokenize.NEWLINE:
            is_whole_block = before is not None and before.type == tokenize.INDENT and following.type == tokenize.DEDENT
            yield token.start, token.end, "pass" if is_whole_block else ""


def _tokens(text: str) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(text).readline))


def _without_blank_lines(text: str) -> str:
    # A string that spans lines may hold blank ones, and spaces at their ends.
    in_strings: set[int] = set()
    for token in _tokens(text):
        if token.type in _IN_STRINGS:
            in_strings.update(range(token.start[0], token.end[0]))
    lines = text.splitlines()
    delivered = (
        line if n in in_strings else line.rstrip() for n, line in enumerate(lines, 1) if n in in_strings or line.strip()
    )
    return "".join(f"{line}\n" for line in delivered)


def _open_quote(line: str, quote: str) -> str:
    """Return the quotation mark that is open at the end of a line; `quote` is the one that was open at its start."""
    rest = _WITHOUT_OPEN_QUOTE.sub("", f"{quote}{line}")
    # Of the marks that are left, the first one is open, and the others are quoted by it.
    return next((character for character in rest if character in "'\""), "")
