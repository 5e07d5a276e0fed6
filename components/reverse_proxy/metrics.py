"""Numbers of the proxy for Prometheus: the exporter of Nginx's makers, beside it."""

from collections.abc import Sequence
from typing import TypedDict

import pulumi
import pulumi_docker as docker

from components.docker.container import container, labels, physical_name
from components.reverse_proxy.component import METRICS

_PORT = 9113
_PROGRAM = "/usr/bin/nginx-prometheus-exporter"
_MEMORY = 64 << 20


class NginxMetricsArgs(TypedDict):
    """What is read, and where it is shown."""

    image: pulumi.Input[str]
    """Id of the image."""
    volume: pulumi.Input[str]
    """Name of the volume with the proxy's socket."""
    port: int
    """On 127.0.0.1 of the host."""


class NginxMetrics(pulumi.ComponentResource):
    """The exporter, on a network of its own: only the host reaches it."""

    containers: pulumi.Output[Sequence[str]]
    container_ids: pulumi.Output[Sequence[str]]

    def __init__(self, name: str, args: NginxMetricsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the network and the container."""
        super().__init__("open-webui-edge:index:NginxMetrics", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        network = docker.Network(
            f"{name}-network",
            name=physical_name("metrics-network"),
            labels=[docker.NetworkLabelArgs(label=key, value=value) for key, value in labels("network").items()],
            opts=child,
        )
        exporter = container(
            f"{name}-exporter",
            child,
            role="nginx-metrics",
            image=args["image"],
            memory=_MEMORY,
            entrypoint=[_PROGRAM],
            command=[
                f"--nginx.scrape-uri=unix:{METRICS}/nginx.sock:/connections",
                f"--web.listen-address=:{_PORT}",
            ],
            read_only=True,
            volumes=[docker.ContainerVolumeArgs(volume_name=args["volume"], container_path=METRICS, read_only=True)],
            network=network.name,
            ports=[docker.ContainerPortArgs(internal=_PORT, external=args["port"], ip="127.0.0.1")],
            # The official image holds this one program, which has no check of itself: that it runs is all that it says.
            health=["CMD", _PROGRAM, "--version"],
        )
        self.containers = pulumi.Output.all(exporter.name)
        self.container_ids = pulumi.Output.all(exporter.id)
        self.register_outputs({"containers": self.containers})
