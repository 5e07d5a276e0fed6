"""The site: names, ports, certificate, and an Nginx site's directives for requests."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from open_webui_edge.cli.importing import variables
from open_webui_edge.cli.importing.old_deployment import EVERYWHERE, Role, Site, split_url
from open_webui_edge.cli.importing.translation import Translation, is_secret
from open_webui_edge.runtime.contract import PORT
from open_webui_edge.settings.site import SiteSettings
from open_webui_edge.settings.values import is_ip_address, is_loopback, parse_duration, write_bytes, write_duration

_LOCAL = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104 - compared, not bound
_HTTP, _HTTPS = 80, 443
_HTTP_DEFAULT = 8080
_UNIT = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_MIB = 1 << 20


def translate(t: Translation) -> None:
    """Translate names, ports and certificate, each with its origin."""
    _names(t, t.source.site)
    _ports(t, t.source.site)
    _certificate(t, t.source.site)


def _names(t: Translation, site: Site | None) -> None:
    candidates: list[tuple[str, str | None]] = []
    if url := t.given("WEBUI_URL"):
        candidates.append(("WEBUI_URL", _host_of(t, url)))
    candidates += [(f"server_name {name}", _name_of(t, name)) for name in (site.names if site else ())]
    for variable in ("VIRTUAL_HOST", "LETSENCRYPT_HOST"):
        candidates += [(variable, host.strip()) for host in t.source.value(variable).split(",")]
    candidates += [("a rule Host(…) of its labels", host) for host in t.source.hosts]
    good: list[tuple[str, str]] = []
    for what, host in candidates:
        if host and _is_host(host):
            good.append((what, host.lower()))
        elif host:
            t.dropped(what, f'"{host}" is not a valid name of a site; write site.domain')
    chosen = next((one for one in good if one[1] not in _LOCAL), good[0] if good else None)
    if chosen is not None:
        _say_names(t, chosen, good)


def _say_names(t: Translation, chosen: tuple[str, str], good: Sequence[tuple[str, str]]) -> None:
    said: dict[str, list[str]] = {}
    for what, host in good:
        said.setdefault(what, []).append(host)
    domain = "localhost" if chosen[1] in _LOCAL else chosen[1]
    aliases = list(dict.fromkeys(host for _, host in good if host not in {domain, *_LOCAL}))
    for what, hosts in said.items():
        if what == chosen[0]:
            t.setting(what, "site.domain", domain)
        elif set(hosts) <= {domain}:
            t.part(what, "site.domain", domain)
        elif aliases and not set(hosts) <= _LOCAL:
            t.part(what, "site.aliases", ", ".join(host for host in hosts if host != domain))
        else:
            t.derived(what, f"{chosen[0]} is {domain}, and {', '.join(hosts)} is local to this machine")
    if aliases:
        t.put("site.aliases", aliases)


def _host_of(t: Translation, url: str) -> str | None:
    parts = split_url(url if "://" in url else f"https://{url}")
    if parts is None:
        t.dropped("WEBUI_URL", f'"{url}" is not a URL; write site.domain')
        return None
    if parts.path.strip("/"):
        why = "Open WebUI cannot be served below a path; it is at the root of its own name now"
        t.dropped(f"WEBUI_URL: {parts.path}", why)
    return parts.hostname


def _name_of(t: Translation, name: str) -> str | None:
    if name.lower() in {"_", ""} or name.startswith("$"):
        return None
    if name.endswith(".*"):
        domain = next((one.variables.get("URL") for one in t.source.neighbours if one.variables.get("URL")), None)
        if domain:
            return name.removesuffix("*") + domain
        t.to_do.append(
            f"server_name {name} stands for a domain that the file does not say (SWAG's URL): write site.domain,"
            f" such as {name.removesuffix('*')}example.com."
        )
        t.dropped(f"server_name {name}", "the domain is unknown; write site.domain")
        return None
    if "*" in name or name.startswith(("~", ".")):
        t.dropped(f"server_name {name}", "a site has literal names (site.domain, site.aliases)")
        return None
    return name


def _is_host(host: str) -> bool:
    try:
        SiteSettings(domain=host, aliases=())
    except ValueError:
        return False
    return True


@dataclass
class _Listeners:
    """The listeners of the old deployment."""

    what: str = ""
    """Their origin."""
    http: int | None = None
    https: int | None = None
    public: bool = False
    """Whether other machines could reach them."""


def _ports(t: Translation, site: Site | None) -> None:
    listeners = _find_listeners(t, site)
    _ports_of_the_url(t, listeners, site)
    if listeners.https is None and listeners.http == _HTTP:
        listeners.https = _HTTPS
    if listeners.https is not None and listeners.http == listeners.https:
        listeners.http = {_HTTPS: _HTTP, _HTTP_DEFAULT: _HTTP_DEFAULT + 1}.get(listeners.https, _HTTP_DEFAULT)
    if listeners.https == _HTTPS and listeners.http is None:
        listeners.http = _HTTP
    if listeners.http is not None:
        t.setting(listeners.what, "site.listen.http_port", listeners.http, "redirects to HTTPS")
    if listeners.https is not None:
        t.setting(listeners.what if site else "(HTTPS)", "site.listen.https_port", listeners.https)
    _address(t, listeners, site)
    if t.given("PORT"):
        t.derived("PORT", "the application listens for the proxy only; site.listen has the public ports")


def _ports_of_the_url(t: Translation, listeners: _Listeners, site: Site | None) -> None:
    url = t.source.value("WEBUI_URL")
    parts = split_url(url)
    if "://" not in url or parts is None or parts.hostname in _LOCAL:
        return
    listeners.public = True
    listeners.what = listeners.what or "WEBUI_URL"
    if parts.scheme == "https":
        listeners.https = parts.port or _HTTPS
        if listeners.https == _HTTPS and (listeners.http is None or not site):
            listeners.http = _HTTP
    elif listeners.http is None:
        listeners.http = parts.port or _HTTP


def _find_listeners(t: Translation, site: Site | None) -> _Listeners:
    source = t.source
    proxies = [one for one in source.neighbours if one.role is Role.PROXY and one.published]
    outside = {one.container_port: one.port for proxy in proxies for one in proxy.published}
    labelled = bool(source.hosts or source.value("VIRTUAL_HOST"))
    if site is not None or proxies or labelled:
        for published in source.published:
            t.derived(f"port {published}", "nothing but the proxy is published")
    if site is not None:
        http, https = (outside.get(port, port) if port else None for port in (site.http_port, site.https_port))
        return _Listeners("listen", http, https, public=not site.local)
    if proxies:
        what = f"ports of {', '.join(one.name for one in proxies)}"
        return _Listeners(what, outside.get(_HTTP), outside.get(_HTTPS), public=True)
    if labelled:
        return _Listeners("the proxy in front", _HTTP, _HTTPS, public=True)
    return _application_listeners(t)


def _application_listeners(t: Translation) -> _Listeners:
    source = t.source
    container_port = int(source.value("PORT")) if source.value("PORT").isdigit() else PORT
    first = next((one for one in source.published if one.container_port == container_port), None)
    for one in source.published:
        if one is not first:
            t.dropped(f"port {one}", "nothing but the proxy is published")
    if first is not None:
        public = not first.address.startswith("127.") and first.address != "::1"
        http, https = (None, first.port) if first.port == _HTTPS else (first.port, None)
        return _Listeners(f"port {first}", http, https, public=public)
    if source.on_host_network:
        return _Listeners("--network host", container_port, public=True)
    return _Listeners()


def _address(t: Translation, listeners: _Listeners, site: Site | None) -> None:
    path = "site.listen.address"
    if not listeners.public:
        if listeners.what:
            t.derived(f"the address of {listeners.what}", "127.0.0.1: this machine only, as before")
        return
    # site.listen.address is an IPv4 address.
    given = sorted(one.address for one in t.source.published if is_ip_address(one.address) and ":" not in one.address)
    address = next((one for one in given if site is None and one != EVERYWHERE and not is_loopback(one)), EVERYWHERE)
    if t.source.value("WEBUI_AUTH").lower() == "false":
        t.to_do.append(
            "Without sign-in (WEBUI_AUTH=false) every client is the administrator, so it listens on 127.0.0.1 only."
        )
    elif t.source.value("WEBUI_ADMIN_EMAIL") or t.facts.administrator:
        t.setting(f"the address of {listeners.what}", path, address)
    else:
        t.to_do.append(
            "It listens on 127.0.0.1 only until an administrator is configured: write open_webui.admin.email (of an"
            f" existing account; its password stays) and {path}: {address}."
        )


def _certificate(t: Translation, site: Site | None) -> None:
    source = t.source
    of_proxies = [one.variables["EMAIL"] for one in source.neighbours if one.variables.get("EMAIL")]
    email = source.value("LETSENCRYPT_EMAIL") or next(iter(of_proxies), "")
    domain = t.get("site.domain")
    path = None if site is None else site.certificate
    if path is not None and domain and ("letsencrypt" in path or "/live/" in path or "acme" in path):
        _lets_encrypt(t, "ssl_certificate", email)
    elif path is not None and site is not None and site.private_key is not None:
        provided = {"certificate_file": path, "private_key_file": site.private_key}
        t.setting("ssl_certificate", "certificate", {"mode": "provided", "provided": provided})
        t.to_do.append(
            f"The certificate is read from {path} and {site.private_key} on this machine, by `make up`: where Nginx"
            " ran in a container, write the paths that the files have here."
        )
    elif source.value("LETSENCRYPT_HOST"):
        _lets_encrypt(t, "LETSENCRYPT_HOST", email)
    elif domain not in {None, "localhost"} and source.value("WEBUI_URL").startswith("https:"):
        t.to_do.append(
            "Browsers do not trust its self-signed certificate: certificate.mode: lets-encrypt issues one that they"
            " trust (and accepts Let's Encrypt's terms), provided uses your own."
        )
    if "LETSENCRYPT_EMAIL" in source.variables:
        if t.get("certificate.lets_encrypt.email"):
            t.part("LETSENCRYPT_EMAIL", "certificate.lets_encrypt.email", email)
        else:
            t.dropped("LETSENCRYPT_EMAIL", "no issuer is configured")


def _lets_encrypt(t: Translation, what: str, email: str) -> None:
    why = "the first `make up` requests a new one; its names must resolve to this host, with port 80 open"
    of_account = {"lets_encrypt": {"email": email}} if email else {}
    t.setting(what, "certificate", {"mode": "lets-encrypt", **of_account}, why)


def requests(t: Translation) -> None:
    """Translate the site's directives for requests and responses."""
    site = t.source.site
    if site is None:
        return
    if site.http3:
        t.setting("listen … quic", "proxy.http3", value=True)
    reported: set[str] = set()
    for name, args in site.directives:
        _directive(t, name, args, reported)
    for path, entry in site.locations:
        reached = {"url": t.reachable_url(entry["url"])[0]} if entry else {}
        t.setting(f"location {path}", f"proxy.locations.{path}", {**entry, **reached})
    for dropped in site.dropped:
        t.dropped(*dropped)


def _directive(t: Translation, name: str, args: Sequence[str], reported: set[str]) -> None:
    # Of a directive such as secure_link_secret, only the name is reported.
    line = name if is_secret(name.upper(), " ".join(args)) else " ".join((name, *args))
    if name == "add_header":
        _header(t, args[0], args[1] if len(args) > 1 else "")
    elif name in _DIRECTIVES:
        _DIRECTIVES[name](t, line, args)
    elif name == "location":
        t.derived(line, "a path of Open WebUI, which the proxy handles")
    elif name not in reported:
        reported.add(name)
        if name in _AUTH_DIRECTIVES:
            t.dropped(name, _AUTH_DIRECTIVES[name])
        elif re.match(_OWN, name):
            t.derived(name, "the proxy's own")
        else:
            t.dropped(line, "no setting does this")


_OWN = (
    r"(proxy_(pass|http_version|set_header|buffering|buffers?|buffer_size|busy_buffers_size|request_buffering|cache.*|"
    r"redirect|cookie_path|hide_header|pass_header|pass_request_headers|ignore_headers|no_cache|next_upstream.*|ssl_.*|socket_keepalive|"
    r"connect_timeout|max_temp_file_size)|set|chunked_transfer_encoding|gzip.*|brotli.*|tcp_no(delay|push)|sendfile|http2|http3|"
    r"ssl_(ciphers|prefer_server_ciphers|dhparam|session_.*|ecdh_curve|stapling.*|trusted_certificate|early_data|conf_command)|"
    r"resolver.*|root|index|access_log|error_log|server_tokens|keepalive.*|large_client_header_buffers|"
    r"client_body_buffer_size|client_header_.*|error_page|try_files|quic_.*|reset_timedout_connection|send_timeout|return|rewrite|expires|etag|charset|"
    r"underscores_in_headers|ignore_invalid_headers|port_in_redirect|absolute_redirect|server_name_in_redirect)$"
)
_AUTH_DIRECTIVES = {
    "auth_basic": "basic authentication conflicts with Open WebUI's own Bearer token; proxy.authentication",
    "auth_basic_user_file": "as auth_basic",
    "auth_request": (
        "proxy.authentication.external asks another service about each request; set it to keep that check"
    ),
    "ssl_client_certificate": "set proxy.authentication.client_certificates to ask for client certificates",
    "ssl_verify_client": "set proxy.authentication.client_certificates to ask for client certificates",
    "allow": "no setting allows networks; use a firewall",
    "deny": "no setting denies networks; use a firewall",
    "limit_req": "proxy.limits.sign_in limits attempts to sign in",
    "limit_conn": "proxy.limits.connections_per_client limits connections",
    "set_real_ip_from": "proxy.trusted_proxies names proxies in front of this one",
    "real_ip_header": "proxy.trusted_proxies names proxies in front of this one",
    "real_ip_recursive": "proxy.trusted_proxies names proxies in front of this one",
}


def _body_size(t: Translation, line: str, args: Sequence[str]) -> None:
    match = re.fullmatch(r"(\d+)([kmg]?)", args[0].lower())
    path = "proxy.limits.max_upload"
    if match is None:
        t.dropped(line, f"is not a size; {path}")
        return
    size = int(match[1]) * _UNIT[match[2]]
    if size == 0:
        t.dropped(line, f"unlimited uploads could fill the disk; {path} is 1GiB unless it is set")
    elif t.get(path):
        origin = ", from RAG_FILE_MAX_SIZE" if t.source.value("RAG_FILE_MAX_SIZE") else ""
        t.derived(line, f"{path} is {t.get(path)}{origin}")
    else:
        t.setting(line, path, write_bytes(max(1, round(size / _MIB)) * _MIB))


def _longer(path: str, default: str) -> Callable[[Translation, str, Sequence[str]], None]:
    def handle(t: Translation, line: str, args: Sequence[str]) -> None:
        span = _seconds(args[0])
        if span is None:
            t.dropped(line, f"is not a duration; {path}")
        elif span <= parse_duration(default):
            longer = f"{path} is {default}, which is longer"
            t.derived(line, longer if span < parse_duration(default) else f"{path} is that")
        else:
            t.setting(line, path, write_duration(min(span, timedelta(hours=24))))

    return handle


def _seconds(words: str) -> timedelta | None:
    units = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86400}
    parts = re.findall(r"(\d+)(ms|s|m|h|d|)", words)
    if not parts or "".join(number + unit for number, unit in parts) != words:
        return None
    return timedelta(seconds=sum(int(number) * units[unit] for number, unit in parts))


def _protocols(t: Translation, line: str, args: Sequence[str]) -> None:
    if set(args) == {"TLSv1.3"}:
        t.setting(line, "proxy.tls_profile", "modern")
    else:
        t.derived(line, "proxy.tls_profile is intermediate: TLS 1.2 and 1.3")


def _header(t: Translation, name: str, value: str) -> None:
    what, lower = f"add_header {name}", name.lower()
    if lower == "strict-transport-security":
        variables.hsts(t, what, value, "has no max-age; proxy.headers.hsts")
    elif lower == "referrer-policy":
        variables.referrer_policy(t, what, value)
    elif lower == "permissions-policy":
        variables.permissions_policy(t, what, value)
    elif lower == "content-security-policy":
        variables.content_policy(t, what, value)
    elif lower == "access-control-allow-origin":
        _allowed_origin(t, what, value)
    elif lower in _HEADERS:
        t.derived(what, _HEADERS[lower])
    else:
        t.dropped(what, "no setting adds headers")


def _allowed_origin(t: Translation, what: str, value: str) -> None:
    known = [*(t.get("proxy.cors.allowed_origins") or [])]
    if re.fullmatch(r"https?://[^/\s$*]+", value) and value not in known:
        t.setting(what, "proxy.cors.allowed_origins", [*known, value])
    else:
        t.dropped(what, "the application itself decides which origins it allows (proxy.cors)")


_HEADERS = {
    "x-frame-options": "follows from proxy.embedding",
    "x-content-type-options": "the proxy sets it on every response",
    "x-xss-protection": "no current browser supports it",
    "alt-svc": "follows from proxy.http3",
    "cache-control": "the proxy sets it per path",
    "access-control-allow-methods": "the application sets it (proxy.cors)",
    "access-control-allow-headers": "the application sets it (proxy.cors)",
    "access-control-allow-credentials": "the application sets it (proxy.cors)",
    "vary": "the proxy sets it",
    "x-cache-status": "see the proxy's log",
}
_DIRECTIVES: dict[str, Callable[[Translation, str, Sequence[str]], None]] = {
    "client_max_body_size": _body_size,
    "proxy_read_timeout": _longer("proxy.timeouts.read", "30m"),
    "proxy_send_timeout": _longer("proxy.timeouts.send", "5m"),
    "client_body_timeout": _longer("proxy.timeouts.client_body", "1m"),
    "keepalive_timeout": _longer("proxy.timeouts.keepalive", "75s"),
    "ssl_protocols": _protocols,
}
