"""The client of a Docker engine: facts that decide whether an update can succeed, and health after it."""

# The engine's answers are JSON, and the package `docker` says nothing of their types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import os
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import docker
import docker.errors
import requests
from docker.models.containers import Container
from docker.models.networks import Network

from open_webui_edge.engine import podman
from open_webui_edge.engine.ssh import HOST_KEY, forwarded_socket, refused_host_key
from open_webui_edge.runtime.contract import APP, DEPLOYMENT

_DEFAULT = "unix:///var/run/docker.sock"
_REQUEST_TIMEOUT = 30
_START_TIMEOUT = 600
"""Seconds until a container that is still starting counts as failed: a migration takes minutes."""
_UNHEALTHY_TIMEOUT = 60
"""Seconds for an unhealthy container to recover, such as after a restart of the engine."""
_STOP_TIMEOUT = 20
PROGRESS_INTERVAL = 10
"""Seconds between two progress messages."""
_MAX_CRASHES = 3
_LOG_TAIL = 8
_NEVER = "0001-01-01"
_FIRST_WITH_IPV6_RULES = 27
# Missing if the kernel has no IPv6.
_IPV6 = Path("/proc/net/if_inet6")
REPLACES_INCOMPLETE = "remade-after"
"""Label of a container that replaced one whose creation was interrupted. Existing containers have it, so the value
stays."""


class EngineError(Exception):
    """The engine does not answer, or its answer ends the update; the text is for the user."""


@dataclass(frozen=True)
class Publication:
    """A port of the host that a container has published."""

    address: str
    port: int
    container: str
    stack: str | None
    """The stack of ours that the container belongs to."""


@dataclass(frozen=True)
class VolumeUse:
    """How an engine uses an existing volume that the settings name."""

    exists: bool
    users: tuple[str, ...] = ()
    """Running containers that mount it, without those of the stack itself."""
    restarted: tuple[str, ...] = ()
    """Those of them that the engine restarts even after they were stopped."""
    own: str | None = None
    """The volume that the stack created for itself before, if there is one."""


@dataclass(frozen=True)
class EngineFacts:
    """What decides whether the settings fit the engine."""

    local: bool
    """Whether the engine runs on this machine, so that its ports can be tried."""
    rootless: bool = False
    limits_memory: bool = True
    """Whether a container's memory limit holds; not without root where there is no systemd or cgroup v2."""
    first_unprivileged_port: int = 1024
    publications: tuple[Publication, ...] = ()
    volumes: frozenset[str] = frozenset()
    """Names of the volumes that this program's stacks have made."""
    missing_images: Mapping[str, str] = field(default_factory=dict[str, str])
    """Images that the engine neither has nor can pull, and the reason ("" if no registry was asked)."""
    external_volume: VolumeUse | None = None
    """Use of the existing volume that the settings name."""


class Engine:
    """A connection to a Docker engine, opened when first used; without an answer every method raises EngineError."""

    def __init__(
        self,
        host: str | None,
        *,
        ssh_options: Sequence[str] = (),
        host_key_from: str = HOST_KEY,
        known: bool = True,
    ) -> None:
        """Store the address.

        Args:
            host: unix:// or ssh://; None for DOCKER_HOST, else /var/run/docker.sock.
            ssh_options: point ssh to this stack's configuration (engine/ssh.py); without any, ssh uses the user's own.
            host_key_from: where the host's key comes from, for messages.
            known: whether the engine's address is known already; if not, `bind` sets it later.

        """
        self.host = host or os.environ.get("DOCKER_HOST") or _DEFAULT if known else ""
        self.ssh_options = tuple(ssh_options)
        self.host_key_from = host_key_from
        self._client: docker.DockerClient | None = None
        self._connected_to = ""
        self._incomplete: Mapping[str, str | None] | None = None

    def bind(self, host: str) -> str:
        """Set the address of an engine whose machine the same update creates, and return it."""
        self.host = host
        return host

    @property
    def known(self) -> bool:
        """Whether the engine's address is known."""
        return bool(self.host)

    @property
    def local(self) -> bool:
        """Whether the engine runs on this machine."""
        return self.host.startswith("unix://")

    @contextmanager
    def connection(self) -> Generator[docker.DockerClient]:
        """Yield the client; every failure of the engine becomes an EngineError."""
        try:
            if not self.known:
                raise EngineError("The Docker engine's address is not known before its machine is created.")
            yield self._connected()
        except docker.errors.APIError as error:
            raise EngineError(f"The Docker engine at {self.host} refused: {error.explanation or error}") from error
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise EngineError(self._unreachable(error)) from error

    def _connected(self) -> docker.DockerClient:
        is_remote = self.host.startswith("ssh://")
        if self._client is None or is_remote:
            socket = forwarded_socket(self.host, self.ssh_options) if is_remote else self.host
            # A new client if the ssh tunnel was replaced meanwhile.
            if self._client is None or socket != self._connected_to:
                self._client = docker.DockerClient(base_url=socket, timeout=_REQUEST_TIMEOUT)
                self._connected_to = socket
        return self._client

    def _unreachable(self, error: Exception) -> str:
        if self.ssh_options and (other_key := refused_host_key(self.host, str(error), self.host_key_from)):
            return other_key
        if "Permission denied" in str(error):
            return (
                f"This user may not talk to the Docker engine at {self.host}; join the group `docker` and log in again,"
                " or run as root."
            )
        return (
            f"The Docker engine at {self.host} does not answer; start it (`make up` does), or name another in"
            f" platform.docker.host. It says: {_innermost(error)}"
        )

    def facts(
        self, *, built: Sequence[str] = (), pulled: Sequence[str] = (), volume: tuple[str, str] | None = None
    ) -> EngineFacts:
        """Return the facts that decide whether the settings fit; raises EngineError of Podman, too.

        Args:
            built: names of images that the engine must have.
            pulled: names of images that the engine must have or be able to pull.
            volume: name of an existing volume that the settings name, and the stack.

        """
        with self.connection() as client:
            if podman.is_podman(client.version()):
                raise EngineError(podman.refusal(self.host))
            information = client.info()
            return EngineFacts(
                local=self.local,
                rootless=any("rootless" in option for option in information.get("SecurityOptions") or ()),
                limits_memory=bool(information.get("MemoryLimit", True)),
                first_unprivileged_port=_first_unprivileged_port(),
                publications=tuple(_publications(client)),
                volumes=frozenset(str(volume.name) for volume in client.volumes.list(filters={"label": f"app={APP}"})),
                missing_images={
                    **{name: "" for name in built if not has_image(client, name)},
                    **{name: why for name in pulled if (why := _why_not_pulled(client, name))},
                },
                external_volume=None if volume is None else _use_of(client, *volume),
            )

    def identity(self) -> str:
        """Return the engine's own ID, which does not depend on its address."""
        with self.connection() as client:
            return str(client.info()["ID"])

    def shows_ipv6_clients(self) -> bool:
        """Whether a container that is published over IPv6 sees the addresses of its clients.

        From Docker 27 on the engine sets ip6tables rules like those for IPv4 (its release notes, "ip6tables"). Before,
        the engine's userland proxy forwards such connections, and the container sees only the gateway's address.
        """
        with self.connection() as client:
            major, _, _ = str(client.version()["Version"]).partition(".")
        return major.isdigit() and int(major) >= _FIRST_WITH_IPV6_RULES and (not self.local or _IPV6.exists())

    def wait_until_healthy(
        self,
        container_ids: Sequence[str],
        report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Return when each container is healthy, or raise an EngineError that ends with the log of one that is not.

        `report` gets a progress message now and then.
        """
        began = reported = clock()
        pending = list(container_ids)
        while pending:
            with self.connection() as client:
                pending = [identity for identity in pending if not _is_healthy(client, identity, clock() - began)]
            if not pending:
                return
            if clock() - reported > PROGRESS_INTERVAL:
                reported = clock()
                report(f"waiting for {len(pending)} container(s) to be healthy, for {reported - began:.0f} s so far")
            time.sleep(0.5)

    def restart_unhealthy(self, container_ids: Sequence[str]) -> None:
        """Restart the unhealthy ones of the containers, so that they retry at once instead of after their back-off."""
        with self.connection() as client:
            for identity in container_ids:
                try:
                    container = client.containers.get(identity)
                except docker.errors.NotFound:
                    # `wait_until_healthy` reports it.
                    continue
                if (container.attrs["State"].get("Health") or {}).get("Status") == "unhealthy":
                    container.restart(timeout=_STOP_TIMEOUT)

    def require_image(self, identity: str) -> None:
        """Raise an EngineError that says what to do if the engine does not have an image."""
        with self.connection() as client:
            if has_image(client, identity):
                return
        raise EngineError(
            f"The image {identity} that this stack is pinned to is no longer in the Docker engine. To use the image"
            " that its name means today, find the resource named …-image-pin in `pulumi stack --show-urns` and run"
            " pulumi up --replace URN",
        )

    def replaces_incomplete(self, name: str) -> str | None:
        """Return the ID of the incomplete container that this one replaces or has to replace; None if there is none.

        If the engine stops while a container is being created, the state lists the container as complete, though it
        may lack its files: it has never started. Its replacement keeps the ID in a label, so that later updates see no
        change.

        Nothing was created on an engine whose address is not known yet.
        """
        if not self.known:
            return None
        if self._incomplete is None:
            # All at once: if the connection is lost later in the update, the resource in progress reports it.
            with self.connection() as client:
                containers = client.containers.list(all=True, filters={"label": f"app={APP}"}, ignore_removed=True)
            self._incomplete = {str(container.name): _incomplete_mark(container) for container in containers}
        return self._incomplete.get(name)

    def remove_leftovers(self, kind: str, name: str, deployment: str) -> None:
        """Remove leftovers of an interrupted update before a container, network or volume is created under their name.

        A container or network that the state does not know is removed; a volume is adopted. What belongs to another
        deployment stays.

        Raises:
            EngineError: the name belongs to another deployment.

        """
        with self.connection() as client:
            collection = {"container": client.containers, "network": client.networks, "volume": client.volumes}[kind]
            try:
                leftover = collection.get(name)
            except docker.errors.NotFound:
                return
            labels = leftover.labels if isinstance(leftover, Container) else leftover.attrs.get("Labels")
            if (labels or {}).get(DEPLOYMENT) == deployment:
                if isinstance(leftover, Container):
                    leftover.remove(force=True)
                elif isinstance(leftover, Network):
                    # A new instance starts the containers on its data volume, and a network in use cannot be removed.
                    for attached in leftover.containers:
                        if attached.labels.get(DEPLOYMENT) == deployment:
                            attached.remove(force=True)
                    leftover.remove()
                return
        remove = f"docker {kind} rm {'--force ' if kind == 'container' else ''}{name}"
        # A lost state is no reason to delete users' data.
        with_data = (
            f" and set data.volume: {name} there to go on with its data" if name.endswith("-open-webui-data") else ""
        )
        raise EngineError(
            f"The {kind} {name} exists and belongs to another deployment, or to this one before its state was lost."
            f" Choose another stack name{with_data}; or, if it is not needed: {remove}",
        )


def _incomplete_mark(container: Container) -> str | None:
    if container.attrs["State"]["StartedAt"].startswith(_NEVER):
        return container.short_id
    return container.labels.get(REPLACES_INCOMPLETE)


def address_is_free(address: str, port: int) -> bool:
    """Whether a program on this machine could listen on an address and port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except PermissionError:
            # The engine binds, not this process; another check covers the engine's right to.
            return True
        except OSError:
            return False
    return True


def _innermost(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error).strip() or type(error).__name__


def _first_unprivileged_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 1024


def has_image(client: docker.DockerClient, name: str) -> bool:
    """Whether the engine has an image of this name."""
    try:
        client.api.inspect_image(name)
    except docker.errors.ImageNotFound:
        return False
    return True


def _why_not_pulled(client: docker.DockerClient, name: str) -> str:
    if has_image(client, name):
        return ""
    try:
        # The engine asks the registry: it may run elsewhere and reach registries that this machine does not.
        client.api.inspect_distribution(name)
    except docker.errors.APIError as error:
        return str(error.explanation or error)
    return ""


def _use_of(client: docker.DockerClient, name: str, stack: str) -> VolumeUse:
    try:
        client.volumes.get(name)
    except docker.errors.NotFound:
        return VolumeUse(exists=False)
    own = [
        str(volume.name)
        for volume in client.volumes.list(filters={"label": [f"app={APP}", f"stack={stack}", "role=open-webui-data"]})
        if volume.name != name
    ]
    users = [
        container
        for container in client.containers.list(filters={"volume": name}, ignore_removed=True)
        # The filter also matches volumes whose name contains this one.
        if any(mount.get("Name") == name for mount in container.attrs["Mounts"])
        and not (container.labels.get("app") == APP and container.labels.get("stack") == stack)
    ]
    return VolumeUse(
        exists=True,
        users=tuple(str(user.name) for user in users),
        restarted=tuple(
            str(user.name) for user in users if user.attrs["HostConfig"]["RestartPolicy"]["Name"] == "always"
        ),
        own=own[0] if own else None,
    )


def _publications(client: docker.DockerClient) -> Iterator[Publication]:
    # Containers of other programs may end while they are listed.
    for running in client.containers.list(ignore_removed=True):
        ports = running.attrs["NetworkSettings"]["Ports"] or {}
        for bindings in ports.values():
            for binding in bindings or ():
                yield Publication(
                    address=binding["HostIp"],
                    port=int(binding["HostPort"]),
                    container=running.name or running.short_id,
                    stack=running.labels.get("stack") if running.labels.get("app") == APP else None,
                )


def _is_healthy(client: docker.DockerClient, identity: str, waited: float) -> bool:
    try:
        container = client.containers.get(identity)
    except docker.errors.NotFound:
        raise EngineError(
            f"A container was removed while this update waited for it ({identity[:12]}); run the update again."
        ) from None
    state = container.attrs["State"]
    health = state.get("Health") or {}
    status = health.get("Status", "none")
    if state["Running"] and status in {"healthy", "none"} and not state.get("Restarting"):
        return True
    # The engine also reports a container as running while it waits to be restarted.
    crashed = container.attrs["RestartCount"] >= _MAX_CRASHES and state["Restarting"]
    ended = state["Status"] in {"exited", "dead"}
    unhealthy = status == "unhealthy" and waited > _UNHEALTHY_TIMEOUT
    # A long start period of its own extends the time-out.
    start_period = (container.attrs["Config"].get("Healthcheck") or {}).get("StartPeriod", 0) / 1e9
    if crashed or ended or unhealthy or waited > max(_START_TIMEOUT, start_period + _UNHEALTHY_TIMEOUT):
        raise EngineError(_failure_report(container, status, waited))
    return False


def _failure_report(container: Container, status: str, waited: float) -> str:
    state = container.attrs["State"]
    if state.get("OOMKilled"):
        reason = "was killed because it reached its memory limit; raise it in the settings"
    elif state["Restarting"] or not state["Running"]:
        reason = f"ended with exit code {state['ExitCode']} (restarted {container.attrs['RestartCount']} times)"
    elif status == "unhealthy":
        reason = "is unhealthy"
    else:
        reason = f"is still starting after {waited:.0f} seconds; if it migrates a large database, run the update again"
    checks = (state.get("Health") or {}).get("Log") or []
    check = f"\nIts last health check said: {checks[-1]['Output'].strip() or 'nothing'}" if checks else ""
    log = container.logs(tail=_LOG_TAIL).decode(errors="replace").strip()
    role = container.labels.get("role", container.name)
    return (
        f"{container.name} {reason}.{check}\nIts log ends with:\n{log}\n"
        f"More: make logs STACK={container.labels.get('stack')} ROLE={role}"
    )
