"""Cases of an import: the files that people have, what the engine says, and what comes of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from open_webui_edge.cli.importing.engine_facts import ContainerFacts, DockerFacts, ExistingContainer
from open_webui_edge.cli.importing.old_deployment import Publication
from tests.support.case_files import CASES, SEPARATOR

_FILE = "==> "


@dataclass(frozen=True)
class ImportCase:
    """One file: FROM and the engine on top, then the files, then the report and the stack file."""

    path: Path
    given: list[str]
    stack: str
    engine: dict[str, Any]
    files: dict[str, str]
    expected: str

    def lay_out(self, folder: Path) -> None:
        """Write the files into a folder, as a user has them."""
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def rewrite(self, expected: str) -> None:
        """Write what an import does today."""
        head, _, _ = self.path.read_text().partition(SEPARATOR)
        self.path.write_text(f"{head}{SEPARATOR}{expected}")


def import_cases() -> list[Path]:
    """Return all of them."""
    return sorted((CASES / "imported").glob("*.txt"))


def read_import_case(path: Path) -> ImportCase:
    """Read one."""
    head, separator, expected = path.read_text().partition(SEPARATOR)
    assert separator, f"{path} has no line of four dashes"
    top, *blocks = f"\n{head}".split(f"\n{_FILE}")
    files = {
        name: text if text.endswith("\n") or not text else f"{text}\n"
        for name, _, text in (block.partition("\n") for block in blocks)
    }
    said = yaml.safe_load(top) or {}
    return ImportCase(path, said["from"].split(), said.get("stack", "chat"), said.get("engine") or {}, files, expected)


class InventedEngine(DockerFacts):
    """An engine that says what a case says."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.ping_error = said.get("silent", "")
        self.local = said.get("local", True)
        self._said = said

    def containers(self) -> Sequence[ExistingContainer]:
        return [
            ExistingContainer(
                name=name,
                image=one.get("image", "ghcr.io/open-webui/open-webui:main"),
                running=one.get("running", True),
                comes_back=one.get("comes_back", False),
                variables=one.get("variables", {}),
                labels=one.get("labels", {}),
                volumes=one.get("volumes", {}),
                published=tuple(Publication(int(host), int(to)) for host, to in one.get("published", {}).items()),
            )
            for name, one in self._said.get("containers", {}).items()
        ]

    def volumes(self) -> Sequence[str]:
        return [name for one in self.containers() for name in one.volumes.values()] + self._said.get("volumes", [])

    def facts_of(self, container: ExistingContainer) -> ContainerFacts:
        return ContainerFacts(**self._said["containers"][container.name].get("inside", {}))

    def is_free(self, address: str, port: int) -> bool:
        del address
        return port not in self._said.get("taken", [])
