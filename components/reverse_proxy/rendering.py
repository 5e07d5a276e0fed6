"""Renders nginx.conf from the settings: a pure function and templates, no Pulumi."""

import math
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote_plus, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from open_webui_edge.components.reverse_proxy.hashes import HashSize, hash_size
from open_webui_edge.components.reverse_proxy.headers import (
    STRIPPED_RESPONSE_HEADERS,
    security_headers,
    strict_transport_security,
    stripped_request_headers,
)
from open_webui_edge.components.reverse_proxy.tls_profiles import policy_of
from open_webui_edge.runtime.nginx.scripts import ALERTS, CERTIFICATES, PORTS, PORTS_FOR_IPV6, PORTS_INSIDE
from open_webui_edge.settings.aws import LoadBalancerKind
from open_webui_edge.settings.images import ImageSource
from open_webui_edge.settings.placement import placement_of
from open_webui_edge.settings.proxy import (
    FRONTEND_PATHS,
    HEADER_BUFFERS,
    SIGN_IN_PATHS,
    UPLOAD_PATHS,
    LocationSettings,
    ProxySettings,
)
from open_webui_edge.settings.stack import StackSettings
from open_webui_edge.settings.values import write_bytes, write_duration

DOCKER_RESOLVER = "127.0.0.11"
"""The name server of every user-defined Docker network (Docker's manual, Networking overview)."""

METRICS_PORT = 9145
"""Port on which Prometheus scrapes Nginx's own metrics."""

HEALTH_OF_LOAD_BALANCER = "/nginx/load-balancer-health"
"""Health check of a load balancer, by address, with TLS (ALB) or without (NLB); the response is 200."""

_TEMPLATES = Path(__file__).with_name("templates")
# An included part is indented by one level.
_INDENT = "\n    "
# Needs no quotes in an nginx.conf: no blank, quote, semicolon, brace, dollar, backslash or hash.
_TOKEN = re.compile(r"[A-Za-z0-9_.:/\[\]-]+")
# RFC 9110 section 5.1, without the characters that Nginx interprets or for which it drops a header.
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_FORM_AROUND_A_FILE = 1 << 20
# Open WebUI takes no larger message over a WebSocket (uvicorn's ws_max_size, SOCKETIO_MAX_HTTP_BUFFER_SIZE). Its
# frontend may send one of about that size: a note of 2 MiB, which is as large as Open WebUI lets one be.
_SOCKET_MESSAGE = 16 << 20
# Listeners, and connections to the name server and within the container.
_OTHER_CONNECTIONS = 256
_PROVIDER_AWAY = (
    "Your identity provider does not answer. Try again soon; if that does not help, tell this site's administrator."
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PAGES = ("unavailable", "authenticator_away", "maintenance", "timed_out", "too_large", "too_many", "unauthorized")

LOCATIONS = (
    "sockets",
    "other_sockets",
    "api",
    "strangers",
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
"""In reading order; Nginx uses the longest matching prefix."""


class OtherService(NamedTuple):
    """An upstream other than the application."""

    upstream: str
    """Name of its upstream block."""
    scheme: str
    host: str
    port: int
    path: str
    """Replaces the location's path; "" to pass that on."""
    netloc: str
    """Host and port as in its URL."""


class PassedIdentity(NamedTuple):
    """An identity header that is passed to the application, and the source of its value."""

    header: str
    variable: str
    """Nginx variable with the value; empty if the request's source may not set the header."""
    source: str
    """Nginx variable from which the value is copied."""


def render_configuration(  # noqa: PLR0913 - keywords
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
    """Render the whole nginx.conf.

    Args:
        settings: the stack's settings.
        stack: name of the stack, for the first line.
        upstreams: host:port of the application; one name may resolve to several replicas.
        replicas: their number.
        resolver: address (and port unless 53) of the network's DNS server.
        readiness: host:port of the DNS server for ready replicas; None for one replica.
        ipv6: whether to listen on IPv6 too.
        rsa_certificate: whether the certificate's key is RSA; else it is ECDSA.
        acme_challenges: names with HTTP-01 challenges (RFC 8555 section 8.3). If there are any, all names of the site
            answer challenges.

    Raises:
        ValueError: a value is not valid in an nginx.conf; validated settings never contain one.

    """
    environment = _environment()
    proxy, placement, names = settings.proxy, placement_of(settings), settings.open_webui.identity_headers
    sticky_cookies = placement.load_balancer is LoadBalancerKind.ALB
    authenticator, extra_locations = proxy.authentication.external, list(_extra_locations(proxy))
    passed = _passed_identity(proxy, names)
    for name in names:
        header_name(name)
    pages = {name: " ".join(environment.get_template(f"pages/{name}.html.j2").render().splitlines()) for name in _PAGES}
    stripped = stripped_request_headers(names, [identity.header for identity in passed])
    headers = [name for _, names in stripped for name in names] + [identity.header for identity in passed]
    credentials = _credentials(settings, sticky_cookies=sticky_cookies)
    hosts = [server_name(host) for host in (*settings.site.hosts, *acme_challenges)]
    values = {
        "stack": stack,
        "settings": settings,
        "proxy": proxy,
        "placement": placement,
        "behind_load_balancer": placement.load_balancer is not LoadBalancerKind.NONE,
        "health_of_load_balancer": HEALTH_OF_LOAD_BALANCER,
        "sticky_cookies": sticky_cookies,
        "credentials": credentials,
        "tls": policy_of(proxy.tls_profile, rsa=rsa_certificate),
        "rsa_certificate": rsa_certificate,
        "resolver": resolver,
        "docker_resolver": DOCKER_RESOLVER,
        "readiness": readiness,
        "upstreams": upstreams,
        "replicas": replicas,
        "ipv6": ipv6,
        "alerts": ALERTS,
        "anonymous_sockets": settings.open_webui.memory // 4 // _SOCKET_MESSAGE,
        "ports": PORTS,
        "ports_for_ipv6": PORTS_FOR_IPV6,
        "ports_inside": PORTS_INSIDE,
        "header_buffers": HEADER_BUFFERS,
        "worker_connections": proxy.connections * 2 + _OTHER_CONNECTIONS,
        # Debian's package of Nginx has the module; the official image does not.
        "brotli": settings.images.source is ImageSource.BUILT,
        "netloc": settings.site.url.removeprefix("https://"),
        "hsts": strict_transport_security(proxy, trusted_certificate=settings.certificate.is_trusted),
        "security_headers": security_headers(proxy),
        "stripped_response_headers": STRIPPED_RESPONSE_HEADERS,
        "locations": LOCATIONS,
        "frontend_paths": FRONTEND_PATHS,
        "sign_in_paths": SIGN_IN_PATHS,
        "extra_locations": extra_locations,
        # Nginx would prefer a path's own location to a folder around it that a setting closes.
        "closed_folders": tuple(path for path, _, service in extra_locations if not service and path.endswith("/")),
        "authenticator": authenticator,
        # The yes of an authenticator suffices.
        "asks_who_sends": authenticator is None,
        "authenticator_service": None if authenticator is None else _other_service(authenticator.url, "authenticator"),
        "provider_away": quote_plus(_PROVIDER_AWAY),
        "stripped_request_headers": stripped,
        "passed_identity": passed,
        # With the PROXY protocol, X-Forwarded-* headers come from the client itself.
        "headers_of_proxies": bool(placement.trusted_proxies) and not placement.proxy_protocol,
        "metrics_port": METRICS_PORT,
        "challenges": bool(acme_challenges),
        "challenged_only": [name for name in acme_challenges if name not in settings.site.hosts],
        "webroot": f"{CERTIFICATES}/webroot",
        "max_upload": write_bytes(proxy.limits.max_upload),
        "max_body": proxy.limits.max_upload + _FORM_AROUND_A_FILE,
        "max_request_body": proxy.limits.max_request_body,
        "upload_paths": UPLOAD_PATHS,
        "sign_in_again_after": math.ceil(60 / proxy.limits.sign_in.per_minute),
        "pages": pages,
        # Of names from the settings; each minimum suffices for all other names.
        "hashes": {
            "server_names": hash_size(hosts, least=HashSize(512, 4096)),
            "map": hash_size(settings.origins, least=HashSize(512, 4096)),
            "proxy_headers": hash_size([*headers, credentials[-1][0]], least=HashSize(128, 2048)),
            "variables": hash_size(
                [*(identity.variable for identity in passed), f"{_variable(credentials[-1][0])}_to_application"],
                least=HashSize(128, 2048),
            ),
        },
    }

    def part(name: str, **further: object) -> str:
        text = environment.get_template(f"{name}.conf.j2").render(values, part=part, **further)
        return text.strip("\n").replace("\n", _INDENT)

    rendered = environment.get_template("nginx.conf.j2").render(values, part=part)
    return _without_gaps(rendered)


def token(value: str) -> str:
    """Return `value` if it needs no quotes in an nginx.conf; raise ValueError otherwise."""
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"{value!r} needs quotes in an nginx.conf")
    return value


def server_name(host: str) -> str:
    """Write a name or address for server_name: an IPv6 address in brackets, as in the Host header."""
    return token(f"[{host}]" if ":" in host else host)


def nginx_time(value: timedelta) -> str:
    """Write a duration in Nginx's syntax: in seconds, or in milliseconds if needed."""
    milliseconds = round(value.total_seconds() * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def in_single_quotes(text: str) -> str:
    """Quote `text`; raise ValueError if it contains a character that Nginx interprets within quotes."""
    if not text.isprintable() or any(character in text for character in "'\\$"):
        raise ValueError("the text contains a character that Nginx would interpret")
    return f"'{text}'"


def quoted(text: str) -> str:
    """Quote `text`, which may contain quotes; raise ValueError for a dollar, which cannot be escaped."""
    if not text.isprintable() or "$" in text:
        raise ValueError("the text contains a character that Nginx would interpret")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def header_name(name: str) -> str:
    """Return `name` if it is a valid header name; raise ValueError otherwise."""
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header; write letters, digits and hyphens")
    return name


@cache
def _environment() -> Environment:
    """Return the templates, compiled once per process."""
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
        size=write_bytes,
        readable=write_duration,
        server_name=server_name,
        quoted=quoted,
        in_single_quotes=in_single_quotes,
        re_escape=re.escape,
        variable=_variable,
    )
    return environment


def _without_gaps(rendered: str) -> str:
    """Remove the blank lines of empty parts: never two in a row, none before a closing brace."""
    lines: list[str] = []
    for line in (line.rstrip() for line in rendered.splitlines()):
        if not line and (not lines or not lines[-1] or lines[-1].endswith("{")):
            continue
        if line.lstrip() == "}" and lines and not lines[-1]:
            lines.pop()
        lines.append(line)
    return "\n".join(lines) + "\n"


def _extra_locations(proxy: ProxySettings) -> Iterator[tuple[str, LocationSettings, OtherService | None]]:
    """Yield path, settings and service of each location in the settings."""
    for number, (path, location) in enumerate(sorted(proxy.locations.items()), start=1):
        url = location.url
        if url is not None and path.endswith("/") and urlsplit(url).path and not url.endswith("/"):
            # Paths below /docs/ map below /base/, so /base needs its slash.
            url += "/"
        yield path, location, None if url is None else _other_service(url, f"location_{number}")


def _other_service(url: str, upstream: str) -> OtherService:
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    return OtherService(upstream, parts.scheme, parts.hostname or "", port, path, parts.netloc)


def _credentials(settings: StackSettings, *, sticky_cookies: bool) -> list[tuple[str, str]]:
    """Return the headers by which Open WebUI knows a user, each with the Nginx variable of its value."""
    api_key = settings.open_webui.api_key_header
    return [
        ("Cookie", "$visitors_cookie" if sticky_cookies else "$http_cookie"),
        ("Authorization", "$http_authorization"),
        (header_name(api_key), f"$http_{_variable(api_key)}"),
    ]


def _passed_identity(proxy: ProxySettings, named: Sequence[str]) -> Sequence[PassedIdentity]:
    """Return the identity headers that trusted sources in the settings may set."""
    if proxy.authentication.external is not None:
        sources = sorted(proxy.authentication.external.identity.items())
        kind = "upstream_http"
    else:
        sources = [(header, header) for header in named if proxy.identity_headers_from]
        kind = "http"
    return [
        PassedIdentity(header, f"identity_{_variable(header)}", f"{kind}_{_variable(source)}")
        for header, source in sources
    ]


def _variable(header: str) -> str:
    return header_name(header).lower().replace("-", "_")
