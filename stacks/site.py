"""Where people find the deployment: names, addresses and ports."""

from typing import Self

from pydantic import Field, model_validator

from stacks.values import BelowError, Host, Ipv4Address, Port, Settings

_LOCAL_DOMAIN = "localhost"


class ListenSettings(Settings):
    """The address and ports of the host that the proxy publishes; nothing else is published."""

    address: Ipv4Address = "127.0.0.1"
    """Address of the host to listen on: 127.0.0.1 for this machine alone, 0.0.0.0 for everybody who can reach it.
    Beyond loopback `open_webui.admin` is required, so that no stranger becomes the first administrator."""

    ipv6: bool = True
    """Listen on IPv6 as well: on ::1 beside 127.0.0.1, on :: beside 0.0.0.0, with any other address on none. Only where
    the engine shows who comes (Docker 27 and later): an older one gives every IPv6 client the address of its own
    gateway, so nothing is published there, and the update says so. With platform.kind aws-vm: whether the load balancer
    has IPv6 addresses as well."""

    http_port: Port = 8080
    """Port for plain HTTP, which only redirects to HTTPS."""

    https_port: Port = 8443
    """Port for HTTPS."""

    @property
    def ipv6_address(self) -> str | None:
        """The IPv6 address that belongs to `address`, where one is wanted."""
        return {"127.0.0.1": "::1", "0.0.0.0": "::"}.get(self.address) if self.ipv6 else None  # noqa: S104 - a setting


def _aliases_of(data: dict[str, object]) -> tuple[str, ...]:
    return ("127.0.0.1",) if data.get("domain") == _LOCAL_DOMAIN else ()


class SiteSettings(Settings):
    """Where people find the deployment."""

    domain: Host = _LOCAL_DOMAIN
    """The one name (or IP address) of the site, as the browser's address bar shows it: no scheme, port or path.
    URLs, accepted origins, cookies and the certificate follow from it."""

    aliases: tuple[Host, ...] = Field(default_factory=_aliases_of)
    """Further names and addresses. They are in the certificate, and a browser that uses one is redirected to `domain`.
    Default: 127.0.0.1 where `domain` is localhost, else none."""

    listen: ListenSettings = ListenSettings()
    """What the proxy listens on. With platform.kind aws-vm it is all addresses, and ports 80 and 443."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [self.domain, *self.aliases]
        for name in self.aliases:
            if names.count(name) > 1:
                raise BelowError("aliases", f"{name} is named twice; write each name once, and not the domain's")
        if self.listen.http_port == self.listen.https_port:
            raise BelowError(
                "listen",
                f"http_port and https_port are both {self.listen.http_port}; choose two different ports",
            )
        return self

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every name and address of the site, the canonical one first."""
        return (self.domain, *self.aliases)

    def origin(self, host: str) -> str:
        """Return the origin of `host` as a browser writes it (RFC 6454): the port only where it is not 443."""
        name = f"[{host}]" if ":" in host else host
        port = "" if self.listen.https_port == HTTPS_PORT else f":{self.listen.https_port}"
        return f"https://{name}{port}"

    @property
    def url(self) -> str:
        """The address to open."""
        return self.origin(self.domain)


HTTPS_PORT = 443
"""Default port of https (RFC 9110 section 4.2.2)."""
