"""The shell that runs in the proxy's containers, read by a program that knows its traps (shellcheck)."""

import shutil
import subprocess
from pathlib import Path

import pytest

from open_webui_edge.runtime import nginx
from open_webui_edge.runtime.nginx.scripts import script
from tests.support.machine import lacks

FOLDER = Path(nginx.__file__).parent.parent


@pytest.mark.parametrize("name", ["health", "install", "start"])
def test_nothing_is_found_in_a_script(name: str) -> None:
    if shutil.which("shellcheck") is None:
        lacks("no shellcheck")
    # With its comments, some of which are for shellcheck. A variable that is unused in one script is another's.
    text = script(name, read=lambda path: (FOLDER / path).read_text())
    words = ["shellcheck", "--shell=dash", "--exclude=SC2034", "-"]
    ended = subprocess.run(words, input=text, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert ended.returncode == 0, ended.stdout
