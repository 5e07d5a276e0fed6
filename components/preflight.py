"""Reads this stack's settings and checks them against the machine, before any resource is registered."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pulumi
import yaml
from pulumi.runtime.config import CONFIG

from open_webui_edge.engine.engine import Engine, EngineError, EngineFacts, Publication, address_is_free
from open_webui_edge.engine.ssh import SshAccess
from open_webui_edge.settings.data import BackingMode
from open_webui_edge.settings.faults import Fault, SettingsError
from open_webui_edge.settings.images import ImageSource
from open_webui_edge.settings.needed_images import faults_of_source, required_images
from open_webui_edge.settings.placement import reaches_the_host
from open_webui_edge.settings.platform import PlatformKind
from open_webui_edge.settings.reading import encrypted_paths, read_settings
from open_webui_edge.settings.recorded_state import former_names, renamed
from open_webui_edge.settings.stack import StackSettings, deprecated

if TYPE_CHECKING:
    from open_webui_edge.components.certificates.provided import Reading

# Valid in the names of containers, volumes and images.
_STACK = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_STACK_RULE = "name the stack with small letters and digits, with single '-', '_' or '.' between"


def settings_of_this_stack() -> StackSettings:
    """Return the settings of the current stack.

    Raises:
        pulumi.RunError: with every fault, one per line.

    """
    stack = pulumi.get_stack()
    source = f"stacks/Pulumi.{stack}.yaml"
    config = dict(CONFIG.get())
    if not _STACK.fullmatch(stack):
        raise pulumi.RunError(f"The stack name {stack} cannot be part of a container's or image's name; {_STACK_RULE}.")
    if former := former_names(stack, _state_of(stack).items()):
        raise pulumi.RunError(renamed(stack, former[0]))
    try:
        settings = read_settings(
            config,
            secret_keys=[key for key in config if pulumi.runtime.is_config_secret(key)],
            source=source,
            encrypted_paths=_encrypted_paths(Path(source)),
        )
        faults = _faults_of_the_machine(settings, stack)
    except (SettingsError, EngineError) as error:
        raise pulumi.RunError(str(error)) from None
    if faults:
        raise pulumi.RunError(str(SettingsError(source, faults)))
    for warning in deprecated(settings):
        pulumi.log.warn(str(SettingsError(source, [warning])))
    return settings


def _state_of(stack: str) -> Mapping[str, Mapping[str, Any]]:
    """Return URN and outputs of each resource in the state, the stack itself included."""
    organization = pulumi.get_organization()
    # Backends without organizations accept only the bare name.
    name = stack if organization == "organization" else f"{organization}/{pulumi.get_project()}/{stack}"
    # Pulumi registers the stack and saves the state while the program starts. A file backend writes in place, so a read
    # may see an empty state. Once the stack's URN is known, the state is saved.
    saved = pulumi.runtime.get_root_resource()
    when_saved = name if saved is None else saved.urn.apply(lambda _: name)
    result = pulumi.runtime.invoke("pulumi:pulumi:readStackResourceOutputs", {"stackName": when_saved})
    resources = cast("Mapping[str, Mapping[str, Any]]", result.value["outputs"])
    return {urn: resource.get("outputs") or {} for urn, resource in resources.items()}


def _faults_of_the_machine(settings: StackSettings, stack: str) -> list[Fault]:
    reading = read_certificate(settings)
    of_certificate = () if reading is None else reading.faults
    if settings.platform.kind is PlatformKind.AWS_VM:
        # The instance may not exist yet; the update itself checks its engine.
        return [*of_certificate, *faults_of_source(settings)]
    source = settings.images.source
    # A preview asks no registry.
    checks_images = source is ImageSource.BUILT or not pulumi.runtime.is_dry_run()
    needed = {str(source): required_images(settings)} if checks_images else {}
    external_volume = None if settings.data.volume is None else (settings.data.volume, stack)
    facts = engine_from_settings(settings, stack).facts(**needed, volume=external_volume)
    for warning in warnings_on(facts, settings):
        pulumi.log.warn(warning)
    return [*of_certificate, *faults_on(facts, settings, stack)]


def read_certificate(settings: StackSettings) -> "Reading | None":
    """Read the certificate that the settings provide, if they do."""
    certificate = settings.certificate
    if certificate.provided is None:
        return None
    # Imported here: the module takes 30 ms to load, and most stacks have no certificate of their own.
    from open_webui_edge.components.certificates.provided import read_provided  # noqa: PLC0415

    return read_provided(certificate.provided, settings.certificate_names, warn_before=certificate.warn_before)


def _encrypted_paths(file: Path) -> set[str] | None:
    """Read which settings are encrypted: Pulumi itself only reports which topics contain a secret."""
    try:
        document: object = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        # The command line named another file.
        return None
    return encrypted_paths(cast("dict[str, object]", document).get("config")) if isinstance(document, dict) else None


def engine_from_settings(settings: StackSettings, stack: str) -> Engine:
    """Return the engine that the settings name, and write the files that ssh needs for it.

    Raises:
        EngineError: these cannot be written.

    """
    host, host_key = settings.platform.docker.host, settings.platform.docker.host_key
    if host is None or host_key is None:
        # No ssh is needed, or the user's own configuration knows the host.
        return Engine(host)
    access = SshAccess(stack, host, host_key)
    try:
        access.write()
    except OSError as error:
        raise EngineError(str(error)) from error
    return Engine(host, ssh_options=access.options)


def faults_on(facts: EngineFacts, settings: StackSettings, stack: str) -> list[Fault]:
    """Return the settings that the engine cannot fulfil. The ports that `stack` itself publishes are available."""
    return [
        *_volume(facts, settings),
        *_ports(facts, settings, stack),
        *_images(facts, settings),
        *_database(facts, settings, stack),
    ]


def warnings_on(facts: EngineFacts, settings: StackSettings) -> Iterator[str]:
    """Yield warnings about limits of the engine, with their remedies."""
    if facts.rootless:
        if reaches_the_host(settings):
            yield (
                "This Docker engine is rootless, so host.docker.internal is not this machine, unless"
                " dockerd is started with --host-gateway-ip=10.0.2.2 and"
                " DOCKERD_ROOTLESS_ROOTLESSKIT_DISABLE_HOST_LOOPBACK=false. Alternatively, use an address of this"
                " machine."
            )
        yield (
            "This Docker engine is rootless, and by default Nginx then sees one address for all clients: they share the"
            " limits per client, and the log does not show their addresses. Set"
            " DOCKERD_ROOTLESS_ROOTLESSKIT_PORT_DRIVER=slirp4netns for dockerd to preserve the addresses."
        )
    if not facts.limits_memory:
        yield (
            "This Docker engine cannot limit memory, so a container can use all of this machine's; a rootless engine"
            " needs systemd and cgroup v2 for limits."
        )


def _volume(facts: EngineFacts, settings: StackSettings) -> Iterator[Fault]:
    volume, path = facts.external_volume, "data.volume"
    if volume is None:
        return
    if not volume.exists:
        yield Fault(
            path,
            f"this Docker engine has no volume {settings.data.volume}; `docker volume ls` lists the existing ones, and"
            " without the setting the stack creates its own",
        )
    if volume.own is not None:
        yield Fault(
            path,
            f"is {settings.data.volume}, but this stack already has users and chats in its own volume, {volume.own};"
            " remove data.volume, or use it in a stack of another name",
        )
    for user in volume.users:
        for_good = f" && docker update --restart=no {user}" if user in volume.restarted else ""
        yield Fault(
            path,
            f"{settings.data.volume} is in use by the running container {user}, and two applications on one database"
            f" corrupt it; stop that container: docker stop {user}{for_good}",
        )


def _database(facts: EngineFacts, settings: StackSettings, stack: str) -> Iterator[Fault]:
    volume = f"edge-{stack}-postgres-data"
    if settings.data.postgres.mode is BackingMode.NONE and volume in facts.volumes:
        yield Fault(
            "data.postgres.mode",
            f"is none, but this stack's users and chats are in its PostgreSQL (the volume {volume}), and no backup"
            " moves them to SQLite; write container, or start over in a stack of another name",
        )


def _ports(facts: EngineFacts, settings: StackSettings, stack: str) -> Iterator[Fault]:
    listen, metrics, prometheus = settings.site.listen, settings.proxy.metrics, settings.monitoring.prometheus
    listeners = [
        ("site.listen.http_port", listen.address, listen.http_port),
        ("site.listen.https_port", listen.address, listen.https_port),
        *([("proxy.metrics.port", "127.0.0.1", metrics.port)] if metrics.enabled else []),
        *([("monitoring.prometheus.port", "127.0.0.1", prometheus.port)] if prometheus.enabled else []),
    ]
    for path, address, port in listeners:
        if facts.rootless and port < facts.first_unprivileged_port:
            yield Fault(
                path,
                f"{port} is a privileged port and this Docker engine is rootless; choose"
                f" {facts.first_unprivileged_port} or higher, or lower net.ipv4.ip_unprivileged_port_start",
            )
            continue
        holders = [held for held in facts.publications if held.port == port and _overlap(held, address)]
        others = [held for held in holders if held.stack != stack]
        if others:
            yield Fault(
                path,
                f"{port} on {address} is published by the container {others[0].container}; choose another port,"
                f" or stop it: docker stop {others[0].container}",
            )
        elif not holders and facts.local and not address_is_free(address, port):
            yield Fault(
                path,
                f"{port} on {address} is not available: another program listens there (`ss -ltnp 'sport = :{port}'`"
                " names it), or the address is not this machine's; choose another port or stop the program",
            )


def _overlap(held: Publication, address: str) -> bool:
    everywhere = {"0.0.0.0", "::", ""}  # noqa: S104 - compared, not bound
    return held.address == address or held.address in everywhere or address in everywhere


def _images(facts: EngineFacts, settings: StackSettings) -> Iterator[Fault]:
    yield from faults_of_source(settings)
    for name, why in facts.missing_images.items():
        if settings.images.source is ImageSource.BUILT:
            yield Fault("images.source", f"built, but this Docker engine has no image {name}; `make up` builds it")
        else:
            yield Fault(
                "images.source",
                f"pulled, but this Docker engine neither has {name} nor can pull it; check the network,"
                f" images.registry and `docker login`, or let `make up` build images. The engine reports: {why}",
            )
