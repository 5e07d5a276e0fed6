"""Is anybody there, and where does plain HTTP lead?"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import http_client
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

_HTTP, _HTTPS = 80, 443
_MOST_REDIRECTS = 10
_REDIRECTS = {301, 302, 303, 307, 308}
_LOOP_FIX = (
    "A proxy in front speaks plain HTTP to this one, which sends it back to https://. At Cloudflare choose SSL/TLS "
    'mode "Full (strict)"; elsewhere have the inner proxy believe X-Forwarded-Proto instead of $scheme, or remove its '
    "redirect (`return 301 https://…`) from the server that listens with TLS."
)


def _port(subject: Subject) -> Iterator[Finding]:
    where = subject.address or subject.name
    try:
        http_client.connect(subject, subject.port).close()
    except OSError as fault:
        yield _closed(subject, where, http_client.reason(fault))
    else:
        yield Hop.HOST.ok("port.open", f"{where} takes connections on port {subject.port}.")


def _closed(subject: Subject, where: str, words: str) -> Finding:
    plain = _plain_url(subject)
    status = http_client.plain_status(subject, plain) if plain else 0
    if status and status not in _REDIRECTS:
        return Hop.PROXY.failure(
            "tls.none",
            f"{where} accepts no connections on port {subject.port} ({words}), and {plain} serves the site over plain"
            " HTTP.",
            "Passwords and chats are unencrypted; browsers give such a page no microphone and no clipboard.",
            "Set certificate.mode, and publish site.listen.https_port. With a proxy of your own: a server with `listen "
            "443 ssl;`, ssl_certificate and ssl_certificate_key in Nginx, or the bare name as the site in Caddy.",
            setting="certificate.mode",
            explains=("port.http", "redirect.*"),
        )
    refused = "refused" in words
    is_proxied = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"))
    detour = " (HTTPS_PROXY is set here: the doctor goes straight, past that proxy.)" if is_proxied else ""
    return Hop.HOST.failure(
        "port.open",
        f"{where} accepts no connections on port {subject.port}: {words}.{detour}",
        "The site cannot be reached.",
        (
            "Nothing listens there: start the proxy (`make up`, `make status`), and see that site.listen.https_port "
            "is the port in the URL."
            if refused
            else "Something drops what is sent there: open the port in the host's firewall, the router or the security "
            "group (site.allowed_from on AWS), and see that the name leads to this host."
        ),
        setting="site.listen",
        explains=("port.http",),
    )


def _plain_url(subject: Subject) -> str | None:
    """Return where plain HTTP should be answered; None where that is not known."""
    port = subject.http_port
    if port is None and subject.port == _HTTPS:
        port = _HTTP
    if port is None or subject.scheme == "http":
        return None
    name = f"[{subject.name}]" if ":" in subject.name else subject.name
    return f"http://{name}" if port == _HTTP else f"http://{name}:{port}"


@dataclass(frozen=True)
class _Way:
    """Where a request ends up."""

    stations: tuple[str, ...]
    """The addresses that were asked, the first one first; the last one may be elsewhere and was not asked."""
    answer: http_client.Answer
    loops: bool = False

    @property
    def end(self) -> str:
        """Where it ends."""
        return self.stations[-1]

    @property
    def shown(self) -> str:
        """The stations, for a person."""
        some = self.stations[:3] if self.loops else self.stations
        return " -> ".join((*some, "…") if self.loops else some)


def _follow(subject: Subject, url: str) -> _Way:
    """Follow redirects as a browser does, as long as they stay with this host."""
    stations = [f"{url}/"]
    while True:
        parts = urlsplit(stations[-1])
        query = f"?{parts.query}" if parts.query else ""
        answer = http_client.ask(subject, f"{parts.path or '/'}{query}", url=f"{parts.scheme}://{parts.netloc}")
        if answer.status not in _REDIRECTS or not answer.header("Location"):
            return _Way(tuple(stations), answer)
        target = urljoin(stations[-1], answer.all("Location")[0])
        loops = target in stations or len(stations) > _MOST_REDIRECTS
        stations.append(target)
        if loops or urlsplit(target).hostname != subject.name or urlsplit(target).scheme not in {"https", "http"}:
            return _Way(tuple(stations), answer, loops)


def _home(subject: Subject) -> Iterator[Finding]:
    way = _follow(subject, subject.url)
    target = urlsplit(way.end)
    if way.loops:
        yield _in_a_circle(f"The site redirects in a circle: {way.shown}.", explains=("redirect.*",))
    elif target.hostname != subject.name:
        yield _led_away(subject, way)
    elif subject.scheme == "http" and target.scheme == "https":
        yield Hop.PROXY.note("redirect.home", f"It leads to https: ask {target.scheme}://{target.netloc} instead.")
    elif target.scheme == "http" and subject.scheme == "https":
        yield Hop.PROXY.failure(
            "redirect.clear",
            f"HTTPS leads to plain HTTP: {way.shown}.",
            "Passwords and chats are unencrypted.",
            "Turn it round: redirect http:// to https://, and set WEBUI_URL to https://. In Nginx, in the server that "
            "listens on 80: `return 308 https://$host$request_uri;`.",
            setting="site.domain",
        )
    else:
        yield Hop.PROXY.ok("redirect.home", f"{subject.url} answers itself.")


def _in_a_circle(seen: str, explains: tuple[str, ...] = ()) -> Finding:
    return Hop.PROXY.failure(
        "redirect.loop",
        seen,
        "Browsers give up with ERR_TOO_MANY_REDIRECTS.",
        _LOOP_FIX,
        setting="proxy.trusted_proxies",
        explains=explains,
    )


def _led_away(subject: Subject, way: _Way) -> Finding:
    target = urlsplit(way.end)
    if _is_a_door(subject, target):
        return Hop.PROXY.note("redirect.home", f"Strangers are sent to {target.netloc}, to sign in there first.")
    if _leads_to_itself(subject, way):
        return Hop.PROXY.note(
            "redirect.home",
            f"The site calls itself {target.scheme}://{target.netloc}, and sends everybody there.",
            "Ask that address for the rest.",
        )
    return Hop.PROXY.failure(
        "redirect.host",
        f"The site sends everybody to another host: {way.shown}.",
        "The site cannot be reached by its name; a sign-in or a WebSocket that begins here ends there.",
        f"Redirect to {subject.name} itself: site.domain is the one name, and all site.aliases lead to it. In Nginx "
        "write "
        "`return 308 https://$host$request_uri;`, with $host or the right name, and see that the server_name matches.",
        setting="site.domain",
        value=subject.name,
        explains=("redirect.*",),
    )


def _is_a_door(subject: Subject, target: SplitResult) -> bool:
    """Tell whether that is a sign-in in front of the site, with the site's URL to return to."""
    return subject.expectations.authentication == "external" or subject.name in unquote(target.query)


def _leads_to_itself(subject: Subject, way: _Way) -> bool:
    """Tell whether the other name is another one of this site: www or not, or an alias."""
    there = urlsplit(way.end).hostname or ""
    return there in subject.expectations.names or there.removeprefix("www.") == subject.name.removeprefix("www.")


def _redirect(subject: Subject) -> Iterator[Finding]:
    url = _plain_url(subject)
    if url is None:
        yield Hop.PROXY.ok("redirect.http", "It is not known where this site would answer plain HTTP.")
        return
    try:
        way = _follow(subject, url)
    except http_client.NoAnswerError as fault:
        yield Hop.PROXY.unknown("redirect.http", f"{url} takes a connection and does not answer: {fault}.")
        return
    except OSError as fault:
        yield _nothing_in_clear(subject, url, http_client.reason(fault))
        return
    target = urlsplit(way.end)
    if way.loops:
        yield _in_a_circle(f"Plain HTTP redirects in a circle: {way.shown}.")
    elif target.scheme == "http" and target.hostname == subject.name:
        yield _stays_in_clear(subject, url, way)
    elif target.hostname != subject.name and _is_a_door(subject, target):
        yield Hop.PROXY.ok("redirect.http", f"{way.stations[0]} leads to a sign-in at {target.netloc}.")
    elif target.hostname != subject.name and way.end.rstrip("/") != subject.url and not _leads_to_itself(subject, way):
        yield Hop.PROXY.failure(
            "redirect.host",
            f"Plain HTTP leads to another host: {way.shown}.",
            "Users who type the name without https:// end up elsewhere.",
            f"Redirect to https://{subject.authority}: site.domain names it; in Nginx write `return 308 "
            "https://$host$request_uri;` in the server that listens on 80.",
            setting="site.domain",
            value=subject.name,
        )
    elif (target.port or _HTTPS) != subject.port:
        yield Hop.PROXY.failure(
            "redirect.port",
            f"Plain HTTP leads to another port: {way.shown}.",
            "Users who type the name without https:// get no response.",
            f"Redirect to https://{subject.authority} (site.listen.https_port).",
            setting="site.listen.https_port",
        )
    else:
        yield Hop.PROXY.ok("redirect.http", f"{way.shown}.")


def _nothing_in_clear(subject: Subject, url: str, words: str) -> Finding:
    if subject.expectations.redirects_http:
        return Hop.HOST.warning(
            "port.http",
            f"{url} accepts no connections: {words}.",
            "Users who type the name without https:// get no response, and Let's Encrypt cannot check the name"
            " (http-01).",
            f"Open port {urlsplit(url).port or _HTTP} in the firewall, and see that the proxy publishes it "
            "(site.listen.http_port).",
            setting="site.listen.http_port",
        )
    return Hop.HOST.note(
        "port.http",
        f"{url} accepts no connections ({words}).",
        "Browsers try https:// first today; Let's Encrypt's http-01 needs that port.",
    )


def _stays_in_clear(subject: Subject, url: str, way: _Way) -> Finding:
    if way.answer.status >= 400 and not subject.of_a_stack:  # noqa: PLR2004  # from there on it serves nothing
        return Hop.PROXY.note("redirect.http", f"{url} answers {way.answer.status}, and leads nowhere.")
    return Hop.PROXY.warning(
        "redirect.http",
        f"{url} answers {way.answer.status} over plain HTTP instead of redirecting to https.",
        "Users who type the name without https:// send their password unencrypted.",
        "Have every request by plain HTTP answered with a redirect. In Nginx, in the server that listens on 80: "
        "`return 308 https://$host$request_uri;`. Caddy does so by itself.",
        setting="site.listen.http_port",
    )


QUESTIONS = (
    Question("port.open", Hop.HOST, "port", ("name.resolves",), _port),
    Question("redirect.home", Hop.PROXY, "where the site leads", ("tls.handshake",), _home),
    Question("redirect.http", Hop.PROXY, "plain HTTP", ("name.resolves",), _redirect),
)
