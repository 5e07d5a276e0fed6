"""Names, address and ports of the site."""

from collections.abc import Iterator

from pydantic import Field

from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.values import Host, Ipv4Address, Port, Settings

_LOCAL_DOMAIN = "localhost"


class ListenSettings(Settings):
    """The address and ports of the host that the proxy publishes; nothing else is published."""

    address: Ipv4Address = "127.0.0.1"
    """IPv4 address of the host to listen on: 127.0.0.1 for this machine alone, 0.0.0.0 for all interfaces. Beyond
    loopback `open_webui.admin` is required, so that no stranger becomes the first administrator. With platform.kind
    aws-vm the address is 0.0.0.0 and the ports are 80 and 443; `listen` then accepts only `ipv6`."""

    ipv6: bool = True
    """Listen on IPv6 as well: on ::1 with 127.0.0.1, on :: with 0.0.0.0; with any other address it has no effect. It
    needs Docker 27 or later, which shows the client's IPv6 address; on an older engine the site has IPv4 only, and the
    update reports it. With platform.kind aws-vm: give the load balancer IPv6 addresses."""

    http_port: Port = 8080
    """TCP port for plain HTTP, which redirects to HTTPS and answers http-01 challenges."""

    https_port: Port = 8443
    """TCP port for HTTPS."""

    @property
    def ipv6_address(self) -> str | None:
        """The IPv6 address that corresponds to `address`; None for IPv4 only."""
        return {"127.0.0.1": "::1", "0.0.0.0": "::"}.get(self.address) if self.ipv6 else None  # noqa: S104 - a setting


def _aliases_of(data: dict[str, object]) -> tuple[str, ...]:
    return ("127.0.0.1",) if data.get("domain") == _LOCAL_DOMAIN else ()


class SiteSettings(Settings):
    """Names and addresses of the deployment."""

    domain: Host = _LOCAL_DOMAIN
    """Canonical host name (or IP address) of the site, without scheme, port or path. URLs, accepted origins, cookies
    and the certificate follow from it."""

    aliases: tuple[Host, ...] = Field(default_factory=_aliases_of)
    """Further host names and addresses of the site. The certificate covers them. Programs may use the API by them;
    pages are redirected to `domain`. Default: `[127.0.0.1]` if domain is localhost, else none."""

    listen: ListenSettings = ListenSettings()
    """Address and ports that the proxy listens on. With platform.kind aws-vm: all addresses, ports 80 and 443."""

    def _faults(self) -> Iterator[Fault]:
        for name in dict.fromkeys(self.aliases):
            if self.hosts.count(name) > 1:
                yield Fault("aliases", f"{name} is listed twice; write each name once, without the domain")
        if self.listen.http_port == self.listen.https_port:
            port = self.listen.http_port
            yield Fault("listen", f"http_port and https_port are both {port}; choose two different ports")

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
