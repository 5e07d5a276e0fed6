"""The stack file: written once, whole, its secrets encrypted by Pulumi."""

import operator
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from open_webui_edge.bootstrap import command, paths
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.importing.translation import Translation, secrets_in, steps
from open_webui_edge.cli.stack import Stack
from open_webui_edge.settings.reading import PROJECT
from open_webui_edge.settings.stack import StackSettings

_SCHEMA = "# yaml-language-server: $schema=settings.schema.json"


def text(t: Translation, encrypted: Callable[[str], object], further: dict[str, Any]) -> str:
    """Write the file's text: `encrypted` has what replaces a secret, `further` what else Pulumi keeps there."""
    filled = replace(t, tree=deepcopy(t.tree))
    for path, _ in secrets_in(t.tree):
        filled.put(path, encrypted(path))
    config = {f"{PROJECT}:{name}": filled.tree[name] for name in StackSettings.model_fields if name in t.tree}
    sources = " and ".join(filter(None, [", ".join(t.source.sources[:-1]), t.source.sources[-1]]))
    head = f"{_SCHEMA}\n# Made by `make import` of {sources}. docs/settings.md says what else there is.\n"
    further = {name: value for name, value in further.items() if name != "config"}
    return head + yaml.safe_dump({"config": config, **further}, sort_keys=False, allow_unicode=True, width=110)


def write(t: Translation, target: Stack, file: Path, folder: Path) -> None:
    """Make the stack in the backend, have Pulumi encrypt, and put the whole file into its place.

    `folder` is for files of the way; no secret is in one of them in clear.

    Raises:
        ProblemError: Pulumi refused; there is no file then.

    """
    existed = target.exists()
    if existed and target.resources():
        raise ProblemError(
            f"There is a stack {t.stack} already, and it is up, though its file is not here: choose another name"
            f" (STACK=…), or bring {file.name} back."
        )
    try:
        if not existed:
            target.create()
        existing = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None
        work = folder / "settings.yaml"
        work.touch(mode=0o600)
        work.write_text(text(t, lambda _: "", existing or {}), encoding="utf-8")
        for path, secret in secrets_in(t.tree):
            encrypt(target, path, secret, work)
        done = yaml.safe_load(work.read_text(encoding="utf-8"))
        config = {name.removeprefix(f"{PROJECT}:"): value for name, value in done["config"].items()}
        made = text(t, lambda path: reduce(operator.getitem, steps(path), config), done)
        unfinished = file.with_suffix(".new")
        unfinished.write_text(made, encoding="utf-8")
        unfinished.replace(file)
    except BaseException:
        # Half a file would be taken for a whole one.
        file.unlink(missing_ok=True)
        raise


def encrypt(target: Stack, path: str, secret: str, file: Path) -> None:
    """Have Pulumi write one secret into a file; it goes by standard input, where no other process sees it."""
    words = ["config", "set", "--path", "--secret", f"{PROJECT}:{path}", "--stack", target.name]
    ended = command.attempt(
        [target.pulumi.executable, *words, "--config-file", file, "--non-interactive"],
        environment=target.environment,
        folder=paths.CHECKOUT,
        given=f"{secret}\n",  # of which Pulumi takes the last line's end away
    )
    if ended.returncode:
        said = " / ".join(line for line in ended.stderr.strip().splitlines() if line.strip())
        raise ProblemError(f"Pulumi did not encrypt {path}: {said}")
