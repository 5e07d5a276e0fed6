"""How the reverse proxy handles connections, requests and responses."""

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.values import (
    HEADER_VALUE_MAX,
    Bytes,
    CertificatesPem,
    Duration,
    HeaderName,
    HeaderValue,
    Network,
    Origin,
    PageUrl,
    Port,
    RequestPath,
    ServiceUrl,
    Settings,
    between,
    header_value_length,
    require,
)


class TlsProfile(StrEnum):
    """A TLS profile of Mozilla's."""

    INTERMEDIATE = "intermediate"
    MODERN = "modern"


_WHOLE_SECONDS = require(lambda time: time % timedelta(seconds=1) == timedelta(0), "is not a whole number of seconds")


class TimeoutSettings(Settings):
    """Time-outs of the proxy. A change is a graceful reload: nothing in flight is cut."""

    connect: Annotated[Duration, between("1s", "75s")] = timedelta(seconds=5)
    """Connect timeout to Open WebUI, at most 75s (where the kernel gives up)."""

    read: Annotated[Duration, between("10s", "24h")] = timedelta(minutes=30)
    """Read timeout of Open WebUI: maximum silence before the next byte of a response. A model may think for minutes
    while the API sends nothing."""

    send: Annotated[Duration, between("10s", "24h")] = timedelta(minutes=5)
    """Send timeout to Open WebUI: maximum wait until it takes the next bytes of an upload."""

    client_header: Annotated[Duration, between("5s", "1h")] = timedelta(seconds=15)
    """Maximum time for a client to send all headers of a request, and before that for its TLS handshake."""

    client_body: Annotated[Duration, between("5s", "1h")] = timedelta(minutes=1)
    """Maximum time between two reads of a request body from the client."""

    client_send: Annotated[Duration, between("5s", "1h")] = timedelta(minutes=1)
    """Maximum time between two writes of a response to the client."""

    keepalive: Annotated[Duration, between("5s", "1h")] = timedelta(seconds=75)
    """Maximum time that an idle client connection stays open for the next request."""

    tcp_keepalive: Annotated[Duration, between("1s", "2h"), _WHOLE_SECONDS] = timedelta(minutes=1)
    """Time after which Nginx probes a silent client connection (TCP keep-alive), in whole seconds, so that a NAT on its
    way does not forget it while a model thinks. A client that answers none of three probes is gone."""

    shutdown: Annotated[Duration, between("1m", "7d")] = timedelta(hours=12)
    """Maximum time that connections of an earlier configuration, above all WebSockets, stay open after a reload. Then
    they are closed, and the browser reconnects."""


class SignInLimitSettings(Settings):
    """Rate limit of sign-in and sign-up attempts per client. Open WebUI itself counts per account."""

    per_minute: Annotated[int, Field(ge=1, le=6000)] = 30
    """Maximum attempts per minute of one address (one /64 network for IPv6). Many people may sign in from an office's
    shared address."""

    burst: Annotated[int, Field(ge=1, le=1000)] = 20
    """Maximum attempts in a burst beyond that rate."""


_WHOLE_MEBIBYTES = require(lambda size: size % (1 << 20) == 0, "is not a whole number of MiB; write one such as 100MiB")


class LimitSettings(Settings):
    """Limits on what a request may consume."""

    max_upload: Annotated[Bytes, between("1MiB", "100GiB"), _WHOLE_MEBIBYTES] = 1 << 30
    """Largest file that a person may upload, in whole MiB; the proxy and Open WebUI refuse more."""

    max_request_body: Annotated[Bytes, between("1MiB", "1GiB")] = 32 << 20
    """Largest body of a request to the API that is no upload, such as a chat with its whole history. Open WebUI holds
    it in memory and serves no other request while it parses JSON, so keep it small."""

    bodies_per_client: Annotated[int, Field(ge=1, le=1000)] = 32
    """Maximum concurrent requests with a body of more than 1 MB, or of unknown length, of one address (one /64 network
    for IPv6). Open WebUI writes uploads to a temporary file: with `max_upload` this bounds the disk that they take."""

    request_header: Annotated[Bytes, between("8KiB", "128KiB")] = 32 << 10
    """Largest single header line of a request; a request may have four such lines. Tokens of an identity provider in
    cookies exceed Nginx's default of 8KiB. The larger it is, the fewer connections fit into `memory`."""

    answer_header: Annotated[Bytes, between("8KiB", "128KiB")] = 16 << 10
    """Maximum size of all headers of a response. The cookies of a sign-in exceed Nginx's default of 4KiB."""

    connections_per_client: Annotated[int, Field(ge=10, le=65_535)] = 500
    """Maximum concurrent requests and WebSockets of one address (one /64 network for IPv6). An office's shared address
    has many browsers, each with a WebSocket and up to a hundred requests at a time. It may have twice as many TCP
    connections, which count before a request is complete; networks in `trusted_proxies` may have more."""

    anonymous_sockets_per_client: Annotated[int, Field(ge=1, le=10_000)] = 16
    """Maximum concurrent WebSockets of one address whose users are not signed in. Browsers that find no room connect
    once their users have signed in. All addresses together have as many as fit into a quarter of
    `open_webui.memory` with a message of 16 MiB in each."""

    sign_in: SignInLimitSettings = SignInLimitSettings()
    """Rate limit of sign-in and sign-up attempts per client."""


class WebSocketSettings(Settings):
    """The browser's WebSocket, over which answers arrive token by token."""

    enabled: bool = True
    """Let browsers use a WebSocket to Open WebUI. Set false if a proxy in front blocks WebSockets: browsers then use
    long polling, with a sticky session per replica."""

    idle_timeout: Annotated[Duration, between("30s", "24h")] = timedelta(hours=1)
    """Idle timeout of WebSockets: close one after this long without traffic. Open WebUI's clients send something every
    25 seconds."""


class CacheSettings(Settings):
    """Cache of the frontend's static files, which are the same for everybody. Private responses are never cached."""

    enabled: bool = True
    """Cache the frontend's static files, and a few anonymous responses for seconds."""

    max_size: Annotated[Bytes, between("64MiB", "1024GiB")] = 1 << 30
    """Maximum size of the cache on disk. The frontend of one release takes about 60 MiB, in three encodings."""


class CorsSettings(Settings):
    """Foreign origins whose pages may call the API from a browser, with the user's session (CORS)."""

    allowed_origins: tuple[Origin, ...] = ()
    """Origins (scheme://host[:port]) allowed to call the API, such as https://portal.example.com. The site's own is
    always allowed. Default: none."""


class EmbeddingSettings(Settings):
    """Foreign origins whose pages may embed the site in a frame."""

    allowed_origins: tuple[Origin, ...] = ()
    """Origins (scheme://host[:port]) allowed to embed the site in a frame, such as https://intranet.example.com. If
    there are any, cookies are sent across sites (SameSite=None). Default: none."""


class HstsSettings(Settings):
    """HTTP Strict Transport Security (RFC 6797): browsers use HTTPS only."""

    enabled: bool | None = None
    """Send Strict-Transport-Security. Default: true for a publicly trusted certificate, false for a self-signed one.
    With a self-signed one it would lock users out of the browser after a rotation of the certificate authority (CA)."""

    max_age: Annotated[Duration, between("5m", "730d")] = timedelta(days=365)
    """Time that a browser remembers to use HTTPS only."""

    include_subdomains: bool = False
    """Apply HSTS to all subdomains of the domain as well."""

    preload: bool = False
    """Consent to inclusion in the browsers' preload list (https://hstspreload.org). It requires include_subdomains and
    a max_age of at least 365d. Removal from that list takes months."""

    def _faults(self) -> Iterator[Fault]:
        if self.preload and not (self.include_subdomains and self.max_age >= timedelta(days=365)):
            yield Fault(
                "preload",
                "requires include_subdomains: true and a max_age of at least 365d; set both, or remove preload",
            )


class ContentSecurityPolicyMode(StrEnum):
    """What browsers do with the policy."""

    OFF = "off"
    REPORT_ONLY = "report-only"
    ENFORCE = "enforce"


# Open WebUI's pages have scripts of their own in the HTML without a nonce, Pyodide compiles WebAssembly, and pictures
# in answers come from anywhere.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob: https:; media-src 'self' data: blob: https:; font-src 'self' data:;"
    " connect-src 'self' blob: data:; worker-src 'self' blob:; frame-src 'self' blob: https:; object-src 'none';"
    " base-uri 'self'; form-action 'self'"
)


class ContentSecurityPolicySettings(Settings):
    """Origins that pages of the site may load from. frame-ancestors is always sent (proxy.embedding)."""

    mode: ContentSecurityPolicyMode = ContentSecurityPolicyMode.OFF
    """Selects how browsers treat the policy. off: no policy; report-only: browsers report violations on their console;
    enforce: browsers block violations. Begin with report-only and check what your users' functions and artifacts
    load."""

    policy: HeaderValue = _POLICY
    """Value of Content-Security-Policy, without frame-ancestors."""

    def _faults(self) -> Iterator[Fault]:
        if "frame-ancestors" in self.policy.lower():
            yield Fault("policy", "contains frame-ancestors, which follows from proxy.embedding; remove it")


class ReferrerPolicy(StrEnum):
    """How much of a page's URL browsers send to other sites."""

    NO_REFERRER = "no-referrer"
    SAME_ORIGIN = "same-origin"
    STRICT_ORIGIN = "strict-origin"
    STRICT_ORIGIN_WHEN_CROSS_ORIGIN = "strict-origin-when-cross-origin"


class HeaderSettings(Settings):
    """Security headers. Each is sent exactly once, whatever Open WebUI sends."""

    hsts: HstsSettings = HstsSettings()
    """Strict-Transport-Security."""

    content_security_policy: ContentSecurityPolicySettings = ContentSecurityPolicySettings()
    """Content-Security-Policy."""

    referrer_policy: ReferrerPolicy = ReferrerPolicy.STRICT_ORIGIN_WHEN_CROSS_ORIGIN
    """Value of Referrer-Policy. With the default, other sites do not learn the URL of a chat."""

    permissions_policy: HeaderValue = (
        "camera=(self), display-capture=(self), geolocation=(self), microphone=(self), payment=(), usb=()"
    )
    """Value of Permissions-Policy. Voice input needs microphone=(self)."""


class LogFormat(StrEnum):
    """Format of the access log."""

    JSON = "json"
    TEXT = "text"
    OFF = "off"


class LogLevel(StrEnum):
    """Severity from which Nginx writes to its error log."""

    INFO = "info"
    NOTICE = "notice"
    WARN = "warn"
    ERROR = "error"


class LogSettings(Settings):
    """Logs of the proxy. No format contains a query, cookies or Authorization."""

    requests: LogFormat = LogFormat.JSON
    """Format of the access log. json: one object per line; text: lines for people; off: no access log."""

    files: bool = False
    """Log requests for the frontend's static files as well, of which a page makes dozens. Failed ones are always
    logged."""

    level: LogLevel = LogLevel.WARN
    """Minimum severity of messages in Nginx's error log."""

    request_errors: bool = False
    """Log why a request failed as well (which upstream, which certificate). Such a line quotes the request with its
    query, which may contain a token; sign-ins at an identity provider are excluded."""


class MetricsSettings(Settings):
    """Metrics of Nginx for Prometheus, from NGINX's exporter in a container next to the proxy."""

    enabled: bool = False
    """Run NGINX's exporter, whose metrics of Nginx and the certificate an existing Prometheus can scrape."""

    port: Port = 9113
    """TCP port of the exporter on 127.0.0.1 of the container host; no other address."""


class AuthenticationMode(StrEnum):
    """Who authenticates a request before it reaches Open WebUI."""

    NONE = "none"
    CLIENT_CERTIFICATES = "client-certificates"
    EXTERNAL = "external"


def _no_basic(value: object) -> object:
    if value == "basic":
        raise ValueError(
            "cannot work, because Open WebUI's Bearer token uses the Authorization header; write external (an"
            " authenticator with a session cookie) or client-certificates",
        )
    return value


class ClientCertificateSettings(Settings):
    """Mutual TLS: require a client certificate, also for WebSockets and the API."""

    authorities: CertificatesPem
    """CA certificates (PEM), concatenated, that client certificates must chain to."""

    depth: Annotated[int, Field(ge=1, le=10)] = 2
    """Maximum number of intermediate CAs between a client certificate and its root."""


class ExternalAuthenticatorSettings(Settings):
    """An external authenticator, such as Authelia or oauth2-proxy: 2xx allows a request, 401 and 403 deny it."""

    url: ServiceUrl
    """URL of the authenticator as the proxy's container reaches it, such as
    http://authelia:9091/api/authz/auth-request."""

    timeout: Annotated[Duration, between("1s", "1m")] = timedelta(seconds=10)
    """Connect timeout and read timeout of the authenticator. If it does not respond, the request gets a 503."""

    sign_in_url: PageUrl | None = None
    """URL to redirect a browser to on 401, with the original URL in the parameter `rd`. Default: pass the 401 to the
    browser."""

    identity: dict[HeaderName, HeaderName] = Field(default_factory=dict)
    """Request headers for Open WebUI, taken from the authenticator's response: Open WebUI's header
    (WEBUI_AUTH_TRUSTED_EMAIL_HEADER, …) -> the response header, such as X-User-Email: Remote-Email. Default: none."""

    def _faults(self) -> Iterator[Fault]:
        seen: set[str] = set()
        for name in self.identity:
            if name.lower() in seen:
                yield Fault("identity", f"lists {name} twice, in different case; write it once")
            seen.add(name.lower())


class AuthenticationSettings(Settings):
    """Authentication in front of Open WebUI's own sign-in, for the API as well: programs need credentials for both."""

    mode: Annotated[AuthenticationMode, BeforeValidator(_no_basic)] = AuthenticationMode.NONE
    """Selects the authentication. none: Open WebUI's sign-in only; client-certificates: browsers need a client
    certificate; external: an external authenticator decides."""

    client_certificates: ClientCertificateSettings | None = None
    """Accepted client certificates, with mode client-certificates."""

    external: ExternalAuthenticatorSettings | None = None
    """The external authenticator, with mode external."""

    def _faults(self) -> Iterator[Fault]:
        for mode in (AuthenticationMode.CLIENT_CERTIFICATES, AuthenticationMode.EXTERNAL):
            name = mode.replace("-", "_")
            block = getattr(self, name)
            if mode is self.mode and block is None:
                yield Fault(name, f"is missing, but mode is {mode}; add it, or write mode: none")
            if mode is not self.mode and block is not None:
                yield Fault(name, f"is set, but mode is {self.mode}; remove {name} or write mode: {mode}")


class LocationSettings(Settings):
    """A path that another service serves, or that is closed."""

    url: ServiceUrl | None = None
    """URL of the service as the proxy's container reaches it. A path in it, even / alone, replaces the location's path;
    without one the path is passed on unchanged. Default: answer 404, whatever Open WebUI serves there."""

    websocket: bool = False
    """Allow WebSockets on this path."""

    credentials: bool = False
    """Pass the user's cookies and Authorization header, which belong to Open WebUI, to the service."""

    allowed_from: tuple[Network, ...] = ()
    """Addresses and networks that may request this path. Default: all."""

    max_upload: Annotated[Bytes, between("1KiB", "100GiB")] = 1 << 20
    """Largest body of a request."""

    def _faults(self) -> Iterator[Fault]:
        if self.url is None:
            needless = [name for name in type(self).model_fields if name in self.model_fields_set and name != "url"]
            yield from (Fault(name, "is set, but url is not; add url, or remove it") for name in needless)
        elif "?" in self.url:
            yield Fault("url", "contains a query, but each request has its own; remove ? and the text after it")


HEADER_BUFFERS = 4
"""Buffers of limits.request_header that a request's headers may fill."""
_CONNECTION_WITHOUT_HEADERS = 40 << 10
"""Bytes of TLS (35 KiB) and of Nginx for a connection."""
_MAX_CONNECTIONS = 1 << 17


def _connection_size(limits: LimitSettings) -> int:
    """Return the memory of a connection whose client sends as much before the end of its headers as is allowed."""
    return HEADER_BUFFERS * limits.request_header + _CONNECTION_WITHOUT_HEADERS


FRONTEND_PATHS = ("/static/", "/assets/", "/audio/", "/pyodide/", "/wasm/", "/sql.js/")
"""Files of Open WebUI's frontend whose names stay when their content changes."""

SIGN_IN_PATHS = ("/api/v1/auths/signin", "/api/v1/auths/signup", "/api/v1/auths/ldap")
"""Paths that accept passwords."""

UPLOAD_PATHS = (
    "/api/v1/audio/transcriptions",
    "/api/v1/chats/import",
    "/api/v1/configs/import",
    "/api/v1/files/",
    "/api/v1/models/import",
    "/api/v1/pipelines/upload",
    "/api/v1/skills/import",
    "/ollama/models/upload",
)
"""Beginnings of the paths that take files, or exports of any size (`UploadFile` and `/import` in the routers of Open
WebUI 0.12.4)."""

_OWN_TREES = ("/api/", "/ollama/", "/openai/", "/ws/", "/oauth/", "/cache/", "/_app/", *FRONTEND_PATHS)
RESERVED_PATHS = (
    "/",
    "/health",
    "/health/db",
    "/ready",
    "/manifest.json",
    "/opensearch.xml",
    "/api/config",
    "/api/version",
    "/api/v1/audio/realtime",
    "/api/v1/terminals/",
    "/_app/immutable/",
    "/_app/version.json",
    *SIGN_IN_PATHS,
    *_OWN_TREES,
)
"""Paths that the proxy treats in a way of their own."""


class ProxySettings(Settings):
    """How the reverse proxy handles connections, requests and responses."""

    tls_profile: TlsProfile = TlsProfile.INTERMEDIATE
    """TLS versions and ciphers that browsers may use. intermediate: TLS 1.2 and 1.3; modern: TLS 1.3 only."""

    http3: bool = False
    """Accept HTTP/3 (UDP, on the HTTPS port). A reload, caused by a changed setting or a renewed certificate, cuts
    HTTP/3 responses in flight, but none over HTTP/1.1 and HTTP/2."""

    proxy_protocol: bool = False
    """Expect the PROXY protocol (version 1 or 2) at the beginning of each connection, as a load balancer that passes
    TCP through sends it. Connections without it fail. `trusted_proxies` lists which senders are trusted."""

    trusted_proxies: tuple[Network, ...] = ()
    """Addresses and networks of proxies in front of this one. Only from them are the client's address (the last in
    X-Forwarded-For that is not a trusted proxy itself) and X-Forwarded-Proto accepted. Default: none."""

    identity_headers_from: tuple[Network, ...] = ()
    """Addresses and networks whose identity headers (those in WEBUI_AUTH_TRUSTED_*) are passed to Open WebUI, which
    signs users in by them. From all others these headers are removed. It is independent of `trusted_proxies`. Default:
    none."""

    timeouts: TimeoutSettings = TimeoutSettings()
    """Time-outs of the proxy."""

    limits: LimitSettings = LimitSettings()
    """Limits on what a request may consume."""

    websocket: WebSocketSettings = WebSocketSettings()
    """The browser's WebSocket."""

    cache: CacheSettings = CacheSettings()
    """Cache of static files."""

    cors: CorsSettings = CorsSettings()
    """Foreign origins whose pages may call the API."""

    embedding: EmbeddingSettings = EmbeddingSettings()
    """Foreign origins whose pages may embed the site in a frame."""

    headers: HeaderSettings = HeaderSettings()
    """Security headers."""

    authentication: AuthenticationSettings = AuthenticationSettings()
    """Authentication in front of Open WebUI's own sign-in."""

    locations: dict[RequestPath, LocationSettings] = Field(default_factory=dict)
    """Further paths and the services that serve them: path -> location. A path that ends in / applies to everything
    below it, any other path to itself alone. Default: none."""

    log: LogSettings = LogSettings()
    """Logs of the proxy."""

    metrics: MetricsSettings = MetricsSettings()
    """Metrics for Prometheus."""

    maintenance: bool = False
    """Answer every request with a maintenance page, which reloads itself; Open WebUI runs on."""

    memory: Annotated[Bytes, between("64MiB", "64GiB")] = 512 << 20
    """Memory limit of the proxy's container. It limits the client connections of all addresses: three quarters of it
    suffice if each has headers of the largest size. After a reload, old workers run until their connections end and
    take a few MiB per worker and CPU core."""

    @property
    def connections(self) -> int:
        """Client connections that fit into the memory, whatever their clients send."""
        return min(self.memory * 3 // 4 // _connection_size(self.limits), _MAX_CONNECTIONS)

    @property
    def connections_of_client(self) -> int:
        """Connections of one address: a browser has one for its requests, and its WebSocket."""
        return self.limits.connections_per_client * 2

    def _faults(self) -> Iterator[Fault]:
        if self.proxy_protocol and not self.trusted_proxies:
            yield Fault(
                "proxy_protocol",
                "is true, but trusted_proxies is empty, so every client would have the load balancer's address; add its"
                " networks there",
            )
        if self.proxy_protocol and self.http3:
            yield Fault("http3", "and proxy_protocol are both true, but HTTP/3 has no PROXY protocol; set one to false")
        if self.connections_of_client * 2 > self.connections:
            needed = self.connections_of_client * 2 * _connection_size(self.limits) * 4 // 3
            yield Fault(
                "limits.connections_per_client",
                f"{self.limits.connections_per_client} lets one address have {self.connections_of_client} connections,"
                f" more than half of the {self.connections} that memory and limits.request_header allow; lower it to"
                f" {self.connections // 4}, or raise memory to {-(-needed >> 20)}MiB",
            )
        policy = self.headers.content_security_policy
        enforced = policy.policy if policy.mode is ContentSecurityPolicyMode.ENFORCE else ""
        words = [f"{enforced.rstrip('; ')}; frame-ancestors 'self'", *self.embedding.allowed_origins]
        length = header_value_length(" ".join(words))
        if length > HEADER_VALUE_MAX:
            yield Fault(
                "embedding.allowed_origins",
                f"makes a Content-Security-Policy of {length} characters, but at most {HEADER_VALUE_MAX} are allowed;"
                " remove origins, or shorten headers.content_security_policy.policy",
            )
        for path, location in self.locations.items():
            if (why := _why_not(path, location)) is not None:
                yield Fault(f"locations.{path}", why)


def _why_not(path: str, location: LocationSettings) -> str | None:
    """Return why a location is not allowed and what to write instead; None if it is allowed."""
    if path in RESERVED_PATHS:
        return "is used by Open WebUI; choose another path"
    below = next((tree for tree in _OWN_TREES if path.startswith(tree)), None)
    if below is not None and location.url is not None:
        return f"is below {below}, which Open WebUI uses; choose another path, or remove url to close it"
    if path.startswith("/.well-known/acme-challenge"):
        return "is reserved for ACME challenges; choose another path"
    if path.startswith("/_edge/"):
        return "is reserved for the proxy; choose another path"
    return None
