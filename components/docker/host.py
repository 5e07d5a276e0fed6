"""A Docker engine, and the network of the containers on it."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from open_webui_edge.components.docker.container import labels, physical_name


class DockerHostArgs(TypedDict):
    """Which engine."""

    host: NotRequired[pulumi.Input[str]]
    """unix:///path/of/socket or ssh://user@host; left out: DOCKER_HOST, else /var/run/docker.sock."""
    ssh_options: NotRequired[Sequence[str]]
    """Options of ssh; left out: the user's own configuration and known hosts."""
    ipv6: NotRequired[bool]
    """Whether the network has IPv6 too."""


class DockerHost(pulumi.ComponentResource):
    """One Docker engine with a network of its own for this deployment."""

    provider: docker.Provider
    network: pulumi.Output[str]
    """Name of the network that the containers share."""
    subnet: pulumi.Output[str]
    """Its IPv4 network in CIDR form, given by the engine."""

    def __init__(self, name: str, args: DockerHostArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Configure the provider and make the network."""
        super().__init__("open-webui-edge:index:DockerHost", name, {**args}, opts)
        self.provider = docker.Provider(
            f"{name}-engine",
            host=args.get("host"),
            ssh_opts=args.get("ssh_options"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        network = docker.Network(
            f"{name}-network",
            name=physical_name("network"),
            labels=[docker.NetworkLabelArgs(label=key, value=value) for key, value in labels("network").items()],
            # Left out rather than false, so that an engine without IPv6 sees no diff.
            ipv6=True if args.get("ipv6") else None,
            # Two networks cannot have the same name.
            opts=pulumi.ResourceOptions(parent=self, provider=self.provider, delete_before_replace=True),
        )
        self.network = network.name
        self.subnet = network.ipam_configs.apply(_ipv4_subnet)
        self.register_outputs({"network": self.network, "subnet": self.subnet})


def _ipv4_subnet(configs: Sequence[docker.outputs.NetworkIpamConfig] | None) -> str:
    subnets = [config.subnet for config in configs or () if config.subnet]
    return next((subnet for subnet in subnets if ":" not in subnet), "")
