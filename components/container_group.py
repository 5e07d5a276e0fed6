"""What the components that consist of containers have in common."""

from collections.abc import Sequence

import pulumi
import pulumi_docker as docker


class ContainerGroup(pulumi.ComponentResource):
    """A component whose containers an update waits for."""

    containers: pulumi.Output[Sequence[str]]
    container_ids: pulumi.Output[Sequence[str]]

    def _register(self, *containers: docker.Container, **outputs: pulumi.Input[str]) -> None:
        self.containers = pulumi.Output.all(*(one.name for one in containers))
        self.container_ids = pulumi.Output.all(*(one.id for one in containers))
        self.register_outputs({**outputs, "containers": self.containers})


def mount(name: pulumi.Input[str], path: str, *, read_only: bool | None = None) -> docker.ContainerVolumeArgs:
    """Return the mount of a volume."""
    return docker.ContainerVolumeArgs(volume_name=name, container_path=path, read_only=read_only)
