"""Outbound connections of the containers: a company's proxy, and its CAs."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.values import CertificatesPem, Destination, ProxyUrl, Settings, is_one_line, require

PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy")
"""Variables that name a proxy, in lower case; programs read the same names in upper case, too."""
PROXY_FILE, AUTHORITIES_FILE = "proxy", "authorities.pem"
"""Files of a container whose program a shell starts: lines NAME=value, and PEM."""
# Loopback; the container host; the metadata service of a cloud, which answers only its own machines.
_ALWAYS_DIRECT = ("localhost", "127.0.0.1", "::1", "host.docker.internal", "169.254.169.254")
_CREDENTIAL = require(is_one_line, "is empty, or contains a control character or a space at either end; copy it again")


class OutboundProxySettings(Settings):
    """The HTTP proxy between the containers and the internet."""

    url: ProxyUrl
    """URL of the proxy, such as http://proxy.example.com:3128. It must support CONNECT for HTTPS."""

    username: Annotated[str, _CREDENTIAL] | None = None
    """User name at the proxy (Basic authentication). Default: none."""

    password: Annotated[SecretStr, _CREDENTIAL] | None = None
    """Password at the proxy, encrypted: `pulumi config set --path --secret outbound.proxy.password`. Default: none."""

    exceptions: tuple[Destination, ...] = ()
    """Destinations that are reached without the proxy: names (each with its subdomains), addresses and networks in CIDR
    form. Not every program in the containers understands networks; where one matters, list names. The deployment's own
    containers, the container host and names without a dot in the settings are always reached directly. Default:
    none."""

    def _faults(self) -> Iterator[Fault]:
        if self.password is not None and self.username is None:
            yield Fault("username", "is missing, and password is set; add it, or remove password")


class OutboundSettings(Settings):
    """Outbound connections of Open WebUI, certbot, backups and Ollama."""

    proxy: OutboundProxySettings | None = None
    """HTTP proxy between the containers and the internet. Default: none."""

    certificate_authorities: CertificatesPem | None = None
    """CA certificates (PEM) to trust in addition to the public CAs, such as that of a proxy that inspects TLS. Default:
    none."""

    def files(self, urls: Iterable[str] = ()) -> dict[str, str]:
        """Return the files of a container whose program a shell starts: name -> content."""
        proxy = lines_of(self.environment(urls))
        return {
            name: text for name, text in ((PROXY_FILE, proxy), (AUTHORITIES_FILE, self.certificate_authorities)) if text
        }

    def environment(self, urls: Iterable[str] = ()) -> dict[str, str]:
        """Return the variables of a container that requests `urls`; empty without a proxy. They may hold a password."""
        proxy = self.proxy
        if proxy is None:
            return {}
        parts = urlsplit(proxy.url)
        login = ""
        if proxy.username is not None:
            password = "" if proxy.password is None else f":{quote(proxy.password.get_secret_value(), safe='')}"
            login = f"{quote(proxy.username, safe='')}{password}@"
        address = f"http://{login}{parts.netloc}"
        hosts = map(_host_of, urls)
        # No other machine can resolve a name without a dot: it is a container's.
        own = (host for host in hosts if host and "." not in host and ":" not in host)
        direct = ",".join(dict.fromkeys((*_ALWAYS_DIRECT, *own, *proxy.exceptions)))
        values = dict(zip(PROXY_VARIABLES, (address, address, direct), strict=True))
        return {**values, **{name.upper(): value for name, value in values.items()}}


def lines_of(environment: Mapping[str, str]) -> str:
    """Write variables as lines NAME=value, for a shell."""
    return "".join(f"{name}={value}\n" for name, value in sorted(environment.items()))


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        # A variable's value that only looks like a URL.
        return ""
