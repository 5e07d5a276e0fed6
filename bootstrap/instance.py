"""The instance that a stack's containers run on, as the stack's state knows it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bootstrap.stack import setting
from components.docker.ssh import SshAccess, ask_over_ssh

TOLD_BY = "the state of the stack"
_HOST = "open-webui-edge:index:Ec2Host"
_HELD = {"aws:ec2/volumeAttachment:VolumeAttachment", "aws:ec2/eipAssociation:EipAssociation"}
_SECRET, _SECRET_MARK = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
"""How Pulumi writes a secret into a state (its sdk/go/common/resource/properties.go)."""


def is_wanted(settings: Mapping[str, Any]) -> bool:
    """Tell whether the settings ask for one."""
    return setting(settings, "platform.kind") == "aws-vm"


def access(stack: str, resources: Sequence[Mapping[str, Any]]) -> SshAccess | None:
    """Return how it is reached; None where the state knows none.

    Args:
        stack: name of the stack.
        resources: what its state holds, secrets shown.

    """
    for resource in resources:
        ssh = plain((resource.get("outputs") or {}).get("ssh")) if resource.get("type") == _HOST else None
        if isinstance(ssh, dict) and all(isinstance(ssh.get(key), str) for key in ("host", "host_key", "client_key")):
            return SshAccess(stack, ssh["host"], ssh["host_key"], ssh["client_key"])
    return None


def of_aws(resources: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the URNs of what AWS itself can be asked about, whether the instance answers or not."""
    return [resource["urn"] for resource in resources if resource["type"].startswith("aws:")]


def held_by_it(resources: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the URNs of what ends with the instance at AWS, and cannot be removed once more."""
    return [resource["urn"] for resource in resources if resource["type"] in _HELD]


def is_secret(value: Mapping[str, Any]) -> bool:
    """Tell whether a value of a state is marked as secret."""
    return value.get(_SECRET) == _SECRET_MARK


def plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a value of a state without what marks secrets in it."""
    if isinstance(value, dict):
        if is_secret(value):
            return json.loads(value.get("plaintext") or "null")
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def unanswered(found: SshAccess) -> str | None:
    """Return why its engine cannot be asked; None when it can be."""
    return ask_over_ssh(found.host, found.options, "docker version --format '{{.Server.Version}}'")
