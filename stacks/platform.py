"""What the deployment runs on."""

import base64
import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from stacks.aws import AwsSettings
from stacks.values import BelowError, SecretInsideError, Settings

# Nothing that ssh could take for an option.
_ENGINE = re.compile(
    r"unix:///[A-Za-z0-9._/-]+|ssh://([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?"
)
_HOST_KEY = re.compile(
    r"(ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa) ([A-Za-z0-9+/]+={0,2})(?: [ -~]*)?", re.ASCII
)


class PlatformKind(StrEnum):
    """What the deployment runs on."""

    DOCKER = "docker"
    AWS_VM = "aws-vm"


def _engine(value: str) -> str:
    if not _ENGINE.fullmatch(value):
        raise ValueError("is not a Docker host; write unix:///path/of/socket or ssh://user@host")
    return value


def _host_key(value: str) -> str:
    if "PRIVATE KEY" in value:
        raise SecretInsideError(
            "holds a private key, which only its host may have; write the public one, and give that host another key",
        )
    match = _HOST_KEY.fullmatch(value.strip())
    if match is None or not _says_its_kind(match[1], match[2]):
        raise ValueError(
            "is not a host's public key; write what the host has in /etc/ssh/ssh_host_ed25519_key.pub, such as"
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

    host: Annotated[str, AfterValidator(_engine)] | None = None
    """Where the engine listens: unix:///path/of/socket, or ssh://user@host. Left out: the engine that `docker` on
    this machine talks to (DOCKER_HOST, else /var/run/docker.sock)."""

    host_key: Annotated[str, AfterValidator(_host_key)] | None = None
    """With an ssh:// host: its public key, such as ssh-ed25519 AAAA…, so that no other machine is taken for it. Left
    out: your own known_hosts says whose key it is."""

    @model_validator(mode="after")
    def _a_key_belongs_to_a_host(self) -> Self:
        if self.host_key is not None and not (self.host or "").startswith("ssh://"):
            where = "missing" if self.host is None else self.host
            raise BelowError(
                "host_key", f"is set, but host is {where}; drop host_key or write host: ssh://user@address"
            )
        return self


class PlatformSettings(Settings):
    """What the deployment runs on."""

    kind: PlatformKind = PlatformKind.DOCKER
    """docker: containers on one Docker engine; aws-vm: the same containers on an EC2 instance that is made for them."""

    docker: DockerSettings = DockerSettings()
    """With kind docker: which engine."""

    aws: AwsSettings | None = None
    """With kind aws-vm: what stands at AWS."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.kind is PlatformKind.DOCKER and self.aws is not None:
            raise BelowError("aws", "is set, but kind is docker; drop aws or write kind: aws-vm")
        if self.kind is PlatformKind.AWS_VM:
            if "docker" in self.model_fields_set:
                raise BelowError("docker", "is set, but kind is aws-vm; drop docker or write kind: docker")
            if self.aws is None:
                raise BelowError(
                    "aws", "is missing, and kind is aws-vm; add region and instance.ssh_from, or write kind: docker"
                )
        return self
