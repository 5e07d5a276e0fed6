"""Validates a translation with the loader of every stack, before anything is written."""

import json
from collections.abc import Iterator
from dataclasses import replace

from open_webui_edge.bootstrap.problem import ProblemError
from open_webui_edge.cli.importing.translation import Outcome, Row, Translation, secrets_in
from open_webui_edge.settings.faults import Fault, SettingsError
from open_webui_edge.settings.reading import PROJECT, read_settings

_ROUNDS = 20


def check(t: Translation) -> None:
    """Remove invalid settings, each with the loader's reason.

    Raises:
        ProblemError: an invalid setting is required to reach the data, or cannot be identified.

    """
    for _ in range(_ROUNDS):
        faults = _faults(t)
        if not faults:
            return
        blocking = [fault for fault in faults if not _take_back(t, fault)]
        if blocking:
            lines = "\n".join(f"  {_origin(t, fault)}{fault}" for fault in blocking)
            raise ProblemError(f"What was read makes no stack; fix it at its source and run this again:\n{lines}")
    raise ProblemError("What was read makes no stack.")


def _faults(t: Translation) -> tuple[Fault, ...]:
    config = {f"{PROJECT}:{name}": json.dumps(value) for name, value in t.tree.items()}
    paths = {path for path, _ in secrets_in(t.tree)}
    topics = {f"{PROJECT}:{path.partition('.')[0]}" for path in paths}
    try:
        read_settings(config, secret_keys=topics, source=f"stacks/Pulumi.{t.stack}.yaml", encrypted_paths=paths)
    except SettingsError as error:
        return error.faults
    return ()


def _take_back(t: Translation, fault: Fault) -> bool:
    """Remove the cause of a fault; return False if that is not possible."""
    path = _cause(t, fault)
    standing = [row for row in t.rows if row.outcome is not Outcome.DROPPED]
    # A row of exactly this key can be removed alone.
    concerned = [row for row in standing if row.setting == path]
    concerned = concerned or [row for row in standing if _is_about(row.setting, path)]
    if not concerned or any(row.needed for row in concerned):
        return False
    gone = {row.setting for row in concerned}
    concerned += [
        row for row in standing if row not in concerned and row.setting.startswith(tuple(f"{one}." for one in gone))
    ]
    for setting in gone:
        if t.get(setting) is not None:
            t.remove(setting)
    t.rows = list(_without(t.rows, concerned, fault))
    if path == "open_webui.secret_key":
        t.to_do.append("All users sign in again, since the old key cannot be used (it was dropped).")
    return True


def _origin(t: Translation, fault: Fault) -> str:
    row = next((row for row in t.rows if _is_about(row.setting, fault.path)), None)
    return "" if row is None else f"{row.what}: "


def _cause(t: Translation, fault: Fault) -> str:
    # Of the two, the issuer is the one to remove.
    if fault.path.startswith("site.") and "Let's Encrypt" in fault.message and t.get("certificate"):
        return "certificate"
    return fault.path


def _is_about(setting: str, path: str) -> bool:
    if not setting:
        return False
    return (
        path == setting
        or path.startswith((f"{setting}.", f"{setting}["))
        or setting.startswith((f"{path}.", f"{path}["))
    )


def _without(rows: list[Row], concerned: list[Row], fault: Fault) -> Iterator[Row]:
    for row in rows:
        if row in concerned:
            reason = fault.message if fault.path == row.setting else f"{fault.path}: {fault.message}"
            yield replace(
                row, outcome=Outcome.DROPPED, text=f"{row.setting}: {reason}" if fault.path == row.setting else reason
            )
        else:
            yield row
