"""What a resource looks like: Terraform's schema, each attribute with the name that Pulumi gives it."""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from tests.support.aws_provider import protocol, sdk
from tests.support.aws_provider.sdk import camel, plural

# Where Pulumi's name is another word than Terraform's.
_RENAMED = {
    ("aws_cloudwatch_metric_alarm", "alarm_name"): "name",
    ("aws_sns_topic_subscription", "topic_arn"): "topic",
}


class Form(StrEnum):
    """How values are put together."""

    TEXT = "string"
    NUMBER = "number"
    TRUTH = "bool"
    ANY = "dynamic"
    LIST = "list"
    SET = "set"
    MAP = "map"
    RECORD = "object"


_NESTINGS = {protocol.LIST: Form.LIST, protocol.SET: Form.SET, protocol.MAP: Form.MAP}


@dataclass
class Shape:
    """The shape of one value."""

    form: Form
    element: "Shape | None" = None
    """What a list, set or map holds."""
    fields: dict[str, "Shape"] = field(default_factory=dict["str", "Shape"])
    """What a record holds, by Terraform's names."""
    pulumi: str = ""
    """Pulumi's name."""
    alone: bool = False
    """A list of at most one, which Pulumi shows as the one."""
    block: bool = False
    settable: bool = True
    required: bool = False
    computed: bool = False
    sensitive: bool = False

    @classmethod
    def of_type(cls, given: Any) -> Self:
        """Read a type as the protocol writes it: "string", ["list", "string"], ["object", {…}]."""
        if isinstance(given, str):
            return cls(Form(given))
        kind, inner = given
        if kind == "object":
            return cls(Form.RECORD, fields={name: cls.of_type(each) for name, each in inner.items()})
        if kind == "tuple":
            return cls(Form.LIST, element=cls.of_type(inner[0] if inner else "dynamic"))
        return cls(Form(kind), element=cls.of_type(inner))

    @classmethod
    def of_block(cls, block: Any) -> Self:
        """Read a block of a schema."""
        fields: dict[str, Shape] = {}
        for attribute in block.attributes:
            shape = cls.of_type(json.loads(attribute.type))
            shape.settable = attribute.required or attribute.optional
            shape.required = attribute.required
            shape.computed, shape.sensitive = attribute.computed, attribute.sensitive
            fields[attribute.name] = shape
        for nested in block.block_types:
            inside = cls.of_block(nested.block)
            form = _NESTINGS.get(nested.nesting)
            shape = inside if form is None else cls(form, element=inside, alone=nested.max_items == 1)
            shape.block = True
            fields[nested.type_name] = shape
        return cls(Form.RECORD, fields=fields)

    def named(self, kind: str, known: sdk.Class | None) -> Self:
        """Give every attribute of a record its name in Pulumi, as the SDK's class has it."""
        properties = known.properties if known else {}
        for name, shape in self.fields.items():
            result = self._property(kind, name, shape, properties)
            shape.pulumi = result.name if result else _by_rule(name, shape)
            if result and shape.form in {Form.LIST, Form.SET}:
                # The SDK knows better than the schema: limits may be a validator's there.
                shape.alone = not result.many
            inside = shape.element or shape
            inside.named(kind, known.of_part(result) if known and result else None)
        return self

    @staticmethod
    def _property(kind: str, name: str, shape: "Shape", properties: dict[str, sdk.Property]) -> sdk.Property | None:
        names = [_RENAMED[kind, name]] if (kind, name) in _RENAMED else []
        if shape.form in {Form.LIST, Form.SET}:
            names.append(camel(plural(name)))
        names.append(camel(name))
        return next((properties[each] for each in names if each in properties), None)

    @property
    def by_property(self) -> dict[str, tuple[str, "Shape"]]:
        """The attributes of a record, by the names that Pulumi gives them."""
        return {shape.pulumi: (name, shape) for name, shape in self.fields.items()}


def _by_rule(name: str, shape: Shape) -> str:
    several = shape.form in {Form.LIST, Form.SET} and not shape.alone
    return camel(plural(name) if several else name)
