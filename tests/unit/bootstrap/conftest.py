"""A machine to bootstrap: an empty home, and a docker client that says what a test wants it to."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

_CLIENT = """#!/bin/sh
# Writes down how it was called, and answers with the first rule whose words all occur in that.
echo "$*" >>'{calls}'
{rules}
echo "unexpected: $*" >&2
exit 1
"""


@dataclass(frozen=True)
class FakeDocker:
    """The client `docker` at the front of PATH."""

    folder: Path

    def answers(self, *rules: tuple[str, int, str]) -> None:
        """Set its answers: a shell pattern of the call, the exit code, and what it says (on stderr when it fails)."""
        lines = [
            f"case \"$*\" in {pattern}) printf '%s\\n' {json.dumps(words)} {'>&2' if code else ''}; exit {code};; esac"
            for pattern, code, words in rules
        ]
        client = self.folder / "docker"
        client.write_text(_CLIENT.format(calls=self.folder / "calls", rules="\n".join(lines)))
        client.chmod(0o755)

    @property
    def calls(self) -> Sequence[str]:
        """How it was called, in order."""
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty home, and nothing of the environment that leads elsewhere."""
    for variable in os.environ:
        if variable.startswith(("PULUMI_", "XDG_", "DOCKER_", "BOOTSTRAP_")):
            monkeypatch.delenv(variable)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    fake = FakeDocker(folder)
    fake.answers()
    return fake
