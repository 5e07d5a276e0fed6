"""What is asked of an engine directly: before an update, whether it can succeed; after it, whether it did."""

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

from components.docker.container import APP
from components.docker.ssh import HOST_KEY, forwarded_socket, refused_host_key

_DEFAULT = "unix:///var/run/docker.sock"
_TIMEOUT = 30
_PATIENCE = 600
"""Seconds until a container that is still starting is called a failure: a migration takes minutes."""
_UNHEALTHY_PATIENCE = 60
"""Seconds for an unhealthy container to recover, as after a restart of the engine."""
_STOP_SECONDS = 20
SIGN_OF_LIFE = 10
"""Seconds between two words about what is awaited."""
_CRASHES = 3
_LAST_WORDS = 8
_NEVER = "0001-01-01"
_FIRST_WITH_IPV6_RULES = 27
# Not there where the kernel has no IPv6.
_IPV6 = Path("/proc/net/if_inet6")
REMADE = "remade-after"
"""Label of a container that replaced one whose making was cut short."""


class EngineError(Exception):
    """The engine cannot be asked, or its answer ends the update; the text is for the user."""


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
    """What an engine says of a volume that somebody brings."""

    exists: bool
    users: tuple[str, ...] = ()
    """Running containers that have it, but those of the stack itself."""
    restarted: tuple[str, ...] = ()
    """Those of them that come back with the engine after they were stopped."""
    own: str | None = None
    """The volume that the stack made for itself before, if there is one."""


@dataclass(frozen=True)
class EngineFacts:
    """What decides whether the settings fit the engine."""

    local: bool
    """Whether the engine runs on this machine, so that its ports can be tried."""
    rootless: bool = False
    first_unprivileged_port: int = 1024
    publications: tuple[Publication, ...] = ()
    volumes: frozenset[str] = frozenset()
    """Names of the volumes that this program's stacks have made."""
    missing_images: Mapping[str, str] = field(default_factory=dict[str, str])
    """Images that the engine neither has nor can pull, and why not ("" where nobody asked a registry)."""
    brought_volume: VolumeUse | None = None
    """The volume that was asked about."""


class Engine:
    """A connection to a Docker engine, opened when first used."""

    def __init__(
        self,
        host: str | None,
        *,
        ssh_options: Sequence[str] = (),
        host_key_from: str = HOST_KEY,
        known: bool = True,
    ) -> None:
        """Keep the address.

        Args:
            host: unix:// or ssh://; None for DOCKER_HOST, else /var/run/docker.sock.
            ssh_options: lead to what is known of the host (components/docker/ssh.py); without any, that is what the
                user's own ssh knows.
            host_key_from: what names the host's key, for messages.
            known: whether it is known already where the engine is; if not, `bind` says so later.

        """
        self.host = host or os.environ.get("DOCKER_HOST") or _DEFAULT if known else ""
        self.ssh_options = tuple(ssh_options)
        self.host_key_from = host_key_from
        self._client: docker.DockerClient | None = None
        self._connected_to = ""
        self._remade: Mapping[str, str | None] | None = None

    def bind(self, host: str) -> str:
        """Say where it is, of one whose machine the same update makes, and return that."""
        self.host = host
        return host

    @property
    def known(self) -> bool:
        """Whether it is known where it is."""
        return bool(self.host)

    @property
    def local(self) -> bool:
        """Whether it runs on this machine."""
        return self.host.startswith("unix://")

    @contextmanager
    def connection(self) -> Generator[docker.DockerClient]:
        """Lend the client; whatever goes wrong with the engine becomes an EngineError."""
        try:
            if not self.known:
                raise EngineError("Where the Docker engine is, is not known before its machine is made.")
            if self._client is None or self.host.startswith("ssh://"):
                self._connect()
            assert self._client is not None  # noqa: S101 - for the type checker
            yield self._client
        except docker.errors.APIError as error:
            raise EngineError(f"The Docker engine at {self.host} refused: {error.explanation or error}") from error
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise EngineError(self._unreachable(error)) from error

    def _connect(self) -> None:
        # Made anew where it ended meanwhile.
        socket = self._socket()
        if self._client is None or socket != self._connected_to:
            self._client = docker.DockerClient(base_url=socket, timeout=_TIMEOUT)
            self._connected_to = socket

    def _socket(self) -> str:
        return forwarded_socket(self.host, self.ssh_options) if self.host.startswith("ssh://") else self.host

    def _unreachable(self, error: Exception) -> str:
        if self.ssh_options and (other_key := refused_host_key(self.host, str(error), self.host_key_from)):
            return other_key
        if "Permission denied" in str(error):
            return (
                f"This user may not talk to the Docker engine at {self.host}; join the group `docker` and log in anew,"
                " or run as root."
            )
        return (
            f"The Docker engine at {self.host} does not answer; start it (`make up` does), or name another in"
            f" platform.docker.host. It says: {_innermost(error)}"
        )

    def facts(
        self, *, built: Sequence[str] = (), pulled: Sequence[str] = (), volume: tuple[str, str] | None = None
    ) -> EngineFacts:
        """Ask what decides whether settings fit.

        Args:
            built: names of images that it must have.
            pulled: names of images that it must have or be able to pull.
            volume: name of a volume that somebody brings, and the stack that it is for.

        Raises:
            EngineError: the engine does not answer.

        """
        with self.connection() as client:
            information = client.info()
            return EngineFacts(
                local=self.local,
                rootless=any("rootless" in option for option in information.get("SecurityOptions") or ()),
                first_unprivileged_port=_first_unprivileged_port(),
                publications=tuple(_publications(client)),
                volumes=frozenset(str(volume.name) for volume in client.volumes.list(filters={"label": f"app={APP}"})),
                missing_images={
                    **{name: "" for name in built if not has_image(client, name)},
                    **{name: why for name in pulled if (why := _why_not_pulled(client, name))},
                },
                brought_volume=None if volume is None else _use_of(client, *volume),
            )

    def shows_ipv6_clients(self) -> bool:
        """Whether a container that is published over IPv6 sees who comes.

        From Docker 27 on the engine sets IPv6 rules as it sets those for IPv4 (its release notes, "ip6tables"); before,
        a program of the engine passes such connections on, and the container sees the gateway's address alone.

        Raises:
            EngineError: the engine does not answer.

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
        """Return when each container is healthy.

        Args:
            container_ids: the containers.
            report: told what is awaited, now and then.
            clock: seconds, for deadlines.

        Raises:
            EngineError: one is not, with its last words.

        """
        began = reported = clock()
        pending = list(container_ids)
        while pending:
            with self.connection() as client:
                pending = [identity for identity in pending if not _is_healthy(client, identity, clock() - began)]
            if not pending:
                return
            if clock() - reported > SIGN_OF_LIFE:
                reported = clock()
                report(f"waiting for {len(pending)} container(s) to be healthy, for {reported - began:.0f} s so far")
            time.sleep(0.5)

    def restart_unhealthy(self, container_ids: Sequence[str]) -> None:
        """Restart those of the containers that are unhealthy: what they wait for may be there by now.

        Raises:
            EngineError: the engine does not answer.

        """
        with self.connection() as client:
            for identity in container_ids:
                try:
                    found = client.containers.get(identity)
                except docker.errors.NotFound:
                    # Whoever waits for it says so.
                    continue
                if (found.attrs["State"].get("Health") or {}).get("Status") == "unhealthy":
                    found.restart(timeout=_STOP_SECONDS)

    def require_image(self, identity: str) -> None:
        """Make sure that a container can be made from an image.

        Raises:
            EngineError: the engine does not have it.

        """
        with self.connection() as client:
            try:
                client.images.get(identity)
            except docker.errors.ImageNotFound:
                pass
            else:
                return
        raise EngineError(
            f"The image {identity} that this stack is pinned to is no longer in the Docker engine. To take what its"
            " name means today, find the resource named …-image-pin in `pulumi stack --show-urns` and run"
            " pulumi up --replace URN",
        )

    def remade_after(self, name: str) -> str | None:
        """Return which half-made container this one replaces, or must be replaced for; None where all is well.

        An engine that goes away while a container is being made leaves one that the state knows and takes for whole,
        though it may lack its files: it has never run. What replaced one says so by a label, and goes on saying it.

        Of an engine of which is not known yet where it is, nothing is: nothing was made there.

        Raises:
            EngineError: the engine does not answer.

        """
        if not self.known:
            return None
        if self._remade is None:
            # All at once: a connection that is lost later in the update is told by what was on its way.
            with self.connection() as client:
                found = client.containers.list(all=True, filters={"label": f"app={APP}"}, ignore_removed=True)
            self._remade = {str(container.name): _remade_mark(container) for container in found}
        return self._remade.get(name)

    def clear_the_way(self, kind: str, name: str, deployment: str) -> None:
        """Make room for a container, network or volume that is about to be made.

        An interrupted update can leave something that the state does not know: a container or network is removed, a
        volume is taken over. What carries the name but belongs to somebody else is left alone.

        Raises:
            EngineError: the name is taken by what is not this deployment's.

        """
        with self.connection() as client:
            collection = {"container": client.containers, "network": client.networks, "volume": client.volumes}[kind]
            try:
                found = collection.get(name)
            except docker.errors.NotFound:
                return
            labels = found.labels if isinstance(found, Container) else found.attrs.get("Labels")
            if (labels or {}).get("deployment") == deployment:
                if isinstance(found, Container):
                    found.remove(force=True)
                elif isinstance(found, Network):
                    # What an instance left on its disk runs again on the next one, and a network in use stays.
                    for attached in found.containers:
                        if attached.labels.get("deployment") == deployment:
                            attached.remove(force=True)
                    found.remove()
                return
        remove = f"docker {kind} rm {'--force ' if kind == 'container' else ''}{name}"
        raise EngineError(
            f"The {kind} {name} exists and belongs to another deployment, or to this one before its state was lost."
            f" Choose another stack name; or, if it is not needed: {remove}",
        )


def _remade_mark(container: Container) -> str | None:
    if container.attrs["State"]["StartedAt"].startswith(_NEVER):
        return container.short_id
    return container.labels.get(REMADE)


def address_is_free(address: str, port: int) -> bool:
    """Whether a program on this machine could listen there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except PermissionError:
            # The engine binds, not this process; whether it may is another check.
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
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as setting:  # noqa: PTH123 - a kernel's file
            return int(setting.read())
    except (OSError, ValueError):
        return 1024


def has_image(client: docker.DockerClient, name: str) -> bool:
    """Whether an image is there under a name."""
    try:
        client.api.inspect_image(name)
    except docker.errors.ImageNotFound:
        return False
    return True


def _why_not_pulled(client: docker.DockerClient, name: str) -> str:
    if has_image(client, name):
        return ""
    try:
        # The engine asks the registry: it may be elsewhere, and know another way there.
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
        str(found.name)
        for found in client.volumes.list(filters={"label": [f"app={APP}", f"stack={stack}", "role=open-webui-data"]})
        if found.name != name
    ]
    users = [
        found
        for found in client.containers.list(filters={"volume": name}, ignore_removed=True)
        # A filter also takes what the name is a part of.
        if any(mount.get("Name") == name for mount in found.attrs["Mounts"])
        and not (found.labels.get("app") == APP and found.labels.get("stack") == stack)
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
    # Somebody else's may end while they are listed.
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
        found = client.containers.get(identity)
    except docker.errors.NotFound:
        message = f"A container was removed while it was awaited ({identity[:12]}); run the update again."
        raise EngineError(message) from None
    state = found.attrs["State"]
    health = state.get("Health") or {}
    status = health.get("Status", "none")
    if state["Running"] and status in {"healthy", "none"} and not state.get("Restarting"):
        return True
    # While it waits for its next try it counts as running, too.
    crashed = found.attrs["RestartCount"] >= _CRASHES and state["Restarting"]
    ended = state["Status"] in {"exited", "dead"}
    unhealthy = status == "unhealthy" and waited > _UNHEALTHY_PATIENCE
    # It may have been given longer than most, as one that waits for others has.
    given = (found.attrs["Config"].get("Healthcheck") or {}).get("StartPeriod", 0) / 1e9 + _UNHEALTHY_PATIENCE
    if crashed or ended or unhealthy or waited > max(_PATIENCE, given):
        raise EngineError(_obituary(found, status, waited))
    return False


def _obituary(found: Container, status: str, waited: float) -> str:
    state = found.attrs["State"]
    if state.get("OOMKilled"):
        reason = "was killed because it reached its memory limit; raise it in the settings"
    elif state["Restarting"] or not state["Running"]:
        reason = f"ended with exit code {state['ExitCode']} (restarted {found.attrs['RestartCount']} times)"
    elif status == "unhealthy":
        reason = "is unhealthy"
    else:
        reason = f"is still starting after {waited:.0f} seconds; if it migrates a large database, run the update again"
    checks = (state.get("Health") or {}).get("Log") or []
    check = f"\nIts last health check said: {checks[-1]['Output'].strip() or 'nothing'}" if checks else ""
    words = found.logs(tail=_LAST_WORDS).decode(errors="replace").strip()
    role = found.labels.get("role", found.name)
    return (
        f"{found.name} {reason}.{check}\nIts last words:\n{words}\n"
        f"More: make logs STACK={found.labels.get('stack')} ROLE={role}"
    )
