"""The instance that a stack's containers run on, from the stack's state."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from open_webui_edge.cli.stack import setting
from open_webui_edge.engine.ssh import SshAccess, ask_over_ssh

KEY_SOURCE = "the state of the stack"
_HOST = "open-webui-edge:index:Ec2Host"
_HELD = {"aws:ec2/volumeAttachment:VolumeAttachment", "aws:ec2/eipAssociation:EipAssociation"}
_SECRET, _SECRET_MARK = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
"""How Pulumi writes a secret into a state (its sdk/go/common/resource/properties.go)."""


def is_used(settings: Mapping[str, Any]) -> bool:
    """Return whether the settings use an instance."""
    return setting(settings, "platform.kind") == "aws-vm"


def access(stack: str, resources: Sequence[Mapping[str, Any]]) -> SshAccess | None:
    """Return the ssh access to it from the state's resources, with secrets in plain text; None if they have none."""
    for resource in resources:
        ssh = plain((resource.get("outputs") or {}).get("ssh")) if resource.get("type") == _HOST else None
        if isinstance(ssh, dict) and all(isinstance(ssh.get(key), str) for key in ("host", "host_key", "client_key")):
            return SshAccess(stack, ssh["host"], ssh["host_key"], ssh["client_key"])
    return None


def aws_urns(resources: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the URNs of AWS resources, which can be refreshed even if the instance does not answer."""
    return [resource["urn"] for resource in resources if resource["type"].startswith("aws:")]


def attachment_urns(resources: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the URNs of attachments: AWS removes them with the instance, so Pulumi cannot delete them again."""
    return [resource["urn"] for resource in resources if resource["type"] in _HELD]


def is_secret(value: Mapping[str, Any]) -> bool:
    """Return whether a value of a state is marked as secret."""
    return value.get(_SECRET) == _SECRET_MARK


def plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a value of a state without its secret markers."""
    if isinstance(value, dict):
        if is_secret(value):
            return json.loads(value.get("plaintext") or "null")
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def ping_error(ssh: SshAccess) -> str | None:
    """Return why its engine does not answer; None if it does."""
    return ask_over_ssh(ssh.host, ssh.options, "docker version --format '{{.Server.Version}}'")
