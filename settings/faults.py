"""Errors in settings: the key, the value, what is allowed, and how to fix it."""

import difflib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

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


class FaultGroup(ValueError):  # noqa: N818 - named as ExceptionGroup is
    """All faults of one model's settings together, each with its path below the model."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        """Keep the faults."""
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class LeakedSecretError(ValueError):
    """The value contains a secret in the wrong place: the message must not repeat it."""


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


def _faults(details: ErrorDetails, root: type[BaseModel]) -> Iterator[Fault]:
    path, kind, context = _path(details), details["type"], details.get("ctx", {})
    match kind:
        case "extra_forbidden":
            message = _unknown_key(details, root)
        case "missing":
            message = _BY_TYPE[kind]
        case "value_error":
            error = context["error"]
            if isinstance(error, FaultGroup):
                yield from (Fault(".".join(filter(None, (path, one.path))), one.message) for one in error.faults)
                return
            message = str(error) if isinstance(error, LeakedSecretError) else _with_value(details, str(error))
        case "enum":
            message = _with_value(details, f"is not one of: {str(context['expected']).replace(' or ', ', ')}")
        case "greater_than_equal" | "less_than_equal":
            bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
            message = _with_value(details, f"is out of range; allowed is {bound}")
        case _:
            message = _with_value(details, _BY_TYPE.get(kind, details["msg"]))
    yield Fault(path, message)


def _path(details: ErrorDetails) -> str:
    parts = [part for part in details["loc"] if part != "[key]"]
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def _with_value(details: ErrorDetails, message: str) -> str:
    value = details["input"]
    if isinstance(value, SecretStr | dict | list) or any(part in _REDACTED for part in details["loc"]):
        return message
    return f"{_shown(value)} {message}"


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if not isinstance(value, str):
        return str(value)
    shown = value if len(value) <= _SHOWN_MAX else f"{value[:_SHOWN_MAX]}…"
    escaped = "".join(character if character.isprintable() else repr(character)[1:-1] for character in shown)
    return f'"{escaped}"'


def _unknown_key(details: ErrorDetails, root: type[BaseModel]) -> str:
    *parents, name = details["loc"]
    model = root
    for part in parents:
        # The key of an entry, such as a location's path, is no field.
        field = model.model_fields.get(str(part))
        model = (field and model_of(field.annotation)[0]) or model
    allowed = sorted(model.model_fields)
    close = difflib.get_close_matches(str(name), allowed, n=1)
    hint = f"did you mean {close[0]}?" if close else f"allowed here: {', '.join(allowed)}"
    return f"is not a setting; {hint}"


def model_of(annotation: object) -> tuple[type[BaseModel] | None, str]:
    """Return the model in an annotation, and how a path writes that there are many of it: [] or .*, else nothing."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    origin = get_origin(annotation)
    item = "[]" if origin is tuple else ".*" if origin is dict else ""
    for argument in get_args(annotation):
        model, below = model_of(argument)
        if model is not None:
            return model, item or below
    return None, ""
