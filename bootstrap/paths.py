"""Paths of this checkout and of this user's files."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
VIRTUAL_ENVIRONMENT = CHECKOUT / ".venv"
PYTHON = VIRTUAL_ENVIRONMENT / "bin" / "python"
BUILD = CHECKOUT / "build"
"""Folder for what commands write for people, such as reports; it can be deleted at any time."""
_NAME = "open-webui-edge"


def cache() -> Path:
    """Return the folder for caches: the toolchain, work in progress."""
    return _base("XDG_CACHE_HOME", ".cache")


def data() -> Path:
    """Return the folder for permanent data: the state of the stacks."""
    return _base("XDG_DATA_HOME", ".local/share")


def configuration() -> Path:
    """Return the folder for this user's configuration: the passphrase."""
    return _base("XDG_CONFIG_HOME", ".config")


def _base(variable: str, default: str) -> Path:
    # By the specification, a relative path in these variables counts as unset.
    given = os.environ.get(variable, "")
    return (Path(given) if given.startswith("/") else Path.home() / default) / _NAME
