"""What a container receives: the program, and nothing that is only for who reads it."""

import ast
import random
import re
import shutil
import subprocess
import tokenize
from io import StringIO
from pathlib import Path

import crossplane
import pytest
import yaml

from open_webui_edge.components.monitoring.rendering import rules
from open_webui_edge.runtime import contract, delivery
from tests.support.case_files import case_files, read_case
from tests.unit.test_rendering import rendered

FOLDER = Path(delivery.__file__).parent
PYTHON = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*.py") if path.read_text().strip())
SHELL = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*.sh"))
EXAMPLE = '''#!/usr/bin/env python3
"""What it is for."""

import os  # noqa: F401 - why
from open_webui_edge.runtime.contract import CONFIG_DIR, PORT

LIMIT = 3
"""What it limits."""


class Fault(Exception):
    """Says why."""


def first(text: str) -> str:
    """Return it."""
    # Why.
    if text == "# no comment":  # why
        return """a

# b"""
    return f"{text} # c"
'''
DELIVERED = '''#!/usr/bin/env python3
import os
CONFIG_DIR = '/run/open-webui-edge'
PORT = 8080
LIMIT = 3
class Fault(Exception):
    pass
def first(text: str) -> str:
    if text == "# no comment":
        return """a

# b"""
    return f"{text} # c"
'''


def test_comments_docstrings_and_blank_lines_stay_behind() -> None:
    assert delivery.python(EXAMPLE) == DELIVERED


def test_a_module_that_is_a_docstring_is_delivered_with_content() -> None:
    assert delivery.python('"""What it is for."""\n') == "pass\n"


@pytest.mark.parametrize("path", PYTHON)
def test_the_program_is_the_same(path: str) -> None:
    assert ast.dump(_bare((FOLDER / path).read_text())) == ast.dump(_bare(delivery.program(path)))


@pytest.mark.parametrize("path", PYTHON)
def test_no_comment_is_delivered(path: str) -> None:
    tokens = tokenize.generate_tokens(StringIO(delivery.program(path)).readline)
    assert not [token for token in tokens if token.type == tokenize.COMMENT and not token.string.startswith("#!")]


@pytest.mark.parametrize("path", PYTHON)
def test_other_comments_make_no_other_program(path: str) -> None:
    text = (FOLDER / path).read_text()
    chosen = random.Random(path)  # noqa: S311 - not for secrets
    first_lines = [node.lineno - 1 for node in ast.parse(text).body if not isinstance(node, ast.Expr)]
    lines = text.splitlines()
    for number in sorted(chosen.sample(first_lines, min(5, len(first_lines))), reverse=True):
        # Above a decorator as well as above a statement.
        above = min([number, *(_decorators(text, number))])
        lines[above:above] = ["", "# It's another reason.", ""]
    assert delivery.python("\n".join(lines)) == delivery.program(path)


def _decorators(text: str, number: int) -> list[int]:
    return [
        decorator.lineno - 1
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno - 1 == number
        for decorator in node.decorator_list
    ]


def _bare(text: str) -> ast.Module:
    """Parse it without docstrings, and with what it imports of the contract as values."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body: list[ast.stmt] = []
        for statement in node.body:
            if isinstance(statement, ast.ImportFrom) and statement.module == contract.__name__:
                values = [f"{alias.name} = {getattr(contract, alias.name)!r}" for alias in statement.names]
                body += ast.parse("\n".join(values)).body
            elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                body.append(statement)
        node.body = body or [ast.Pass()]
    return tree


@pytest.mark.parametrize("path", SHELL)
def test_a_shell_program_is_delivered_without_comments_and_can_be_read(path: str) -> None:
    text = delivery.program(path)
    assert not re.search(r"(?m)^\s*#(?!!)", text)
    # What is deleted is comments and blank lines alone.
    source_lines = iter((FOLDER / path).read_text().splitlines())
    dropped: list[str] = []
    for line in text.splitlines():
        while (skipped := next(source_lines)) != line:
            dropped.append(skipped)
    assert not [line for line in (*dropped, *source_lines) if line.strip() and not line.lstrip().startswith("#")]
    subprocess.run([shutil.which("sh") or "/bin/sh", "-n"], input=text, text=True, check=True)  # noqa: S603 - our own


def test_what_looks_like_a_comment_in_a_shell_text_stays() -> None:
    text = "#!/bin/sh\n# why\nsay 'one\n# two'\n\ncat << END\n# three\n\nEND\n  # four\nsay \"it's\"\n# five\n"
    expected = "#!/bin/sh\nsay 'one\n# two'\ncat << END\n# three\n\nEND\nsay \"it's\"\n"
    assert delivery.shell(text) == expected


@pytest.mark.parametrize("case", case_files("rendered"), ids=lambda path: path.stem)
def test_nginx_gets_the_same_configuration(case: Path, tmp_path: Path) -> None:
    text = rendered(read_case(case))
    delivered = delivery.configuration(text)
    assert not re.search(r"(?m)^\s*#", delivered)
    assert _parsed(delivered, tmp_path / "delivered") == _parsed(text, tmp_path / "rendered")


def _parsed(text: str, file: Path) -> object:
    file.write_text(text)
    parsed = crossplane.parse(str(file), single=True, comments=False)["config"][0]["parsed"]
    return _without_lines(parsed)


def _without_lines(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_lines(item) for key, item in value.items() if key != "line"}
    return [_without_lines(item) for item in value] if isinstance(value, list) else value


def test_a_quoted_text_of_nginx_may_look_like_a_comment() -> None:
    text = "# why\nlog_format json '{\n# not one\n}';\n\n\n# why\nserver {\n    # why\n    listen 80;\n}\n"
    assert delivery.configuration(text) == "log_format json '{\n# not one\n}';\n\nserver {\n    listen 80;\n}\n"


def test_prometheus_gets_the_same_rules() -> None:
    written = (Path(__file__).parents[2] / "components/monitoring/rules").glob("*.yaml")
    assert {name: yaml.safe_load(text) for name, text in rules().items()} == {
        file.name: yaml.safe_load(file.read_text()) for file in written
    }
    assert not re.search(r"(?m)^\s*#", "".join(rules().values()))


def test_a_page_keeps_all_but_its_comments() -> None:
    page = "<p>\n<!-- why -->\n  // why\n  fetch('https://a'); // stays\n</p>\n"
    assert delivery.page(page) == "<p>\n  fetch('https://a'); // stays\n</p>\n"
