"""Values between Pulumi's JSON and Terraform's types, packed as the plugin protocol wants them."""

import json
from typing import Any

import msgpack

from tests.support.aws_provider.shape import Form, Shape

_UNKNOWN_IN_PULUMI = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # marks a secret, and is none
_SEVERAL = {Form.LIST, Form.SET}


class RefusedError(Exception):
    """A property that does not exist here, or is of another type; the message begins with its path."""


class Unknown:
    """A value that is known only after the update."""


UNKNOWN = Unknown()


def pack(value: Any) -> bytes:
    """Write a value of Terraform's."""
    return msgpack.Packer(default=_extension).pack(value)


def _extension(value: Any) -> msgpack.ExtType:
    if value is UNKNOWN:
        return msgpack.ExtType(0, b"\0")
    raise TypeError(f"{value!r} is no value of Terraform's")


def unpack(data: bytes) -> Any:
    """Read a value of Terraform's."""
    return msgpack.unpackb(data, ext_hook=lambda _code, _data: UNKNOWN, strict_map_key=False)


def has_unknown(value: Any) -> bool:
    """Tell whether some part of a value is known only later."""
    if isinstance(value, dict):
        return any(map(has_unknown, value.values()))
    return any(map(has_unknown, value)) if isinstance(value, list) else value is UNKNOWN


def secret(value: Any) -> dict[str, Any]:
    """Mark a value of Pulumi's as a secret."""
    return {_SIGNATURE: _SECRET, "value": value}


def is_secret(value: Any) -> bool:
    """Tell whether a value of Pulumi's is a secret, or holds one."""
    if isinstance(value, dict):
        return value.get(_SIGNATURE) == _SECRET or any(map(is_secret, value.values()))
    return isinstance(value, list) and any(map(is_secret, value))


def bare(value: Any) -> Any:
    """Return a value of Pulumi's without the marks of secrets."""
    if isinstance(value, dict):
        if value.get(_SIGNATURE) == _SECRET:
            return bare(value.get("value"))
        return {key: bare(each) for key, each in value.items()}
    return [bare(each) for each in value] if isinstance(value, list) else value


def to_terraform(value: Any, shape: Shape, path: str) -> Any:
    """Turn a value of Pulumi's, without marks, into Terraform's.

    Raises:
        RefusedError: it does not have that shape.

    """
    if value == _UNKNOWN_IN_PULUMI:
        return UNKNOWN
    if value is None:
        return _absent(shape)
    if shape.form in _SEVERAL:
        items = [value] if shape.alone or not isinstance(value, list) else value
        return [to_terraform(each, _inside(shape), f"{path}[{index}]") for index, each in enumerate(items)]
    if shape.form is Form.MAP:
        return {key: to_terraform(each, _inside(shape), f"{path}.{key}") for key, each in value.items()}
    if shape.form is Form.RECORD:
        return _record(value, shape, path)
    return _plain(value, shape.form, path)


def _absent(shape: Shape) -> Any:
    if not shape.block:
        return None
    return [] if shape.form in _SEVERAL else {} if shape.form is Form.MAP else None


def _inside(shape: Shape) -> Shape:
    if shape.element is None:
        raise TypeError(f"{shape.form} holds nothing")
    return shape.element


def _record(value: Any, shape: Shape, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RefusedError(f"{path}: {value!r} is no object")
    known = shape.by_property
    strange = [key for key in value if key not in known and not key.startswith("__")]
    if strange:
        raise RefusedError(f"{path}.{strange[0]}: there is no such property, but {', '.join(sorted(known))}")
    return {
        name: to_terraform(value.get(each.pulumi), each, f"{path}.{each.pulumi}") for name, each in shape.fields.items()
    }


def _plain(value: Any, form: Form, path: str) -> Any:
    if form is Form.TEXT:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, dict | list):
            return json.dumps(value)  # policies may be written as what they are
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if form is Form.TRUTH:
        if value not in {True, False, "true", "false"}:
            raise RefusedError(f"{path}: {value!r} is neither true nor false")
        return value in {True, "true"}
    if form is Form.NUMBER:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise RefusedError(f"{path}: {value!r} is no number") from None
        return int(number) if number.is_integer() else number
    return value


def to_pulumi(value: Any, shape: Shape) -> Any:
    """Turn a value of Terraform's into Pulumi's; what is null in a record is left out."""
    if value is UNKNOWN:
        return _UNKNOWN_IN_PULUMI
    if value is None:
        return None
    if shape.form in _SEVERAL:
        items = [to_pulumi(each, _inside(shape)) for each in value]
        return next(iter(items), None) if shape.alone else items
    if shape.form is Form.MAP:
        return {key: to_pulumi(each, _inside(shape)) for key, each in value.items()}
    if shape.form is Form.RECORD:
        result = {each.pulumi: to_pulumi(value.get(name), each) for name, each in shape.fields.items()}
        return {key: each for key, each in result.items() if each is not None}
    return float(value) if shape.form is Form.NUMBER and isinstance(value, str) else value


def proposed(prior: Any, expected: Any, shape: Shape) -> Any:
    """Return what Terraform proposes: what is wanted, and what the provider chose where nothing is.

    The parts of a list are matched by place, those of a set with the first that has everything which is wanted.
    """
    if not isinstance(expected, dict) or shape.form is not Form.RECORD:
        return expected
    before = prior if isinstance(prior, dict) else {}
    return {name: _part(before.get(name), expected.get(name), each) for name, each in shape.fields.items()}


def _part(old: Any, new: Any, shape: Shape) -> Any:
    if not shape.block:
        return old if new is None and shape.computed else new
    if shape.form is Form.RECORD:
        return proposed(old, new, shape)
    if shape.form not in _SEVERAL or not isinstance(new, list):
        return new
    olds = old if isinstance(old, list) else []
    if shape.form is Form.LIST:
        partners = [*olds, *[None] * len(new)]
    else:
        partners = [next((each for each in olds if _covers(each, item)), None) for item in new]
    return [proposed(partner, item, _inside(shape)) for partner, item in zip(partners, new, strict=False)]


def _covers(old: Any, new: Any) -> bool:
    if new is None or new == []:
        return True
    if isinstance(old, dict) and isinstance(new, dict):
        return all(_covers(old.get(key), each) for key, each in new.items())
    return bool(old == new)


def differ(old: Any, new: Any, shape: Shape) -> bool:
    """Tell whether two values of Terraform's are different; a set has no order."""
    if shape.form is Form.SET and isinstance(old, list) and isinstance(new, list):
        return sorted(map(repr, old)) != sorted(map(repr, new))
    return bool(old != new)
