"""The one function that creates containers: limits, logs, labels and capabilities are the same for all."""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict, Unpack

import pulumi
import pulumi_docker as docker

from open_webui_edge.runtime.contract import APP

VERSION = "version"
"""Label with the release of a container that must not be replaced by another release without an upgrade."""
SECURITY = ["no-new-privileges:true"]
LOG_DRIVER = "json-file"
LOG_OPTIONS = {"max-size": "10m", "max-file": "3"}


def physical_name(role: str, number: int = 1) -> str:
    """Return the name in `docker ps`, the same for every update of a stack.

    The first of several has no number, so that its name stays the same when more are added.
    """
    return f"edge-{pulumi.get_stack()}-{role}{'' if number == 1 else f'-{number}'}"


def labels(role: str, version: str | None = None) -> dict[str, str]:
    """Return the labels of everything that this stack creates on an engine."""
    of_version = {} if version is None else {VERSION: version}
    return {"app": APP, "stack": pulumi.get_stack(), "role": role, **of_version}


class ContainerDefinition(TypedDict):
    """The settings of one container."""

    role: str
    number: NotRequired[int]
    """Number among the containers of the same role, from 1."""
    image: pulumi.Input[str]
    """ID of the image, so that a moved tag replaces nothing."""
    version: NotRequired[str]
    """Its release, if another one must not replace it without an upgrade."""
    memory: pulumi.Input[int]
    """Limit in bytes, without swap."""
    shared_memory: NotRequired[int]
    """Size of /dev/shm in bytes; default 64 MiB, Docker's."""
    entrypoint: NotRequired[Sequence[str]]
    command: NotRequired[Sequence[str]]
    user: NotRequired[str]
    """IDs of user and group; default the image's user."""
    capabilities: NotRequired[Sequence[str]]
    """Required capabilities; all others are dropped."""
    volumes: NotRequired[Sequence[docker.ContainerVolumeArgs]]
    tmpfs: NotRequired[Mapping[str, str]]
    files: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Path -> content, readable for root alone. A secret's path must be in a volume."""
    network: NotRequired[pulumi.Input[str]]
    on_host_network: NotRequired[bool]
    """Use the host's network instead of one of Docker's, so that the container reaches a cloud's metadata service."""
    aliases: NotRequired[Sequence[str]]
    """Its names on the network."""
    hosts: NotRequired[Mapping[str, str]]
    ports: NotRequired[Sequence[docker.ContainerPortArgs]]
    health: NotRequired[Sequence[str]]
    """The command of its health check, in Docker's form."""
    start_period: NotRequired[str]
    """Time in which failing checks do not count, as Go writes durations (1m0s), which is how the engine returns it."""
    stop_signal: NotRequired[str]
    stop_timeout: NotRequired[int]
    """Seconds between the stop signal and SIGKILL."""
    init: NotRequired[bool]
    read_only: NotRequired[bool]
    gpus: NotRequired[str]
    """GPUs of the host, in Docker's form; "" for none."""
    runs_beside: NotRequired[pulumi.Input[str]]
    """ID of a container whose process and network namespaces this one shares. It runs once and ends: the resource's
    outputs are its exit code and log."""


def container(
    name: str,
    opts: pulumi.ResourceOptions,
    **definition: Unpack[ContainerDefinition],
) -> docker.Container:
    """Create a container.

    It is deleted before its replacement is created, since two containers cannot share a name and ports.
    """
    role = definition["role"]
    megabytes = pulumi.Output.from_input(definition["memory"]).apply(lambda size: size >> 20)
    beside = definition.get("runs_beside")
    network = definition.get("network")
    health = definition.get("health")
    shared = None if beside is None else pulumi.Output.concat("container:", beside)
    return docker.Container(
        name,
        name=physical_name(role, definition.get("number", 1)),
        image=definition["image"],
        entrypoints=definition.get("entrypoint"),
        command=definition.get("command"),
        user=definition.get("user"),
        labels=[
            docker.ContainerLabelArgs(label=key, value=value)
            for key, value in labels(role, definition.get("version")).items()
        ],
        memory=megabytes,
        memory_swap=megabytes,
        shm_size=None if (size := definition.get("shared_memory")) is None else size >> 20,
        capabilities=docker.ContainerCapabilitiesArgs(
            drops=["ALL"],
            adds=[f"CAP_{capability}" for capability in sorted(definition.get("capabilities", ()))],
        ),
        security_opts=SECURITY,
        log_driver=LOG_DRIVER,
        log_opts=LOG_OPTIONS,
        volumes=definition.get("volumes"),
        tmpfs=definition.get("tmpfs"),
        uploads=[
            docker.ContainerUploadArgs(file=path, content=content, permissions="0600")
            for path, content in sorted(definition.get("files", {}).items())
        ],
        network_mode="host" if definition.get("on_host_network") else shared,
        pid_mode=shared,
        networks_advanced=None
        if network is None
        else [docker.ContainerNetworksAdvancedArgs(name=network, aliases=definition.get("aliases"))],
        hosts=[docker.ContainerHostArgs(host=host, ip=ip) for host, ip in definition.get("hosts", {}).items()],
        ports=definition.get("ports"),
        healthcheck=None
        if health is None
        else docker.ContainerHealthcheckArgs(
            tests=health,
            interval="5s",
            timeout="5s",
            retries=6,
            start_period=definition.get("start_period", "10s"),
        ),
        stop_signal=definition.get("stop_signal"),
        stop_timeout=definition.get("stop_timeout"),
        destroy_grace_seconds=definition.get("stop_timeout"),
        init=definition.get("init"),
        read_only=definition.get("read_only"),
        gpus=definition.get("gpus") or None,
        restart="no" if beside is not None else "unless-stopped",
        must_run=beside is None,
        attach=beside is not None,
        logs=beside is not None,
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(delete_before_replace=True)),
    )


def volume(name: str, role: str, opts: pulumi.ResourceOptions, *, number: int = 1) -> docker.Volume:
    """Create a volume; `opts` decides whether it is protected."""
    return docker.Volume(
        name,
        name=physical_name(role, number),
        labels=[docker.VolumeLabelArgs(label=key, value=value) for key, value in labels(role).items()],
        opts=opts,
    )
