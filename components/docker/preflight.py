"""Whether the settings fit the machine, asked before any resource is registered."""

from collections.abc import Callable, Iterator

from components import images
from components.docker.engine import EngineFacts, Publication, address_is_free
from components.images import ImageSource
from stacks.backup import RepositoryKind
from stacks.certificate import CertificateMode, Challenge
from stacks.data import BackingMode
from stacks.faults import Fault
from stacks.models import OllamaMode
from stacks.settings import StackSettings


def faults_on(
    facts: EngineFacts,
    settings: StackSettings,
    stack: str,
    *,
    is_free: Callable[[str, int], bool] = address_is_free,
) -> list[Fault]:
    """Return what the engine cannot give.

    Args:
        facts: what the engine said.
        settings: what is wanted.
        stack: name of the stack; its own containers are in nobody's way.
        is_free: whether a program on this machine could listen on an address and port.

    """
    return [
        *_volume(facts, settings),
        *_ports(facts, settings, stack, is_free),
        *_images(facts, settings),
        *_database(facts, settings, stack),
    ]


def _volume(facts: EngineFacts, settings: StackSettings) -> Iterator[Fault]:
    found, path = facts.brought_volume, "data.volume"
    if found is None:
        return
    if not found.exists:
        yield Fault(
            path,
            f"this Docker engine has no volume {settings.data.volume}; `docker volume ls` lists those that it has, and"
            " without the setting one is made",
        )
    if found.own is not None:
        yield Fault(
            path,
            f"is {settings.data.volume}, but this stack has users and chats in a volume of its own already,"
            f" {found.own}; drop data.volume, or bring it into a stack of another name",
        )
    for user in found.users:
        for_good = f" && docker update --restart=no {user}" if user in found.restarted else ""
        yield Fault(
            path,
            f"{settings.data.volume} is in use by the running container {user}, and two on one database break it; stop"
            f" it: docker stop {user}{for_good}",
        )


def _database(facts: EngineFacts, settings: StackSettings, stack: str) -> Iterator[Fault]:
    volume = f"edge-{stack}-postgres-data"
    if settings.data.postgres.mode is BackingMode.NONE and volume in facts.volumes:
        yield Fault(
            "data.postgres.mode",
            f"is none, but what people made is in this stack's PostgreSQL (the volume {volume}), which SQLite does not"
            " read and a backup does not carry over; write container, or begin anew in a stack of another name",
        )


def _ports(
    facts: EngineFacts,
    settings: StackSettings,
    stack: str,
    is_free: Callable[[str, int], bool],
) -> Iterator[Fault]:
    listen, metrics, prometheus = settings.site.listen, settings.proxy.metrics, settings.monitoring.prometheus
    wanted = [
        ("site.listen.http_port", listen.address, listen.http_port),
        ("site.listen.https_port", listen.address, listen.https_port),
        *([("proxy.metrics.port", "127.0.0.1", metrics.port)] if metrics.enabled else []),
        *([("monitoring.prometheus.port", "127.0.0.1", prometheus.port)] if prometheus.enabled else []),
    ]
    for path, address, port in wanted:
        if facts.rootless and port < facts.first_unprivileged_port:
            yield Fault(
                path,
                f"{port} is a privileged port and this Docker engine runs without root; choose one from"
                f" {facts.first_unprivileged_port} up, or lower net.ipv4.ip_unprivileged_port_start",
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
        elif not holders and facts.local and not is_free(address, port):
            yield Fault(
                path,
                f"{port} on {address} cannot be listened on: another program does (`ss -ltnp 'sport = :{port}'`"
                " names it), or the address is not this machine's; choose another port or stop the program",
            )


def _overlap(held: Publication, address: str) -> bool:
    everywhere = {"0.0.0.0", "::", ""}  # noqa: S104 - compared, not bound
    return held.address == address or held.address in everywhere or address in everywhere


def wanted_images(settings: StackSettings) -> list[str]:
    """Return the names of the images that the settings ask for and that can be had from their source."""
    wanted = [images.NGINX, images.open_webui(settings.open_webui.version)]
    if settings.models.ollama.mode is OllamaMode.CONTAINER and settings.images.source is ImageSource.PULLED:
        wanted.append(images.OLLAMA)
    if settings.proxy.metrics.enabled:
        wanted.append(images.NGINX_METRICS)
    if settings.monitoring.prometheus.enabled:
        wanted += [images.PROMETHEUS, images.MTAIL]
    if settings.certificate.mode is CertificateMode.LETS_ENCRYPT:
        wanted.append(images.certbot(route53=settings.certificate.lets_encrypt.challenge is Challenge.DNS_01))
    backup = settings.backup
    copied = backup.enabled and backup.kind_on(aws=settings.platform.aws is not None) is not RepositoryKind.AWS_BACKUP
    if copied:
        wanted.append(images.RESTIC)
        if settings.data.postgres.mode is BackingMode.URL:
            wanted.append(images.POSTGRES)
    services = ((settings.data.postgres, images.POSTGRES), (settings.data.redis, images.REDIS))
    wanted += [image for service, image in services if service.mode is BackingMode.CONTAINER]
    # One that is built may hold several programs.
    return list(dict.fromkeys(image.reference(settings.images.source, settings.images.registry) for image in wanted))


def faults_of_source(settings: StackSettings) -> Iterator[Fault]:
    """Return what cannot be had from where the images come from, whatever the engine."""
    if settings.images.source is ImageSource.BUILT and settings.models.ollama.mode is OllamaMode.CONTAINER:
        yield Fault(
            "models.ollama.mode",
            "container needs the official Ollama image, and images.source is built; set images.registry to a registry"
            " that can be reached and images.source to pulled, or run Ollama yourself and write mode: url",
        )


def _images(facts: EngineFacts, settings: StackSettings) -> Iterator[Fault]:
    yield from faults_of_source(settings)
    for name, why in facts.missing_images.items():
        if settings.images.source is ImageSource.BUILT:
            yield Fault("images.source", f"built, but this Docker engine has no image {name}; `make up` builds it")
        else:
            yield Fault(
                "images.source",
                f"pulled, but {name} is not in this Docker engine and cannot be pulled; check the network,"
                f" images.registry and `docker login`, or let `make up` build images. The engine says: {why}",
            )
