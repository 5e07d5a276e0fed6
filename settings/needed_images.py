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
    data, backup, ollama = settings.data, settings.backup, settings.models.ollama
    certificate, source = settings.certificate, settings.images.source
    is_acme = certificate.mode is CertificateMode.LETS_ENCRYPT
    on_aws = settings.platform.aws is not None
    restic = backup.enabled and backup.kind_on(aws=on_aws) is not RepositoryKind.AWS_BACKUP
    needed = {
        images.NGINX: True,
        images.open_webui(settings.open_webui.version): True,
        images.OLLAMA: ollama.mode is OllamaMode.CONTAINER and source is ImageSource.PULLED,
        images.NGINX_METRICS: settings.proxy.metrics.enabled,
        images.PROMETHEUS: settings.monitoring.prometheus.enabled,
        images.certbot(route53=certificate.lets_encrypt.challenge is Challenge.DNS_01): is_acme,
        images.RESTIC: restic,
        images.POSTGRES: data.postgres.mode is BackingMode.CONTAINER or (restic and data.postgres.is_used),
        images.REDIS: data.redis.mode is BackingMode.CONTAINER,
    }
    return [image.reference(source, settings.images.registry) for image, is_needed in needed.items() if is_needed]


def faults_of_source(settings: StackSettings) -> Iterator[Fault]:
    """Return the settings whose images their source does not have, on any engine."""
    if settings.images.source is ImageSource.BUILT and settings.models.ollama.mode is OllamaMode.CONTAINER:
        yield Fault(
            "models.ollama.mode",
            "container needs the official Ollama image, and images.source is built; set images.registry to a"
            " reachable registry and images.source to pulled, or run Ollama yourself and write mode: url",
        )
