"""From words on the command line to a diagnosis, and from that to what a person sees."""

import argparse
import json
import os
import shutil
import ssl
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from open_webui_edge.diagnostics import inside, outside
from open_webui_edge.diagnostics.question import Diagnosis, Question, diagnose
from open_webui_edge.diagnostics.report import document, page, table
from open_webui_edge.diagnostics.subject import Subject

_WRONG_WORDS = 64
"""As sysexits.h calls wrong usage: what a diagnosis ends with is 0, 1 or 2."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with one sentence."""
        self.exit(_WRONG_WORDS, f"{self.prog}: {message}\n")


def run(arguments: Sequence[str]) -> int:
    """Diagnose a URL, and return the exit code: 0 OK, 1 warnings, 2 failures."""
    parser = _Parser(prog="diagnostics", description="Ask a running Open WebUI what a user would ask.")
    parser.add_argument("--url", required=True, help="where it is, such as https://chat.example.com")
    parser.add_argument("--address", help="where to connect to, instead of asking for the name")
    parser.add_argument("--ca", type=Path, help="a PEM file with a CA to trust in addition to the public ones")
    parser.add_argument("--token-file", type=Path, help="a file with an account's API key, to time a model's answer")
    parser.add_argument("--long", action="store_true", help="ask what takes minutes, too")
    parser.add_argument("--json", action="store_true", help="write JSON instead of a table")
    parser.add_argument("--html", type=Path, help="write the report to this file, too")
    asked = parser.parse_args(arguments)
    problem = wrong_url(asked.url)
    if problem:
        parser.error(problem)
    try:
        trust = asked.ca.read_text(encoding="utf-8") if asked.ca else None
        token = asked.token_file.read_text(encoding="utf-8").strip() if asked.token_file else None
    except (OSError, ValueError) as fault:
        parser.error(f"a file cannot be read: {fault}")
    problem = _wrong_authority(trust) or ("the file of --token-file is empty" if token == "" else "")
    if problem:
        parser.error(problem)
    subject = Subject(asked.url.rstrip("/"), address=asked.address, trust=trust, token=token, long=asked.long)
    return report(examine(subject), as_json=asked.json, html=asked.html)


def _wrong_authority(pem: str | None) -> str:
    try:
        if pem is not None:
            ssl.create_default_context(cadata=pem)
    except ssl.SSLError:
        return "the file of --ca holds no certificate in PEM form"
    return ""


def wrong_url(url: str) -> str:
    """Return what is wrong with a URL; "" where nothing is."""
    try:
        parts = urlsplit(url)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_one = urlsplit(""), False
    if parts.scheme not in {"https", "http"} or not parts.hostname or not port_is_one:
        return f"{url!r} is no address of a site; write one such as https://chat.example.com"
    if parts.path.strip("/") or parts.query or parts.fragment:
        return f"{url!r} has a path, and Open WebUI is always at the top of its name; write https://{parts.netloc}"
    if parts.username is not None:
        return "a URL with a user or password in it would be in the report; write it without"
    return ""


def examine(subject: Subject) -> Diagnosis:
    """Ask all questions that can be asked of it, with progress on standard error."""
    further = inside.QUESTIONS if subject.inside is not None else ()
    # Who sees a stack from both sides asks the same better.
    better = {question.id for question in further}
    questions = (*(question for question in outside.QUESTIONS if question.id not in better), *further)
    return diagnose(subject, questions, _progress(len(questions)))


def report(diagnosis: Diagnosis, *, as_json: bool, html: Path | None) -> int:
    """Write what came of it: to standard output, and the page to a file; return the exit code."""
    written = html is not None and _is_written(page(diagnosis), html)
    if as_json:
        sys.stdout.write(json.dumps(document(diagnosis), indent=2) + "\n")
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        width = min(shutil.get_terminal_size((100, 24)).columns, 120)
        sys.stdout.write(table(diagnosis, colour=colour, width=width) + "\n")
        if written:
            sys.stdout.write(f"\nThe same with a picture: {html}\n")
    sys.stdout.flush()
    return diagnosis.exit_code


def _is_written(text: str, file: Path) -> bool:
    """Write the page; where that cannot be, the answer on the terminal counts all the same."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as fault:
        sys.stderr.write(f"{file} could not be written: {fault.strerror}.\n")
        return False
    return True


def _progress(number: int) -> Callable[[Question], None]:
    done = count(1)

    def ends(question: Question) -> None:
        position = next(done)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{position} of {number}: {question.title}")
            sys.stderr.write("\r\x1b[K" if position == number else "")
            sys.stderr.flush()

    return ends
