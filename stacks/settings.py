"""All that a stack may say, composed from its topics, and how a stack file becomes Settings or a list of faults."""

import json
from collections.abc import Collection, Mapping
from typing import Annotated, Self, cast

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator

from components.images import ImageSource
from stacks.backup import BackupSettings
from stacks.certificate import CertificateSettings
from stacks.compatibility import faults_of_platform
from stacks.data import DataSettings
from stacks.dns import DnsSettings
from stacks.faults import Fault, SettingsError, faults_of
from stacks.models import ModelSettings
from stacks.monitoring import MonitoringSettings
from stacks.open_webui import SHARED_VARIABLES, OpenWebUISettings
from stacks.platform import PlatformKind, PlatformSettings
from stacks.proxy import ProxySettings
from stacks.site import SiteSettings
from stacks.values import BelowError, Settings, is_loopback, refuse

PROJECT = "open-webui-edge"
# An instance is there for this alone.
_ON_AN_INSTANCE = {"address": "0.0.0.0", "http_port": 80, "https_port": 443}  # noqa: S104 - a setting


def _registry(value: str) -> str:
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789.-_:/")
    if not value or not set(value) <= allowed or "//" in value or value[0] in "/:.-" or value[-1] in "/:.-":
        raise ValueError("is not a registry; write a host and, where needed, a port and a path, without scheme or tag")
    return value


class ImageSettings(Settings):
    """Where the container images come from."""

    source: ImageSource = ImageSource.PULLED
    """pulled: the official images; built: made on this machine from distribution packages. `make up` records what it
    could do, and keeps to it."""

    registry: Annotated[str, AfterValidator(_registry)] | None = None
    """A mirror that holds the official images under their own paths, such as registry.example.com/mirror.
    Left out: each image's own registry."""

    @model_validator(mode="after")
    def _a_registry_is_pulled_from(self) -> Self:
        if self.registry is not None and self.source is ImageSource.BUILT:
            raise ValueError("registry is set, but source is built; drop registry or write source: pulled")
        return self


class StackSettings(Settings):
    """All that a stack may say. Every key can be left out."""

    platform: PlatformSettings = PlatformSettings()
    """What the deployment runs on."""

    site: SiteSettings = SiteSettings()
    """Where people find the deployment."""

    certificate: CertificateSettings = CertificateSettings()
    """Who vouches for the site."""

    dns: DnsSettings = DnsSettings()
    """The records that lead to the site."""

    proxy: ProxySettings = ProxySettings()
    """How the reverse proxy treats connections, requests and answers."""

    open_webui: OpenWebUISettings = Field(default_factory=OpenWebUISettings)
    """The application."""

    models: ModelSettings = ModelSettings()
    """Where answers come from."""

    data: DataSettings = DataSettings()
    """What outlives an update and `make down`, and where it is kept."""

    backup: BackupSettings = BackupSettings()
    """Copies of the data, kept elsewhere."""

    monitoring: MonitoringSettings = MonitoringSettings()
    """Who is told when something is wrong."""

    images: ImageSettings = ImageSettings()
    """Where the container images come from."""

    @property
    def origins(self) -> tuple[str, ...]:
        """Origins of pages that may talk to the application: the site's own names, and those that `cors` adds."""
        # A dictionary: each once, in this order.
        return tuple(
            dict.fromkeys([*(self.site.origin(host) for host in self.site.hosts), *self.proxy.cors.allowed_origins])
        )

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """Every name and address that the certificate covers, the canonical one first."""
        return (*self.site.hosts, *self.certificate.additional_names)

    @model_validator(mode="after")
    def _fits_the_platform(self) -> Self:
        refuse(faults_of_platform(self))
        if self.platform.kind is PlatformKind.AWS_VM:
            listen = self.site.listen.model_copy(update=_ON_AN_INSTANCE)
            # Frozen for those who read it; here it is still being made.
            object.__setattr__(self, "site", self.site.model_copy(update={"listen": listen}))
        return self

    @model_validator(mode="after")
    def _names_can_be_certified(self) -> Self:
        self.certificate.check_names(self.site.hosts)
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        metrics, prometheus = self.proxy.metrics, self.monitoring.prometheus
        of_site = {self.site.listen.http_port, self.site.listen.https_port}
        if metrics.enabled and metrics.port in of_site:
            raise BelowError("proxy.metrics.port", f"{metrics.port} is a port of site.listen as well; choose another")
        if prometheus.enabled and prometheus.port in of_site:
            raise BelowError(
                "monitoring.prometheus.port", f"{prometheus.port} is a port of site.listen as well; choose another"
            )
        if metrics.enabled and prometheus.enabled and prometheus.port == metrics.port:
            raise BelowError(
                "monitoring.prometheus.port", f"{prometheus.port} is proxy.metrics.port as well; choose another"
            )
        return self

    @model_validator(mode="after")
    def _strangers_do_not_become_administrators(self) -> Self:
        if self.open_webui.admin is None and not is_loopback(self.site.listen.address):
            raise BelowError(
                "site.listen.address",
                f"{self.site.listen.address} can be reached from other machines, and whoever"
                " signs up first becomes the administrator; set open_webui.admin.email, or listen on 127.0.0.1",
            )
        if self.open_webui.environment.get("WEBUI_AUTH", "true").lower() != "true" and not is_loopback(
            self.site.listen.address
        ):
            raise BelowError(
                "open_webui.environment.WEBUI_AUTH",
                "without sign-in everybody who can reach site.listen.address is the"
                " administrator; drop it, or listen on 127.0.0.1",
            )
        return self

    @model_validator(mode="after")
    def _replicas_share_what_they_must(self) -> Self:
        replicas, environment = self.open_webui.replicas, self.open_webui.environment
        if replicas == 1:
            return self
        services = {"postgres": self.data.postgres, "redis": self.data.redis}
        missing = [f"data.{name}.mode" for name, service in services.items() if not service.used]
        if missing:
            raise BelowError(
                "open_webui.replicas",
                f"{replicas} replicas share a PostgreSQL and a Redis; set {' and '.join(missing)} to container (or to"
                " url, with the address of one that runs already), or write replicas: 1",
            )
        if environment.get("VECTOR_DB") == "chroma" and "CHROMA_HTTP_HOST" not in environment:
            raise BelowError(
                "open_webui.environment.VECTOR_DB",
                "chroma keeps vectors in files that one replica can open; drop it (PostgreSQL keeps them then), or set"
                " CHROMA_HTTP_HOST to a Chroma server",
            )
        refuse(
            BelowError(
                f"open_webui.environment.{name}",
                f"is set by the program where there is more than one replica; drop it ({reason})",
            )
            for name, reason in SHARED_VARIABLES.items()
            if name in environment
        )
        return self


def read_settings(
    config: Mapping[str, str],
    *,
    secret_keys: Collection[str],
    source: str,
    encrypted_paths: Collection[str] | None = None,
) -> StackSettings:
    """Turn a stack's configuration into settings.

    Args:
        config: key with namespace (open-webui-edge:site) -> its value, JSON for objects, as Pulumi hands it out.
        secret_keys: the keys that hold a secret anywhere.
        source: the stack file, for messages.
        encrypted_paths: which settings, or topics as a whole, are encrypted in the file, where that could be read;
            else all below a key in `secret_keys` count as such.

    Raises:
        SettingsError: with every fault that can be seen from the settings alone.

    """
    faults: list[Fault] = []
    secret_topics = {key.partition(":")[2] for key in secret_keys}
    tree: dict[str, object] = {}
    for key, text in sorted(config.items()):
        namespace, _, name = key.partition(":")
        if namespace != PROJECT:
            continue
        try:
            tree[name] = json.loads(text)
        except ValueError:
            tree[name] = text
    try:
        settings = StackSettings.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise SettingsError(source, faults_of(error, StackSettings, secret_topics)) from None
    encrypted = secret_topics if encrypted_paths is None else encrypted_paths
    faults.extend(
        Fault(path, "stands in the file in clear; encrypt it: pulumi config set --path --secret "
              f"'{PROJECT}:{path}' (and change it where it was in use)")
        for path in _secrets_in(settings)
        if not any(path == prefix or path.startswith((f"{prefix}.", f"{prefix}[")) for prefix in encrypted)
    )  # fmt: skip
    if faults:
        raise SettingsError(source, faults)
    return settings


def encrypted_paths(document: object, path: str = "") -> set[str]:
    """Return the paths in a stack file's `config` at which Pulumi has put {secure: …}."""
    found: set[str] = set()
    if isinstance(document, dict):
        entries = cast("dict[str, object]", document)
        if path and set(entries) == {"secure"}:
            return {path}
        for key, value in entries.items():
            name = str(key).removeprefix(f"{PROJECT}:")
            found |= encrypted_paths(value, f"{path}.{name}" if path else name)
    elif isinstance(document, list):
        for index, value in enumerate(cast("list[object]", document)):
            found |= encrypted_paths(value, f"{path}[{index}]")
    return found


def _secrets_in(value: object, path: str = "") -> list[str]:
    if isinstance(value, SecretStr):
        return [path]
    if isinstance(value, Settings):
        return [
            found
            for name in type(value).model_fields
            for found in _secrets_in(getattr(value, name), f"{path}.{name}" if path else name)
        ]
    if isinstance(value, tuple):
        return [found for index, item in enumerate(value) for found in _secrets_in(item, f"{path}[{index}]")]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - a tuple of settings
    return []
