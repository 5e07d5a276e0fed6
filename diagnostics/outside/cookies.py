"""Who may read the cookies, and where an identity provider sends people back to."""

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import parse_qs, urlsplit

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import http_client
from open_webui_edge.diagnostics.outside.application import configuration
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

_SESSION = ("token", "owui-session", "oui-session", "oauth_id_token", "oauth_session_id")
"""Cookies of Open WebUI that identify a user."""
_REDIRECTS = range(300, 400)
_MOST_PROVIDERS = 8


def about_cookies(subject: Subject, set_cookies: Iterable[str]) -> Iterator[Finding]:
    """Return what is wrong with cookies that were set; nothing where nothing is."""
    parsed = [(*_flags(line), line) for line in set_cookies]
    sessions = [(name, flags) for name, flags, line in parsed if _is_session(name, flags, line)]
    if insecure := [name for name, flags in sessions if subject.scheme == "https" and "secure" not in flags]:
        yield Hop.APPLICATION.warning(
            "cookies.secure",
            f"The cookie {', '.join(insecure)} comes without Secure.",
            "A single request by plain HTTP gives the session to who listens.",
            "Set WEBUI_SESSION_COOKIE_SECURE=true and WEBUI_AUTH_COOKIE_SECURE=true for Open WebUI; a stack of this "
            "project does so by itself. In Nginx `proxy_cookie_flags ~ secure samesite=lax;` adds it in the proxy.",
            setting="WEBUI_SESSION_COOKIE_SECURE",
            value="true",
        )
    # The page itself reads the token.
    if readable := [name for name, flags in sessions if "httponly" not in flags and name != "token"]:
        yield Hop.PROXY.warning(
            "cookies.http-only",
            f"The cookie {', '.join(readable)} comes without HttpOnly.",
            "A script that gets into the page can carry the session away.",
            "A hop removes it (in Nginx proxy_cookie_flags or a rewritten Set-Cookie): let it pass.",
        )
    sites = [name for name, flags in sessions if flags.get("samesite") == "none"]
    if sites and not subject.expectations.embedded:
        yield Hop.APPLICATION.warning(
            "cookies.same-site",
            f"The cookie {', '.join(sites)} is sent along from every other site (SameSite=None).",
            "Other sites' pages can act with the user's session.",
            "Set WEBUI_SESSION_COOKIE_SAME_SITE=lax and WEBUI_AUTH_COOKIE_SAME_SITE=lax, unless the site is shown in "
            "others' frames (proxy.embedding.allowed_origins).",
            setting="WEBUI_SESSION_COOKIE_SAME_SITE",
            value="lax",
        )


def _flags(line: str) -> tuple[str, dict[str, str]]:
    first, *rest = (part.strip() for part in line.split(";"))
    flags = {part.partition("=")[0].lower(): part.partition("=")[2].lower() for part in rest}
    return first.partition("=")[0], flags


def _is_session(name: str, flags: Mapping[str, str], line: str) -> bool:
    is_deleted = flags.get("max-age") == "0" or line.partition(";")[0].endswith(('=""', "="))
    return (name in _SESSION or "session" in name.lower()) and not is_deleted


def _providers(subject: Subject) -> list[str]:
    oauth = configuration(subject).get("oauth")
    providers = oauth.get("providers") if isinstance(oauth, dict) else None
    return sorted(providers)[:_MOST_PROVIDERS] if isinstance(providers, dict) else []


def _begun(subject: Subject, provider: str) -> http_client.Answer:
    return http_client.page(subject, f"/oauth/{provider}/login")


def _cookies(subject: Subject) -> Iterator[Finding]:
    answers = [http_client.page(subject), http_client.page(subject, "/api/config")]
    answers += [_begun(subject, provider) for provider in _providers(subject)]
    lines = [line for answer in answers for line in answer.all("Set-Cookie")]
    findings = list(about_cookies(subject, lines))
    yield from findings
    if findings:
        return
    if seen := ", ".join(dict.fromkeys(_flags(line)[0] for line in lines)):
        yield Hop.APPLICATION.ok("cookies.flags", f"{seen}: no other site can read them.")
    else:
        seen = "Without a sign-in there are no cookies, so their flags are unknown."
        yield Hop.APPLICATION.note("cookies.flags", seen)


def _oauth(subject: Subject) -> Iterator[Finding]:
    providers = _providers(subject)
    if not providers:
        yield Hop.APPLICATION.ok("oauth.redirect", "No identity provider is configured.")
        return
    for provider in providers:
        yield _sent_back_to(subject, provider, _begun(subject, provider))


def _sent_back_to(subject: Subject, provider: str, answer: http_client.Answer) -> Finding:
    location = answer.header("Location")
    (target,) = parse_qs(urlsplit(location).query).get("redirect_uri", [""])[:1]
    if answer.status not in _REDIRECTS or not target:
        return Hop.APPLICATION.warning(
            "oauth.login",
            f"Signing in by {provider} gives {answer.status} instead of a redirect to the provider.",
            "Sign-in fails that way.",
            "`make logs ROLE=open-webui` (docker logs open-webui) says why: mostly the provider's address "
            "(OPENID_PROVIDER_URL) is not reached from Open WebUI's container.",
            setting="open_webui.oidc",
        )
    parts = urlsplit(target)
    if parts.scheme == "http" and subject.scheme == "https":
        return Hop.PROXY.failure(
            "oauth.scheme",
            f"Signing in by {provider} is to come back to {target}: by plain HTTP.",
            "The provider refuses it (redirect_uri mismatch), or the sign-in fails on its way back.",
            "The application takes the scheme from X-Forwarded-Proto: in Nginx `proxy_set_header X-Forwarded-Proto "
            "https;` ($scheme only where Nginx itself ends TLS), in Caddy `header_up X-Forwarded-Proto https` behind "
            "another proxy; Open WebUI believes it from the proxies in FORWARDED_ALLOW_IPS. Behind a proxy of your own "
            "name it in proxy.trusted_proxies, and set WEBUI_URL=https://" + subject.authority + ".",
            setting="proxy.trusted_proxies",
        )
    if parts.netloc != subject.authority:
        return Hop.PROXY.failure(
            "oauth.host",
            f"Signing in by {provider} is to come back to {parts.netloc}, not to {subject.authority}.",
            "The provider refuses it, or people end up where their cookie is not.",
            "The application takes its name from Host: in Nginx `proxy_set_header Host $host;` ($http_host where a "
            f"port is in the URL), in Caddy that is so by itself; or set WEBUI_URL=https://{subject.authority}.",
            setting="site.domain",
        )
    return Hop.APPLICATION.ok("oauth.redirect", f"{provider} sends people back to {target}.")


QUESTIONS = (
    Question("cookies.flags", Hop.APPLICATION, "cookies", ("app.config",), _cookies),
    Question("oauth.redirect", Hop.APPLICATION, "way back from a sign-in", ("app.config",), _oauth),
)
