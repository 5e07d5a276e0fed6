"""Who answers for the site's names."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from stacks.values import BelowError, Host, Settings, is_ip_address


class DnsProvider(StrEnum):
    """Where the records are kept."""

    NONE = "none"
    ROUTE53 = "route53"


def _zone(value: str) -> str:
    if is_ip_address(value):
        raise ValueError("is an address, and a zone has a name; write one such as example.com")
    if "." not in value:
        raise ValueError("is a whole top-level domain; write one such as example.com")
    return value


class DnsSettings(Settings):
    """The records that lead to the site."""

    provider: DnsProvider = DnsProvider.NONE
    """none: somebody else keeps them, and the update says what to enter there; route53: they are made in a zone of
    Route 53."""

    zone: Annotated[Host, AfterValidator(_zone)] | None = None
    """With provider route53: the zone, such as example.com, in which site.domain and site.aliases lie."""

    create: bool = False
    """With provider route53: make the zone as well. Names lead somewhere only when the domain's registrar knows its
    name servers, which the update says. false: the zone is there, and found by its name."""

    def covers(self, name: str) -> bool:
        """Whether a name lies in the zone."""
        return self.zone is not None and (name == self.zone or name.endswith(f".{self.zone}"))

    @model_validator(mode="after")
    def _one_provider(self) -> Self:
        if self.provider is DnsProvider.ROUTE53:
            if self.zone is None:
                raise BelowError("zone", "is missing, and provider is route53; add it, such as example.com")
            return self
        if self.zone is not None:
            raise BelowError("zone", f"is set, but provider is {self.provider}; drop zone or write provider: route53")
        if self.create:
            raise BelowError(
                "create", f"is true, but provider is {self.provider}; drop create or write provider: route53"
            )
        return self
