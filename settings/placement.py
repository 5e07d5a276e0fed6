"""What the proxy listens on, and what is in front of it. Derived from the settings alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from open_webui_edge.settings.aws import LoadBalancerKind
from open_webui_edge.settings.certificate import CertificateMode
from open_webui_edge.settings.models import OllamaMode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from open_webui_edge.settings.proxy import ProxySettings
    from open_webui_edge.settings.topics import Topics

# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html and
# …/network/update-idle-timeout.html, read in 2025.
IDLE_TIMEOUT_MAX: Mapping[LoadBalancerKind, timedelta] = {
    LoadBalancerKind.ALB: timedelta(seconds=4000),
    LoadBalancerKind.NLB: timedelta(seconds=6000),
}
"""How long each kind of load balancer can let a connection be silent."""
_IDLE_TIMEOUT_MIN = timedelta(seconds=60)
# A connection that Nginx closed while a load balancer sends the next request over it is a 502.
_KEEPALIVE_MARGIN = timedelta(seconds=60)


@dataclass(frozen=True)
class Placement:
    """How the proxy is placed."""

    listen_address: str
    """IPv4 address of the host that it publishes its ports on."""
    listen_ipv6_address: str | None
    """IPv6 address of the host; None for IPv4 only."""
    http_port: int
    https_port: int
    public_port: int
    """Port in the site's URLs."""
    load_balancer: LoadBalancerKind
    """What is in front of it."""
    dual_stack: bool
    """Whether what is in front of it has IPv6 addresses as well."""
    trusted_proxies: tuple[str, ...]
    """Networks whose word on the client's address counts."""
    proxy_protocol: bool
    """Whether each connection begins with that address."""
    http3: bool
    redirect_status: int
    """Of a redirect to HTTPS or to the domain: 308 keeps the method; behind a load balancer it is the 301 that the load
    balancer itself sends."""
    keepalive: timedelta
    """For the next request on an idle connection."""
    idle_timeout: timedelta | None
    """How long what is in front of it lets a connection be silent; None where nothing is."""


def placement_of(settings: Topics) -> Placement:
    """Return the placement of a stack's proxy."""
    listen, proxy, aws = settings.site.listen, settings.proxy, settings.platform.aws
    load_balancer = LoadBalancerKind.NONE if aws is None else aws.load_balancer.kind
    idle_timeout = _idle_timeout(proxy, load_balancer)
    keepalive = proxy.timeouts.keepalive
    if load_balancer is LoadBalancerKind.ALB and idle_timeout is not None:
        keepalive = max(keepalive, idle_timeout + _KEEPALIVE_MARGIN)
    own = () if aws is None or load_balancer is LoadBalancerKind.NONE else (aws.vpc.cidr,)
    return Placement(
        listen_address=listen.address,
        # What leads to an instance, an elastic IP or a load balancer's target group, is IPv4.
        listen_ipv6_address=listen.ipv6_address if aws is None else None,
        http_port=listen.http_port,
        https_port=listen.https_port,
        public_port=listen.https_port,
        load_balancer=load_balancer,
        dual_stack=load_balancer is not LoadBalancerKind.NONE and listen.ipv6,
        trusted_proxies=tuple(dict.fromkeys((*own, *proxy.trusted_proxies))),
        proxy_protocol=proxy.proxy_protocol or load_balancer is LoadBalancerKind.NLB,
        http3=proxy.http3,
        redirect_status=308 if load_balancer is LoadBalancerKind.NONE else 301,
        keepalive=keepalive,
        idle_timeout=idle_timeout,
    )


def idle_timeouts(proxy: ProxySettings) -> Mapping[str, timedelta]:
    """Return for how long a connection to a browser may be silent, by the setting below `proxy` that says so."""
    timeouts = proxy.timeouts
    return {
        "timeouts.read": timeouts.read,
        "timeouts.send": timeouts.send,
        **({"websocket.idle_timeout": proxy.websocket.idle_timeout} if proxy.websocket.enabled else {}),
    }


def egress_ports(settings: Topics) -> tuple[int, ...]:
    """Return the TCP ports, besides those of the web, of services elsewhere that the settings name."""
    ports = {port for url in _urls(settings) if (port := _port(url)) is not None}
    return tuple(sorted(ports - set(_WEB.values())))


def reaches_the_host(settings: Topics) -> bool:
    """Tell whether a setting names the container host itself."""
    return any(_THE_HOST in url for url in _urls(settings))


_WEB = {"http": 80, "https": 443}
_PORTS = {**_WEB, "postgresql": 5432, "redis": 6379, "rediss": 6379}
_THE_HOST = "host.docker.internal"


def _urls(settings: Topics) -> Iterator[str]:
    data, models, proxy, storage = settings.data, settings.models, settings.proxy, settings.backup.repository.s3
    urls = [
        *(service.url.get_secret_value() for service in (data.postgres, data.redis) if service.url is not None),
        *(provider.url for provider in models.providers or ()),
        models.ollama.url if models.ollama.mode is OllamaMode.URL else None,
        *(location.url for location in proxy.locations.values()),
        proxy.authentication.external and proxy.authentication.external.url,
        storage and storage.endpoint,
        settings.images.registry and f"https://{settings.images.registry}",
        settings.open_webui.oidc and settings.open_webui.oidc.issuer,
        settings.outbound.proxy and settings.outbound.proxy.url,
        # Such as a search engine or an object store.
        *settings.open_webui.environment.values(),
    ]
    if settings.certificate.mode is CertificateMode.LETS_ENCRYPT:
        urls += settings.certificate.lets_encrypt.urls
    return (url for url in urls if url)


def _port(url: str) -> int | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or parts.hostname == _THE_HOST:
        return None
    return _PORTS.get(parts.scheme) if port is None else port


def _idle_timeout(proxy: ProxySettings, load_balancer: LoadBalancerKind) -> timedelta | None:
    if load_balancer is LoadBalancerKind.NONE:
        return None
    timeouts = proxy.timeouts
    waits = [*idle_timeouts(proxy).values(), timeouts.client_body, timeouts.client_send]
    if load_balancer is LoadBalancerKind.NLB:
        waits.append(timeouts.keepalive)
    # Whole seconds, none lost.
    longest = max(_IDLE_TIMEOUT_MIN, *waits)
    return timedelta(seconds=-(-longest // timedelta(seconds=1)))
