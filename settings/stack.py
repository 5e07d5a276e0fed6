"""All settings of a stack: its topics, and the rules between them."""

from collections.abc import Iterator
from typing import Self

from pydantic import model_validator

from open_webui_edge.settings.compatibility import faults_of_platform
from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.open_webui import SHARED_VARIABLES
from open_webui_edge.settings.outbound import PROXY_VARIABLES
from open_webui_edge.settings.platform import PlatformKind
from open_webui_edge.settings.topics import Topics
from open_webui_edge.settings.values import is_loopback, raise_all

# An instance is there for this alone.
_LISTEN_ON_INSTANCE = {"address": "0.0.0.0", "http_port": 80, "https_port": 443}  # noqa: S104 - a setting


class StackSettings(Topics):
    """All settings of a stack. Every key is optional."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise_all(faults_of_platform(self))
        if self.platform.kind is PlatformKind.AWS_VM:
            listen = self.site.listen.model_copy(update=_LISTEN_ON_INSTANCE)
            # Frozen for those who read it; here it is still being made.
            object.__setattr__(self, "site", self.site.model_copy(update={"listen": listen}))
        raise_all(self._faults())
        return self

    def _faults(self) -> Iterator[Fault]:
        yield from self.certificate.faults_of_names(self.site.hosts)
        yield from self._faults_of_ports()
        yield from self._faults_of_outbound()
        if not is_loopback(self.site.listen.address):
            yield from self._faults_beyond_loopback()
        if self.open_webui.replicas > 1:
            yield from self._faults_of_replicas()

    def _faults_of_ports(self) -> Iterator[Fault]:
        taken = dict.fromkeys((self.site.listen.http_port, self.site.listen.https_port), "a port of site.listen")
        for key, service in (
            ("proxy.metrics.port", self.proxy.metrics),
            ("monitoring.prometheus.port", self.monitoring.prometheus),
        ):
            if service.enabled and service.port in taken:
                yield Fault(key, f"{service.port} is already {taken[service.port]}; choose another")
            elif service.enabled:
                taken[service.port] = key

    def _faults_of_outbound(self) -> Iterator[Fault]:
        if self.outbound.proxy is None:
            return
        for name in self.open_webui.environment:
            if name.lower() in PROXY_VARIABLES:
                yield Fault(
                    f"open_webui.environment.{name}",
                    "is set by the program if outbound.proxy is set; remove it, or remove outbound.proxy",
                )

    def _faults_beyond_loopback(self) -> Iterator[Fault]:
        if self.open_webui.admin is None:
            yield Fault(
                "site.listen.address",
                f"{self.site.listen.address} can be reached from other machines, and the first user to sign up would"
                " become the administrator; set open_webui.admin.email, or listen on 127.0.0.1",
            )
        if not self.open_webui.requires_sign_in:
            yield Fault(
                "open_webui.environment.WEBUI_AUTH",
                "disables sign-in, and everybody who can reach site.listen.address would be the administrator; remove"
                " it, or listen on 127.0.0.1",
            )

    def _faults_of_replicas(self) -> Iterator[Fault]:
        environment = self.open_webui.environment
        services = {"postgres": self.data.postgres, "redis": self.data.redis}
        missing = [f"data.{name}.mode" for name, service in services.items() if not service.is_used]
        if missing:
            yield Fault(
                "open_webui.replicas",
                f"{self.open_webui.replicas} replicas need a shared PostgreSQL and Redis; set {' and '.join(missing)}"
                " to container (or to url, for an existing server), or write replicas: 1",
            )
        if environment.get("VECTOR_DB") == "chroma" and "CHROMA_HTTP_HOST" not in environment:
            yield Fault(
                "open_webui.environment.VECTOR_DB",
                "chroma stores vectors in files that only one replica can open; remove it to store them in PostgreSQL,"
                " or set CHROMA_HTTP_HOST to a Chroma server",
            )
        for name, reason in SHARED_VARIABLES.items():
            if name in environment:
                yield Fault(
                    f"open_webui.environment.{name}",
                    f"is set by the program if there is more than one replica; remove it ({reason})",
                )


def deprecated(settings: StackSettings) -> Iterator[Fault]:
    """Return a warning for each setting that is still read and changes nothing any more."""
    if "keep" in settings.data.model_fields_set:
        yield Fault(
            "data.keep",
            "is deprecated and has no effect: data is always protected, and only `make down DATA=delete` removes it;"
            " remove the setting",
        )
