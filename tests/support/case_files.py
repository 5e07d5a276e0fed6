"""Cases that are files: a stack file, a line of four dashes, and what becomes of it."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from open_webui_edge.settings.reading import encrypted_paths

CASES = Path(__file__).parent.parent / "cases"
SEPARATOR = "----\n"


@dataclass(frozen=True)
class Case:
    """One file."""

    path: Path
    config: dict[str, str]
    """What Pulumi would hand to the program: key -> JSON."""
    secret_keys: Collection[str]
    """Keys that hold a secret; a case writes one as {secure: its clear text}."""
    encrypted_paths: Collection[str]
    """Settings that are written so."""
    machine: dict[str, Any]
    """What is special about the machine."""
    upstreams: list[str]
    """Replicas of the application, host:port."""
    expected: str
    replicas: int = 1
    ipv6: bool = False
    rsa_certificate: bool = False
    acme_challenges: tuple[str, ...] = ()

    def rewrite(self, expected: str) -> None:
        """Write what the program does today."""
        stack_file, _, _ = self.path.read_text().partition(SEPARATOR)
        self.path.write_text(f"{stack_file}{SEPARATOR}{expected}")


def case_files(folder: str) -> list[Path]:
    """Return the files of a folder below tests/cases."""
    return sorted((CASES / folder).glob("*.yaml"))


def read_case(path: Path) -> Case:
    """Read one."""
    stack_file, separator, expected = path.read_text().partition(SEPARATOR)
    assert separator, f"{path} has no line of four dashes"
    document = yaml.safe_load(stack_file) or {}
    secret_keys: set[str] = set()
    config = {
        key: json.dumps(_in_clear(value, key, secret_keys)) for key, value in (document.get("config") or {}).items()
    }
    return Case(
        path,
        config,
        secret_keys,
        encrypted_paths(document.get("config")),
        document.get("machine") or {},
        document.get("upstreams") or ["open-webui:8080"],
        expected,
        document.get("replicas", 1),
        document.get("ipv6", False),
        document.get("rsa_certificate", False),
        tuple(document.get("acme_challenges", ())),
    )


def _in_clear(value: Any, key: str, secret_keys: set[str]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"secure"}:
            secret_keys.add(key)
            return value["secure"]
        return {name: _in_clear(item, key, secret_keys) for name, item in value.items()}
    if isinstance(value, list):
        return [_in_clear(item, key, secret_keys) for item in value]
    return value
