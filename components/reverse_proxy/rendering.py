"""From settings to the whole nginx.conf: pure functions and templates, no Pulumi."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stacks.proxy import ProxySettings
from stacks.site import SiteSettings
from stacks.values import write_bytes

DOCKER_RESOLVER = "127.0.0.11"
"""The name server of every user-defined Docker network (Docker's manual, Networking overview)."""

# What stands in an nginx.conf unquoted and means itself: no blank, quote, semicolon, brace, dollar, backslash or hash.
_TOKEN = re.compile(r"[A-Za-z0-9._:/\[\]-]+")
_MULTIPART_OVERHEAD = 10


@dataclass(frozen=True)
class TlsProfile:
    """A policy of protocols and ciphers, as its publisher wrote it."""

    source: str
    protocols: tuple[str, ...]
    ciphers: tuple[str, ...]
    curves: tuple[str, ...]


INTERMEDIATE = TlsProfile(
    source="Mozilla's intermediate profile, Server Side TLS guidelines 5.7, without the RSA and DHE ciphers that an"
    " ECDSA certificate never uses",
    protocols=("TLSv1.2", "TLSv1.3"),
    ciphers=("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    curves=("X25519", "prime256v1", "secp384r1"),
)

CLEARED_HEADERS = (
    # RFC 7239: nothing here reads it, so nothing may be smuggled in it.
    "Forwarded",
    # httpoxy (CVE-2016-5385).
    "Proxy",
    # Identity that sign-in proxies assert. Open WebUI believes the header that WEBUI_AUTH_TRUSTED_EMAIL_HEADER names; no
    # client may send one. The names are those in the manuals of oauth2-proxy, Authelia, authentik, Cloudflare Access,
    # Tailscale and Open WebUI.
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Access-Token",
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Preferred-Username",
    "Remote-User",
    "Remote-Email",
    "Remote-Name",
    "Remote-Groups",
    "X-Authentik-Username",
    "X-Authentik-Email",
    "X-Authentik-Name",
    "X-Authentik-Groups",
    "Cf-Access-Authenticated-User-Email",
    "Cf-Access-Jwt-Assertion",
    "Tailscale-User-Login",
    "Tailscale-User-Name",
    "X-User-Email",
    "X-User-Name",
    "X-User-Groups",
    "X-User-Role",
)

LOCATIONS = ("sockets", "api_sockets", "uploads", "api", "static", "pages")
"""In this order: of two regular expressions that match, Nginx takes the first."""


def render_configuration(
    site: SiteSettings,
    proxy: ProxySettings,
    *,
    stack: str,
    upstreams: Sequence[str],
    resolver: str = DOCKER_RESOLVER,
) -> str:
    """Write the whole nginx.conf.

    Args:
        site: names and ports.
        proxy: time-outs and limits.
        stack: named in the first line.
        upstreams: host:port of each replica of the application.
        resolver: address of the name server that knows them.

    Raises:
        ValueError: a value cannot stand in an nginx.conf; settings that were read never hold one.

    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - no HTML is made from values
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"token": token, "duration": nginx_time, "server_name": server_name}
    page = " ".join(environment.get_template("unavailable.html.j2").render().split("\n")).strip()
    values = {
        "stack": stack,
        "proxy": proxy,
        "tls": INTERMEDIATE,
        "resolver": resolver,
        "upstreams": upstreams,
        "hosts": site.hosts,
        "aliases": site.aliases,
        "domain": site.domain,
        "url": site.url,
        "netloc": site.url.removeprefix("https://"),
        "port": site.listen.https_port,
        "locations": LOCATIONS,
        "cleared_headers": CLEARED_HEADERS,
        "max_upload": write_bytes(proxy.limits.max_upload),
        "max_body": proxy.limits.max_upload + proxy.limits.max_upload // _MULTIPART_OVERHEAD,
        "unavailable_page": _in_single_quotes(page),
    }

    def part(name: str) -> str:
        text = environment.get_template(f"{name}.conf.j2").render(values, part=part)
        # Where it stands is one level in.
        return text.strip("\n").replace("\n", "\n    ")

    rendered = environment.get_template("nginx.conf.j2").render(values, part=part)
    return "\n".join(line.rstrip() for line in rendered.splitlines()) + "\n"


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


def _in_single_quotes(text: str) -> str:
    if "'" in text or "\\" in text or "$" in text:
        raise ValueError("the page holds a character that Nginx would read as its own")
    return text
