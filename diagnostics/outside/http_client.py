"""How questions reach a deployment: at its address, by its name, with every header as it came."""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypedDict, Unpack
from urllib.parse import urlsplit

from open_webui_edge.diagnostics.outside.addresses import addresses_of
from open_webui_edge.diagnostics.subject import Subject

SECONDS = 8.0
"""How long a connection, or the next bytes of an answer, may take."""
LARGEST = 1 << 20
"""Bytes of an answer that are read."""
AGENT = "open-webui-edge doctor"
# The PROXY protocol's specification, section 2.1.
_PROXY_UNKNOWN = b"PROXY UNKNOWN\r\n"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    began: float = 0.0
    """Seconds since 1970 when the question was sent."""
    seconds: float = 0.0
    """Until the head of the answer was there."""

    def all(self, name: str) -> list[str]:
        """Return the values of a header, in the order in which they came."""
        return [value for header, value in self.headers if header.lower() == name.lower()]

    def header(self, name: str) -> str:
        """Return a header, several joined as HTTP allows; "" where there is none."""
        return ", ".join(self.all(name))

    @property
    def text(self) -> str:
        """The body, for reading."""
        return self.body.decode(errors="replace")

    @property
    def is_html(self) -> bool:
        """Whether it is a page."""
        return self.header("Content-Type").lower().startswith("text/html")

    @property
    def excerpt(self) -> str:
        """The beginning of the body in one line, for a message."""
        return " ".join(self.text.split())[:120]

    def object(self) -> Mapping[str, Any]:
        """Return the body as a JSON object; an empty one where it is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class NoAnswerError(OSError):
    """The server accepted the connection but sent no HTTP response; the message says what happened."""


def verified_context(subject: Subject) -> ssl.SSLContext:
    """Return what a browser would check, and whom it would believe."""
    context = ssl.create_default_context()
    if subject.trust:
        context.load_verify_locations(cadata=subject.trust)
    return context


def insecure_context() -> ssl.SSLContext:
    """Return what believes anybody: whether the certificate is good is a question of its own."""
    # Not the default one: loading all CAs of the machine takes longer than most checks.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(subject: Subject, port: int, *, seconds: float = SECONDS) -> socket.socket:
    """Connect without TLS, to the first of its addresses that takes a connection."""
    fault: OSError | None = None
    for address in addresses_of(subject):
        try:
            connected = socket.create_connection((address, port), timeout=seconds)
        except OSError as refused:
            fault = refused
            continue
        if subject.proxy_protocol:
            connected.sendall(_PROXY_UNKNOWN)
        return connected
    raise fault or OSError(f"the name {subject.name} has no address")


@contextmanager
def connection(
    subject: Subject,
    *,
    url: str | None = None,
    context: ssl.SSLContext | None = None,
    protocols: Sequence[str] = ("http/1.1",),
    seconds: float = SECONDS,
) -> Iterator[socket.socket]:
    """Connect to the site (or to another port of its host, which `url` says), with TLS where that is https."""
    parts = urlsplit(url or subject.url)
    port = parts.port or {"https": 443, "http": 80}[parts.scheme]
    with connect(subject, port, seconds=seconds) as plain:
        if parts.scheme == "http":
            yield plain
            return
        context = context or insecure_context()
        context.set_alpn_protocols(list(protocols))
        with context.wrap_socket(plain, server_hostname=subject.name) as encrypted:
            yield encrypted


def is_address(name: str) -> bool:
    """Tell whether a host is an address and no name."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(subject: Subject) -> bool:
    """Tell whether only this machine itself reaches it by its name."""
    name = subject.name
    return name == "localhost" or (is_address(name) and ip_address(name).is_loopback)


class Asking(TypedDict, total=False):
    """How a request is made; `answering` has the defaults."""

    method: str
    headers: Sequence[tuple[str, str]]
    accept: str
    body: bytes | None
    url: str | None
    """Another scheme, host or port than the site's; the connection goes to the site's address all the same."""
    seconds: float
    with_token: bool


def ask(subject: Subject, path: str, **how: Unpack[Asking]) -> Answer:
    """Ask once, over a connection of its own; redirects are not followed.

    Raises:
        OSError: no connection; NoAnswerError if the server accepted it but did not respond.

    """
    with answering(subject, path, **how) as (response, clock):
        spent = time.monotonic() - clock
        began = time.time() - spent
        try:
            content = response.read(LARGEST)
        except (OSError, http.client.HTTPException) as fault:
            raise NoAnswerError(f"the answer broke off ({_said(fault)})") from fault
        return Answer(response.status, tuple(response.getheaders()), content, began, spent)


def plain_status(subject: Subject, url: str) -> int:
    """Return the status with which plain HTTP is answered at a URL; 0 where it is not."""
    try:
        return ask(subject, "/", url=url).status
    except OSError:
        return 0


@contextmanager
def answering(  # noqa: PLR0913 - keywords, each a part of a request
    subject: Subject,
    path: str,
    *,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    accept: str = "*/*",
    body: bytes | None = None,
    url: str | None = None,
    seconds: float = SECONDS,
    with_token: bool = False,
) -> Iterator[tuple[http.client.HTTPResponse, float]]:
    """Ask, and yield the answer, of which the head has been read, with the moment of `time.monotonic` it was asked."""
    asked = url or subject.url
    # A token goes only to whom a browser would show it.
    context = verified_context(subject) if with_token and urlsplit(asked).scheme == "https" else None
    said = [("Host", _authority(asked)), ("User-Agent", AGENT), ("Accept", accept), *headers]
    if with_token:
        said.append(("Authorization", f"Bearer {subject.token}"))
    if body is not None:
        said.append(("Content-Length", str(len(body))))
    with connection(subject, url=asked, context=context, seconds=seconds) as connected:
        clock = time.monotonic()
        yield _begin(connected, method, path, said, body), clock


def _begin(
    connected: socket.socket, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes | None = None
) -> http.client.HTTPResponse:
    """Send a request by hand and return its answer, of which the head has been read; raises NoAnswerError."""
    client = http.client.HTTPConnection("unused")
    client.sock = connected
    client.auto_open = 0
    try:
        client.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            client.putheader(name, value)
        client.endheaders(body)
        return client.getresponse()
    except TimeoutError as fault:
        raise NoAnswerError(f"not a byte of an answer within {connected.gettimeout():g} s") from fault
    except (OSError, http.client.HTTPException) as fault:
        raise NoAnswerError(_said(fault)) from fault


def _authority(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc.isascii():
        return parts.netloc
    name = (parts.hostname or "").encode("idna").decode()
    return name if parts.port is None else f"{name}:{parts.port}"


def _said(fault: Exception) -> str:
    if isinstance(fault, http.client.RemoteDisconnected | ConnectionResetError):
        return "the connection was closed without an answer"
    if isinstance(fault, http.client.HTTPException):
        return f"what came is no HTTP ({type(fault).__name__})"
    return str(fault) or type(fault).__name__


def reason(fault: OSError) -> str:
    """Say in a few words why a connection did not come about."""
    if isinstance(fault, TimeoutError):
        return "timed out"
    if isinstance(fault, ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(fault, ConnectionResetError):
        return "the connection was closed"
    if isinstance(fault, ssl.SSLError):
        return fault.reason or str(fault)
    return fault.strerror or str(fault)


def page(subject: Subject, path: str = "/") -> Answer:
    """Return the answer to a plain question, asked once for all who look at it."""
    accepted = "text/html,application/xhtml+xml" if path == "/" else "application/json"
    return subject.once(("page", path), lambda: ask(subject, path, headers=(("Accept", accepted),)))
