"""Is what answers Open WebUI, and is it well?"""

import re
from collections.abc import Iterator
from dataclasses import replace

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import hops, http_client
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _MISDIRECTED, _UNAVAILABLE = 200, 401, 403, 404, 421, 503
_DEAD = {500, 502, 503, 521, 523, 530}
_SILENT = {504, 522, 524, 408}
_HANDSHAKE_BEHIND = {525, 526}
_BUSY = {429}
_NO_CERTIFICATE = "No required SSL certificate"
_AUTHENTICATOR = "authenticator"
"""What this project's Nginx names in its 503 where no authenticator admits a request."""
_PATIENCE = 12.0
_REDIRECTS = range(300, 400)
_DEPENDENTS = (
    *("websocket.*", "cors.*", "oauth.*", "headers.*", "cache.*", "upload.*", "app.*", "cookies.*", "stream.*"),
    *("silence.*", "http.three", "clock.*"),
)


def version_of(answer: http_client.Answer) -> str:
    """Return Open WebUI's version; "" where the answer is not from it."""
    version = answer.object().get("version")
    return version if answer.status == _OK and isinstance(version, str) else ""


def configuration(subject: Subject) -> dict[str, object]:
    """Return what the application tells anybody of itself; {} where it tells nothing."""
    try:
        return dict(http_client.page(subject, "/api/config").object())
    except OSError:
        return {}


def features(subject: Subject) -> dict[str, object]:
    """Return the switches in that."""
    config = configuration(subject).get("features")
    return config if isinstance(config, dict) else {}


def _answers(subject: Subject) -> Iterator[Finding]:
    if subject.expectations.authentication == "client-certificates":
        yield Hop.PROXY.unknown("app.answers", "The proxy asks for a client certificate, and the doctor has none.")
        return
    try:
        answer = subject.once(
            ("page", "/api/version"), lambda: http_client.ask(subject, "/api/version", seconds=_PATIENCE)
        )
    except http_client.NoAnswerError as fault:
        yield replace(_says_nothing(subject, str(fault)), explains=_DEPENDENTS)
        return
    version = version_of(answer)
    if version:
        yield Hop.APPLICATION.ok("app.answers", f"Open WebUI {version}.")
    else:
        yield replace(_in_place_of_version(subject, answer), explains=_DEPENDENTS)


def _says_nothing(subject: Subject, words: str) -> Finding:
    return Hop.APPLICATION.failure(
        "app.timeout",
        f"{subject.url}/api/version takes the question and does not answer: {words}.",
        "People see a page that loads for ever.",
        "A hop closes the connection: the error log of the proxy shows which."
        if "closed" in words
        else "The proxy waits for the application, and that does not answer even the smallest question: `make status` "
        "and `make logs ROLE=open-webui` (docker logs open-webui); it may wait for its database. A proxy_pass "
        "that leads to a wrong address waits as well: in Nginx `proxy_connect_timeout 5s;` tells the two apart.",
        setting="proxy.timeouts.connect",
    )


def _in_place_of_version(subject: Subject, answer: http_client.Answer) -> Finding:  # noqa: PLR0911 - a table of statuses
    who = hops.nearest(answer)
    status = answer.status
    if status == _UNAVAILABLE and (answer.header("Retry-After") or "maintenance" in answer.text.lower()):
        return _page_in_its_place(subject, answer)
    if status in _DEAD:
        return _dead(subject, answer, who)
    if status in _SILENT:
        return _silent(answer, who)
    if status in _HANDSHAKE_BEHIND:
        return Hop.PROXY.failure(
            "app.certificate-behind",
            f"Cloudflare answers {answer.status}: it does not believe the certificate of the server behind it.",
            "People see Cloudflare's error page.",
            'Give the server a certificate that Cloudflare takes for "Full (strict)": certificate.mode: lets-encrypt, '
            "or Cloudflare's origin certificate with certificate.mode: provided.",
            setting="certificate.mode",
        )
    if status in {_UNAUTHORIZED, _FORBIDDEN} or status in _REDIRECTS or _NO_CERTIFICATE in answer.text:
        return _door(answer, who)
    if status == _MISDIRECTED:
        return Hop.PROXY.failure(
            "app.name",
            f'The proxy does not serve the name {subject.name} ("{answer.excerpt}").',
            "Users of this name get an error.",
            f"Add {subject.name} to site.aliases, or make it site.domain.",
            setting="site.aliases",
            value=subject.name,
        )
    if status in _BUSY:
        return Hop.PROXY.unknown("app.answers", f"{who} answers {status}: too many questions from here for now.")
    return _other(subject, answer, who)


def _page_in_its_place(subject: Subject, answer: http_client.Answer) -> Finding:
    detail = answer.object().get("detail")
    words = detail if isinstance(detail, str) else answer.excerpt
    if "proxy.maintenance" in words or subject.expectations.maintenance:
        return Hop.PROXY.warning(
            "app.maintenance",
            "The maintenance page answers everybody.",
            "The site is unavailable meanwhile.",
            "Write proxy.maintenance: false and run `make up` when the work is done.",
            setting="proxy.maintenance",
            value="false",
        )
    if _AUTHENTICATOR in words.lower():
        return _without_authenticator(subject, answer, words)
    return _dead(subject, answer, hops.nearest(answer), words)


def _without_authenticator(subject: Subject, answer: http_client.Answer, words: str) -> Finding:
    return Hop.PROXY.failure(
        "app.authenticator",
        f'The proxy answers {answer.status}, because the authenticator in front of Open WebUI does not ("{words}").',
        "Every request is refused, whether Open WebUI runs or not.",
        "Start the authenticator again. `make doctor` asks it from within the proxy's container, and each line of"
        " `make logs ROLE=nginx` has its answer (`authenticator`): 502 is no connection, 504 no answer within"
        " proxy.authentication.external.timeout, any other status its own."
        if subject.of_a_stack
        else "Start the authenticator (Authelia, oauth2-proxy …) again, and see that the proxy reaches it.",
        setting="proxy.authentication.external.url",
    )


def _dead(subject: Subject, answer: http_client.Answer, who: str, words: str = "") -> Finding:
    return Hop.APPLICATION.failure(
        "app.dead",
        f"{who} answers {answer.status}: it gets no connection to Open WebUI, or a broken one"
        + (f' ("{words}").' if words else "."),
        "People see an error page. WebSockets, CORS and time-outs are not to blame.",
        "`make status` shows the container open-webui, `make logs ROLE=open-webui` its last words, `make up` brings it "
        "back; while an update runs this passes by itself."
        if subject.of_a_stack
        else "Start Open WebUI (`docker ps -a`, `docker logs open-webui`) and see that the proxy reaches it: in Nginx "
        "`proxy_pass http://open-webui:8080;` by the container's name and its inner port (8080, not the published "
        "3000), both in one Docker network; 127.0.0.1 inside a container is the container itself. In Caddy "
        "`reverse_proxy open-webui:8080`.",
    )


def _silent(answer: http_client.Answer, who: str) -> Finding:
    return Hop.APPLICATION.failure(
        "app.timeout",
        f"{who} answers {answer.status} after {answer.seconds:.1f} s: Open WebUI did not answer it in time.",
        "People see an error page after a wait. It is not dead, or the answer would be 502 or 503.",
        "Even its version takes too long: see what it waits for (`make logs ROLE=open-webui`, or docker logs), and "
        "that the proxy waits long enough: proxy.timeouts.read; "
        + hops.NGINX_LONGER
        + ", in Caddy `transport http { response_header_timeout 30m }`. An unused address gives 504 as well.",
        setting="proxy.timeouts.read",
        value="30m",
    )


def _door(answer: http_client.Answer, who: str) -> Finding:
    why = "Programs that use Open WebUI's API with a key are stopped there as well."
    if answer.header("CF-Mitigated"):
        seen = f"Cloudflare answers {answer.status} and asks for a sign that a person is there; the doctor is none."
        return Hop.OUTER_PROXY.unknown("app.door", seen, why)
    where = answer.header("Location")
    to = f", to {where.partition('?')[0]}" if where else ""
    return Hop.PROXY.unknown(
        "app.door",
        f"{who} answers {answer.status}{to}: another authenticator is in front (Authelia, oauth2-proxy, basic …). "
        "What is behind it cannot be asked from outside.",
        why,
    )


def _other(subject: Subject, answer: http_client.Answer, who: str) -> Finding:
    title = re.search(r"<title[^>]*>([^<]{1,80})", answer.text, re.IGNORECASE)
    shown = (
        f'a page "{" ".join(title[1].split())}"'
        if title
        else answer.header("Content-Type") or "something without a type"
    )
    return Hop.PROXY.failure(
        "app.other",
        f"What answers is not Open WebUI: /api/version gives {answer.status} and {shown}, from {who}.",
        'The browser says "Open WebUI backend required", or shows another program.',
        f"Have the proxy pass everything of {subject.name} to Open WebUI, at the top and unchanged: in Nginx a server "
        "with `server_name` of this name and `location / { proxy_pass http://open-webui:8080; }` (without a path "
        "behind the port), in Caddy `reverse_proxy open-webui:8080`. If that is there, another server block answers "
        "first; Open WebUI below a path does not work.",
        setting="site.domain",
    )


def _configured(subject: Subject) -> Iterator[Finding]:
    answer = http_client.page(subject, "/api/config")
    config = answer.object()
    if answer.status != _OK or "features" not in config:
        yield Hop.APPLICATION.failure(
            "app.config",
            f"/api/config gives {answer.status}, and not what the page needs.",
            'The browser shows "Open WebUI backend required".',
            "`make logs ROLE=open-webui` says why (docker logs open-webui); a rule of the proxy for /api/ may be in "
            "the way.",
            setting="proxy.locations",
        )
        return
    if config.get("onboarding") is True:
        seen = "There is no account yet: the first visitor becomes the administrator."
        if http_client.is_loopback(subject):
            yield Hop.APPLICATION.note("app.unclaimed", seen)
            return
        yield Hop.APPLICATION.warning(
            "app.unclaimed",
            seen,
            "The first visitor owns the site.",
            "Create the account now, or set open_webui.admin.email (WEBUI_ADMIN_EMAIL and WEBUI_ADMIN_PASSWORD).",
            setting="open_webui.admin.email",
        )
        return
    yield Hop.APPLICATION.ok("app.config", f"{config.get('name') or 'Open WebUI'} tells what its page needs.")


def _ready(subject: Subject) -> Iterator[Finding]:
    answer = http_client.page(subject, "/ready")
    if answer.status == _OK and answer.object().get("status") is True:
        yield Hop.APPLICATION.ok(
            "app.ready",
            "It reaches its database, and Redis where it has one. (A health check must GET /ready: HEAD is always "
            "200.)",
        )
    elif answer.status == _UNAVAILABLE:
        yield Hop.APPLICATION.failure(
            "app.ready",
            f"It answers, and says that it is not ready ({answer.excerpt or answer.status}).",
            "It still starts, or it does not reach its database or Redis: sign-ins and chats fail.",
            "`make logs ROLE=open-webui` says which (docker logs open-webui): look at data.postgres and data.redis "
            "(DATABASE_URL, REDIS_URL), and that both run.",
            setting="data.postgres",
        )
    elif answer.is_html or answer.status == _NOT_FOUND:
        # Any path that it does not know is its page to Open WebUI.
        yield Hop.APPLICATION.note("app.ready", "This release cannot say whether it is ready (0.12 and later can).")
    else:
        yield Hop.PROXY.warning(
            "app.ready",
            f"/ready gives {answer.status} ({answer.excerpt}).",
            "Health checks that ask for it take a well application for a sick one.",
            "Let the proxy pass /ready to Open WebUI unchanged.",
            setting="proxy.locations",
        )


QUESTIONS = (
    Question("app.answers", Hop.APPLICATION, "is it Open WebUI", ("redirect.home",), _answers),
    Question("app.config", Hop.APPLICATION, "what it says of itself", ("app.answers",), _configured),
    Question("app.ready", Hop.APPLICATION, "is it ready", ("app.answers",), _ready),
)
