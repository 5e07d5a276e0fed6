"""Pulumi's backend for states: the one that the user is logged in to, else this machine."""

import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from open_webui_edge.bootstrap import paths


def environment() -> dict[str, str]:
    """Return the variables for the backend; none that override a login or a passphrase.

    Create the local backend's folder and passphrase if they are missing.
    """
    if logged_in():
        return {}
    state = paths.data() / "state"
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Without attribute files: Pulumi does not need them and does not write them atomically, so a read during an update
    # may find them empty. The state itself is replaced atomically.
    variables = {"PULUMI_BACKEND_URL": f"file://{state}?metadata=skip"}
    # An empty PULUMI_CONFIG_PASSPHRASE is a passphrase too.
    if "PULUMI_CONFIG_PASSPHRASE" not in os.environ and not os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE"):
        variables["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(_passphrase_file())
    return variables


def logged_in() -> bool:
    """Return whether the user chose a backend: by variable, by token, or by `pulumi login`."""
    return bool(os.environ.get("PULUMI_ACCESS_TOKEN")) or url(os.environ) is not None


def url(environment: Mapping[str, str]) -> str | None:
    """Return the URL of the backend that Pulumi uses in an environment; None if none is configured."""
    named = environment.get("PULUMI_BACKEND_URL")
    if named:
        return named
    home = Path(environment.get("PULUMI_HOME", Path.home() / ".pulumi"))
    credentials = Path(environment.get("PULUMI_CREDENTIALS_PATH", home)) / "credentials.json"
    try:
        return json.loads(credentials.read_text(encoding="utf-8")).get("current") or None
    except (OSError, ValueError, AttributeError):
        return None


def passphrase_source(given: dict[str, str]) -> str:
    """Return the source of the passphrase, for messages; `given` are the variables that this program adds."""
    everything = {**os.environ, **given}
    if "PULUMI_CONFIG_PASSPHRASE" in everything:
        return "the variable PULUMI_CONFIG_PASSPHRASE"
    file = everything.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    return f"the file {file}" if file else "your answer"


def _passphrase_file() -> Path:
    file = paths.configuration() / "passphrase"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if file.exists():
        return file
    # Atomic: a full disk would otherwise leave an empty file, which later runs would use as the passphrase.
    descriptor, unfinished = tempfile.mkstemp(dir=file.parent)  # with mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(f"{secrets.token_urlsafe(32)}\n")
        # Never overwritten: it is the only key to the secrets of every stack made with it.
        with suppress(FileExistsError):
            os.link(unfinished, file)
    finally:
        Path(unfinished).unlink()
    return file
