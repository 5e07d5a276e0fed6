"""What a Dockerfile's last stage says of an image: environment, user, folder, command, ports and health check."""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_READERS: Mapping[str, Callable[[str], tuple[str, Any]]] = {
    "WORKDIR": lambda text: ("WorkingDir", text),
    "USER": lambda text: ("User", text),
    "CMD": lambda text: ("Cmd", json.loads(text)),
    "EXPOSE": lambda text: ("ExposedPorts", {f"{port}/tcp": {} for port in text.split()}),
    "HEALTHCHECK": lambda text: ("Healthcheck", {"Test": ["CMD-SHELL", text.removeprefix("CMD ")]}),
}
_WITH_VARIABLES = {"WORKDIR", "USER", "EXPOSE"}
"""Where Docker replaces variables; in the others the shell does, which runs them."""


def settings_in(dockerfile: str, base: Mapping[str, str]) -> dict[str, Any]:
    """Return an image's settings, as its configuration holds them; `base` is the environment of what it is built from.

    All build arguments have their defaults.
    """
    arguments: dict[str, str] = {}
    environment = dict(base)
    settings: dict[str, Any] = {}
    for instruction, text in _instructions(dockerfile):
        known = {**arguments, **environment}
        if instruction == "FROM":
            environment, settings = dict(base), {}
        elif instruction == "ARG":
            name, given, value = text.partition("=")
            arguments |= {name: value.strip("\"'")} if given else {}
        elif instruction == "ENV":
            words = (word.partition("=") for word in shlex.split(text))
            environment |= {name: _replaced(value, known) for name, _, value in words}
        elif instruction in _READERS:
            key, value = _READERS[instruction](_replaced(text, known) if instruction in _WITH_VARIABLES else text)
            settings[key] = value
    return {**settings, "Env": [f"{name}={value}" for name, value in environment.items()]}


def _instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            instruction, _, text = line.strip().partition(" ")
            yield instruction.upper(), text.strip()


def _replaced(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda result: values.get(result[1] or result[2], ""), text)
