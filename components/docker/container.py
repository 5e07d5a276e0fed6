"""The one function that creates containers: limits, logs, labels and capabilities are the same for all."""

from collections.abc import Mapping, Sequence

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


def container(  # noqa: PLR0913 - keywords
    name: str,
    opts: pulumi.ResourceOptions,
    *,
    role: str,
    number: int = 1,  # among the containers of the same role
    image: pulumi.Input[str],  # its ID, so that a moved tag replaces nothing
    version: str | None = None,  # its release, if another one must not replace it without an upgrade
    memory: pulumi.Input[int],  # limit in bytes, without swap
    shared_memory: int | None = None,  # size of /dev/shm in bytes; default 64 MiB, Docker's
    entrypoint: Sequence[str] | None = None,
    command: Sequence[str] | None = None,
    user: str | None = None,  # IDs of user and group; default the image's user
    capabilities: Sequence[str] = (),  # the required ones; all others are dropped
    volumes: Sequence[docker.ContainerVolumeArgs] | None = None,
    tmpfs: Mapping[str, str] | None = None,
    # Path -> content, readable for root alone. A secret's path must be in a volume.
    files: Mapping[str, pulumi.Input[str]] | None = None,
    network: pulumi.Input[str] | None = None,
    on_host_network: bool = False,  # instead of one of Docker's: it reaches a cloud's metadata service
    aliases: Sequence[str] | None = None,  # its names on the network
    hosts: Mapping[str, str] | None = None,
    ports: Sequence[docker.ContainerPortArgs] | None = None,
    health: Sequence[str] | None = None,  # the command of its health check, in Docker's form
    # Time in which failing checks do not count, as Go writes durations (1m0s), which is how the engine returns it.
    start_period: str = "10s",
    stop_signal: str | None = None,
    stop_timeout: int | None = None,  # seconds between the stop signal and SIGKILL
    init: bool | None = None,
    read_only: bool | None = None,
    gpus: str = "",  # GPUs of the host, in Docker's form; "" for none
    # ID of a container whose process and network namespaces this one shares. It runs once and ends: the resource's
    # outputs are its exit code and log.
    runs_beside: pulumi.Input[str] | None = None,
) -> docker.Container:
    """Create a container.

    It is deleted before its replacement is created, since two containers cannot share a name and ports.
    """
    megabytes = pulumi.Output.from_input(memory).apply(lambda size: size >> 20)
    runs_once = runs_beside is not None
    shared = None if runs_beside is None else pulumi.Output.concat("container:", runs_beside)
    return docker.Container(
        name,
        name=physical_name(role, number),
        image=image,
        entrypoints=entrypoint,
        command=command,
        user=user,
        labels=[docker.ContainerLabelArgs(label=key, value=value) for key, value in labels(role, version).items()],
        memory=megabytes,
        memory_swap=megabytes,
        shm_size=None if shared_memory is None else shared_memory >> 20,
        capabilities=docker.ContainerCapabilitiesArgs(
            drops=["ALL"],
            adds=[f"CAP_{capability}" for capability in sorted(capabilities)],
        ),
        security_opts=SECURITY,
        log_driver=LOG_DRIVER,
        log_opts=LOG_OPTIONS,
        volumes=volumes,
        tmpfs=tmpfs,
        uploads=[
            docker.ContainerUploadArgs(file=path, content=content, permissions="0600")
            for path, content in sorted((files or {}).items())
        ],
        network_mode="host" if on_host_network else shared,
        pid_mode=shared,
        networks_advanced=(
            None if network is None else [docker.ContainerNetworksAdvancedArgs(name=network, aliases=aliases)]
        ),
        hosts=[docker.ContainerHostArgs(host=host, ip=ip) for host, ip in (hosts or {}).items()],
        ports=ports,
        healthcheck=None
        if health is None
        else docker.ContainerHealthcheckArgs(
            tests=health, interval="5s", timeout="5s", retries=6, start_period=start_period
        ),
        stop_signal=stop_signal,
        stop_timeout=stop_timeout,
        destroy_grace_seconds=stop_timeout,
        init=init,
        read_only=read_only,
        gpus=gpus or None,
        restart="no" if runs_once else "unless-stopped",
        must_run=not runs_once,
        attach=runs_once,
        logs=runs_once,
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
