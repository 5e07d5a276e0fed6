"""The sidecar that probes the replicas and serves DNS to the proxy."""

from collections.abc import Sequence
from typing import TypedDict

import pulumi

from open_webui_edge.components.container_group import ContainerGroup
from open_webui_edge.components.docker.container import container
from open_webui_edge.runtime import delivery

_NAME = "readiness"
_PORT = 5353
_MEMORY = 64 << 20


class ReadinessArgs(TypedDict):
    """The replicas, and their common name."""

    image: pulumi.Input[str]
    """ID of an image with Python."""
    network: pulumi.Input[str]
    name: str
    """The DNS name that it serves."""
    replicas: Sequence[str]
    """Names of the replicas on the network."""


class Readiness(ContainerGroup):
    """Active health checks: a DNS server that resolves one name to the ready replicas."""

    address: str
    """host:port on the network, UDP."""

    def __init__(self, name: str, args: ReadinessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the container."""
        super().__init__("open-webui-edge:index:Readiness", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        # As an argument: Docker cannot copy files into a read-only container.
        program = ["python3", "-I", "-c", delivery.program("readiness/replica_dns.py")]
        prober = container(
            f"{name}-watch",
            child,
            role="readiness",
            image=args["image"],
            memory=_MEMORY,
            entrypoint=program,
            command=[args["name"], *args["replicas"]],
            network=args["network"],
            aliases=[_NAME],
            health=["CMD", *program, "check"],
            read_only=True,
            init=True,
        )
        self.address = f"{_NAME}:{_PORT}"
        self._register(prober)
