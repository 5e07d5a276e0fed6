"""Errors in settings: the key, the value, what is allowed, and how to fix it."""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from open_webui_edge.settings.values import ErrorGroup, FieldError, LeakedSecretError

_BY_TYPE = {
    "bool_type": "is not true or false; write it without quotes",
    "string_type": "is not text; put it in quotes",
    "int_type": "is not a whole number; write it without quotes",
    "int_from_float": "is not a whole number",
    "tuple_type": "is not a list; write one entry per line, each after a dash",
    "dict_type": "is not a mapping; write `name: value` lines below it",
    "model_type": "is not a mapping; write `name: value` lines below it",
    "missing": "is missing; add it",
}
# Settings that are secret, or hold such a one.
_REDACTED = {
    "password", "api_key", "environment", "hmac_key", "secret_access_key", "private_key", "passphrase",
}  # fmt: skip
_SHOWN_MAX = 100
"""Characters of a value that a message repeats."""


@dataclass(frozen=True)
class Fault:
    """One error to fix."""

    path: str
    """The key, such as proxy.timeouts.read or models.providers[0].url; "" for the machine."""
    message: str
    """What was found, what is allowed, what to do."""

    def __str__(self) -> str:
        """Write the line that a person sees."""
        return f"{self.path}: {self.message}" if self.path else self.message


class SettingsError(Exception):
    """All faults of a stack at once. No resource has been touched."""

    def __init__(self, source: str, faults: Sequence[Fault]) -> None:
        """Keep the faults; `source` is the stack file."""
        super().__init__("\n".join(f"{source}: {fault}" if fault.path else str(fault) for fault in faults))
        self.faults = tuple(faults)


def faults_of(error: ValidationError, root: type[BaseModel], secret_topics: Collection[str] = ()) -> list[Fault]:
    """Turn pydantic's findings into faults that speak to a person.

    What stands below a topic in `secret_topics` may be a secret that slipped to the wrong key: no text of it is
    repeated.
    """
    # A default that depends on a faulty key is that key's fault.
    return [
        fault
        for details in error.errors(include_url=False)
        if details["type"] != "default_factory_not_called"
        for fault in _faults(_without_secrets(details, secret_topics), root)
    ]


def _without_secrets(details: ErrorDetails, secret_topics: Collection[str]) -> ErrorDetails:
    outside = not details["loc"]
    if outside or (details["loc"][0] in secret_topics and isinstance(details["input"], str)):
        return {**details, "input": {}}
    return details


def _faults(details: ErrorDetails, root: type[BaseModel]) -> list[Fault]:
    error = details.get("ctx", {}).get("error")
    if isinstance(error, ErrorGroup):
        return [_from_check(_path(details), details, each) for each in error.errors]
    return [_fault(details, root)]


def _fault(details: ErrorDetails, root: type[BaseModel]) -> Fault:
    path, kind, context = _path(details), details["type"], details.get("ctx", {})
    match kind:
        case "extra_forbidden":
            message = _unknown_key(details, root)
        case "missing":
            message = _BY_TYPE[kind]
        case "value_error":
            return _from_check(path, details, context["error"])
        case "enum":
            message = _with_value(details, f"is not one of: {str(context['expected']).replace(' or ', ', ')}")
        case "greater_than_equal" | "less_than_equal":
            bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
            message = _with_value(details, f"is out of range; allowed is {bound}")
        case _:
            message = _with_value(details, _BY_TYPE.get(kind, details["msg"]))
    return Fault(path, message)


def _from_check(path: str, details: ErrorDetails, error: Exception) -> Fault:
    message = str(error)
    if isinstance(error, LeakedSecretError):
        return Fault(path, message)
    if isinstance(error, FieldError):
        return Fault(f"{path}.{error.key}" if path else error.key, message)
    return Fault(path, _with_value(details, message))


def _path(details: ErrorDetails) -> str:
    path = ""
    for part in details["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part != "[key]":
            path += f".{part}" if path else str(part)
    return path


def _with_value(details: ErrorDetails, message: str) -> str:
    value = details["input"]
    if isinstance(value, SecretStr) or any(part in _REDACTED for part in details["loc"]):
        return message
    if isinstance(value, dict | list):
        return message
    shown = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else None
    return f"{shown or _quoted(value)} {message}"


def _quoted(value: object) -> str:
    if not isinstance(value, str):
        return str(value)
    shown = value if len(value) <= _SHOWN_MAX else f"{value[:_SHOWN_MAX]}…"
    escaped = "".join(character if character.isprintable() else repr(character)[1:-1] for character in shown)
    return f'"{escaped}"'


def _unknown_key(details: ErrorDetails, root: type[BaseModel]) -> str:
    *parents, name = details["loc"]
    allowed = _fields_at(root, parents)
    close = difflib.get_close_matches(str(name), allowed, n=1)
    hint = f"did you mean {close[0]}?" if close else f"allowed here: {', '.join(allowed)}"
    return f"is not a setting; {hint}"


def _fields_at(root: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    model = root
    for part in path:
        if isinstance(part, str):
            model = _model_in(model.model_fields[part].annotation) or model
    return sorted(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        model = _model_in(argument)
        if model is not None:
            return model
    return None
