"""Podman offers the API of a Docker engine, but a stack cannot run on it."""

from collections.abc import Mapping
from typing import Any

_COMPONENT = "Podman Engine"


def is_podman(version: Mapping[str, Any]) -> bool:
    """Return whether an engine's answer to /version, or the server's part of `docker version`, is Podman's."""
    return any(component.get("Name") == _COMPONENT for component in version.get("Components") or ())


def refusal(address: str) -> str:
    """Return the message for a Podman at an address."""
    return (
        f"The engine at {address} is Podman, and a stack needs Docker: Nginx finds Open WebUI by Docker's name server"
        " at 127.0.0.11, which Podman does not have. Install Docker (https://docs.docker.com/engine/install), or name a"
        " Docker engine with DOCKER_HOST or platform.docker.host. Nothing was touched."
    )
