"""From settings to the whole nginx.conf: a pure function and templates, no Pulumi."""

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

_TEMPLATES = Path(__file__).with_name("templates")
# Where a part is included, it is one level in.
_INDENT = "\n    "
# What stands in an nginx.conf unquoted and means itself: no blank, quote, semicolon, brace, dollar, backslash or hash.
_TOKEN = re.compile(r"[A-Za-z0-9_.:/\[\]-]+")
# RFC 9110 section 5.1, without the characters that Nginx reads as its own and those for which it drops a header.
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_FORM_AROUND_A_FILE = 1 << 20


@dataclass(frozen=True)
class TlsProfile:
    """A policy of protocols, ciphers and groups, as its publisher wrote it."""

    source: str
    protocols: tuple[str, ...]
    ciphers: tuple[str, ...]
    """For TLS 1.2, in OpenSSL's names; those of TLS 1.3 are OpenSSL's default in all profiles."""
    curves: tuple[str, ...]
    """Groups for the key exchange, the preferred one first. X25519MLKEM768 needs OpenSSL 3.5."""


INTERMEDIATE = TlsProfile(
    source="Mozilla's intermediate profile, April 2026: https://ssl-config.mozilla.org/guidelines/6.0.json",
    protocols=("TLSv1.2", "TLSv1.3"),
    ciphers=("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    curves=("X25519MLKEM768", "X25519", "prime256v1", "secp384r1"),
)


@dataclass(frozen=True)
class ClearedHeaders:
    """Request headers that no client may send to the application."""

    reason: str
    names: tuple[str, ...]


# A name with an underscore needs no entry: Nginx drops such headers (underscores_in_headers off, its default).
_CLEARED = (
    ClearedHeaders(
        "Other ways to say what is said above (RFC 7239 and the customs of proxies), and httpoxy (CVE-2016-5385).",
        (
            "Forwarded",
            "X-Forwarded-Server",
            "X-Forwarded-Scheme",
            "X-Forwarded-Ssl",
            "X-Forwarded-Prefix",
            "X-Client-IP",
            "X-Cluster-Client-IP",
            "True-Client-IP",
            "CF-Connecting-IP",
            "Proxy",
        ),
    ),
    ClearedHeaders(
        "Who somebody is, as sign-in proxies say it: Open WebUI believes what its WEBUI_AUTH_TRUSTED_* name.",
        (
            # oauth2-proxy, --pass-user-headers and --set-xauthrequest; Open WebUI's manual uses them too.
            "X-Forwarded-User",
            "X-Forwarded-Email",
            "X-Forwarded-Groups",
            "X-Forwarded-Preferred-Username",
            "X-Forwarded-Access-Token",
            "X-Auth-Request-User",
            "X-Auth-Request-Email",
            "X-Auth-Request-Groups",
            "X-Auth-Request-Preferred-Username",
            "X-Auth-Request-Access-Token",
            # Authelia, trusted header SSO.
            "Remote-User",
            "Remote-Email",
            "Remote-Name",
            "Remote-Groups",
            # authentik, proxy provider.
            "X-Authentik-Username",
            "X-Authentik-Email",
            "X-Authentik-Name",
            "X-Authentik-Groups",
            "X-Authentik-Uid",
            "X-Authentik-Jwt",
            # Cloudflare Access; Google's identity-aware proxy; AWS's load balancer; Tailscale Serve.
            "Cf-Access-Authenticated-User-Email",
            "Cf-Access-Jwt-Assertion",
            "X-Goog-Authenticated-User-Email",
            "X-Goog-Authenticated-User-Id",
            "X-Amzn-Oidc-Identity",
            "X-Amzn-Oidc-Data",
            "X-Amzn-Oidc-Accesstoken",
            "Tailscale-User-Login",
            "Tailscale-User-Name",
            # Grafana's and Gitea's proxy sign-in, taken up by others.
            "X-WebAuth-User",
            "X-WebAuth-Email",
            "X-WebAuth-Name",
            "X-WebAuth-Groups",
            # The examples in Open WebUI's manual.
            "X-User-Email",
            "X-User-Name",
            "X-User-Groups",
            "X-User-Role",
        ),
    ),
)

CLEARED_HEADERS = tuple(name for group in _CLEARED for name in group.names)
"""The names of all of them."""

LOCATIONS = ("sockets", "other_sockets", "api", "sign_in", "static", "pages")
"""In the order in which a reader meets them; Nginx takes the longest prefix."""


def render_configuration(  # noqa: PLR0913 - keywords, each a thing of its own
    site: SiteSettings,
    proxy: ProxySettings,
    *,
    stack: str,
    upstreams: Sequence[str],
    resolver: str = DOCKER_RESOLVER,
    identity_headers: Sequence[str] = (),
) -> str:
    """Write the whole nginx.conf.

    Args:
        site: names and ports.
        proxy: time-outs and limits.
        stack: named in the first line.
        upstreams: host:port of each replica of the application.
        resolver: address of the name server that knows them.
        identity_headers: further request headers that the application believes, cleared like the known ones.

    Raises:
        ValueError: a value cannot stand in an nginx.conf; settings that were read never hold one.

    """
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
        server_name=server_name,
        in_single_quotes=in_single_quotes,
    )
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
        "cleared_headers": _cleared_with(identity_headers),
        "max_upload": write_bytes(proxy.limits.max_upload),
        "max_body": proxy.limits.max_upload + _FORM_AROUND_A_FILE,
        "unavailable_page": " ".join(environment.get_template("unavailable.html.j2").render().splitlines()),
    }

    def part(name: str) -> str:
        text = environment.get_template(f"{name}.conf.j2").render(values, part=part)
        return text.strip("\n").replace("\n", _INDENT)

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


def in_single_quotes(text: str) -> str:
    """Quote `text`, which holds nothing that Nginx reads as its own within quotes; raise ValueError otherwise."""
    if not text.isprintable() or any(character in text for character in "'\\$"):
        raise ValueError("the text holds a character that Nginx would read as its own")
    return f"'{text}'"


def _cleared_with(identity_headers: Sequence[str]) -> tuple[ClearedHeaders, ...]:
    for name in identity_headers:
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a header; write letters, digits and hyphens")
    known = {name.lower() for name in CLEARED_HEADERS}
    # A dictionary: each name once, in whatever case it was written, in the given order.
    further = tuple({name.lower(): name for name in identity_headers if name.lower() not in known}.values())
    if not further:
        return _CLEARED
    return (*_CLEARED, ClearedHeaders("Likewise, as this stack's environment names them.", further))
