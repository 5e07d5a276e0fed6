"""Reads an Nginx site file, such as those of tutorials and SWAG, by crossplane."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import crossplane

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.importing.old_deployment import Site, host_of, split_url

_OWN_PATHS = ("/ws", "/api", "/socket.io", "/ollama", "/openai", "/static", "/assets", "/_app", "/oauth", "/cache",
              "/health", "/ready", "/.well-known/acme-challenge")  # fmt: skip
_LOCALLY = {"localhost", "127.0.0.1", "[::1]", "::1"}
_AUTH_SNIPPETS = ("authelia", "authentik", "tinyauth", "ldap", "oauth2")


@dataclass(frozen=True)
class _Server:
    directives: list[dict[str, Any]]

    def all(self, name: str) -> list[list[str]]:
        """Return the arguments of each directive of a name."""
        return [one["args"] for one in self.directives if one["directive"] == name]

    @property
    def names(self) -> list[str]:
        """All its names."""
        return [name for args in self.all("server_name") for name in args]

    @property
    def main(self) -> dict[str, Any] | None:
        """The location that leads to an application."""
        locations = [one for one in self.directives if one["directive"] == "location" and one["args"][-1] == "/"]
        return next((one for one in locations if _proxied(one["block"])), None)


def read(text: str, shown: str) -> list[Site]:
    """Read the sites that lead to an application; raise ProblemError if there is none, or it is no configuration."""
    parsed = _parsed(text, shown)
    top = list(_all(parsed, "http"))
    servers = [_Server(one["block"]) for one in top if one["directive"] == "server" and "block" in one]
    upstreams = {one["args"][0]: one["block"] for one in top if one["directive"] == "upstream"}
    leading = [server for server in servers if server.main is not None]
    if not servers:
        raise ProblemError(
            f"{shown} has no `server` block, so it is no site; name the file below sites-enabled, conf.d or"
            " proxy-confs."
        )
    if not leading:
        raise ProblemError(f"{shown}: none of its servers proxies `location /` (proxy_pass) to Open WebUI.")
    by_name: dict[tuple[str, ...], Site] = {}
    for server in leading:
        site = by_name.setdefault(tuple(server.names), Site(shown, names=list(dict.fromkeys(server.names))))
        _take(site, server, upstreams)
    for server in servers:
        if server.main is None:
            _take_redirect(list(by_name.values()), server)
    return list(by_name.values())


def _parsed(text: str, shown: str) -> list[dict[str, Any]]:
    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        # What it includes is elsewhere, or is a snippet of which only the name says what it is.
        answer = crossplane.parse(file.name, single=True, check_ctx=False, check_args=False)
    for error in answer["errors"]:
        words = re.sub(r" in \S+\.conf:\d+$", "", str(error["error"]))
        raise ProblemError(f"{shown}: line {error['line']}: {words}; fix the file (`nginx -t` names the same place).")
    parsed: list[dict[str, Any]] = answer["config"][0]["parsed"]
    for one in _all(parsed):
        lacks = (
            f"`{one['directive']}` has no value"
            if one["directive"] in _WITH_WORDS and not one["args"]
            else f"`{one['directive']}` has no block {{ … }}"
            if one["directive"] in _WITH_BLOCK and "block" not in one
            else ""
        )
        if lacks:
            raise ProblemError(f"{shown}: line {one['line']}: {lacks}; fix the file (`nginx -t` names the same place).")
    return parsed


_WITH_WORDS = {
    "add_header", "client_body_timeout", "client_max_body_size", "include", "keepalive_timeout", "listen", "location",
    "proxy_pass", "proxy_read_timeout", "proxy_send_timeout", "proxy_set_header", "return", "rewrite", "server_name",
    "ssl_certificate", "ssl_certificate_key", "upstream",
}  # fmt: skip
_WITH_BLOCK = {"http", "location", "upstream"}


def _all(directives: Sequence[dict[str, Any]], *below: str) -> Iterator[dict[str, Any]]:
    """Go through directives and those in their blocks; if names are given, only in theirs."""
    for one in directives:
        yield one
        if not below or one["directive"] in below:
            yield from _all(one.get("block") or (), *below)


def _proxied(block: Sequence[dict[str, Any]]) -> str | None:
    return next((one["args"][0] for one in block if one["directive"] == "proxy_pass"), None)


def _take(site: Site, server: _Server, upstreams: Mapping[str, Any]) -> None:
    for args in server.all("listen"):
        _listen(site, args)
    for name, attribute in (("ssl_certificate", "certificate"), ("ssl_certificate_key", "private_key")):
        for args in server.all(name):
            setattr(site, attribute, args[0])
    main = server.main
    inside = [] if main is None else main["block"]
    for one in [*server.directives, *inside]:
        name, args = one["directive"], tuple(one["args"])
        if name == "include":
            _include(site, args[0])
        elif name == "location":
            if one is not main:
                _location(site, one, upstreams, leads_to=_proxied(inside) or "")
        elif name == "if":
            site.dropped.append((f"if {' '.join(args)}", "no setting does this"))
        elif name not in {"listen", "server_name", "ssl_certificate", "ssl_certificate_key"}:
            site.directives.append((name, args))


def _listen(site: Site, args: Sequence[str]) -> None:
    address, _, port = args[0].rpartition(":") if not args[0].endswith("]") else (args[0], "", "80")
    site.local = address.startswith(("127.", "localhost", "[::1]")) and (
        site.local or not (site.http_port or site.https_port)
    )
    if not port.isdigit():
        port = "80"
    if "quic" in args:
        site.http3 = True
        site.https_port = int(port)
    elif "ssl" in args or port == "443":
        site.https_port = int(port)
    else:
        site.http_port = int(port)


def _include(site: Site, path: str) -> None:
    snippet = next((one for one in _AUTH_SNIPPETS if one in path), None)
    if snippet is not None:
        why = "an authenticator in front is proxy.authentication.external here; set it to keep that check"
        site.dropped.append((f"include {path}", why))
    elif "letsencrypt" in path or path.endswith("/ssl.conf"):
        if path.startswith("/config/nginx"):
            # SWAG's own: its certificate is Let's Encrypt's.
            site.certificate = site.certificate or "/config/keys/letsencrypt/fullchain.pem"
    elif not re.search(r"/(proxy|resolver|ssl|options-ssl-nginx)[\w.-]*\.conf$|snippets/ssl", path):
        site.dropped.append((f"include {path}", "its contents were not read; name it in FROM if they matter"))


def _location(site: Site, location: Mapping[str, Any], upstreams: Mapping[str, Any], *, leads_to: str) -> None:
    args, block = location["args"], location["block"]
    target = _proxied(block)
    same = target is None or "$" in target or _netloc(target) == _netloc(leads_to)
    why = ""
    if same and (args[0] in {"~", "~*", "^~"} or args[-1].rstrip("/").startswith(_OWN_PATHS)):
        site.directives.append(("location", tuple(args)))
    elif any(one["directive"] == "internal" for one in block):
        why = "an internal location; proxy.authentication.external asks another service about each request"
    elif args[0] in {"~", "~*"}:
        why = "a pattern; proxy.locations has literal paths"
    elif target is not None:
        url, why = _reached(target, upstreams)
        websocket = any(one["directive"] == "proxy_set_header" and one["args"][0].lower() == "upgrade" for one in block)
        if url is not None:
            site.locations.append((args[-1], {"url": url, **({"websocket": True} if websocket else {})}))
    elif _is_closed(block):
        site.locations.append((args[-1], {}))
    else:
        why = "no setting serves files or fixed responses; proxy.locations proxies paths"
    if why:
        site.dropped.append((f"location {' '.join(args)}", why))


def _is_closed(block: Sequence[Mapping[str, Any]]) -> bool:
    refused = any(one["directive"] == "return" and one["args"][0] in {"403", "404", "444"} for one in block)
    denied = any(one["directive"] == "deny" and one["args"] == ["all"] for one in block)
    return (refused or denied) and not any(one["directive"] == "allow" for one in block)


def _reached(target: str, upstreams: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return where a location leads as a container reaches it, or why none does."""
    if "$" in target or not target.startswith(("http://", "https://")):
        return None, f"its target ({target}) is known only at run time"
    netloc = _netloc(target)
    if netloc in upstreams:
        servers = [one["args"] for one in upstreams[netloc] if one["directive"] == "server"]
        netloc = next((args[0] for args in servers if args), "")
    if netloc.startswith("unix:"):
        socket = target if netloc == "unix:" else netloc
        return None, f"no container reaches a socket of this machine ({socket}); have it listen on a port"
    parts = split_url(re.sub("(?<=://)[^/?#]*", lambda _: netloc, target, count=1))
    if parts is None:
        return None, f"its target ({target}) is not a URL"
    host = "host.docker.internal" if parts.hostname in _LOCALLY else parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}").geturl(), ""


def _netloc(url: str) -> str:
    # Where urlsplit takes it for no address, Nginx may know an upstream of that name.
    return re.match(r"(?:\w+://)?([^/?#]*)", url)[1]  # type: ignore[index] - it always matches


def _take_redirect(sites: list[Site], server: _Server) -> None:
    """Translate a server that only redirects: to HTTPS, or from another name."""
    blocks = [server.directives, *(one["block"] for one in server.directives if one["directive"] == "location")]
    of_redirects = [one["args"] for block in blocks for one in block if one["directive"] in {"return", "rewrite"}]
    target = next((word for args in of_redirects for word in args if "://" in word), None)
    for site in sites:
        host = host_of((target or "").replace("$host", site.names[0] if site.names else "")) or ""
        if target is None or not (host in site.names or set(server.names) & set(site.names) or "$" in target):
            continue
        for args in server.all("listen"):
            _listen(site, args)
        site.names += [name for name in server.names if name not in site.names and name != "_"]
        return
    named = " ".join(server.names) or "without a name"
    sites[0].dropped.append((f"server {named}", "redirects elsewhere; this deployment serves only its own names"))
