"""The container that asks the replicas and tells the proxy."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import pulumi

from components.docker.container import container

_NAME = "readiness"
_PORT = 5353
_WATCH = Path(__file__).with_name("watch.py")
_MEMORY = 64 << 20


class ReadinessArgs(TypedDict):
    """Whom it asks."""

    image: pulumi.Input[str]
    """Id of an image that holds Python."""
    network: pulumi.Input[str]
    name: str
    """The name that it answers for."""
    replicas: Sequence[str]
    """Names of the replicas on the network."""


class Readiness(pulumi.ComponentResource):
    """A name server for one name, whose addresses are the replicas that are ready."""

    address: str
    """Where the proxy finds it on the network, host:port, by UDP."""
    containers: pulumi.Output[Sequence[str]]
    container_ids: pulumi.Output[Sequence[str]]

    def __init__(self, name: str, args: ReadinessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the container."""
        super().__init__("open-webui-edge:index:Readiness", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        # Given as text: into a read-only container no file can be brought.
        program = ["python3", "-I", "-c", _WATCH.read_text()]
        watch = container(
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
        self.containers = pulumi.Output.all(watch.name)
        self.container_ids = pulumi.Output.all(watch.id)
        self.register_outputs({"containers": self.containers})
