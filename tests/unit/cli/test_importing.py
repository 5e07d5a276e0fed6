"""What people have becomes a stack file: a case a file, with the whole report and the whole stack file."""

import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import yaml

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.importing import command, report, stack_file, storage
from open_webui_edge.cli.importing.translation import Translation, secrets_in
from open_webui_edge.settings.open_webui import DERIVED_VARIABLES
from open_webui_edge.settings.reading import encrypted_paths, read_settings
from tests.support.case_files import CASES
from tests.support.imported_cases import ImportCase, InventedEngine, import_cases, read_import_case


@pytest.fixture(params=import_cases(), ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> ImportCase:
    return read_import_case(request.param)


def imported(case: ImportCase, folder: Path) -> tuple[Translation, str]:
    case.lay_out(folder)
    typed = io.TextIOWrapper(io.BytesIO(case.files.get("stdin", "").encode()))
    with patch("sys.stdin", typed):
        return command.translate(case.given, folder, case.stack, InventedEngine(case.engine))


def stack_file_of(made: Translation) -> str:
    """With the clear text of each secret where Pulumi would put its own."""
    secrets = dict(secrets_in(made.tree))
    return stack_file.text(made, lambda path: {"secure": str(secrets[path])}, {})


def test_report_and_stack_file_are_what_the_case_says(case: ImportCase, tmp_path: Path, *, update: bool) -> None:
    folder = tmp_path / "old"
    try:
        made, said = imported(case, folder)
        # As wide as it is for every user, whatever the folder's length.
        here, there = str(folder), "/home/me/old"
        made.rows = [
            replace(row, what=row.what.replace(here, there), text=row.text.replace(here, there)) for row in made.rows
        ]
        made.to_do = [point.replace(here, there) for point in made.to_do]
        before = storage.conflicts(made)
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
    reported = [re.split(r"[: ]", row.what)[0] for row in made.rows]
    for name in [*made.source.variables, *made.source.interpolated, *made.source.unused]:
        assert reported.count(name) >= 1, name


def test_every_variable_that_the_program_derives_is_in_a_case() -> None:
    (path,) = [path for path in import_cases() if path.stem == "env-every-variable"]
    (text,) = read_import_case(path).files.values()
    written = set(re.findall(r"^([A-Z0-9_]+)=", text, re.MULTILINE))
    assert set(DERIVED_VARIABLES) - written <= {
        # The parts of a DATABASE_URL, and names that another one stands for, have cases of their own.
        *("DATABASE_HOST", "DATABASE_NAME", "DATABASE_PASSWORD", "DATABASE_PORT", "DATABASE_TYPE", "DATABASE_USER"),
        "WEBUI_JWT_SECRET_KEY",
    }


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.env").write_text("A=1")

    def refused(_: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(ProblemError) as problem:
        command.translate(["secret.env"], tmp_path, "chat", InventedEngine({}))
    assert str(problem.value) == (
        "secret.env cannot be read by this user; fix its permissions or run as a user who can read it."
    )


@pytest.mark.parametrize("content", [b"A=\xff\xfe", b"A=\0"], ids=["latin", "binary"])
def test_a_file_that_is_no_text_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.env").write_bytes(content)
    with pytest.raises(ProblemError) as problem:
        command.translate(["a.env"], tmp_path, "chat", InventedEngine({}))
    assert str(problem.value) == ("a.env is not text in UTF-8; FROM names a .env, compose, run.sh or Nginx site file.")


@pytest.mark.parametrize("fault", [AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError])
@pytest.mark.parametrize(
    ("name", "text", "reader", "words"),
    [
        (
            "compose.yaml",
            "services: {}",
            "compose.read",
            "this is not of the shape of a compose file; `docker compose config` says where.",
        ),
        (
            "run.sh",
            "docker run a",
            "docker_run.read",
            "this is not of the shape of a script with a `docker run`; `bash -n` says where.",
        ),
        (
            "site.conf",
            "server {}",
            "nginx_site.read",
            "this is not of the shape of an Nginx site; `nginx -t` says where.",
        ),
        (
            "my.env",
            "A=1",
            "env_files.variables_in",
            "this is not of the shape of a .env file; each of its lines is NAME=value.",
        ),
    ],
    ids=["compose", "run", "nginx", "env"],
)
def test_what_nobody_thought_of_is_told_with_its_file(  # noqa: PLR0913, PLR0917 - a table
    fault: type[Exception],
    name: str,
    text: str,
    reader: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / name).write_text(text)

    def broken(*_: object) -> None:
        raise fault

    monkeypatch.setattr(f"open_webui_edge.cli.importing.{reader}", broken)
    with pytest.raises(ProblemError) as problem:
        command.translate([name], tmp_path, "chat", InventedEngine({}))
    assert str(problem.value) == f"{name}: {words}"


def test_a_quote_in_from_that_stays_open_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM", 'a "b')
    with pytest.raises(ProblemError, match=r"^FROM=a \"b has a quote that is not closed\.$"):
        command.given_sources()


class FakeStack:
    """A stack whose Pulumi refuses, or that is up already."""

    name = "chat"

    def __init__(self, resources: list[dict[str, str]], executable: str = "false") -> None:
        self._resources = resources
        self.pulumi = SimpleNamespace(executable=executable)
        self.environment = dict(os.environ)

    def exists(self) -> bool:
        return True

    def resources(self) -> list[dict[str, str]]:
        return self._resources


def made_of(folder: Path) -> Translation:
    (folder / ".env").write_text("SOME_TOKEN=s3cret\nWEBUI_NAME=Chat\n")
    made, _ = command.translate([".env"], folder, "chat", InventedEngine({"silent": "none"}))
    return made


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (FakeStack([{"urn": "urn:…"}]), "There is a stack chat already, and it is up, though its file is not here"),
        (FakeStack([]), "Pulumi did not encrypt open_webui.environment.SOME_TOKEN"),
    ],
    ids=["it is up", "Pulumi refuses"],
)
def test_where_a_stack_cannot_be_written_no_half_file_is_left(target: Any, words: str, tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.chat.yaml"
    with pytest.raises(ProblemError, match=re.escape(words)):
        stack_file.write(made_of(tmp_path), target, file, tmp_path)
    assert not file.exists()
    assert not any("s3cret" in path.read_text() for path in tmp_path.glob("*.yaml"))


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.local.yaml"
    command.refuse_existing("local", file)
    file.write_text("config: {}\n")
    with pytest.raises(ProblemError) as problem:
        command.refuse_existing("local", file)
    assert str(problem.value) == (
        "stacks/Pulumi.local.yaml exists already, and an import writes over nothing: choose another name"
        " (STACK=local-imported), or move that file away."
    )


def test_there_are_enough_cases() -> None:
    assert len(import_cases()) >= 25
    assert CASES.joinpath("imported").is_dir()


def _in_clear(value: object) -> object:
    if isinstance(value, dict):
        return value["secure"] if set(value) == {"secure"} else {key: _in_clear(item) for key, item in value.items()}
    return [_in_clear(item) for item in value] if isinstance(value, list) else value
