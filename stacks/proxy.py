"""How the reverse proxy treats connections, requests and answers."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from stacks.values import (
    BelowError,
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
    between_bytes,
    between_durations,
    refuse,
)


class TlsProfile(StrEnum):
    """Which of Mozilla's profiles."""

    INTERMEDIATE = "intermediate"
    MODERN = "modern"


class TimeoutSettings(Settings):
    """How long the proxy waits for whom. A change is a reload: nothing in flight is cut."""

    connect: Annotated[Duration, between_durations("1s", "75s")] = timedelta(seconds=5)
    """For Open WebUI to accept a connection (at most 75s: the kernel gives up then)."""

    read: Annotated[Duration, between_durations("10s", "24h")] = timedelta(minutes=30)
    """For the next byte of an answer. A model may think for minutes and the API sends no sign of life meanwhile."""

    send: Annotated[Duration, between_durations("10s", "24h")] = timedelta(minutes=5)
    """For Open WebUI to take the next bytes of an upload."""

    client_header: Annotated[Duration, between_durations("5s", "1h")] = timedelta(minutes=1)
    """For a browser to send the head of a request, all of it."""

    client_body: Annotated[Duration, between_durations("5s", "1h")] = timedelta(minutes=1)
    """For the next bytes of an upload from the browser."""

    client_send: Annotated[Duration, between_durations("5s", "1h")] = timedelta(minutes=1)
    """For the browser to take the next bytes of an answer."""

    keepalive: Annotated[Duration, between_durations("5s", "1h")] = timedelta(seconds=75)
    """For the next request on an idle connection."""

    shutdown: Annotated[Duration, between_durations("1m", "7d")] = timedelta(hours=12)
    """For connections opened under an earlier configuration, WebSockets above all; after that they are closed and
    the browser connects anew."""


def _whole_mebibytes(value: int) -> int:
    if value % (1 << 20):
        raise ValueError("is not a whole number of MiB, in which Open WebUI counts; write one such as 100MiB")
    return value


class SignInLimitSettings(Settings):
    """How often one client may try to sign in or up. Open WebUI itself counts per account, not per client."""

    per_minute: Annotated[int, Field(ge=1, le=6000)] = 30
    """Tries a minute of one address (of one /64 network for IPv6). Behind the address of an office many people sign
    in."""

    burst: Annotated[int, Field(ge=1, le=1000)] = 20
    """Tries that may come at once."""


class LimitSettings(Settings):
    """What a request may cost."""

    max_upload: Annotated[Bytes, between_bytes("1MiB", "100GiB"), AfterValidator(_whole_mebibytes)] = 1 << 30
    """Largest file a person may upload; the proxy and Open WebUI refuse more. Whole MiB."""

    request_header: Annotated[Bytes, between_bytes("8KiB", "128KiB")] = 32 << 10
    """Largest line in the head of a request; a request may have four such lines. An identity provider's tokens in
    cookies are larger than Nginx's default of 8KiB."""

    answer_header: Annotated[Bytes, between_bytes("8KiB", "128KiB")] = 16 << 10
    """Largest head of an answer. A sign-in sets cookies that are larger than Nginx's default of 4KiB."""

    connections_per_client: Annotated[int, Field(ge=10, le=65_535)] = 500
    """Requests and WebSockets of one address (of one /64 network for IPv6) at the same time. Behind the address of an
    office there are many browsers, each with a WebSocket and up to a hundred requests for a moment."""

    sign_in: SignInLimitSettings = SignInLimitSettings()
    """How often one client may try to sign in or up."""


class WebSocketSettings(Settings):
    """The browser's socket, over which answers arrive token by token."""

    enabled: bool = True
    """Whether browsers talk to Open WebUI over a WebSocket. Where something in front of the proxy lets none pass, false
    makes them ask again and again (long polling), with replicas always the same one."""

    idle_timeout: Annotated[Duration, between_durations("30s", "24h")] = timedelta(hours=1)
    """For a silent socket. Open WebUI's clients say something every 25 seconds."""


class CacheSettings(Settings):
    """What the proxy keeps of what is the same for everybody: the frontend's files, never a private answer."""

    enabled: bool = True
    """Whether it keeps anything."""

    max_size: Annotated[Bytes, between_bytes("64MiB", "1024GiB")] = 1 << 30
    """Size of the cache on disk. The frontend of one release has some 60 MiB, in three encodings."""


class CorsSettings(Settings):
    """Pages of other origins that may call the API from a browser, with the user's session."""

    allowed_origins: tuple[Origin, ...] = ()
    """Their origins, such as https://portal.example.com. The site's own needs no entry."""


class EmbeddingSettings(Settings):
    """Pages of other origins that may show the site in a frame."""

    allowed_origins: tuple[Origin, ...] = ()
    """Their origins. With any, the cookies are sent across sites (SameSite=None), which they are not otherwise."""


class HstsSettings(Settings):
    """Tell browsers to come by HTTPS only from now on (RFC 6797)."""

    enabled: bool | None = None
    """Left out: true with a certificate that browsers trust by themselves, false with a self-signed one, with which a
    browser would lock its user out once the authority changes."""

    max_age: Annotated[Duration, between_durations("5m", "730d")] = timedelta(days=365)
    """For how long a browser remembers."""

    include_subdomains: bool = False
    """Whether it holds for every name below the domain, too."""

    preload: bool = False
    """Whether browsers may ship with it (https://hstspreload.org). It takes months to get out of that list again."""

    @model_validator(mode="after")
    def _the_list_has_conditions(self) -> Self:
        if self.preload and not (self.include_subdomains and self.max_age >= timedelta(days=365)):
            raise BelowError(
                "preload",
                "is only accepted by the browsers' list with include_subdomains: true and a max_age of 365d or more;"
                " set both, or drop preload",
            )
        return self


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
    """Where pages of the site may load from. Who may frame them is always said (proxy.embedding)."""

    mode: ContentSecurityPolicyMode = ContentSecurityPolicyMode.OFF
    """off; report-only: browsers say on their console what they would block; enforce: they block it. Begin with
    report-only and look at what your users' functions and artifacts load."""

    policy: HeaderValue = _POLICY
    """The policy, without frame-ancestors."""

    @model_validator(mode="after")
    def _one_owner(self) -> Self:
        if "frame-ancestors" in self.policy.lower():
            raise BelowError("policy", "names frame-ancestors, which follows from proxy.embedding; drop it here")
        return self


class ReferrerPolicy(StrEnum):
    """What other sites are told about where a visitor came from."""

    NO_REFERRER = "no-referrer"
    SAME_ORIGIN = "same-origin"
    STRICT_ORIGIN = "strict-origin"
    STRICT_ORIGIN_WHEN_CROSS_ORIGIN = "strict-origin-when-cross-origin"


class HeaderSettings(Settings):
    """Security headers. Each comes exactly once, whatever Open WebUI sends."""

    hsts: HstsSettings = HstsSettings()
    """Strict-Transport-Security."""

    content_security_policy: ContentSecurityPolicySettings = ContentSecurityPolicySettings()
    """Content-Security-Policy."""

    referrer_policy: ReferrerPolicy = ReferrerPolicy.STRICT_ORIGIN_WHEN_CROSS_ORIGIN
    """Referrer-Policy. A chat's address is no other site's business."""

    permissions_policy: HeaderValue = (
        "camera=(self), display-capture=(self), geolocation=(self), microphone=(self), payment=(), usb=()"
    )
    """Permissions-Policy. Without microphone=(self) there is no voice."""


class LogFormat(StrEnum):
    """How a line about a request is written."""

    JSON = "json"
    TEXT = "text"
    OFF = "off"


class LogLevel(StrEnum):
    """From where on Nginx writes about itself."""

    INFO = "info"
    NOTICE = "notice"
    WARN = "warn"
    ERROR = "error"


class LogSettings(Settings):
    """What the proxy writes: no query, no cookie and no Authorization in any format."""

    requests: LogFormat = LogFormat.JSON
    """json: one object a line; text: for people; off: none."""

    files: bool = False
    """Write a line for each of the frontend's files, too, of which a page asks for dozens. One that went wrong has a
    line anyway."""

    level: LogLevel = LogLevel.WARN
    """What Nginx says about itself."""

    request_errors: bool = False
    """Write why a request failed, too (which upstream, which certificate). Such a line quotes the request with its
    query, in which there may be a token; sign-ins by an identity provider are left out."""


class MetricsSettings(Settings):
    """Numbers for Prometheus, from the exporter of Nginx's makers beside the proxy."""

    enabled: bool = False
    """Whether it runs."""

    port: Port = 9113
    """Port on 127.0.0.1 of the container host, and nowhere else."""


class AuthenticationMode(StrEnum):
    """Who is asked before a request reaches Open WebUI."""

    NONE = "none"
    CLIENT_CERTIFICATES = "client-certificates"
    EXTERNAL = "external"


def _no_basic(value: object) -> object:
    if value == "basic":
        raise ValueError(
            "cannot work: a browser has one Authorization header, and Open WebUI's own Bearer token takes its place;"
            " write external (an authenticator that keeps a cookie) or client-certificates",
        )
    return value


class ClientCertificateSettings(Settings):
    """Let only those in who have a certificate (mutual TLS). WebSockets and the API ask for it too."""

    authorities: CertificatesPem
    """Certificates of the authorities that vouch for clients, in PEM form, one behind the other."""

    depth: Annotated[int, Field(ge=1, le=10)] = 2
    """How many authorities may stand between a client and the root."""


class ExternalAuthenticatorSettings(Settings):
    """Ask another service about each request, such as Authelia or oauth2-proxy: 2xx lets it pass, 401 and 403 not."""

    url: ServiceUrl
    """Address that is asked, as the proxy's container reaches it, such as http://authelia:9091/api/authz/auth-request."""

    sign_in_url: PageUrl | None = None
    """Where a browser is sent on 401, with the address that it wanted in the parameter `rd`. Left out, it sees the
    401."""

    identity: dict[HeaderName, HeaderName] = Field(default_factory=dict)
    """What Open WebUI is told: its header (WEBUI_AUTH_TRUSTED_EMAIL_HEADER, …) -> the header of the authenticator's
    answer, such as X-User-Email: Remote-Email."""

    @model_validator(mode="after")
    def _each_header_once(self) -> Self:
        seen: set[str] = set()
        for name in self.identity:
            if name.lower() in seen:
                raise BelowError("identity", f"names {name} twice, in different case; write it once")
            seen.add(name.lower())
        return self


class AuthenticationSettings(Settings):
    """A door before Open WebUI's own sign-in. It also stands before the API: programs need a key for both."""

    mode: Annotated[AuthenticationMode, BeforeValidator(_no_basic)] = AuthenticationMode.NONE
    """none; client-certificates: a browser needs a certificate; external: another service is asked."""

    client_certificates: ClientCertificateSettings | None = None
    """With mode client-certificates."""

    external: ExternalAuthenticatorSettings | None = None
    """With mode external."""

    @model_validator(mode="after")
    def _one_mode(self) -> Self:
        blocks = {
            AuthenticationMode.CLIENT_CERTIFICATES: ("client_certificates", self.client_certificates),
            AuthenticationMode.EXTERNAL: ("external", self.external),
        }
        for mode, (name, block) in blocks.items():
            if mode is self.mode and block is None:
                raise BelowError(name, f"is missing, and mode is {mode}; add it, or write mode: none")
            if mode is not self.mode and block is not None:
                raise BelowError(name, f"is set, but mode is {self.mode}; drop {name} or write mode: {mode}")
        return self


class LocationSettings(Settings):
    """A path that another service answers, or nobody."""

    url: ServiceUrl | None = None
    """The service, as the proxy's container reaches it. A path in it, be it / alone, takes the place of the
    location's; without one the path is passed on whole. Left out: 404, whatever Open WebUI has there."""

    websocket: bool = False
    """Whether WebSockets pass."""

    credentials: bool = False
    """Whether the service gets the visitor's cookies and Authorization, which are Open WebUI's."""

    allowed_from: tuple[Network, ...] = ()
    """Addresses and networks that may ask; empty: all."""

    max_upload: Annotated[Bytes, between_bytes("1KiB", "100GiB")] = 1 << 20
    """Largest body of a request."""

    @model_validator(mode="after")
    def _a_request_has_its_own_query(self) -> Self:
        if self.url is not None and "?" in self.url:
            raise BelowError("url", "has a query, and each request brings its own; drop ? and what follows it")
        return self

    @model_validator(mode="after")
    def _closed_is_closed(self) -> Self:
        if self.url is None:
            needless = "is set, but there is no url to pass requests to; add url, or drop it"
            written = (name for name in type(self).model_fields if name in self.model_fields_set and name != "url")
            refuse(BelowError(name, needless) for name in written)
        return self


FRONTEND_PATHS = ("/static/", "/assets/", "/audio/", "/pyodide/", "/wasm/", "/sql.js/")
"""Files of Open WebUI's frontend whose names stay when their content changes."""

SIGN_IN_PATHS = ("/api/v1/auths/signin", "/api/v1/auths/signup", "/api/v1/auths/ldap")
"""Where somebody may try passwords."""

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
    """How the reverse proxy treats connections, requests and answers."""

    tls_profile: TlsProfile = TlsProfile.INTERMEDIATE
    """intermediate: TLS 1.2 and 1.3; modern: TLS 1.3 alone."""

    http3: bool = False
    """Whether browsers may come over HTTP/3 (UDP, the same port). A reload, as by any changed setting or renewed
    certificate, cuts the HTTP/3 answers in flight; those over HTTP/1.1 and HTTP/2 it does not."""

    proxy_protocol: bool = False
    """Whether who connects begins with the client's address (PROXY protocol, version 1 or 2), as a load balancer that
    passes TCP through does. Then nobody can connect without it. `trusted_proxies` says whose word counts."""

    trusted_proxies: tuple[Network, ...] = ()
    """Addresses and networks of proxies in front of this one. From them the client's address (the last in
    X-Forwarded-For that is not a trusted proxy itself) and X-Forwarded-Proto are taken; from nobody else anything."""

    identity_headers_from: tuple[Network, ...] = ()
    """Addresses and networks from which the headers that WEBUI_AUTH_TRUSTED_* name are passed on: they decide who
    somebody is. Everybody else's are cleared. It does not follow from `trusted_proxies`."""

    timeouts: TimeoutSettings = TimeoutSettings()
    """How long the proxy waits for whom."""

    limits: LimitSettings = LimitSettings()
    """What a request may cost."""

    websocket: WebSocketSettings = WebSocketSettings()
    """The browser's socket."""

    cache: CacheSettings = CacheSettings()
    """What the proxy keeps of what is the same for everybody."""

    cors: CorsSettings = CorsSettings()
    """Pages of other origins that may call the API from a browser."""

    embedding: EmbeddingSettings = EmbeddingSettings()
    """Pages of other origins that may show the site in a frame."""

    headers: HeaderSettings = HeaderSettings()
    """Security headers."""

    authentication: AuthenticationSettings = AuthenticationSettings()
    """A door before Open WebUI's own sign-in."""

    locations: dict[RequestPath, LocationSettings] = Field(default_factory=dict)
    """Further paths: path -> who answers. One that ends in / holds for all below it, any other for itself alone."""

    log: LogSettings = LogSettings()
    """What the proxy writes."""

    metrics: MetricsSettings = MetricsSettings()
    """Numbers for Prometheus."""

    maintenance: bool = False
    """Answer everything with a page that says so and comes back by itself, while Open WebUI runs on."""

    memory: Annotated[Bytes, between_bytes("64MiB", "64GiB")] = 512 << 20
    """Memory limit of the proxy's container. Workers of earlier configurations live on beside the new ones until their
    connections end, a few MiB a worker and core."""

    @model_validator(mode="after")
    def _who_says_where_a_client_is(self) -> Self:
        if self.proxy_protocol and not self.trusted_proxies:
            raise BelowError(
                "proxy_protocol",
                "is true, but trusted_proxies names nobody whose word counts, so every client would have the load"
                " balancer's address; add its networks there",
            )
        if self.proxy_protocol and self.http3:
            raise BelowError(
                "http3", "and proxy_protocol are both true, and HTTP/3 has no PROXY protocol; switch one off"
            )
        return self

    @model_validator(mode="after")
    def _locations_leave_open_webui_whole(self) -> Self:
        reasons = {path: _why_not(path, location) for path, location in self.locations.items()}
        refuse(BelowError(f"locations.{path}", why) for path, why in reasons.items() if why is not None)
        return self


def _why_not(path: str, location: LocationSettings) -> str | None:
    """Return what a location would take away, and what to write instead; None where it is nobody's."""
    if path in RESERVED_PATHS:
        return "is Open WebUI's own; choose another path"
    below = next((tree for tree in _OWN_TREES if path.startswith(tree)), None)
    if below is not None and location.url is not None:
        return f"lies below {below}, which is Open WebUI's own; choose another path, or drop url to close it"
    if path.startswith("/.well-known/acme-challenge"):
        return "is where certificates are proven; choose another path"
    if path.startswith("/_edge/"):
        return "is the proxy's own; choose another path"
    return None
