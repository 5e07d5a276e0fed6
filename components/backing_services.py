"""What the application leans on, when the settings ask for it."""

from typing import TypedDict

import pulumi
import pulumi_docker as docker

from components.docker.container import container, volume
from components.keeping import kept

_PORT = 11434


class OllamaArgs(TypedDict):
    """An Ollama of this deployment's own."""

    image: pulumi.Input[str]
    """Id of the image."""
    network: pulumi.Input[str]
    gpu: bool
    """Give it all GPUs of the host."""
    memory: int
    """Limit in bytes."""


class Ollama(pulumi.ComponentResource):
    """Ollama with a volume for its models."""

    url: pulumi.Output[str]
    containers: pulumi.Output[list[str]]
    container_ids: pulumi.Output[list[str]]

    def __init__(self, name: str, args: OllamaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the volume and the container."""
        super().__init__("open-webui-edge:index:Ollama", name, {}, opts)
        models = volume(f"{name}-models", "ollama-models", kept(self))
        server = container(
            f"{name}-server",
            pulumi.ResourceOptions(parent=self),
            role="ollama",
            image=args["image"],
            memory=args["memory"],
            volumes=[docker.ContainerVolumeArgs(volume_name=models.name, container_path="/root/.ollama")],
            network=args["network"],
            aliases=["ollama"],
            health=["CMD", "ollama", "list"],
            gpus="all" if args["gpu"] else "",
        )
        self.url = pulumi.Output.from_input(f"http://ollama:{_PORT}")
        self.containers = pulumi.Output.all(server.name)
        self.container_ids = pulumi.Output.all(server.id)
        self.register_outputs({"url": self.url, "containers": self.containers})
