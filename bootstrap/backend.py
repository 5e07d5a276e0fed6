"""Where Pulumi keeps a stack's state: where the user is logged in, else on this machine."""

import json
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from bootstrap import places


def environment() -> dict[str, str]:
    """Return what a shell needs besides what it has; nothing that overrules a login or a passphrase.

    The local state's folder and passphrase are made when they are missing.
    """
    if logged_in():
        return {}
    state = places.data() / "state"
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = {"PULUMI_BACKEND_URL": f"file://{state}"}
    if not _passphrase_is_given():
        found["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(_passphrase_file())
    return found


def logged_in() -> bool:
    """Tell whether the user chose a backend: by variable, by token, or by `pulumi login`."""
    if os.environ.get("PULUMI_BACKEND_URL") or os.environ.get("PULUMI_ACCESS_TOKEN"):
        return True
    home = Path(os.environ.get("PULUMI_HOME", Path.home() / ".pulumi"))
    credentials = Path(os.environ.get("PULUMI_CREDENTIALS_PATH", home)) / "credentials.json"
    try:
        return bool(json.loads(credentials.read_text(encoding="utf-8")).get("current"))
    except (OSError, ValueError, AttributeError):
        return False


def passphrase_source(given: dict[str, str]) -> str:
    """Name where the passphrase comes from, for a message; `given` is what we add to the environment."""
    everything = {**os.environ, **given}
    if "PULUMI_CONFIG_PASSPHRASE" in everything:
        return "the variable PULUMI_CONFIG_PASSPHRASE"
    file = everything.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    return f"the file {file}" if file else "your answer"


def _passphrase_is_given() -> bool:
    # An empty PULUMI_CONFIG_PASSPHRASE is a passphrase too.
    return "PULUMI_CONFIG_PASSPHRASE" in os.environ or bool(os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE"))


def _passphrase_file() -> Path:
    file = places.configuration() / "passphrase"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if file.exists():
        return file
    # Whole or not at all: on a full disk an empty file would be left, and taken for the passphrase from then on.
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
