"""The images that a stack needs, and whether their source has them."""

from collections.abc import Iterator

from open_webui_edge.settings import images
from open_webui_edge.settings.backup import RepositoryKind
from open_webui_edge.settings.certificate import CertificateMode, Challenge
from open_webui_edge.settings.data import BackingMode
from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.images import ImageSource
from open_webui_edge.settings.models import OllamaMode
from open_webui_edge.settings.stack import StackSettings


def required_images(settings: StackSettings) -> list[str]:
    """Return the names of the images that the settings need and that their source has."""
    needed = [images.NGINX, images.open_webui(settings.open_webui.version)]
    if settings.models.ollama.mode is OllamaMode.CONTAINER and settings.images.source is ImageSource.PULLED:
        needed.append(images.OLLAMA)
    if settings.proxy.metrics.enabled:
        needed.append(images.NGINX_METRICS)
    if settings.monitoring.prometheus.enabled:
        needed.append(images.PROMETHEUS)
    if settings.certificate.mode is CertificateMode.LETS_ENCRYPT:
        needed.append(images.certbot(route53=settings.certificate.lets_encrypt.challenge is Challenge.DNS_01))
    backup = settings.backup
    restic = backup.enabled and backup.kind_on(aws=settings.platform.aws is not None) is not RepositoryKind.AWS_BACKUP
    if restic:
        needed.append(images.RESTIC)
        if settings.data.postgres.mode is BackingMode.URL:
            needed.append(images.POSTGRES)
    services = ((settings.data.postgres, images.POSTGRES), (settings.data.redis, images.REDIS))
    needed += [image for service, image in services if service.mode is BackingMode.CONTAINER]
    return [image.reference(settings.images.source, settings.images.registry) for image in needed]


def faults_of_source(settings: StackSettings) -> Iterator[Fault]:
    """Return the settings whose images their source does not have, on any engine."""
    if settings.images.source is ImageSource.BUILT and settings.models.ollama.mode is OllamaMode.CONTAINER:
        yield Fault(
            "models.ollama.mode",
            "container needs the official Ollama image, and images.source is built; set images.registry to a"
            " reachable registry and images.source to pulled, or run Ollama yourself and write mode: url",
        )
