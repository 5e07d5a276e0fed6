"""The Nginx container, and the installer of its configuration: docs/decisions/0001-checked-reload.md."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from open_webui_edge.components.container_group import ContainerGroup, mount
from open_webui_edge.components.docker.container import container, volume
from open_webui_edge.runtime.nginx.scripts import (
    CACHE,
    CAPABILITIES,
    CERTIFICATES,
    DIRECTORY,
    HEALTH,
    INSTALL,
    METRICS,
    PORTS,
    PORTS_FOR_IPV6,
    START,
    TMPFS,
)

_INSTALLER_MEMORY = 128 << 20


class CertificateSource(StrEnum):
    """Source of the served certificate. The proxy's volume holds the values, so they stay."""

    ARGS = "own"
    """The arguments."""
    VOLUME = "offered"
    """The volume of certificates; until it has one, the arguments."""


class NginxReverseProxyArgs(TypedDict):
    """The proxy's configuration, certificate and listeners."""

    image: pulumi.Input[str]
    """ID of the image."""
    configuration: pulumi.Input[str]
    """The whole nginx.conf."""
    certificate_pem: pulumi.Input[str]
    """The server's certificate with its chain."""
    private_key_pem: pulumi.Input[str]
    certificate_source: CertificateSource
    warn_before: int
    """Seconds before the certificate expires from which on a warning is logged."""
    client_authorities_pem: NotRequired[pulumi.Input[str]]
    """CAs of client certificates, if the configuration requires these."""
    network: pulumi.Input[str]
    listen_addresses: Sequence[str]
    """Addresses of the host: one of IPv4, and one of IPv6 where the configuration listens on IPv6."""
    http_port: int
    https_port: int
    http3: bool
    """Publish the HTTPS port for UDP too."""
    memory: int
    """Limit in bytes."""


class NginxReverseProxy(ContainerGroup):
    """Nginx in front of the application. A changed configuration or certificate is a checked reload."""

    generation: pulumi.Output[str]
    """The installer's output: the active configuration."""
    metrics_volume: pulumi.Output[str]
    """Name of the volume from which other containers read the proxy's metrics."""
    certificates_volume: pulumi.Output[str]
    """Name of the volume in which certbot publishes certificates and HTTP-01 tokens."""

    def __init__(self, name: str, args: NginxReverseProxyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the container, and the installer that tests and activates the configuration."""
        super().__init__("open-webui-edge:index:NginxReverseProxy", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        configuration = volume(f"{name}-configuration", "nginx-configuration", child)
        # On disk: a tmpfs would count towards the container's memory.
        cache = volume(f"{name}-cache", "nginx-cache", child)
        # Always created, so that disabling metrics does not remove a directory the running config still uses.
        metrics = volume(f"{name}-metrics", "nginx-metrics", child)
        self.metrics_volume = metrics.name
        # Always created, so that a change of the certificate's mode does not replace the proxy. Certbot can fill it
        # again.
        certificates = volume(f"{name}-certificates", "certificates", child)
        self.certificates_volume = certificates.name
        proxy = container(
            f"{name}-server",
            # A component's dependencies are not its children's.
            pulumi.ResourceOptions(parent=self, depends_on=None if opts is None else opts.depends_on),
            role="nginx",
            image=args["image"],
            memory=args["memory"],
            entrypoint=["/bin/sh", "-c"],
            command=[START],
            capabilities=CAPABILITIES,
            read_only=True,
            tmpfs=TMPFS,
            volumes=[
                mount(configuration.name, DIRECTORY, read_only=False),
                mount(cache.name, CACHE, read_only=False),
                mount(metrics.name, METRICS, read_only=False),
                mount(certificates.name, CERTIFICATES, read_only=True),
            ],
            network=args["network"],
            aliases=["nginx"],
            ports=_ports(args),
            health=["CMD", "/bin/sh", "-c", HEALTH],
            start_period="1m0s",
            # Graceful: requests in flight complete first.
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
            volumes=[
                mount(configuration.name, DIRECTORY, read_only=False),
                mount(certificates.name, CERTIFICATES, read_only=True),
            ],
            files=_files(args),
            runs_beside=proxy.id,
        )
        self.generation = pulumi.Output.all(installer.exit_code, installer.container_logs).apply(_active_generation)
        self._register(proxy, generation=self.generation)
        # Dependents of the proxy wait for its configuration too.
        self.container_ids = pulumi.Output.all(proxy.id, self.generation).apply(lambda both: [both[0]])


def _ports(args: NginxReverseProxyArgs) -> list[docker.ContainerPortArgs]:
    published: list[docker.ContainerPortArgs] = []
    for address in args["listen_addresses"]:
        http, https = PORTS_FOR_IPV6 if ":" in address else PORTS
        listened = [(http, args["http_port"], "tcp"), (https, args["https_port"], "tcp")]
        if args["http3"]:
            listened.append((https, args["https_port"], "udp"))
        published += [
            docker.ContainerPortArgs(internal=internal, external=external, ip=address, protocol=protocol)
            for internal, external, protocol in listened
        ]
    return published


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


def _active_generation(result: Sequence[object]) -> str:
    exit_code, log = result
    output = str(log or "").strip()
    # Without output the installer did not finish, whatever its exit code.
    if not output:
        raise pulumi.RunError(
            f"The configuration could not be installed: the installer ended with exit code {exit_code} and no output."
            " The previous configuration is still active; the proxy's log may show why: make logs ROLE=nginx",
        )
    if exit_code != 0:
        raise pulumi.RunError(
            f"Nginx refused the configuration; the previous one is still active. Nginx reports:\n{output}"
        )
    return output
