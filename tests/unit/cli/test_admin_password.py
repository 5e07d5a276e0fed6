"""A forgotten password: what the container is told, what it does to a database, and what a person may say."""

import io
import json
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.cli import admin_password
from open_webui_edge.runtime.open_webui import set_password

NEW = "correct horse 'battery' \"staple\" ü; $x"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tables of Open WebUI 0.12, with two administrators and a user."""
    file = tmp_path / "webui.db"
    with sqlite3.connect(file) as connection:
        connection.executescript(
            """
            CREATE TABLE auth (id TEXT, email TEXT, password TEXT, active BOOLEAN, session_stamp TEXT);
            CREATE TABLE user (id TEXT, email TEXT, role TEXT);
            INSERT INTO auth VALUES ('1', 'Ada@example.com', '$2b$12$x', 1, 'before');
            INSERT INTO auth VALUES ('2', 'grace@example.com', '$argon2id$x', 1, 'before');
            INSERT INTO auth VALUES ('3', 'user@example.com', '$2b$12$x', 1, 'before');
            INSERT INTO user VALUES ('1', 'ada@example.com', 'admin'), ('2', 'grace@example.com', 'admin');
            INSERT INTO user VALUES ('3', 'user@example.com', 'user');
            """
        )
    given = tmp_path / "environment.json"
    given.write_text(json.dumps({"environment": {"DATA_DIR": str(tmp_path), "ENABLE_PASSWORD_AUTH": "true"}}))
    monkeypatch.setattr(set_password, "ENVIRONMENT_FILE", given)
    for name in ("DATABASE_URL", "REDIS_URL", "DATA_DIR", "ENABLE_PASSWORD_AUTH"):
        # Restored afterwards, whatever the code under test sets.
        monkeypatch.setenv(name, "")
    monkeypatch.setitem(
        sys.modules, "bcrypt", SimpleNamespace(hashpw=lambda word, _: b"bcrypt of " + word, gensalt=lambda: b"")
    )
    monkeypatch.setitem(
        sys.modules,
        "argon2",
        SimpleNamespace(PasswordHasher=lambda: SimpleNamespace(hash=lambda word: f"argon2 {word}")),
    )
    return file


def accounts(file: Path) -> dict[str, tuple[str, ...]]:
    with sqlite3.connect(file) as connection:
        return {row[0]: row[1:] for row in connection.execute("SELECT id, password, session_stamp FROM auth")}


def test_one_account_changes_and_its_sessions_end(database: Path) -> None:
    before = accounts(database)
    said = set_password.main({"email": "ada@example.com", "password": NEW})
    after = accounts(database)
    assert said == {"email": "ada@example.com", "ended": True, "password_auth": True}
    assert after["1"][0] == f"bcrypt of {NEW}"
    assert after["1"][1] != "before"
    assert {key: value for key, value in after.items() if key != "1"} == {
        key: value for key, value in before.items() if key != "1"
    }


def test_the_hash_is_of_the_kind_that_was_there(database: Path) -> None:
    set_password.main({"email": "grace@example.com", "password": NEW})
    assert accounts(database)["2"][0] == f"argon2 {NEW}"


@pytest.mark.parametrize("email", [None, "user@example.com", "nobody@example.com"])
def test_whom_it_cannot_be_for_is_answered_with_who_there_is(database: Path, email: str | None) -> None:
    before = accounts(database)
    said = set_password.main({"email": email, "password": NEW})
    assert said == {"administrators": ["ada@example.com", "grace@example.com"]}
    assert accounts(database) == before


def test_the_only_administrator_need_not_be_named(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE user SET role = 'user' WHERE id = '2'")
    assert set_password.main({"email": None, "password": NEW})["email"] == "ada@example.com"


def test_a_version_without_stamps_says_that_sessions_go_on(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE auth DROP COLUMN session_stamp")
    said = set_password.main({"email": "ada@example.com", "password": NEW})
    assert said["ended"] is False
    assert "stay valid until Open WebUI expires them" in admin_password.follow_up(said)


def test_a_password_on_the_command_line_is_refused() -> None:
    with pytest.raises(ProblemError, match=r"PASSWORD=stdin and pass it on standard input"):
        admin_password.new_password("hunter22")


def test_none_is_made_where_nobody_would_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(ProblemError, match="is shown once, on a terminal, and there is none"):
        admin_password.new_password("")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("short\n", "PASSWORD: is too short; write at least 8 characters"),
        ("x" * 73, "PASSWORD: is too long; write at most 72 bytes"),
        ("", "PASSWORD: is too short"),
        ("hunter\t22", "PASSWORD: contains a control character"),
    ],
)
def test_a_password_that_open_webui_would_not_take_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    with pytest.raises(ProblemError) as refused:
        admin_password.new_password("stdin")
    assert str(refused.value).startswith(said)
    assert "hunter" not in str(refused.value)


def test_it_is_read_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{NEW}\r\n"))
    assert admin_password.new_password("stdin") == (NEW, False)


def test_the_end_of_input_at_the_prompt_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("getpass.getpass", ended)
    with pytest.raises(ProblemError, match=r"^No password was given, so nothing was changed\.$"):
        admin_password.new_password("stdin")


def test_a_stack_that_does_not_run_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_password.containers, "of_stack", lambda *_: [])
    with pytest.raises(ProblemError, match="No Open WebUI of the stack local runs; `make up STACK=local` starts it"):
        admin_password.set_for(Engine("unix:///nowhere", "a test", ("docker",)), "local", None, NEW)
