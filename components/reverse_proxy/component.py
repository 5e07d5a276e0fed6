"""The Nginx container and the way a configuration gets into it: docs/decisions/0001-checked-reload.md."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from components.docker.container import container, volume
from components.reverse_proxy.scripts import (
    CACHE,
    CAPABILITIES,
    CERTIFICATES,
    DIRECTORY,
    HEALTH,
    INSTALL,
    METRICS,
    START,
    TMPFS,
)

_INSTALLER_MEMORY = 128 << 20


class CertificateSource(StrEnum):
    """Whose certificate is served."""

    OWN = "own"
    """The one in the arguments."""
    OFFERED = "offered"
    """The one in the volume of certificates; the one in the arguments until there is one."""


class NginxReverseProxyArgs(TypedDict):
    """What the proxy serves, and where."""

    image: pulumi.Input[str]
    """Id of the image."""
    configuration: pulumi.Input[str]
    """The whole nginx.conf."""
    certificate_pem: pulumi.Input[str]
    """The server's certificate and what chains it to a root."""
    private_key_pem: pulumi.Input[str]
    certificate_source: CertificateSource
    warn_before: int
    """Seconds that a certificate has left when its end is warned of."""
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
    """Name of the volume in which other containers may read the proxy's numbers."""
    certificates_volume: pulumi.Output[str]
    """Name of the volume in which another container offers certificates, and answers what their issuer asks."""

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
        # Likewise: another way to a certificate must not replace the proxy. What it holds can be obtained again.
        certificates = volume(f"{name}-certificates", "certificates", child)
        self.certificates_volume = certificates.name
        proxy = container(
            f"{name}-server",
            child,
            role="nginx",
            image=args["image"],
            memory=args["memory"],
            entrypoint=["/bin/sh", "-c"],
            command=[START],
            capabilities=CAPABILITIES,
            read_only=True,
            tmpfs=TMPFS,
            volumes=[
                _mount(configuration, DIRECTORY),
                _mount(cache, CACHE),
                _mount(metrics, METRICS),
                _mount(certificates, CERTIFICATES, read_only=True),
            ],
            network=args["network"],
            aliases=["nginx"],
            ports=_ports(args),
            health=["CMD", "/bin/sh", "-c", HEALTH],
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
            command=[INSTALL],
            capabilities=CAPABILITIES,
            tmpfs={**TMPFS, CACHE: "mode=0755", METRICS: "mode=0755"},
            volumes=[_mount(configuration, DIRECTORY), _mount(certificates, CERTIFICATES, read_only=True)],
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
        f"{DIRECTORY}/candidate/nginx.conf": args["configuration"],
        f"{DIRECTORY}/candidate/certificate_source": args["certificate_source"],
        f"{DIRECTORY}/candidate/warn_before": str(args["warn_before"]),
        f"{DIRECTORY}/candidate/tls/certificate.pem": args["certificate_pem"],
        f"{DIRECTORY}/candidate/tls/private_key.pem": pulumi.Output.secret(args["private_key_pem"]),
    }
    if "client_authorities_pem" in args:
        files[f"{DIRECTORY}/candidate/tls/client_authorities.pem"] = args["client_authorities_pem"]
    return files


def _mount(volume: docker.Volume, path: str, *, read_only: bool = False) -> docker.ContainerVolumeArgs:
    return docker.ContainerVolumeArgs(volume_name=volume.name, container_path=path, read_only=read_only)


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
