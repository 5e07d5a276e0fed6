"""An engine for unit tests: a docker client and an engine's API that answer what a test wants."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_webui_edge.bootstrap.images import pulling

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


@dataclass
class FakeClient:
    """An engine's client: registries refuse as a test says, in words by a part of the image's name."""

    refusals: Mapping[str, str] = field(default_factory=dict[str, str])
    """Part of a name -> why its registry refuses it."""
    said: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What `docker info` shows."""
    asked: list[str] = field(default_factory=list[str])
    pulled: list[str] = field(default_factory=list[str])

    def refusal(self, name: str) -> str | None:
        self.asked.append(name)
        return next((words for part, words in self.refusals.items() if part in name), None)

    def events(self, name: str) -> Iterator[Mapping[str, Any]]:
        words = next((words for part, words in self.refusals.items() if part in name), None)
        if words:
            raise pulling.PullError(words)
        self.pulled.append(name)
        yield {"status": "Pulling from x", "id": "1"}

    def information(self) -> Mapping[str, Any]:
        return self.said
