"""The settings by topic; stack.py adds the rules between topics."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from open_webui_edge.settings.backup import BackupSettings
from open_webui_edge.settings.certificate import CertificateSettings
from open_webui_edge.settings.data import DataSettings
from open_webui_edge.settings.dns import DnsSettings
from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.images import ImageSource
from open_webui_edge.settings.models import ModelSettings, OllamaMode
from open_webui_edge.settings.monitoring import MonitoringSettings
from open_webui_edge.settings.open_webui import OpenWebUISettings
from open_webui_edge.settings.outbound import OutboundSettings
from open_webui_edge.settings.platform import PlatformSettings
from open_webui_edge.settings.proxy import ProxySettings
from open_webui_edge.settings.site import SiteSettings
from open_webui_edge.settings.values import Settings, matching

_REGISTRY = matching(
    "(?!.*//)[a-z0-9_]([a-z0-9._:/-]*[a-z0-9_])?",
    "is not a registry; write a host and, where needed, a port and a path, without scheme or tag",
)


class ImageSettings(Settings):
    """Where the container images come from."""

    source: ImageSource = ImageSource.PULLED
    """Selects the images. pulled: the official images; built: images built on this machine from distribution packages.
    `make up` records which one works, and stays with it."""

    registry: Annotated[str, _REGISTRY] | None = None
    """Mirror that has the official images under their own paths, such as registry.example.com/mirror. Default: each
    image's own registry."""

    def _faults(self) -> Iterator[Fault]:
        if self.registry is not None and self.source is ImageSource.BUILT:
            yield Fault("", "registry is set, but source is built; remove registry or write source: pulled")


class Topics(Settings):
    """The topics of a stack file, each valid by itself. Every key can be left out."""

    platform: PlatformSettings = PlatformSettings()
    """What the deployment runs on."""

    site: SiteSettings = SiteSettings()
    """Names, address and ports of the site."""

    certificate: CertificateSettings = CertificateSettings()
    """Certificate issuer."""

    dns: DnsSettings = DnsSettings()
    """DNS records of the site."""

    proxy: ProxySettings = ProxySettings()
    """How the reverse proxy handles connections, requests and responses."""

    open_webui: OpenWebUISettings = Field(default_factory=OpenWebUISettings)
    """The application."""

    models: ModelSettings = ModelSettings()
    """Models that answer: OpenAI-compatible APIs and Ollama."""

    data: DataSettings = DataSettings()
    """Data that outlives an update and `make down`, and where it is stored."""

    backup: BackupSettings = BackupSettings()
    """Backups of the data."""

    outbound: OutboundSettings = OutboundSettings()
    """Outbound connections of Open WebUI, certbot, backups and Ollama. The Docker engine, which pulls images, has a
    configuration of its own (docs/operations.md)."""

    monitoring: MonitoringSettings = MonitoringSettings()
    """Alarms, metrics and alerts."""

    images: ImageSettings = ImageSettings()
    """Where the container images come from."""

    @property
    def origins(self) -> tuple[str, ...]:
        """Origins of pages that may talk to the application: the site's own names, and those that `cors` adds."""
        # A dictionary: each once, in this order.
        own = map(self.site.origin, self.site.hosts)
        return tuple(dict.fromkeys([*own, *self.proxy.cors.allowed_origins]))

    @property
    def application_urls(self) -> tuple[str, ...]:
        """URLs that the application requests, as far as the settings name them."""
        ollama = self.models.ollama
        providers = (provider.url for provider in self.models.providers or ())
        own = "http://ollama" if ollama.mode is OllamaMode.CONTAINER else ollama.url
        # Such as a search engine or an object store.
        return (*providers, own, *self.open_webui.environment.values())

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """Every name and address that the certificate covers, the canonical one first."""
        return (*self.site.hosts, *self.certificate.additional_names)
