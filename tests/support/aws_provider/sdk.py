"""What the Python SDK calls things: the only place where Pulumi's names for Terraform's attributes are written down.

Pulumi turns `root_block_device`, a list of at most one, into `rootBlockDevice`, an object; and `subnet_mapping`, a set,
into `subnetMappings`. The rules have exceptions by the hundred, and every one of them stands in the SDK's classes.
"""

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_GETTER = re.compile(
    r"@pulumi\.getter(?:\(name=\"(?P<given>\w+)\"\))?\n"  # its name, where it is not the method's
    r"(?:    @[^\n]*\n)*"  # such as: it is deprecated
    r"    def (?P<method>\w+)\(self\) -> (?P<type>.*):\n"
)
_CLASS_NAMED = re.compile(r"'(?:outputs\.)?(\w+)'")


@dataclass(frozen=True)
class Property:
    """A property of a class of the SDK."""

    name: str
    many: bool
    """It is a list."""
    optional: bool
    element: str | None
    """The class of what it holds, where that has properties of its own."""


@dataclass(frozen=True)
class Class:
    """A class of the SDK: a resource's, an answer's, or one for a part of it."""

    module: str
    file: str
    """Where the classes of its parts are."""
    properties: dict[str, Property]

    def of_part(self, part: Property) -> "Class | None":
        """Return the class of what a property holds."""
        return _class(self.module, self.file, part.element, self.file) if part.element else None


def of_resource(module: str, name: str) -> Class | None:
    """Return the class with all properties of a resource, such as ec2 and instance; None where the SDK has none."""
    return _class(module, f"{snake(name)}.py", f"_{capital(name)}State", "_inputs.py")


def may_leave_out(module: str, name: str, property_: str) -> bool:
    """Tell whether the SDK has a resource made without an argument."""
    arguments = _class(module, f"{snake(name)}.py", f"{capital(name)}Args", "_inputs.py")
    return arguments is not None and property_ in arguments.properties and arguments.properties[property_].optional


def of_function(module: str, name: str) -> Class | None:
    """Return the class of a function's answer, such as ec2 and getAmi; what it takes stands in it too."""
    return _class(module, f"{snake(name)}.py", f"{capital(name)}Result", "outputs.py")


@cache
def _class(module: str, file: str, name: str, parts: str) -> Class | None:
    text = _text(module, file)
    result = re.search(rf"^class {name}\b.*?:\n", text, re.MULTILINE)
    if result is None:
        return None
    body = re.split(r"^\S", text[result.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    properties: dict[str, Property] = {}
    for getter in _GETTER.finditer(body):
        type_ = getter["type"]
        element = _CLASS_NAMED.search(type_)
        property_ = getter["given"] or getter["method"]
        properties[property_] = Property(
            property_, "Sequence[" in type_, "Optional[" in type_, element[1] if element else None
        )
    return Class(module, parts, properties)


@cache
def _text(module: str, file: str) -> str:
    spec = importlib.util.find_spec("pulumi_aws")
    if spec is None or spec.origin is None:
        return ""
    root = Path(spec.origin).parent
    path = (root if module == "index" else root / snake(module)) / file
    return path.read_text(encoding="utf-8") if path.exists() else ""


def snake(name: str) -> str:
    """Write loadBalancer as load_balancer."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def camel(name: str) -> str:
    """Write load_balancer as loadBalancer."""
    return re.sub(r"_(\w)", lambda result: result[1].upper(), name)


def capital(name: str) -> str:
    """Write loadBalancer as LoadBalancer."""
    return name[:1].upper() + name[1:]


def plural(word: str) -> str:
    """Write a word for several of what it names."""
    if re.search(r"[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    if re.search(r"(ss|x|ch|sh|us|ias)$", word):
        return f"{word}es"
    return word if word.endswith("s") else f"{word}s"
