"""DNS records of the site."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from open_webui_edge.settings.values import FieldError, Host, Settings, is_ip_address


class DnsProvider(StrEnum):
    """Where the stack creates DNS records."""

    NONE = "none"
    ROUTE53 = "route53"


def _zone(value: str) -> str:
    if is_ip_address(value):
        raise ValueError("is an IP address; write the name of a zone, such as example.com")
    if "." not in value:
        raise ValueError("is a whole top-level domain; write one such as example.com")
    return value


class DnsSettings(Settings):
    """DNS records of the site."""

    provider: DnsProvider = DnsProvider.NONE
    """Selects who manages the DNS records. none: you do, and the update prints which records to create; route53: the
    stack creates them in a Route 53 zone."""

    zone: Annotated[Host, AfterValidator(_zone)] | None = None
    """Route 53 zone, such as example.com, that contains site.domain and site.aliases. Required with provider route53.
    Default: none."""

    create: bool = False
    """Create the zone as well. Its names resolve once the domain's registrar lists the name servers that the update
    prints. If false, the zone exists already and is found by its name."""

    def covers(self, name: str) -> bool:
        """Whether a name lies in the zone."""
        return self.zone is not None and (name == self.zone or name.endswith(f".{self.zone}"))

    @model_validator(mode="after")
    def _one_provider(self) -> Self:
        if self.provider is DnsProvider.ROUTE53:
            if self.zone is None:
                raise FieldError("zone", "is missing, but provider is route53; add it, such as example.com")
            return self
        if self.zone is not None:
            raise FieldError("zone", f"is set, but provider is {self.provider}; remove zone or write provider: route53")
        if self.create:
            raise FieldError(
                "create", f"is true, but provider is {self.provider}; remove create or write provider: route53"
            )
        return self
