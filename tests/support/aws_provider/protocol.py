"""Terraform's plugin protocol, version 5: the part of it that a provider is asked in these tests.

The messages are described here field by field, numbers being what matters on the wire; protobuf makes classes of them.
"""

import os
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "tfplugin5"
_LARGEST_MESSAGE = 1 << 28
_COOKIE = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2"
"""Without it the provider explains to its caller that it is no program for people."""

# name -> fields as "number:name:type"; a star marks a list, two stars a map with text keys.
_MESSAGES = {
    "DynamicValue": "1:msgpack:bytes 2:json:bytes",
    "Step": "1:attribute_name:string 2:element_key_string:string 3:element_key_int:int64",
    "AttributePath": "1:steps:*Step",
    "Diagnostic": "1:severity:int32 2:summary:string 3:detail:string 4:attribute:AttributePath",
    "Attribute": "1:name:string 2:type:bytes 4:required:bool 5:optional:bool 6:computed:bool 7:sensitive:bool",
    "NestedBlock": "1:type_name:string 2:block:Block 3:nesting:int32 4:min_items:int64 5:max_items:int64",
    "Block": "1:version:int64 2:attributes:*Attribute 3:block_types:*NestedBlock",
    "Schema": "1:version:int64 2:block:Block",
    "Nothing": "",
    "Diagnosed": "1:diagnostics:*Diagnostic",
    "AllSchemas": (
        "1:provider:Schema 2:resource_schemas:**Schema 3:data_source_schemas:**Schema 4:diagnostics:*Diagnostic"
    ),
    "ProviderConfig": "1:config:DynamicValue",
    "Prepared": "1:prepared_config:DynamicValue 2:diagnostics:*Diagnostic",
    "Configuration": "1:terraform_version:string 2:config:DynamicValue",
    "TypedConfig": "1:type_name:string 2:config:DynamicValue",
    "Current": "1:type_name:string 2:current_state:DynamicValue 3:private:bytes",
    "Read": "1:new_state:DynamicValue 2:diagnostics:*Diagnostic 3:private:bytes",
    "Wanted": (
        "1:type_name:string 2:prior_state:DynamicValue 3:proposed_new_state:DynamicValue 4:config:DynamicValue"
        " 5:prior_private:bytes"
    ),
    "Planned": (
        "1:planned_state:DynamicValue 2:requires_replace:*AttributePath 3:planned_private:bytes"
        " 4:diagnostics:*Diagnostic"
    ),
    "Change": (
        "1:type_name:string 2:prior_state:DynamicValue 3:planned_state:DynamicValue 4:config:DynamicValue"
        " 5:planned_private:bytes"
    ),
    "Applied": "1:new_state:DynamicValue 2:private:bytes 3:diagnostics:*Diagnostic",
    "Identified": "1:type_name:string 2:id:string",
    "ImportedResource": "1:type_name:string 2:state:DynamicValue 3:private:bytes",
    "Imported": "1:imported_resources:*ImportedResource 2:diagnostics:*Diagnostic",
    "Found": "1:state:DynamicValue 2:diagnostics:*Diagnostic",
}
_CALLS = {
    "GetSchema": ("Nothing", "AllSchemas"),
    "PrepareProviderConfig": ("ProviderConfig", "Prepared"),
    "Configure": ("Configuration", "Diagnosed"),
    "ValidateResourceTypeConfig": ("TypedConfig", "Diagnosed"),
    "ValidateDataSourceConfig": ("TypedConfig", "Diagnosed"),
    "ReadResource": ("Current", "Read"),
    "PlanResourceChange": ("Wanted", "Planned"),
    "ApplyResourceChange": ("Change", "Applied"),
    "ImportResourceState": ("Identified", "Imported"),
    "ReadDataSource": ("TypedConfig", "Found"),
}
_ERROR = 1
SINGLE, LIST, SET, MAP, GROUP = range(1, 6)
"""How blocks nest."""


def _described() -> dict[str, Any]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="tfplugin5.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in fields.split():
            number, field_name, given = text.split(":")
            kind = given.lstrip("*")
            field = message.field.add(name=field_name, number=int(number))
            field.label = kinds.LABEL_REPEATED if given.startswith("*") else kinds.LABEL_OPTIONAL
            if given.startswith("**"):
                # On the wire a map is a list of pairs.
                pair = message.nested_type.add(name=_pair(field_name))
                pair.options.map_entry = True
                pair.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
                value = pair.field.add(name="value", number=2, label=kinds.LABEL_OPTIONAL)
                value.type, value.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{name}.{pair.name}"
            elif kind in _MESSAGES:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


def _pair(field: str) -> str:
    return "".join(part.capitalize() for part in field.split("_")) + "Entry"


_CLASSES = _described()


def message(name: str, /, **fields: Any) -> Any:
    """Return a message of the protocol."""
    return _CLASSES[name](**fields)


def errors(answer: Any) -> list[tuple[str, str]]:
    """Return the errors of an answer: the path of the attribute, and what is wrong with it."""
    return [
        (".".join(map(_step, result.attribute.steps)), ": ".join(filter(None, (result.summary, result.detail))))
        for result in answer.diagnostics
        if result.severity == _ERROR
    ]


def _step(step: Any) -> str:
    return step.attribute_name or step.element_key_string or str(step.element_key_int)


def roots(paths: Sequence[Any]) -> set[str]:
    """Return the attributes of a resource that paths begin with."""
    return {path.steps[0].attribute_name for path in paths if path.steps}


class TerraformProvider:
    """A provider's own program. It starts when it is first asked, which some engines never do; it ends with `stop`."""

    def __init__(self, program: Path) -> None:
        """Name the program."""
        self._program = program
        self._process: subprocess.Popen[str] | None = None

    def ask(self, call: str, **fields: Any) -> Any:
        """Make a call of the protocol and return the answer, errors and all.

        Raises:
            OSError: the program does not start, or speaks another protocol.

        """
        request, _ = _CALLS[call]
        return self._calls[call](message(request, **fields))

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    @cached_property
    def _calls(self) -> dict[str, Any]:
        sizes = [(f"grpc.max_{way}_message_length", _LARGEST_MESSAGE) for way in ("send", "receive")]
        channel = grpc.insecure_channel(self._start(), options=sizes)
        return {
            name: channel.unary_unary(
                f"/{_PACKAGE}.Provider/{name}",
                request_serializer=_CLASSES[request].SerializeToString,
                response_deserializer=_CLASSES[answer].FromString,
            )
            for name, (request, answer) in _CALLS.items()
        }

    def _start(self) -> str:
        """Start it, and return where it listens."""
        environment = {**os.environ, "TF_PLUGIN_MAGIC_COOKIE": _COOKIE, "PLUGIN_PROTOCOL_VERSIONS": "5"}
        self._process = subprocess.Popen(  # noqa: S603  # the path that the environment names
            [self._program],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdout is not None  # a pipe was asked for
        line = self._process.stdout.readline().strip()
        try:
            _, version, network, address, *_ = line.split("|")
        except ValueError:
            raise OSError(f"{self._program} did not start as a Terraform provider: it said {line!r}") from None
        if version != "5":
            raise OSError(f"{self._program} speaks version {version} of the plugin protocol, and 5 is needed")
        return f"unix:{address}" if network == "unix" else address
