"""What people have becomes a stack file: a case a file, with the whole report and the whole stack file."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

from bootstrap.importing import command, report, stack_file, storage
from bootstrap.importing.translation import Translation, secrets_in
from bootstrap.problem import ProblemError
from stacks.open_webui import DERIVED_VARIABLES
from stacks.settings import encrypted_paths, read_settings
from tests.support.case_files import CASES
from tests.support.imported_cases import ImportCase, InventedEngine, import_cases, read_import_case


@pytest.fixture(params=import_cases(), ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> ImportCase:
    return read_import_case(request.param)


def imported(case: ImportCase, folder: Path) -> tuple[Translation, str]:
    case.lay_out(folder)
    typed = io.TextIOWrapper(io.BytesIO(case.files.get("stdin", "").encode()))
    with patch("sys.stdin", typed):
        return command.translated(case.given, folder, case.stack, InventedEngine(case.engine))


def stack_file_of(made: Translation) -> str:
    """With the clear text of each secret where Pulumi would put its own."""
    secrets = dict(secrets_in(made.tree))
    return stack_file.text(made, lambda path: {"secure": str(secrets[path])}, {})


def test_report_and_stack_file_are_what_the_case_says(case: ImportCase, tmp_path: Path, *, update: bool) -> None:
    folder = tmp_path / "old"
    try:
        made, said = imported(case, folder)
        # As wide as it is for somebody, and not for who has a longer folder.
        here, there = str(folder), "/home/me/old"
        made.rows = [
            replace(row, what=row.what.replace(here, there), text=row.text.replace(here, there)) for row in made.rows
        ]
        made.to_do = [point.replace(here, there) for point in made.to_do]
        before = storage.in_the_way(made)
        assert here in said or report.report(made, before=before) == said
        result = f"{report.report(made, before=before)}\n----\n{stack_file_of(made)}"
    except ProblemError as problem:
        result = f"{problem}\n"
    if update:
        case.rewrite(result)
    else:
        assert result == case.expected


def test_every_stack_file_is_taken_by_the_loader_of_every_stack(case: ImportCase, tmp_path: Path) -> None:
    try:
        made, _ = imported(case, tmp_path)
    except ProblemError:
        return
    document = yaml.safe_load(stack_file_of(made))
    encrypted = encrypted_paths(document["config"])
    config = {key: json.dumps(_in_clear(value)) for key, value in document["config"].items()}
    topics = {f"open-webui-edge:{path.partition('.')[0]}" for path in encrypted}
    read_settings(config, secret_keys=topics, source="made", encrypted_paths=encrypted)


def test_no_secret_is_told(case: ImportCase, tmp_path: Path) -> None:
    try:
        made, said = imported(case, tmp_path)
    except ProblemError as problem:
        made, said = None, str(problem)
    for secret in ("hunter22", "sk-first", "sk-second", "s3cret", "correct-horse"):
        assert secret not in said
    for _, secret in secrets_in(made.tree) if made else ():
        assert str(secret) not in said


def test_every_variable_has_one_row(case: ImportCase, tmp_path: Path) -> None:
    try:
        made, _ = imported(case, tmp_path)
    except ProblemError:
        return
    told = [re.split(r"[: ]", row.what)[0] for row in made.rows]
    for name in [*made.found.variables, *made.found.filled, *made.found.unused]:
        assert told.count(name) >= 1, name


def test_every_variable_that_the_program_derives_is_in_a_case() -> None:
    (path,) = [path for path in import_cases() if path.stem == "env-every-variable"]
    (text,) = read_import_case(path).files.values()
    written = set(re.findall(r"^([A-Z0-9_]+)=", text, re.MULTILINE))
    assert set(DERIVED_VARIABLES) - written <= {
        # The parts of a DATABASE_URL, and names that another one stands for, have cases of their own.
        *("DATABASE_HOST", "DATABASE_NAME", "DATABASE_PASSWORD", "DATABASE_PORT", "DATABASE_TYPE", "DATABASE_USER"),
        "WEBUI_JWT_SECRET_KEY",
    }


def test_there_are_enough_cases() -> None:
    assert len(import_cases()) >= 25
    assert CASES.joinpath("imported").is_dir()


def _in_clear(value: object) -> object:
    if isinstance(value, dict):
        return value["secure"] if set(value) == {"secure"} else {key: _in_clear(item) for key, item in value.items()}
    return [_in_clear(item) for item in value] if isinstance(value, list) else value
