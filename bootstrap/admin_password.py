"""A new password for an administrator who has forgotten theirs."""

import getpass
import json
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, TypeAdapter, ValidationError

from bootstrap import containers
from bootstrap.engine import Engine
from bootstrap.problem import ProblemError
from stacks.open_webui import Password

_INSIDE = Path(__file__).with_name("set_password.py")
_FROM_INPUT = "stdin"
_RANDOM_BYTES = 15


def wanted(how: str) -> tuple[str, bool]:
    """Return the new password, and whether it was made here and is still to be shown.

    Args:
        how: what PASSWORD says: nothing, to have one made, or stdin.

    Raises:
        ProblemError: there is no way to give it to the person, or the one they gave cannot be.

    """
    if how == _FROM_INPUT:
        return _given(), False
    if how:
        message = (
            "A password on a command line can be read by others and stays in the shell's history; write PASSWORD=stdin"
            " and give it by standard input, or leave PASSWORD out to have one made."
        )
        raise ProblemError(message)
    if not sys.stdout.isatty():
        message = (
            "The new password would be shown once, on a terminal, and this is none; PASSWORD=stdin takes one from"
            " standard input."
        )
        raise ProblemError(message)
    return secrets.token_urlsafe(_RANDOM_BYTES), True


def _given() -> str:
    try:
        text = getpass.getpass("New password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    except EOFError:
        message = "No password was given, so nothing was changed."
        raise ProblemError(message) from None
    try:
        TypeAdapter(Password).validate_python(SecretStr(text))
    except ValidationError as error:
        (fault,) = error.errors(include_url=False, include_input=False)
        words = fault.get("ctx", {}).get("error", fault["msg"])
        message = f"PASSWORD: {words}"
        raise ProblemError(message) from None
    return text


def set_for(host: Engine, stack: str, email: str | None, password: str) -> dict[str, Any]:
    """Have the application's container set it, and return what that says: `email`, `ended`, `password_auth`.

    Without `email` it is the only administrator's.

    Raises:
        ProblemError: nothing was changed, and why.

    """
    running = [one for one in containers.of_stack(host, stack, "open-webui") if one["State"]["Status"] == "running"]
    if not running:
        message = f"No Open WebUI of the stack {stack} runs; `make up STACK={stack}` starts it."
        raise ProblemError(message)
    name = running[0]["Name"].lstrip("/")
    ended = subprocess.run(  # noqa: S603 # no shell
        [*host.client, "exec", "--interactive", name, "python3", "-c", _INSIDE.read_text()],
        input=json.dumps({"email": None if email is None else email.lower(), "password": password}),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        message = f"The application's container {name} could not set it, and nothing was changed: {last}"
        raise ProblemError(message)
    said: dict[str, Any] = json.loads(ended.stdout)
    if "email" not in said:
        raise ProblemError(_nobody(email, said["administrators"]))
    return said


def _nobody(email: str | None, administrators: list[str]) -> str:
    if not administrators:
        return "Nobody has an account there yet; whoever signs up first is the administrator. Nothing was changed."
    there = ", ".join(administrators)
    if email is None:
        return f"There are several administrators ({there}); say whose it is: ACCOUNT=…. Nothing was changed."
    return (
        f"{email} is no administrator there; these are: {there}. An administrator sets the passwords of others in the"
        " admin panel. Nothing was changed."
    )


def left_to_know(said: Mapping[str, Any]) -> str:
    """Say what became of the account's sessions, and what of its doors are others."""
    lines = [
        "Whoever was signed in to that account is signed out; its API keys go on."
        if said["ended"]
        else "Whoever was signed in to that account stays so for as long as Open WebUI says: this version asks a Redis"
        " whether a session is over, and there is none."
    ]
    lines.append("The stack's output admin_password goes on saying the first password.")
    if not said["password_auth"]:
        lines.append("open_webui.oidc.only is true, so no password opens anything: drop that first.")
    return " ".join(lines)
