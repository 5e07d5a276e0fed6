"""A new password for an administrator who has forgotten theirs."""

import getpass
import json
import secrets
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr, TypeAdapter, ValidationError

from open_webui_edge.bootstrap import command
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.cli import containers
from open_webui_edge.runtime import delivery
from open_webui_edge.settings.open_webui import Password

_RANDOM_BYTES = 15


def new_password(how: str) -> tuple[str, bool]:
    """Return the password for `how` (PASSWORD: "" or stdin), and whether to show it, or raise a ProblemError."""
    if how == "stdin":
        return _given(), False
    if how:
        raise ProblemError(
            "A password on a command line can be read by others and stays in the shell's history; write PASSWORD=stdin"
            " and pass it on standard input, or omit PASSWORD to generate one."
        )
    if not sys.stdout.isatty():
        raise ProblemError(
            "A generated password is shown once, on a terminal, and there is none; PASSWORD=stdin reads one from"
            " standard input."
        )
    return secrets.token_urlsafe(_RANDOM_BYTES), True


def _given() -> str:
    try:
        text = getpass.getpass("New password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    except EOFError:
        raise ProblemError("No password was given, so nothing was changed.") from None
    try:
        TypeAdapter(Password).validate_python(SecretStr(text))
    except ValidationError as error:
        (fault,) = error.errors(include_url=False, include_input=False)
        raise ProblemError(f"PASSWORD: {fault.get('ctx', {}).get('error', fault['msg'])}") from None
    return text


def set_for(host: Engine, stack: str, email: str | None, password: str) -> dict[str, Any]:
    """Set an account's password, or the only administrator's, or raise; return `email`, `ended` and `password_auth`."""
    running = [one for one in containers.of_stack(host, stack, "open-webui") if one["State"]["Status"] == "running"]
    if not running:
        raise ProblemError(f"No Open WebUI of the stack {stack} runs; `make up STACK={stack}` starts it.")
    name = running[0]["Name"].lstrip("/")
    program = delivery.program("open_webui/set_password.py")
    ended = command.attempt(
        [*host.client, "exec", "--interactive", name, "python3", "-c", program],
        given=json.dumps({"email": None if email is None else email.lower(), "password": password}),
    )
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ProblemError(f"The application's container {name} could not set it, and nothing was changed: {last}")
    said: dict[str, Any] = json.loads(ended.stdout)
    if "email" not in said:
        raise ProblemError(_no_such_administrator(email, said["administrators"]))
    return said


def _no_such_administrator(email: str | None, administrators: list[str]) -> str:
    if not administrators:
        return "There are no accounts yet; the first user to sign up becomes the administrator. Nothing was changed."
    there = ", ".join(administrators)
    if email is None:
        return f"There are several administrators ({there}); choose one: ACCOUNT=…. Nothing was changed."
    return (
        f"{email} is not an administrator; administrators: {there}. They set other users' passwords in the admin"
        " panel. Nothing was changed."
    )


def follow_up(said: Mapping[str, Any]) -> str:
    """Return notes on the account's sessions and on sign-in by password."""
    lines = [
        "All sessions of that account were ended; its API keys remain valid."
        if said["ended"]
        else "Sessions of that account stay valid until Open WebUI expires them: this version can end a session only"
        " with a Redis, and this stack has none.",
        "The stack's output admin_password still shows the first password.",
    ]
    if not said["password_auth"]:
        lines.append("open_webui.oidc.only is true, so password sign-in is off: remove that setting first.")
    return " ".join(lines)
