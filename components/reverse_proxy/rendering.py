"""From settings to the whole nginx.conf: a pure function and templates, no Pulumi."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote_plus, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.images import ImageSource
from components.reverse_proxy.headers import (
    HIDDEN_HEADERS,
    cleared_with,
    security_headers,
    strict_transport_security,
)
from components.reverse_proxy.scripts import CERTIFICATES
from components.reverse_proxy.tls_profiles import policy_of
from stacks.aws import LoadBalancerKind
from stacks.placement import placement_of
from stacks.proxy import (
    FRONTEND_PATHS,
    SIGN_IN_PATHS,
    AuthenticationMode,
    ExternalAuthenticatorSettings,
    LocationSettings,
    ProxySettings,
)
from stacks.settings import StackSettings
from stacks.values import write_bytes, write_duration

DOCKER_RESOLVER = "127.0.0.11"
"""The name server of every user-defined Docker network (Docker's manual, Networking overview)."""

HEALTH_OF_LOAD_BALANCER = "/nginx/load-balancer-health"
"""What a load balancer asks for by address, with TLS (ALB) or without (NLB); the answer is 200."""

_TEMPLATES = Path(__file__).with_name("templates")
# Where a part is included, it is one level in.
_INDENT = "\n    "
# What stands in an nginx.conf unquoted and means itself: no blank, quote, semicolon, brace, dollar, backslash or hash.
_TOKEN = re.compile(r"[A-Za-z0-9_.:/\[\]-]+")
# RFC 9110 section 5.1, without the characters that Nginx reads as its own and those for which it drops a header.
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_FORM_AROUND_A_FILE = 1 << 20
_PROVIDER_AWAY = (
    "Your identity provider cannot be asked at the moment. Try again soon; if it stays so, tell whoever runs this site."
)
_DEFAULT_PORTS = {"http": 80, "https": 443}

LOCATIONS = (
    "sockets",
    "other_sockets",
    "api",
    "sign_in",
    "oauth",
    "frontend",
    "anonymous",
    "private_files",
    "health",
    "extra",
    "authenticator",
    "challenges",
    "pages",
)
"""In the order in which a reader meets them; Nginx takes the longest prefix."""


@dataclass(frozen=True)
class OtherService:
    """Something besides the application that requests are passed to."""

    upstream: str
    """Name of its block in the configuration."""
    scheme: str
    host: str
    port: int
    path: str
    """What takes the place of the location's path; "" to pass that on."""
    netloc: str
    """Host and port as its URL writes them."""

    @classmethod
    def at(cls, url: str, upstream: str) -> "OtherService":
        """Read a URL."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return cls(upstream, parts.scheme, host, parts.port or _DEFAULT_PORTS[parts.scheme], path, parts.netloc)


@dataclass(frozen=True)
class ExtraLocation:
    """A location of the settings."""

    path: str
    settings: LocationSettings
    service: OtherService | None


@dataclass(frozen=True)
class Authenticator:
    """Who is asked about each request."""

    settings: ExternalAuthenticatorSettings
    service: OtherService


@dataclass(frozen=True)
class PassedIdentity:
    """A request header that says who somebody is, and where its value comes from."""

    header: str
    variable: str
    """Of the configuration: empty where nobody may say it."""
    source: str
    """Variable that it is taken from."""


def render_configuration(  # noqa: PLR0913 - keywords, each a thing of its own
    settings: StackSettings,
    *,
    stack: str,
    upstreams: Sequence[str],
    replicas: int = 1,
    resolver: str = DOCKER_RESOLVER,
    readiness: str | None = None,
    ipv6: bool = False,
    rsa_certificate: bool = False,
    acme_challenges: Sequence[str] = (),
) -> str:
    """Write the whole nginx.conf.

    Args:
        settings: what the stack says.
        stack: named in the first line.
        upstreams: host:port by which the replicas of the application are found; one name may stand for several.
        replicas: how many there are.
        resolver: address, and port where it is not 53, of the network's name server.
        readiness: host:port of another one, which knows the replicas that are ready; None for one replica.
        ipv6: whether to listen on IPv6 too.
        rsa_certificate: whether the certificate's key is RSA; else it is ECDSA.
        acme_challenges: names for which an issuer's questions over HTTP are answered (RFC 8555 section 8.3); they are
            answered for all of the site's, if there is one.

    Raises:
        ValueError: a value cannot stand in an nginx.conf; settings that were read never hold one.

    """
    environment = _environment()
    site, proxy, placement = settings.site, settings.proxy, placement_of(settings)
    passed = _passed_identity(proxy, settings.open_webui.identity_headers)
    names = tuple(settings.open_webui.identity_headers)
    for name in (*names, *(identity.header for identity in passed)):
        header_name(name)
    pages = {
        name: " ".join(environment.get_template(f"pages/{name}.html.j2").render().splitlines())
        for name in ("unavailable", "maintenance", "timed_out", "too_large", "too_many", "unauthorized")
    }
    values = {
        "stack": stack,
        "proxy": proxy,
        "placement": placement,
        "behind_load_balancer": placement.behind is not LoadBalancerKind.NONE,
        "health_of_load_balancer": HEALTH_OF_LOAD_BALANCER,
        "sticky_cookies": placement.behind is LoadBalancerKind.ALB,
        "tls": policy_of(proxy.tls_profile, rsa=rsa_certificate),
        "rsa_certificate": rsa_certificate,
        "resolver": resolver,
        "docker_resolver": DOCKER_RESOLVER,
        "readiness": readiness,
        "upstreams": upstreams,
        "replicas": replicas,
        "ipv6": ipv6,
        # Debian's package of Nginx has the module; the official image has not.
        "brotli": settings.images.source is ImageSource.BUILT,
        "release": settings.open_webui.version,
        "hosts": site.hosts,
        "aliases": site.aliases,
        "domain": site.domain,
        "url": site.url,
        "netloc": site.url.removeprefix("https://"),
        "port": placement.public_port,
        "origins": settings.origins,
        "hsts": strict_transport_security(proxy, trusted_certificate=settings.certificate.trusted),
        "security_headers": security_headers(proxy),
        "hidden_headers": HIDDEN_HEADERS,
        "locations": LOCATIONS,
        "frontend_paths": FRONTEND_PATHS,
        "sign_in_paths": SIGN_IN_PATHS,
        "extra_locations": _extra_locations(proxy),
        "is_open": partial(_is_open, proxy),
        "authenticator": _authenticator(proxy),
        "provider": settings.open_webui.oidc is not None,
        "provider_away": quote_plus(_PROVIDER_AWAY),
        "client_certificates": proxy.authentication.mode is AuthenticationMode.CLIENT_CERTIFICATES,
        "cleared_headers": cleared_with(names, tuple(identity.header for identity in passed)),
        "passed_identity": passed,
        # With the PROXY protocol whoever wrote the headers is the client itself.
        "headers_of_proxies": bool(placement.trusted_proxies) and not placement.proxy_protocol,
        "challenges": bool(acme_challenges),
        "challenged_only": [name for name in acme_challenges if name not in site.hosts],
        "webroot": f"{CERTIFICATES}/webroot",
        "max_upload": write_bytes(proxy.limits.max_upload),
        "max_body": proxy.limits.max_upload + _FORM_AROUND_A_FILE,
        "sign_in_again_after": math.ceil(60 / proxy.limits.sign_in.per_minute),
        "pages": pages,
    }

    def part(name: str, **further: object) -> str:
        text = environment.get_template(f"{name}.conf.j2").render(values, part=part, **further)
        return text.strip("\n").replace("\n", _INDENT)

    rendered = environment.get_template("nginx.conf.j2").render(values, part=part)
    return _without_gaps(rendered)


def token(value: str) -> str:
    """Return `value` if it means itself in an nginx.conf; raise ValueError otherwise."""
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"{value!r} cannot stand unquoted in an nginx.conf")
    return value


def server_name(host: str) -> str:
    """Write a name or address as Nginx compares it with the Host header: an IPv6 address in brackets."""
    return token(f"[{host}]" if ":" in host else host)


def nginx_time(value: timedelta) -> str:
    """Write a duration as Nginx reads it, in seconds, or milliseconds where it must."""
    milliseconds = round(value.total_seconds() * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def in_single_quotes(text: str) -> str:
    """Quote `text`, which holds nothing that Nginx reads as its own within quotes; raise ValueError otherwise."""
    if not text.isprintable() or any(character in text for character in "'\\$"):
        raise ValueError("the text holds a character that Nginx would read as its own")
    return f"'{text}'"


def quoted(text: str) -> str:
    """Quote `text`, which may hold quotes; raise ValueError for a dollar, which nothing can quote."""
    if not text.isprintable() or "$" in text:
        raise ValueError("the text holds a character that Nginx would read as its own")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def header_name(name: str) -> str:
    """Return `name` if it can be a header's; raise ValueError otherwise."""
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header; write letters, digits and hyphens")
    return name


@cache
def _environment() -> Environment:
    """Return the templates: read and compiled once, however many configurations are rendered."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - no HTML is made from values
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(  # pyright: ignore[reportUnknownMemberType] - jinja2 leaves its filters' types open
        token=token,
        duration=nginx_time,
        readable=write_duration,
        server_name=server_name,
        quoted=quoted,
        in_single_quotes=in_single_quotes,
    )
    return environment


def _without_gaps(rendered: str) -> str:
    """Drop blank lines that a part which says nothing leaves: never two in a row, none before a closing brace."""
    lines: list[str] = []
    for line in (line.rstrip() for line in rendered.splitlines()):
        if not line and (not lines or not lines[-1] or lines[-1].endswith("{")):
            continue
        if line.lstrip() == "}" and lines and not lines[-1]:
            lines.pop()
        lines.append(line)
    return "\n".join(lines) + "\n"


def _extra_locations(proxy: ProxySettings) -> tuple[ExtraLocation, ...]:
    return tuple(
        ExtraLocation(path, location, _service_below(path, location.url, f"location_{number}"))
        for number, (path, location) in enumerate(sorted(proxy.locations.items()), start=1)
    )


def _is_open(proxy: ProxySettings, path: str) -> bool:
    """Whether no setting closes all that lies around a path; Nginx would take the path's own location first."""
    return not any(
        path.startswith(around)
        for around, location in proxy.locations.items()
        if location.url is None and around.endswith("/")
    )


def _service_below(path: str, url: str | None, upstream: str) -> OtherService | None:
    if url is None:
        return None
    # What is below /docs/ is below /base/ there, not beside /base.
    whole = f"{url}/" if path.endswith("/") and urlsplit(url).path and not url.endswith("/") else url
    return OtherService.at(whole, upstream)


def _authenticator(proxy: ProxySettings) -> Authenticator | None:
    external = proxy.authentication.external
    if proxy.authentication.mode is not AuthenticationMode.EXTERNAL or external is None:
        return None
    return Authenticator(external, OtherService.at(external.url, "authenticator"))


def _passed_identity(proxy: ProxySettings, named: Sequence[str]) -> tuple[PassedIdentity, ...]:
    """Return the headers of identity that are passed on after all: somebody in the settings may say them."""
    authenticator = _authenticator(proxy)
    if authenticator is not None:
        return tuple(
            PassedIdentity(header, f"identity_{_variable(header)}", f"upstream_http_{_variable(source)}")
            for header, source in sorted(authenticator.settings.identity.items())
        )
    if proxy.identity_headers_from:
        return tuple(
            PassedIdentity(header, f"identity_{_variable(header)}", f"http_{_variable(header)}") for header in named
        )
    return ()


def _variable(header: str) -> str:
    return header_name(header).lower().replace("-", "_")
