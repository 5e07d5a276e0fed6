"""DNS records of the site."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.values import Host, Settings, is_ip_address, require


class DnsProvider(StrEnum):
    """Where the stack creates DNS records."""

    NONE = "none"
    ROUTE53 = "route53"


Zone = Annotated[
    Host,
    require(lambda host: not is_ip_address(host), "is an IP address; write the name of a zone, such as example.com"),
    require(lambda host: "." in host, "is a whole top-level domain; write one such as example.com"),
]


class DnsSettings(Settings):
    """DNS records of the site."""

    provider: DnsProvider = DnsProvider.NONE
    """Selects who manages the DNS records. none: you do, and the update prints which records to create; route53: the
    stack creates them in a Route 53 zone."""

    zone: Zone | None = None
    """Route 53 zone, such as example.com, that contains site.domain and site.aliases. Required with provider route53.
    Default: none."""

    create: bool = False
    """Create the zone as well. Its names resolve once the domain's registrar lists the name servers that the update
    prints. If false, the zone exists already and is found by its name."""

    def covers(self, name: str) -> bool:
        """Whether a name lies in the zone."""
        return self.zone is not None and (name == self.zone or name.endswith(f".{self.zone}"))

    def _faults(self) -> Iterator[Fault]:
        if self.provider is DnsProvider.ROUTE53:
            if self.zone is None:
                yield Fault("zone", "is missing, but provider is route53; add it, such as example.com")
            return
        for name, value, state in (("zone", self.zone, "set"), ("create", self.create, "true")):
            if value:
                yield Fault(
                    name, f"is {state}, but provider is {self.provider}; remove {name} or write provider: route53"
                )
