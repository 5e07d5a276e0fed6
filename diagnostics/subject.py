"""The deployment that is asked, and what is known of it beforehand."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from open_webui_edge.diagnostics.inside.deployment import DeploymentAccess

T = TypeVar("T")
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Expectations:
    """What the stack's settings say. What is None is not known, and nothing is expected of it."""

    names: tuple[str, ...] = ()
    """All names of the site, the one in the URL among them."""
    addresses: tuple[str, ...] | None = None
    """Where the names should lead: addresses, or the name of a load balancer."""
    redirects_http: bool | None = None
    """Whether plain HTTP redirects to HTTPS."""
    certificate_mode: str | None = None
    """self-signed, lets-encrypt, provided, none, acm."""
    certificate_pem: str | None = None
    """The certificate that the stack installed, to compare with the one that is served."""
    days_left: int = 21
    """With fewer days left of a certificate something keeps it from being renewed."""
    http3: bool = False
    hsts: bool | None = None
    websocket: bool = True
    """Whether browsers use a WebSocket, rather than ask again and again."""
    max_upload: int | None = None
    """Bytes of the largest file that a person may upload."""
    read_timeout: float | None = None
    """Seconds that an answer may be silent for."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of other sites that may call the API."""
    embedded: bool = False
    """Whether other sites may show it in a frame, which needs cookies with SameSite=None."""
    authentication: str = "none"
    """Who is asked before Open WebUI: none, client-certificates, external."""
    maintenance: bool = False
    """Whether everybody is shown a page for now."""
    outer_proxy: bool = False
    """Whether another proxy is in front of Nginx, such as a load balancer."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose word about a client's address counts."""


@dataclass
class Subject:
    """One deployment."""

    url: str
    """https://chat.example.com, with a port where it is not the scheme's."""
    address: str | None = None
    """Where to connect to, when that is known better than by the name."""
    trust: str | None = None
    """PEM of the CA that signed its certificate, if it is not a public one."""
    expected: Expectations | None = None
    """None: a deployment that is not a stack of this project."""
    inside: "DeploymentAccess | None" = None
    direct: str | None = None
    """URL at which the application is reached past the proxy."""
    proxy_protocol: bool = False
    """Whether a connection begins with the PROXY protocol."""
    long: bool = False
    """Whether questions may be asked that take minutes, such as how long a hop waits."""
    http_port: int | None = None
    """Where plain HTTP is answered, when that is not known from the URL: 80 beside 443."""
    name_servers: tuple[str, ...] = ()
    """Whom to ask for names, address or address:port; none: whom this machine asks."""
    token: str | None = field(default=None, repr=False)
    """An account's token, for requests that need a sign-in."""
    _known: dict[Hashable, Future[Any]] = field(default_factory=dict[Hashable, Future[Any]], repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def scheme(self) -> str:
        """Return https or http."""
        return urlsplit(self.url).scheme

    @property
    def name(self) -> str:
        """The name in the URL, or its address (IPv6 without brackets)."""
        name = urlsplit(self.url).hostname or ""
        # As browsers show it to servers.
        return name if name.isascii() else name.encode("idna").decode()

    @property
    def port(self) -> int:
        """The port in the URL, or the scheme's."""
        return urlsplit(self.url).port or _PORTS[self.scheme]

    @property
    def origin(self) -> str:
        """What a browser says where a page of this site asks something."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Name and port as a Host header has them."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def of_a_stack(self) -> bool:
        """Whether this is a stack of this project, whose settings are known."""
        return self.expected is not None

    @property
    def past_proxies(self) -> "Subject | None":
        """The application itself; None where it is not reached past the proxies."""
        if self.direct is None:
            return None
        return replace(self, url=self.direct, address=urlsplit(self.direct).hostname, proxy_protocol=False)

    @property
    def expectations(self) -> Expectations:
        """What the stack's settings say; of another deployment nothing is known."""
        return self.expected or Expectations()

    def once(self, key: Hashable, ask: Callable[[], T]) -> T:
        """Return what `ask` returns (or raise what it raises), asked once however many questions need it."""
        with self._lock:
            is_first = key not in self._known
            answer = self._known.setdefault(key, Future[Any]())
        if is_first:
            try:
                answer.set_result(ask())
            except BaseException as fault:  # noqa: BLE001  # it is raised again, for each who asks, Ctrl-C too
                answer.set_exception(fault)
        return answer.result()
