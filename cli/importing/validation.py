"""Validates a translation with the loader of every stack, before anything is written."""

import json
from dataclasses import replace

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.importing.translation import Outcome, Translation, secrets_in
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
        # What one removal settled is asked again: a second removal for the same cause would take too much.
        blocking = [fault for fault in faults if fault in _faults(t) and not _take_back(t, fault)]
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
    # Of the two, the issuer is the one to remove.
    of_issuer = fault.path.startswith("site.") and "Let's Encrypt" in fault.message and t.get("certificate")
    path = "certificate" if of_issuer else fault.path
    standing = [row for row in t.rows if row.outcome is not Outcome.DROPPED]
    # A row of exactly this key can be removed alone.
    concerned = [row for row in standing if row.setting == path] or [
        row for row in standing if _is_about(row.setting, path)
    ]
    if not concerned or any(row.needed for row in concerned):
        return False
    gone = {row.setting for row in concerned}
    for setting in gone:
        if t.get(setting) is not None:
            t.remove(setting)
    below = tuple(f"{one}." for one in gone)
    concerned += [row for row in standing if row.setting.startswith(below)]
    reason = f"{fault.path}: {fault.message}"
    t.rows = [replace(row, outcome=Outcome.DROPPED, text=reason) if row in concerned else row for row in t.rows]
    if path == "open_webui.secret_key":
        t.to_do.append("All users sign in again, since the old key cannot be used (it was dropped).")
    return True


def _origin(t: Translation, fault: Fault) -> str:
    row = next((row for row in t.rows if _is_about(row.setting, fault.path)), None)
    return "" if row is None else f"{row.what}: "


def _is_about(setting: str, path: str) -> bool:
    """Whether they are the same, or one is below the other."""
    return bool(setting) and any(
        below == above or below.startswith((f"{above}.", f"{above}["))
        for below, above in ((path, setting), (setting, path))
    )
