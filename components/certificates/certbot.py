"""Certbot beside the proxy: docs/decisions/0011-certbot-beside-the-proxy.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from components.docker.container import container, volume

GIVEN = "/run/open-webui-edge"
HOME = "/etc/letsencrypt"
CERTIFICATES = "/var/lib/open-webui-edge"
_PROGRAM = Path(__file__).with_name("obtain")
RUN = f"cd {GIVEN} && exec python3 -B -m obtain"
DRY_RUN = ("sh", "-c", f"{RUN} dry-run")
"""What to run in its container to practise a renewal."""
TMPFS = {
    "/tmp": "mode=0700,size=32m",  # noqa: S108 - a file system of this container's own
    "/var/lib/letsencrypt": "mode=0700,size=16m",
    "/var/log/letsencrypt": "mode=0700,size=16m",
}


class ExternalAccountArgs(TypedDict):
    """An account that one has with an issuer by other means."""

    key_id: pulumi.Input[str]
    hmac_key: pulumi.Input[str]


class IssuerArgs(TypedDict):
    """Who is asked for a certificate, by the ACME protocol."""

    directory: pulumi.Input[str]
    """Address of its directory."""
    directory_ca: NotRequired[pulumi.Input[str]]
    """PEM of who vouches for the directory, besides the system's roots."""
    email: NotRequired[pulumi.Input[str]]
    external_account: NotRequired[ExternalAccountArgs]
    profile: NotRequired[pulumi.Input[str]]
    staging_directory: NotRequired[pulumi.Input[str]]
    """Where to practise; Let's Encrypt's own is known."""


class Route53Args(TypedDict):
    """How to write into the zone of the names; without keys by the machine's role."""

    access_key_id: NotRequired[pulumi.Input[str]]
    secret_access_key: NotRequired[pulumi.Input[str]]
    region: NotRequired[pulumi.Input[str]]
    endpoint: NotRequired[pulumi.Input[str]]
    """Address of the API, where it is not AWS's own."""


class _Attached(TypedDict, total=False):
    network: pulumi.Input[str]
    on_host_network: bool


class CertbotArgs(TypedDict):
    """What certificate to obtain, from whom, and how to show whose the names are."""

    image: pulumi.Input[str]
    """Id of the image."""
    network: NotRequired[pulumi.Input[str]]
    """Where the proxy is found as `nginx`. Left out: the host's own, from which the machine's role can be asked."""
    published_port: NotRequired[int]
    """Port at which the host itself finds the proxy, where `network` is left out; default 443."""
    home: pulumi.Input[str]
    """Name of the volume with accounts and certificates. Whoever loses them meets the issuer's limits when asking for
    new ones, so it is not made here: it outlives a time without certbot."""
    certificates: pulumi.Input[str]
    """Name of the volume through which the proxy gets challenges and certificates."""
    names: Sequence[str]
    """All names in the certificate, the site's domain first; a wildcard demands dns-01."""
    challenge: str
    """How to show whose the names are: http-01 or dns-01."""
    issuers: Sequence[IssuerArgs]
    """In the order in which they are asked."""
    route53: NotRequired[Route53Args]
    proxy_protocol: NotRequired[bool]
    """Whether the proxy expects an address in front of each connection."""
    wait: int
    """Seconds until the first certificate is missed."""
    memory: int
    """Limit in bytes."""


class Certbot(pulumi.ComponentResource):
    """Certbot as a container that obtains a certificate, renews it and offers it to the proxy."""

    containers: pulumi.Output[Sequence[str]]
    container_ids: pulumi.Output[Sequence[str]]

    def __init__(self, name: str, args: CertbotArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the container and the volume with what it is given."""
        super().__init__("open-webui-edge:index:Certbot", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        # Files cannot be brought into a container whose root is read-only, and secrets come as files.
        given = volume(f"{name}-given", "certbot-given", child)
        attached = _Attached(network=args["network"]) if "network" in args else _Attached(on_host_network=True)
        server = container(
            f"{name}-server",
            child,
            role="certbot",
            image=args["image"],
            memory=args["memory"],
            entrypoint=["/bin/sh", "-c"],
            command=[RUN],
            volumes=[
                docker.ContainerVolumeArgs(volume_name=args["home"], container_path=HOME),
                docker.ContainerVolumeArgs(volume_name=args["certificates"], container_path=CERTIFICATES),
                docker.ContainerVolumeArgs(volume_name=given.name, container_path=GIVEN),
            ],
            tmpfs=TMPFS,
            files={**program(), f"{GIVEN}/settings.json": _settings(args)},
            health=["CMD-SHELL", f"{RUN} health"],
            start_period=_go_duration(args["wait"]),
            # It is told to end, and certbot then takes its answers to challenges away.
            stop_timeout=15,
            # Python, as a first process, would be deaf to that until it listens for it.
            init=True,
            **attached,
        )
        self.containers = pulumi.Output.all(server.name)
        self.container_ids = pulumi.Output.all(server.id)
        self.register_outputs({"containers": self.containers})


def program() -> dict[str, str]:
    """Return the files of the program that runs in the container, by their paths there."""
    return {f"{GIVEN}/obtain/{file.name}": file.read_text() for file in sorted(_PROGRAM.glob("*.py"))}


def _settings(args: CertbotArgs) -> pulumi.Output[str]:
    document: dict[str, object] = {
        "names": list(args["names"]),
        "challenge": args["challenge"],
        "issuers": list(args["issuers"]),
        "route53": args.get("route53"),
        "proxy_protocol": args.get("proxy_protocol", False),
    }
    if "network" not in args:
        document["proxy"] = {"host": "127.0.0.1", "port": args.get("published_port", 443)}
    return pulumi.Output.secret(pulumi.Output.json_dumps(document, sort_keys=True))


def _go_duration(seconds: int) -> str:
    """Write seconds as the engine gives them back."""
    hours, rest = divmod(seconds, 3600)
    return f"{f'{hours}h' if hours else ''}{f'{rest // 60}m' if seconds >= 60 else ''}{rest % 60}s"  # noqa: PLR2004
