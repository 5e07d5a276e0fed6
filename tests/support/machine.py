"""What a test needs of the machine: in CI a missing piece is a failure, elsewhere a skip that says why."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parent.parent.parent


def lacks(what: str) -> NoReturn:
    """Fail in CI, skip elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(f"this machine has {what}, and in CI nothing is skipped")
    pytest.skip(f"needs more than this machine has: {what}; `make test` installs it on Debian and Ubuntu as root")


def image_here(name: str) -> str:
    """Return an image's name once it is known that the engine has it."""
    try:
        result = subprocess.run(["docker", "image", "inspect", name], capture_output=True, text=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        lacks("no docker client")
    if result.returncode != 0:
        lacks(f"no image {name} in a Docker engine ({result.stderr.strip()})")
    return name


@cache
def pulumi_environment() -> Mapping[str, str]:
    """Return the environment in which `pulumi` works, as `make env` prints it."""
    if shutil.which("bash") is None:
        lacks("no bash")
    ended = subprocess.run(
        ["bash", "-c", 'eval "$(make -s env)" && env -0'],  # noqa: S607 - whichever is first on PATH
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        lacks(f"no Pulumi engine ({ended.stderr.strip().splitlines()[-1:]})")
    environment = dict(entry.split("=", 1) for entry in ended.stdout.split("\0") if "=" in entry)
    # A test names the stack that it means.
    environment.pop("PULUMI_STACK")
    if shutil.which("pulumi", path=environment["PATH"]) is None:
        lacks("no Pulumi CLI")
    return environment
