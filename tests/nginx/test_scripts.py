"""The shell that runs in the proxy's containers, read by a program that knows its traps (shellcheck)."""

import shutil
import subprocess

import pytest

from components.reverse_proxy.scripts import HEALTH, INSTALL, START
from tests.support.machine import lacks


@pytest.mark.parametrize("script", [HEALTH, INSTALL, START], ids=["health", "install", "start"])
def test_nothing_is_found_in_a_script(script: str) -> None:
    if shutil.which("shellcheck") is None:
        lacks("no shellcheck")
    # A variable that is unused in one script is another's.
    words = ["shellcheck", "--shell=dash", "--exclude=SC2034", "-"]
    ended = subprocess.run(words, input=script, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert ended.returncode == 0, ended.stdout
