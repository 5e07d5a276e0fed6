"""From a stack's configuration, as Pulumi has it, to settings or to a list of faults."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import cast

from pydantic import SecretStr, ValidationError

from open_webui_edge.settings.faults import Fault, SettingsError, faults_of
from open_webui_edge.settings.stack import StackSettings
from open_webui_edge.settings.values import Settings

PROJECT = "open-webui-edge"


def read_settings(
    config: Mapping[str, str],
    *,
    secret_keys: Collection[str],
    source: str,
    encrypted_paths: Collection[str] | None = None,
) -> StackSettings:
    """Turn a stack's configuration into settings.

    Args:
        config: key with namespace (open-webui-edge:site) -> its value, JSON for objects, as Pulumi hands it out.
        secret_keys: the keys that hold a secret anywhere.
        source: the stack file, for messages.
        encrypted_paths: which settings, or topics as a whole, are encrypted in the file, where that could be read;
            else all below a key in `secret_keys` count as such.

    Raises:
        SettingsError: with every fault that can be seen from the settings alone.

    """
    secret_topics = {key.partition(":")[2] for key in secret_keys}
    tree: dict[str, object] = {}
    for key, text in sorted(config.items()):
        namespace, _, name = key.partition(":")
        if namespace == PROJECT:
            try:
                tree[name] = json.loads(text)
            except ValueError:
                tree[name] = text
    try:
        settings = StackSettings.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise SettingsError(source, faults_of(error, StackSettings, secret_topics)) from None
    encrypted = secret_topics if encrypted_paths is None else encrypted_paths
    faults = [
        Fault(path, "is not encrypted in the stack file; encrypt it: pulumi config set --path --secret "
              f"'{PROJECT}:{path}' (and replace it if it is in use)")
        for path in _secrets_in(settings)
        if not any(path == prefix or path.startswith((f"{prefix}.", f"{prefix}[")) for prefix in encrypted)
    ]  # fmt: skip
    if faults:
        raise SettingsError(source, faults)
    return settings


def encrypted_paths(document: object, path: str = "") -> set[str]:
    """Return the paths in a stack file's `config` at which Pulumi has put {secure: …}."""
    paths: set[str] = set()
    if isinstance(document, dict):
        entries = cast("dict[str, object]", document)
        if path and set(entries) == {"secure"}:
            return {path}
        for key, value in entries.items():
            name = str(key).removeprefix(f"{PROJECT}:")
            paths |= encrypted_paths(value, f"{path}.{name}" if path else name)
    elif isinstance(document, list):
        for index, value in enumerate(cast("list[object]", document)):
            paths |= encrypted_paths(value, f"{path}[{index}]")
    return paths


def _secrets_in(value: object, path: str = "") -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield path
    elif isinstance(value, Settings):
        for name in type(value).model_fields:
            yield from _secrets_in(getattr(value, name), f"{path}.{name}".removeprefix("."))
    elif isinstance(value, tuple):
        for index, item in enumerate(cast("tuple[object, ...]", value)):
            yield from _secrets_in(item, f"{path}[{index}]")
