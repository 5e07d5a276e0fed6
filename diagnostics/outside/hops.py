"""Proxies between the browser and Open WebUI, as far as headers show them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import http_client
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject


@dataclass(frozen=True)
class Product:
    """A proxy that people put in front."""

    name: str
    sign: str
    """A pattern that finds it in `name: value` of a header, in small letters."""
    websocket: str
    """How it lets a WebSocket pass."""
    silence: float | None = None
    """Seconds for which an answer may be silent, unless it was configured otherwise."""
    longer: str = ""
    """How it waits longer."""
    upload: str = ""
    """How it takes larger bodies."""
    hop: Hop = Hop.OUTER_PROXY


NGINX_WEBSOCKET = (
    "in Nginx, in the location of /ws/ (or of everything): `proxy_http_version 1.1; proxy_set_header Upgrade "
    "$http_upgrade; proxy_set_header Connection $connection_upgrade;` with `map $http_upgrade $connection_upgrade { "
    'default upgrade; "" close; }` in http'
)
_CADDY = (
    "Caddy's reverse_proxy lets WebSockets pass by itself; see that a `header_up` does not drop Upgrade or Connection"
)
NGINX_UPLOAD = "in Nginx `client_max_body_size 1g;`, in Caddy `request_body { max_size 1GB }`"
NGINX_LONGER = "in Nginx `proxy_read_timeout 30m;`"

LOAD_BALANCER = Product(
    "an Application Load Balancer",
    r"^(?:server: awselb|set-cookie: awsalb)",
    "an Application Load Balancer passes WebSockets by itself over HTTP/1.1 target groups; a gRPC or HTTP/2 target "
    "group does not",
    60,
    "raise its attribute idle_timeout.timeout_seconds to 3600",
)
PRODUCTS = (
    Product(
        "Cloudflare",
        r"^(?:server: cloudflare|cf-ray:)",
        "at Cloudflare switch WebSockets on (Network)",
        100,
        "only an Enterprise plan raises Proxy Read Timeout; a record that is not proxied (grey cloud) has no such "
        "limit",
        "Cloudflare takes 100 MB on its Free and Pro plans; upload by a record that is not proxied",
    ),
    Product(
        "CloudFront",
        r"^(?:x-amz-cf-id:|via:.*cloudfront)",
        "in the behaviour of CloudFront choose the origin request policy AllViewer, which passes Sec-WebSocket-*",
        30,
        "raise the origin's Response timeout (120 s, more by a quota increase)",
    ),
    LOAD_BALANCER,
    Product(
        "Google's load balancer",
        r"^via: 1\.1 google",
        "Google's load balancer passes WebSockets by itself, for as long as the backend service's timeout",
        30,
        "raise timeoutSec of the backend service",
    ),
    Product(
        "Heroku's router",
        r"^via:.*(?:vegur|heroku)",
        "Heroku's router passes WebSockets by itself",
        30,
        "an answer must begin within 30 s there; run it elsewhere",
    ),
    Product(
        "Fastly",
        r"^(?:x-served-by: cache-|via:.*varnish)",
        "at Fastly switch WebSockets on for the service, or leave /ws/ out of it",
        60,
        "raise between_bytes_timeout and first_byte_timeout of the backend",
    ),
    Product(
        "Azure Front Door",
        r"^x-azure-ref:",
        "Azure Front Door passes WebSockets on its Standard and Premium tiers",
        60,
        "raise the origin response timeout (240 s at most)",
    ),
    Product("Caddy", r"^(?:server: caddy|via:.*caddy)", _CADDY, hop=Hop.PROXY),
    Product(
        "Apache",
        r"^server: apache",
        "in Apache: `ProxyPass / http://open-webui:8080/ upgrade=websocket` (2.4.47 or later)",
        longer="in Apache: `ProxyTimeout 1800`",
        upload="in Apache: `LimitRequestBody 0`",
        hop=Hop.PROXY,
    ),
    Product(
        "Envoy",
        r"^server: (?:istio-)?envoy",
        "in Envoy: upgrade_configs with upgrade_type websocket",
        longer="in Envoy: timeout: 0s and idle_timeout of the route",
        hop=Hop.PROXY,
    ),
    Product(
        "IIS",
        r"^server: microsoft-iis",
        "in IIS install the WebSocket Protocol feature, and let ARR pass it",
        longer="in IIS: the proxy time-out of Application Request Routing",
        upload="in IIS: maxAllowedContentLength",
        hop=Hop.PROXY,
    ),
    Product(
        "Nginx",
        r"^server: (?:nginx|openresty)",
        NGINX_WEBSOCKET,
        longer=NGINX_LONGER,
        upload=NGINX_UPLOAD,
        hop=Hop.PROXY,
    ),
)
_SHORT = 60


def seen_in(answer: http_client.Answer) -> tuple[Product, ...]:
    """Return who left a mark in an answer's headers, the outermost first."""
    lines = [f"{name}: {value}".lower() for name, value in answer.headers]
    return tuple(product for product in PRODUCTS if any(re.search(product.sign, line) for line in lines))


def on_the_way(subject: Subject) -> tuple[Product, ...]:
    """Return who left a mark in the answers to plain questions."""
    seen = [*seen_in(http_client.page(subject)), *seen_in(http_client.page(subject, "/api/version"))]
    return tuple(product for product in PRODUCTS if product in seen)


def nearest(answer: http_client.Answer) -> str:
    """Say who answered: the name of a product, or what its header says."""
    seen = seen_in(answer)
    return seen[-1].name if seen else answer.header("Server") or "an unnamed server"


def websocket_advice(subject: Subject, *answers: http_client.Answer) -> str:
    """Return how to let WebSockets pass the proxies in between."""
    seen = [*on_the_way(subject), *(product for answer in answers for product in seen_in(answer))]
    words = list(dict.fromkeys(product.websocket for product in PRODUCTS if product in seen))
    if NGINX_WEBSOCKET not in words and not any(product.hop is Hop.PROXY for product in seen):
        words += [NGINX_WEBSOCKET, _CADDY]
    return "; ".join(words)


def _patience(subject: Subject) -> Iterator[Finding]:
    # A stack's own load balancer waits for as long as the stack's proxy does.
    own = {LOAD_BALANCER} if subject.expectations.outer_proxy else set[Product]()
    limits = [(each.silence, each) for each in on_the_way(subject) if each.silence is not None and each not in own]
    if not limits:
        yield Hop.PROXY.ok("silence.hops", "No hop with a known limit left a mark; Nginx's default would be 60 s.")
        return
    seconds, tightest = min(limits, key=lambda limit: limit[0])
    promised = subject.expectations.read_timeout
    seen = f"{tightest.name} is in front, which ends an answer after {seconds:g} s of silence unless that was raised."
    if promised is not None and promised > seconds:
        seen = (
            f"{tightest.name} ends an answer after {seconds:g} s of silence, and proxy.timeouts.read is {promised:g} s."
        )
    why = (
        "A model may think for minutes before its first word; API clients and file processing then get a 504 or 524. "
        "Chats in the browser come over the WebSocket, and go on."
    )
    if seconds > _SHORT:
        yield tightest.hop.note("silence.hops", seen, f"{why} To change: {tightest.longer}.")
        return
    yield tightest.hop.warning(
        "silence.hops",
        seen,
        why,
        f"For {tightest.name}: {tightest.longer}. It cannot be seen from outside whether that was done; LONG=yes with "
        "a token measures it.",
        setting="proxy.timeouts.read",
    )


QUESTIONS = (Question("silence.hops", Hop.OUTER_PROXY, "how long each hop waits", ("app.answers",), _patience),)
