"""The Nginx container and the way a configuration gets into it: docs/decisions/0001-checked-reload.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from components.docker.container import container, volume

_DIRECTORY = "/etc/open-webui-edge"
# A folder that no image has: a new volume takes over the owner of the image's, and root without its rights over files
# could not write into another user's.
_CACHE = "/var/cache/open-webui-edge"
_INSTALL = Path(__file__).with_name("install.sh")
METRICS = "/run/open-webui-edge-metrics"
"""Where the container that reads Nginx's numbers finds the socket that gives them."""
_START = (
    # A socket that a killed Nginx left would keep the next from listening.
    f"rm -f {METRICS}/nginx.sock;"
    f" until [ -e {_DIRECTORY}/current/nginx.conf ]; do sleep 0.1; done;"
    f" exec nginx -c {_DIRECTORY}/current/nginx.conf -g 'daemon off;'"
)
# Nginx's master binds 80 and 443, hands its temporary folders to its workers, becomes them and signals them.
_CAPABILITIES = ("CHOWN", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
_TMPFS = {"/run/nginx": "mode=0755"}
_INSTALLER_MEMORY = 128 << 20


class NginxReverseProxyArgs(TypedDict):
    """What the proxy serves, and where."""

    image: pulumi.Input[str]
    """Id of the image."""
    configuration: pulumi.Input[str]
    """The whole nginx.conf."""
    certificate_pem: pulumi.Input[str]
    """The server's certificate and what chains it to a root."""
    private_key_pem: pulumi.Input[str]
    client_authorities_pem: NotRequired[pulumi.Input[str]]
    """Who vouches for clients, where the configuration asks them for certificates."""
    network: pulumi.Input[str]
    listen_addresses: Sequence[str]
    """Addresses of the host, IPv4 and IPv6."""
    http_port: int
    https_port: int
    http3: bool
    """Whether to publish the HTTPS port for UDP too."""
    memory: int
    """Limit in bytes."""


class NginxReverseProxy(pulumi.ComponentResource):
    """Nginx in front of the application. A changed configuration or certificate is a checked reload."""

    containers: pulumi.Output[Sequence[str]]
    container_ids: pulumi.Output[Sequence[str]]
    generation: pulumi.Output[str]
    """What the installer said last."""
    metrics_volume: pulumi.Output[str]
    """Name of the volume with the socket over which another container may read Nginx's numbers."""

    def __init__(self, name: str, args: NginxReverseProxyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the container, and beside it the one that tests and installs the configuration."""
        super().__init__("open-webui-edge:index:NginxReverseProxy", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        configuration = volume(f"{name}-configuration", "nginx-configuration", child)
        # On disk: what is buffered there would count as the container's memory in a tmpfs.
        cache = volume(f"{name}-cache", "nginx-cache", child)
        # There whether it is used or not: a configuration that listens in it must not outlive it.
        metrics = volume(f"{name}-metrics", "nginx-metrics", child)
        self.metrics_volume = metrics.name
        proxy = container(
            f"{name}-server",
            child,
            role="nginx",
            image=args["image"],
            memory=args["memory"],
            entrypoint=["/bin/sh", "-c"],
            command=[_START],
            capabilities=_CAPABILITIES,
            read_only=True,
            tmpfs=_TMPFS,
            volumes=[
                _mount(configuration, read_only=True),
                docker.ContainerVolumeArgs(volume_name=cache.name, container_path=_CACHE),
                docker.ContainerVolumeArgs(volume_name=metrics.name, container_path=METRICS),
            ],
            network=args["network"],
            aliases=["nginx"],
            ports=_ports(args),
            health=["CMD", "curl", "--fail", "--silent", "--max-time", "4", "http://127.0.0.1:8081/health"],
            start_period="1m0s",
            # Requests in flight are answered before it ends.
            stop_signal="SIGQUIT",
            stop_timeout=10,
        )
        installer = container(
            f"{name}-installer",
            child,
            role="nginx-installer",
            image=args["image"],
            memory=_INSTALLER_MEMORY,
            entrypoint=["/bin/sh", "-c"],
            command=[f"EDGE_DIRECTORY={_DIRECTORY}\n{_INSTALL.read_text()}"],
            capabilities=_CAPABILITIES,
            tmpfs={**_TMPFS, _CACHE: "mode=0755", METRICS: "mode=0755"},
            volumes=[_mount(configuration, read_only=False)],
            files=_files(args),
            runs_beside=proxy.id,
        )
        self.generation = pulumi.Output.all(installer.exit_code, installer.container_logs).apply(_accepted)
        self.containers = pulumi.Output.all(proxy.name)
        # Whoever waits for the proxy waits for its configuration too.
        self.container_ids = pulumi.Output.all(proxy.id, self.generation).apply(lambda both: [both[0]])
        self.register_outputs({"containers": self.containers, "generation": self.generation})


def _ports(args: NginxReverseProxyArgs) -> list[docker.ContainerPortArgs]:
    published = [(80, args["http_port"], "tcp"), (443, args["https_port"], "tcp")]
    if args["http3"]:
        published.append((443, args["https_port"], "udp"))
    return [
        docker.ContainerPortArgs(internal=internal, external=external, ip=address, protocol=protocol)
        for address in args["listen_addresses"]
        for internal, external, protocol in published
    ]


def _files(args: NginxReverseProxyArgs) -> dict[str, pulumi.Input[str]]:
    files: dict[str, pulumi.Input[str]] = {
        f"{_DIRECTORY}/candidate/nginx.conf": args["configuration"],
        f"{_DIRECTORY}/candidate/tls/certificate.pem": args["certificate_pem"],
        f"{_DIRECTORY}/candidate/tls/private_key.pem": pulumi.Output.secret(args["private_key_pem"]),
    }
    if "client_authorities_pem" in args:
        files[f"{_DIRECTORY}/candidate/tls/client_authorities.pem"] = args["client_authorities_pem"]
    return files


def _mount(configuration: docker.Volume, *, read_only: bool) -> docker.ContainerVolumeArgs:
    return docker.ContainerVolumeArgs(volume_name=configuration.name, container_path=_DIRECTORY, read_only=read_only)


def _accepted(ended: Sequence[object]) -> str:
    exit_code, output = ended
    words = str(output or "").strip()
    # Without a word it has not run to its end, whatever its exit code says.
    if exit_code == 0 and words:
        return words
    if not words:
        raise pulumi.RunError(
            f"The configuration could not be installed: its container ended with exit code {exit_code} and said"
            " nothing. The one before is still served; the proxy's own log may say why: make logs ROLE=nginx",
        )
    raise pulumi.RunError(f"Nginx refused the configuration; the one before is still served. It says:\n{words}")
