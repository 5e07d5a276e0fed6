"""The certbot container: docs/decisions/0011-certbot-beside-the-proxy.md."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi

from open_webui_edge.components.container_group import ContainerGroup, mount
from open_webui_edge.components.docker.container import container, volume
from open_webui_edge.components.outbound import OutboundArgs
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.contract import CONFIG_DIR

HOME = "/etc/letsencrypt"
CERTIFICATES = "/var/lib/open-webui-edge"
RUN = f"cd {CONFIG_DIR} && exec python3 -B -m obtain"
TMPFS = {
    "/tmp": "mode=0700,size=32m",  # noqa: S108 - a file system of this container's own
    "/var/lib/letsencrypt": "mode=0700,size=16m",
    "/var/log/letsencrypt": "mode=0700,size=16m",
}


class ExternalAccountArgs(TypedDict):
    """External account binding (RFC 8555 section 7.3.4)."""

    key_id: pulumi.Input[str]
    hmac_key: pulumi.Input[str]


class IssuerArgs(TypedDict):
    """An ACME issuer."""

    directory: pulumi.Input[str]
    """URL of its ACME directory."""
    directory_ca: NotRequired[pulumi.Input[str]]
    """PEM of CAs to trust for the directory, in addition to the system's."""
    email: NotRequired[pulumi.Input[str]]
    external_account: NotRequired[ExternalAccountArgs]
    profile: NotRequired[pulumi.Input[str]]
    staging_directory: NotRequired[pulumi.Input[str]]
    """ACME directory for dry runs. Default: Let's Encrypt's staging directory."""


class Route53Args(TypedDict):
    """Access to the names' zone in Route 53; without keys: the instance's role."""

    access_key_id: NotRequired[pulumi.Input[str]]
    secret_access_key: NotRequired[pulumi.Input[str]]
    region: NotRequired[pulumi.Input[str]]
    endpoint: NotRequired[pulumi.Input[str]]
    """URL of the API. Default: AWS's."""


class _NetworkMode(TypedDict, total=False):
    network: pulumi.Input[str]
    on_host_network: bool


class CertbotArgs(TypedDict):
    """The certificate's names, its issuers, and the challenge."""

    image: pulumi.Input[str]
    """Id of the image."""
    network: NotRequired[pulumi.Input[str]]
    """Network of the proxy, `nginx`. Left out: the host's, which reaches the instance's metadata service."""
    published_port: NotRequired[int]
    """The proxy's port on the host, if `network` is left out; default 443."""
    home: pulumi.Input[str]
    """Name of the volume with accounts and certificates. Not created here, so that it outlives a time without certbot:
    without it new certificates may exceed the issuer's rate limits."""
    certificates: pulumi.Input[str]
    """Name of the volume that passes challenges and certificates to the proxy."""
    names: Sequence[str]
    """All names in the certificate, the site's domain first; a wildcard demands dns-01."""
    challenge: str
    """http-01 or dns-01."""
    issuers: Sequence[IssuerArgs]
    """In the order in which they are tried."""
    route53: NotRequired[Route53Args]
    proxy_protocol: NotRequired[bool]
    """Whether the proxy expects the PROXY protocol."""
    outbound: NotRequired[OutboundArgs]
    """How it reaches the issuers and Route 53."""
    wait: int
    """Seconds to wait for the first certificate."""
    memory: int
    """Limit in bytes."""


class Certbot(ContainerGroup):
    """A container that obtains a certificate with certbot, renews it and publishes it to the proxy."""

    def __init__(self, name: str, args: CertbotArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the container and its configuration volume."""
        super().__init__("open-webui-edge:index:Certbot", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        # Docker cannot copy files into a container with a read-only root, and secrets are files.
        config = volume(f"{name}-given", "certbot-given", child)
        network = _NetworkMode(network=args["network"]) if "network" in args else _NetworkMode(on_host_network=True)
        server = container(
            f"{name}-server",
            child,
            role="certbot",
            image=args["image"],
            memory=args["memory"],
            entrypoint=["/bin/sh", "-c"],
            command=[RUN],
            volumes=[
                mount(args["home"], HOME),
                mount(args["certificates"], CERTIFICATES),
                mount(config.name, CONFIG_DIR),
            ],
            tmpfs=TMPFS,
            files={**program(), f"{CONFIG_DIR}/settings.json": _settings(args)},
            health=["CMD-SHELL", f"{RUN} health"],
            start_period=_go_duration(args["wait"]),
            # Graceful: certbot removes its challenge records first.
            stop_timeout=15,
            # As PID 1 Python would ignore SIGTERM until it installs a handler.
            init=True,
            **network,
        )
        self._register(server)


def program() -> dict[str, str]:
    """Return the files of the container's program: path -> content."""
    return {f"{CONFIG_DIR}/obtain/{name}": text for name, text in delivery.package("certbot").items()}


def _settings(args: CertbotArgs) -> pulumi.Output[str]:
    document: dict[str, object] = {
        "names": list(args["names"]),
        "challenge": args["challenge"],
        "issuers": list(args["issuers"]),
        "route53": args.get("route53"),
        "proxy_protocol": args.get("proxy_protocol", False),
    }
    if "outbound" in args:
        document["outbound"] = args["outbound"]
    if "network" not in args:
        document["proxy"] = {"host": "127.0.0.1", "port": args.get("published_port", 443)}
    return pulumi.Output.secret(pulumi.Output.json_dumps(document, sort_keys=True))


def _go_duration(seconds: int) -> str:
    """Write seconds as the engine returns them."""
    hours, rest = divmod(seconds, 3600)
    return f"{f'{hours}h' if hours else ''}{f'{rest // 60}m' if seconds >= 60 else ''}{rest % 60}s"  # noqa: PLR2004
