"""The stack file: written once, whole, its secrets encrypted by Pulumi."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from open_webui_edge.bootstrap import paths
from open_webui_edge.bootstrap.problem import ProblemError
from open_webui_edge.cli.importing.translation import Secret, Translation, secrets_in, steps
from open_webui_edge.cli.stack import Stack
from open_webui_edge.settings.reading import PROJECT
from open_webui_edge.settings.stack import StackSettings

_SCHEMA = "# yaml-language-server: $schema=settings.schema.json"


def text(t: Translation, encrypted: Callable[[str], object], further: dict[str, Any]) -> str:
    """Write the file's text.

    Args:
        t: what was translated.
        encrypted: what stands in place of the secret at a path.
        further: what Pulumi keeps in the file besides the settings.

    """
    order = [name for name in StackSettings.model_fields if name in t.tree]
    config = {f"{PROJECT}:{name}": _with_secrets(t.tree[name], name, encrypted) for name in order}
    sources = " and ".join(filter(None, [", ".join(t.source.sources[:-1]), t.source.sources[-1]]))
    head = f"{_SCHEMA}\n# Made by `make import` of {sources}. docs/settings.md says what else there is.\n"
    return head + yaml.safe_dump({"config": config, **further}, sort_keys=False, allow_unicode=True, width=110)


def _with_secrets(value: Any, path: str, encrypted: Callable[[str], object]) -> Any:  # noqa: ANN401 - what YAML can hold
    if isinstance(value, Secret):
        return encrypted(path)
    if isinstance(value, dict):
        return {key: _with_secrets(item, f"{path}.{key}", encrypted) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_secrets(item, f"{path}[{index}]", encrypted) for index, item in enumerate(value)]
    return value


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
        existing = _document(file)
        work = folder / "settings.yaml"
        work.touch(mode=0o600)
        work.write_text(text(t, lambda _: "", existing), encoding="utf-8")
        for path, secret in secrets_in(t.tree):
            encrypt(target, path, secret, work)
        done = _document(work)
        config = done.pop("config", {})
        made = text(t, lambda path: _at(config, path), done)
        unfinished = file.with_suffix(".new")
        unfinished.write_text(made, encoding="utf-8")
        unfinished.replace(file)
    except BaseException:
        # Half a file would be taken for a whole one.
        file.unlink(missing_ok=True)
        raise


def encrypt(target: Stack, path: str, secret: str, file: Path) -> None:
    """Have Pulumi write one secret into a file; it goes by standard input, where no other process sees it."""
    words = [
        "config",
        "set",
        "--path",
        "--secret",
        f"{PROJECT}:{path}",
        "--stack",
        target.name,
        "--config-file",
        str(file),
    ]
    ended = subprocess.run(  # noqa: S603 - a list of arguments, no shell
        [str(target.pulumi.executable), *words, "--non-interactive"],
        input=f"{secret}\n",  # of which Pulumi takes the last line's end away
        capture_output=True,
        text=True,
        env=target.environment,
        cwd=paths.CHECKOUT,
        check=False,
        encoding="utf-8",
    )
    if ended.returncode:
        said = " / ".join(line for line in ended.stderr.strip().splitlines() if line.strip())
        raise ProblemError(f"Pulumi did not encrypt {path}: {said}")


def _document(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    document = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return {key: value for key, value in document.items() if key != "config" or file.name == "settings.yaml"}


def _at(config: dict[str, Any], path: str) -> object:
    topic, *below = steps(path)
    value: Any = config[f"{PROJECT}:{topic}"]
    for step in below:
        value = value[step]
    return value
