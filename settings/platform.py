"""What the deployment runs on."""

import base64
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator

from open_webui_edge.settings.aws import AwsSettings
from open_webui_edge.settings.faults import Fault, LeakedSecretError
from open_webui_edge.settings.values import Settings, matching

_HOST_KEY = re.compile(
    r"(ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa) ([A-Za-z0-9+/]+={0,2})(?: [ -~]*)?", re.ASCII
)


class PlatformKind(StrEnum):
    """What the deployment runs on."""

    DOCKER = "docker"
    AWS_VM = "aws-vm"


# Nothing that ssh could take for an option.
_ENGINE = matching(
    r"unix:///[A-Za-z0-9._/-]+|ssh://([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?",
    "is not a Docker host; write unix:///path/of/socket or ssh://user@host",
)


def _host_key(value: str) -> str:
    if "PRIVATE KEY" in value:
        raise LeakedSecretError(
            "contains a private key, which must stay on its host; write the public key, and replace the host's key",
        )
    match = _HOST_KEY.fullmatch(value.strip())
    if match is None or not _says_its_kind(match[1], match[2]):
        raise ValueError(
            "is not a public host key; write the content of /etc/ssh/ssh_host_ed25519_key.pub, such as"
            " ssh-ed25519 AAAA…",
        )
    return f"{match[1]} {match[2]}"


def _says_its_kind(kind: str, encoded: str) -> bool:
    """Whether a key begins with its kind, as each does (RFC 4253 section 6.6)."""
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        return False
    return key.startswith(len(kind).to_bytes(4) + kind.encode()) and len(key) > len(kind) + 4


class DockerSettings(Settings):
    """A Docker engine."""

    host: Annotated[str, _ENGINE] | None = None
    """Address of the Docker engine: unix:///path/of/socket, or ssh://user@host. Default: the engine that `docker` on
    this machine uses (DOCKER_HOST, else /var/run/docker.sock)."""

    host_key: Annotated[str, AfterValidator(_host_key)] | None = None
    """Public SSH host key of an ssh:// host, such as ssh-ed25519 AAAA…; a connection to a host with another key is
    refused. Default: the key in your known_hosts."""

    def _faults(self) -> Iterator[Fault]:
        host = self.host or "missing"
        if self.host_key is not None and not host.startswith("ssh://"):
            yield Fault("host_key", f"is set, but host is {host}; remove host_key or write host: ssh://user@address")


class PlatformSettings(Settings):
    """What the deployment runs on."""

    kind: PlatformKind = PlatformKind.DOCKER
    """Selects the platform. docker: containers on one Docker engine; aws-vm: the same containers on an EC2 instance
    that the stack creates."""

    docker: DockerSettings = DockerSettings()
    """Docker engine to use, with kind docker."""

    aws: AwsSettings | None = None
    """AWS resources to create, with kind aws-vm."""

    def _faults(self) -> Iterator[Fault]:
        if self.kind is PlatformKind.DOCKER and self.aws is not None:
            yield Fault("aws", "is set, but kind is docker; remove aws or write kind: aws-vm")
        if self.kind is PlatformKind.AWS_VM and "docker" in self.model_fields_set:
            yield Fault("docker", "is set, but kind is aws-vm; remove docker or write kind: docker")
        if self.kind is PlatformKind.AWS_VM and self.aws is None:
            yield Fault(
                "aws", "is missing, but kind is aws-vm; add region and instance.ssh_from, or write kind: docker"
            )
