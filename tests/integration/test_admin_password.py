"""An administrator who has forgotten the password gets another one."""

import json
import os
import pty
import re
import subprocess

import pytest

from open_webui_edge.benchmarks.open_webui_client import OpenWebUIError
from tests.integration.conftest import ADMIN_PASSWORD
from tests.support.stack import StackUnderTest

EMAIL = "admin@example.com"


def test_a_password_from_standard_input_opens_the_account_and_ends_its_sessions(chat: StackUnderTest) -> None:
    try:
        with chat.client() as before, chat.client() as after:
            before.sign_in(EMAIL, ADMIN_PASSWORD)
            said = _reset(chat, "PASSWORD=stdin", given="another password, ü\n")
            assert f"{EMAIL} has a new password." in said
            assert "another password" not in said
            with pytest.raises(OpenWebUIError, match="401"):
                before.user()
            with pytest.raises(OpenWebUIError, match="400"):
                after.sign_in(EMAIL, ADMIN_PASSWORD)
            after.sign_in(EMAIL, "another password, ü")
            assert after.user()["role"] == "admin"
    finally:
        _reset(chat, "PASSWORD=stdin", given=f"{ADMIN_PASSWORD}\n")


def test_a_made_one_is_shown_once_on_the_terminal_and_is_in_no_log(chat: StackUnderTest) -> None:
    ours, theirs = pty.openpty()
    try:
        ended = subprocess.run(  # noqa: S603 - our own words
            ["make", "--no-print-directory", "reset-admin-password", f"STACK={chat.name}", f"ACCOUNT={EMAIL.upper()}"],  # noqa: S607
            cwd=chat.workshop.directory,
            env=dict(chat.workshop.environment),
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        password = os.read(ours, 1000).decode().strip()
        assert re.fullmatch(r"[A-Za-z0-9_-]{20}", password)
        assert password not in ended.stderr
        with chat.client() as client:
            client.sign_in(EMAIL, password)
        container = chat.container("open-webui")
        assert password not in container.logs().decode()
        assert password not in json.dumps(container.attrs)
    finally:
        os.close(ours)
        os.close(theirs)
        _reset(chat, "PASSWORD=stdin", given=f"{ADMIN_PASSWORD}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["PASSWORD=hunter22"], "A password on a command line can be read by others"),
        (["PASSWORD=stdin"], "PASSWORD: is too short; write at least 8 characters"),
        ([], "A generated password is shown once, on a terminal, and there is none"),
        (
            ["ACCOUNT=nobody@example.com", "PASSWORD=stdin"],
            "nobody@example.com is not an administrator; administrators: ",
        ),
        (["STACK=it-absent", "PASSWORD=stdin"], "No Open WebUI of the stack it-absent runs"),
    ],
    ids=["argv", "short", "no terminal", "nobody", "no stack"],
)
def test_what_cannot_be_changes_nothing(chat: StackUnderTest, words: list[str], said: str) -> None:
    given = "short\n" if "short" in said else "another password\n"
    ended = chat.workshop.run("make", "reset-admin-password", f"STACK={chat.name}", *words, given=given).failed()
    assert said in ended.output
    with chat.client() as client:
        client.sign_in(EMAIL, ADMIN_PASSWORD)


def _reset(stack: StackUnderTest, *words: str, given: str) -> str:
    asked = ("make", "reset-admin-password", f"STACK={stack.name}", *words)
    return stack.workshop.run(*asked, given=given).succeeded().output
