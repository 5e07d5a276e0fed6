"""Does the browser's WebSocket come through, step by step, and who stops it where it does not?

Three troubles look the same on a page ("chat does nothing"): the Upgrade header that a hop drops, an origin that Open
WebUI refuses, not a server behind the proxy. Here each is a finding of its own.
"""

import http.client
import json
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from socket import socket
from typing import Any
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection, events
from wsproto.utilities import ProtocolError

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import hops, http_client
from open_webui_edge.diagnostics.outside.application import features
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

PATH = "/ws/socket.io/?EIO=4&transport=websocket"
POLLING = "/ws/socket.io/?EIO=4&transport=polling"
_OK, _BAD, _UNAUTHORIZED, _FORBIDDEN, _UPGRADE = 200, 400, 401, 403, 426
_REDIRECTS = range(300, 400)
_DEAD, _SILENT = {500, 502, 503, 521, 523}, {504, 522, 524}
_SECONDS = 8.0
_NOT_ACCEPTED = "is not an accepted origin"
_NO_UPGRADE = ("invalid websocket upgrade", "without the header upgrade", 'can "upgrade" only to', "upgrade required")
_WHY = "Chats in the browser come over this socket: without it nothing happens after Send, or an answer shows as {}."


class Refusal(Exception):  # noqa: N818  # it is an answer, though not the expected one
    """The socket was not opened; `answer` is what came instead."""

    def __init__(self, answer: http_client.Answer) -> None:
        """Keep the answer."""
        super().__init__(answer.status)
        self.answer = answer


@dataclass
class OpenSocket:
    """A WebSocket after its handshake."""

    connected: socket
    protocol: WSConnection
    _events: Generator[events.Event]

    def send(self, text: str) -> None:
        """Send one message."""
        self.connected.sendall(self.protocol.send(events.TextMessage(text)))

    def message(self) -> str:
        """Return the next message; raises TimeoutError where none comes, ConnectionError where it is closed."""
        text = ""
        for event in self._events:
            if isinstance(event, events.TextMessage):
                text += event.data
                if event.message_finished:
                    return text
        raise ConnectionError("the socket was closed")

    def round_trip(self) -> float:
        """Send a ping, and return the seconds until its answer; messages meanwhile are passed over."""
        began = time.monotonic()
        self.connected.sendall(self.protocol.send(events.Ping(b"doctor")))
        for event in self._events:
            if isinstance(event, events.Pong):
                return time.monotonic() - began
        raise ConnectionError("the socket was closed")


@contextmanager
def opened(
    subject: Subject, *, origin: str | None = None, url: str | None = None, path: str = PATH
) -> Iterator[OpenSocket]:
    """Open the browser's socket.

    Raises:
        Refusal: there was another answer than 101.
        OSError: there was none, or what came is none of this protocol.

    """
    with http_client.connection(subject, url=url, seconds=_SECONDS) as connected:
        protocol = WSConnection(ConnectionType.CLIENT)
        headers = [(b"User-Agent", http_client.AGENT.encode())] + ([(b"Origin", origin.encode())] if origin else [])
        host = subject.authority if url is None else urlsplit(url).netloc
        connected.sendall(protocol.send(events.Request(host=host, target=path, extra_headers=headers)))
        incoming = _events(connected, protocol)
        try:
            first = next(incoming)
            if isinstance(first, events.RejectConnection):
                raise Refusal(_rejected(first, incoming))
            if not isinstance(first, events.AcceptConnection):
                raise http_client.NoAnswerError("what came is no answer to a handshake")
            yield OpenSocket(connected, protocol, incoming)
            connected.sendall(protocol.send(events.CloseConnection(1000)))
        except StopIteration:
            raise http_client.NoAnswerError("the connection was closed without an answer") from None
        except TimeoutError as fault:
            raise http_client.NoAnswerError(f"nothing came within {_SECONDS:g} s") from fault
        except ProtocolError as fault:
            raise http_client.NoAnswerError(f"what came is no WebSocket handshake ({fault})") from fault


def _events(connected: socket, protocol: WSConnection) -> Generator[events.Event]:
    while True:
        received = connected.recv(1 << 16)
        if not received:
            return
        protocol.receive_data(received)
        for event in protocol.events():
            if isinstance(event, events.Ping):
                connected.sendall(protocol.send(event.response()))
            yield event
            if isinstance(event, events.CloseConnection):
                return


def _rejected(first: events.RejectConnection, incoming: Generator[events.Event]) -> http_client.Answer:
    body = b""
    if first.has_body:
        try:
            for event in incoming:
                if isinstance(event, events.RejectData):
                    body += bytes(event.data)
                    if event.body_finished:
                        break
        except (OSError, ProtocolError, http.client.HTTPException):
            pass  # the head says enough
    headers = tuple((bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in first.headers)
    return http_client.Answer(first.status_code, headers, body)


def polling(subject: Subject, origin: str | None = None, url: str | None = None) -> http_client.Answer:
    """Ask what a browser asks that has no WebSocket."""
    headers = [("Origin", origin)] if origin else []
    return http_client.ask(subject, POLLING, headers=headers, url=url)


def _socket(subject: Subject) -> Iterator[Finding]:
    if features(subject).get("enable_websocket") is False:
        yield from _polls(subject)
        return
    try:
        with opened(subject, origin=subject.origin) as channel:
            yield Hop.PROXY.ok("websocket.upgrade", "The handshake is answered with 101.")
            yield Hop.APPLICATION.ok("websocket.origin", f"Its own page's origin, {subject.origin}, is accepted.")
            yield from _speaks(channel)
    except Refusal as refusal:
        finding = _refused(subject, refusal.answer)
        yield replace(finding, explains=finding.explains or ("websocket.*",))
    except http_client.NoAnswerError as fault:
        yield replace(_unanswered(subject, fault), explains=("websocket.*",))


def _speaks(channel: OpenSocket) -> Iterator[Finding]:
    try:
        first = channel.message()
    except (OSError, ProtocolError) as fault:
        yield Hop.PROXY.failure(
            "websocket.silent",
            f"The handshake is answered with 101, and then nothing comes ({_short(fault)}).",
            _WHY,
            "A hop answers the handshake and does not pass what follows: one that buffers or inspects (a web "
            "application firewall, an antivirus). Leave /ws/ out of it; " + hops.NGINX_WEBSOCKET + ".",
            setting="proxy.websocket",
        )
        return
    opening = _opening(first)
    if opening is None:
        yield Hop.PROXY.failure(
            "websocket.other",
            f"A WebSocket opens, and it is not Open WebUI's: it begins with {first[:40]!r}.",
            _WHY,
            "Have the proxy pass /ws/ to Open WebUI: in Nginx a `location /ws/` with another proxy_pass overrides it.",
            setting="proxy.locations",
        )
        return
    yield Hop.APPLICATION.ok(
        "websocket.open", f"Engine.IO opens the session; it pings every {opening['pingInterval'] / 1000:g} s."
    )
    try:
        channel.send("40")
        connected = channel.message()
        seconds = channel.round_trip()
    except (OSError, ProtocolError) as fault:
        yield Hop.PROXY.failure(
            "websocket.connect",
            f"The socket opens, and what is said on it is not answered ({_short(fault)}).",
            _WHY,
            "A hop passes what the server sends, and not what the browser does; " + hops.NGINX_WEBSOCKET + ".",
            setting="proxy.websocket",
        )
        return
    if connected.startswith("40"):
        yield Hop.APPLICATION.ok("websocket.connect", "Socket.IO connects.")
    else:
        yield Hop.APPLICATION.note("websocket.connect", f"Socket.IO wants an account first ({connected[:60]}).")
    yield Hop.APPLICATION.ok("websocket.round-trip", f"A ping is answered after {seconds * 1000:.0f} ms.")


def _opening(message: str) -> dict[str, Any] | None:
    """Read the first message of Engine.IO; None where it is another one."""
    try:
        value = json.loads(message[1:]) if message.startswith("0") else None
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("sid"), str):
        return None
    return value if isinstance(value.get("pingInterval"), int) else None


def _short(fault: Exception) -> str:
    return "no answer in time" if isinstance(fault, TimeoutError) else str(fault) or type(fault).__name__


def _unanswered(subject: Subject, fault: http_client.NoAnswerError) -> Finding:
    direct = _direct(subject)
    direct_result = f" Asked directly, {direct}." if direct else ""
    return Hop.PROXY.failure(
        "websocket.timeout" if "within" in str(fault) else "websocket.broken",
        f"The WebSocket's handshake gets no answer: {fault}.{direct_result} Plain questions are answered.",
        _WHY,
        "Something takes the handshake and does not pass it on: " + hops.websocket_advice(subject) + ".",
        setting="proxy.websocket",
    )


def _refused(subject: Subject, answer: http_client.Answer) -> Finding:
    body = answer.text.lower()
    status = answer.status
    if status in _DEAD | _SILENT:
        return _dead(subject, answer)
    if status in _REDIRECTS:
        return _redirected(answer)
    if _may_be_origin(subject, answer):
        return _wrong_origin(subject, answer)
    if status in {_UNAUTHORIZED, _FORBIDDEN}:
        return _forbidden(subject, answer)
    if any(words in body for words in _NO_UPGRADE) or status in {_BAD, _UPGRADE}:
        return _eaten(subject, answer)
    return _not_routed(subject, answer)


def _dead(subject: Subject, answer: http_client.Answer) -> Finding:
    return Hop.PROXY.failure(
        "websocket.dead",
        f"The WebSocket's handshake gives {answer.status} from {hops.nearest(answer)}, though Open WebUI answers plain "
        "questions.",
        _WHY,
        "The proxy passes /ws/ to another address than the rest, which does not respond: in Nginx the proxy_pass of "
        "`location /ws/` must lead to the same server and port as `location /`"
        + (", and proxy.locations must not name /ws/." if subject.of_a_stack else "."),
        setting="proxy.locations",
    )


def _redirected(answer: http_client.Answer) -> Finding:
    return Hop.PROXY.failure(
        "websocket.redirected",
        f"The WebSocket's handshake is redirected ({answer.status}) to {answer.header('Location')}.",
        _WHY + " Browsers do not follow redirects there.",
        "Let the site answer under the name that people type: site.domain; in Nginx no `return 301` in the server or "
        "location that has /ws/. A sign-in in front must let /ws/ pass for who is signed in.",
        setting="site.domain",
    )


def _may_be_origin(subject: Subject, answer: http_client.Answer) -> bool:
    """Tell whether the origin is the reason: the application says so, or the same handshake without one passes."""
    text = answer.text.lower()
    if _NOT_ACCEPTED in text or "origin may not connect" in text:
        return True
    return answer.status in {_BAD, _FORBIDDEN} and _opens(subject, origin=None)


def _opens(subject: Subject, *, origin: str | None, url: str | None = None) -> bool:
    try:
        with opened(subject, origin=origin, url=url):
            return True
    except (Refusal, OSError):
        return False


def _wrong_origin(subject: Subject, answer: http_client.Answer) -> Finding:
    name, port, origin = subject.name, subject.port, subject.origin
    candidates = (
        *(f"http://{subject.authority}", f"http://{name}", f"https://{name}", f"{subject.scheme}://{name}:{port}"),
        *(f"{subject.scheme}://www.{name}", "http://localhost:3000", "http://localhost:8080"),
    )
    others = [each for each in dict.fromkeys(candidates) if each != origin]
    accepted = [each for each in others if _opens(subject, origin=each)]
    instead = f" It accepts {accepted[0]} instead." if accepted else ""
    by_nginx = "proxy.cors.allowed_origins" in answer.text
    hop, who = (Hop.PROXY, "The proxy") if by_nginx else (Hop.APPLICATION, "Open WebUI")
    if subject.of_a_stack:
        setting, value = "site.domain", name
        fix = (
            f"Its origins follow from site.domain, site.aliases and site.listen: let them make {origin}, or call the "
            "site by the name that they make; a page of another site goes into proxy.cors.allowed_origins. "
            "CORS_ALLOW_ORIGIN is written from these."
        )
    else:
        setting, value = "CORS_ALLOW_ORIGIN", origin
        fix = (
            "Open WebUI compares letter by letter: scheme, name and port as the browser shows them, no slash behind. "
            f"Set CORS_ALLOW_ORIGIN={origin} (several with ; between), and WEBUI_URL={origin}, and restart Open WebUI. "
            "The proxy must pass Origin and Host unchanged: in Nginx `proxy_set_header Host $host;`, no "
            "`proxy_set_header Origin`."
        )
    return hop.failure(
        "websocket.origin",
        f"{who} refuses the socket of its own page: the origin {origin} gives {answer.status}, and without an origin "
        f"it opens.{instead}",
        _WHY + " It is not the Upgrade header, and not a time-out.",
        fix,
        setting=setting,
        value=value,
        explains=("websocket.*", "cors.allowed"),
    )


def _forbidden(subject: Subject, answer: http_client.Answer) -> Finding:
    return Hop.PROXY.failure(
        "websocket.forbidden",
        f"The WebSocket's handshake gives {answer.status} from {hops.nearest(answer)}, whatever its origin"
        + (f' ("{answer.excerpt}").' if answer.excerpt else "."),
        _WHY,
        "A rule in front refuses it: a web application firewall, a sign-in proxy or an access list. Let /ws/ pass "
        "there; " + hops.websocket_advice(subject, answer) + ".",
        setting="proxy.authentication",
    )


def _eaten(subject: Subject, answer: http_client.Answer) -> Finding:
    by_own_nginx = "without the header upgrade" in answer.text.lower()
    direct = _direct(subject)
    names = [product.name for product in hops.on_the_way(subject)]
    seen = f"A hop removes the header Upgrade: the handshake gives {answer.status}"
    seen += f' ("{_detail(answer)}").' if answer.excerpt else "."
    if by_own_nginx:
        seen += " Nginx says so, so a hop in front of it dropped the header."
    elif names:
        seen += f" Hops: {', then '.join(names)}."
    if direct:
        seen += f" Asked directly, {direct}."
    others = tuple(product for product in hops.seen_in(answer) if product.hop is Hop.OUTER_PROXY)
    advice = hops.websocket_advice(subject, answer)
    if by_own_nginx:
        outer = "; ".join(product.websocket for product in others) or hops.NGINX_WEBSOCKET
        advice = f"in the proxy or load balancer in front of this stack, {outer}"
    hop = Hop.OUTER_PROXY if by_own_nginx or others else Hop.PROXY
    return hop.failure(
        "websocket.upgrade",
        seen,
        _WHY + " It is not the origin, and Open WebUI is not dead.",
        f"Let the Upgrade pass: {advice}. Where that is not possible, proxy.websocket.enabled: false "
        "(ENABLE_WEBSOCKET_SUPPORT=false) has browsers ask again and again.",
        setting="proxy.websocket.enabled" if by_own_nginx else None,
        value="false" if by_own_nginx else None,
    )


def _detail(answer: http_client.Answer) -> str:
    detail = answer.object().get("detail")
    return (detail if isinstance(detail, str) else answer.excerpt)[:120]


def _direct(subject: Subject) -> str:
    """Say what the same handshake comes to past all proxies; "" where the application is not reached so."""
    if subject.past_proxies is None:
        return ""
    try:
        with opened(subject.past_proxies, origin=subject.origin):
            return "Open WebUI answers 101"
    except Refusal as refusal:
        return f"Open WebUI answers {refusal.answer.status}, too"
    except OSError as fault:
        return f"Open WebUI does not answer it either ({fault})"


def _not_routed(subject: Subject, answer: http_client.Answer) -> Finding:
    kind = "a page" if answer.is_html else "something else"
    asked = polling(subject)
    compared = f"; the same by polling gives {asked.status}" + (" and a page." if asked.is_html else ".")
    return Hop.PROXY.failure(
        "websocket.path",
        f"/ws/socket.io/ does not lead to Open WebUI's socket: the handshake gives {answer.status} and "
        f"{kind}{compared}",
        _WHY,
        "Pass /ws/ to Open WebUI with its path unchanged: in Nginx `location /ws/ { proxy_pass http://open-webui:8080; "
        "}` (nothing behind the port), and " + hops.websocket_advice(subject, answer) + ".",
        setting="proxy.locations",
    )


def _polls(subject: Subject) -> Iterator[Finding]:
    """Poll as a browser without a WebSocket does: every step must reach the replica of the first one."""
    first = polling(subject, subject.origin)
    if _NOT_ACCEPTED in first.text:
        yield _wrong_origin(subject, first)
        return
    opening = _opening(first.text) if first.status == _OK else None
    if opening is None:
        yield Hop.PROXY.failure(
            "websocket.polling",
            f"WebSockets are switched off, and polling gives {first.status} ({first.excerpt}).",
            _WHY,
            "Pass /ws/ to Open WebUI, or switch WebSockets on: proxy.websocket.enabled: true "
            "(ENABLE_WEBSOCKET_SUPPORT=true).",
            setting="proxy.websocket.enabled",
            value="true",
        )
        return
    session = opening["sid"]
    cookies = [("Cookie", value.partition(";")[0]) for value in first.all("Set-Cookie")]
    said = [("Origin", subject.origin), ("Content-Type", "text/plain;charset=UTF-8"), *cookies]
    answer = http_client.ask(subject, f"{POLLING}&sid={session}", method="POST", headers=said, body=b"40")
    if answer.status != _OK:
        yield Hop.PROXY.failure(
            "websocket.sticky",
            f"Polling begins, and its second step gives {answer.status} ({answer.excerpt}).",
            _WHY + " With several replicas the second question reached another one.",
            "Lead a browser to the same replica each time: proxy.websocket.enabled: false does that here; in Nginx "
            "`ip_hash;` or `sticky cookie` in the upstream.",
            setting="proxy.websocket.enabled",
        )
        return
    yield Hop.APPLICATION.note("websocket.polling", "WebSockets are switched off; polling works.", "It costs more.")


def _comparison(subject: Subject) -> Iterator[Finding]:
    """Ask by polling what a socket is for: who answers, and with what, is the same hop's doing."""
    answer = polling(subject, subject.origin)
    if answer.is_html:
        yield Hop.PROXY.warning(
            "websocket.page",
            f"/ws/socket.io/ without Upgrade gives {answer.status} and a page, from {hops.nearest(answer)}.",
            "What answers there is not the socket of Open WebUI.",
            "Pass /ws/ to Open WebUI with its path unchanged.",
            setting="proxy.locations",
        )
    else:
        yield Hop.PROXY.ok(
            "websocket.page", f"Without Upgrade /ws/ gives {answer.status} ({_detail(answer)}), as it should."
        )


QUESTIONS = (
    Question("websocket.handshake", Hop.PROXY, "WebSocket", ("app.answers",), _socket, seconds=60),
    Question("websocket.compared", Hop.PROXY, "WebSocket without Upgrade", ("websocket.handshake",), _comparison),
)
