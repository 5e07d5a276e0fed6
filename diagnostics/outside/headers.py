"""Headers that come twice, that break the page, or that have it kept where it must not be."""

import re
from collections import Counter
from collections.abc import Iterator

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import http_client
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

_ONCE = (
    "Strict-Transport-Security",
    "Content-Security-Policy",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "Referrer-Policy",
    "Permissions-Policy",
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Cache-Control",
    "Content-Type",
    "Server",
    "Date",
    "ETag",
)
_MISSING = "/_app/immutable/chunks/doctor-asks-for-what-is-not-there.js"
_PATHS = ("/", "/api/config", "/api/version")
_A_DAY = 86_400
_STALE = 5


def _once(subject: Subject) -> Iterator[Finding]:
    twice: dict[str, tuple[str, list[str]]] = {}
    for path in _PATHS:
        answer = http_client.page(subject, path)
        counted = Counter(name.lower() for name, _ in answer.headers)
        for name in _ONCE:
            if counted[name.lower()] > 1:
                twice.setdefault(name, (path, answer.all(name)))
    if not twice:
        yield Hop.PROXY.ok("headers.once", "Each header comes once.")
        return
    listed = "; ".join(f"{name}: {' and '.join(values)} ({path})" for name, (path, values) in twice.items())
    differ = any(len(set(values)) > 1 for _, values in twice.values())
    names = ", ".join(twice)
    yield Hop.PROXY.warning(
        "headers.once",
        f"Headers come twice: {listed}.",
        "They contradict each other, and browsers choose differently."
        if differ
        else "Browsers take the first, or both, or neither.",
        f"Say each in one place: remove {names} from proxy.headers, or from what else adds it: a proxy in front, or "
        "Open WebUI's own variables (HSTS, XFRAME_OPTIONS, CONTENT_SECURITY_POLICY, REFERRER_POLICY, "
        f"PERMISSIONS_POLICY, CACHE_CONTROL). In Nginx `proxy_hide_header {next(iter(twice))};` beside the add_header.",
        setting="proxy.headers",
    )


def _policies(subject: Subject) -> Iterator[Finding]:
    answer = http_client.page(subject)
    findings = [*_script_policy(answer), *_permissions(answer), *_transport_security(subject, answer)]
    yield from findings
    if not any(finding.is_trouble for finding in findings):
        yield Hop.PROXY.ok("headers.policies", "No policy stops Open WebUI's page.")


def _script_policy(answer: http_client.Answer) -> Iterator[Finding]:
    for policy in answer.all("Content-Security-Policy"):
        scripts = _directive(policy, "script-src") or _directive(policy, "default-src")
        if scripts is not None and not any(word in scripts for word in ("'unsafe-inline'", "'nonce-", "'sha", "*")):
            yield Hop.PROXY.failure(
                "headers.script-policy",
                f"Content-Security-Policy allows no inline scripts (script-src {scripts}).",
                "Open WebUI's page begins with one: people see a white page.",
                "Add 'unsafe-inline' 'wasm-unsafe-eval' blob: to script-src, or remove the header; "
                "proxy.headers.content_security_policy has a policy that works, and mode: report-only to try one.",
                setting="proxy.headers.content_security_policy.mode",
                value="report-only",
            )
        connects = _directive(policy, "connect-src")
        if connects is not None and not any(word in connects for word in ("'self'", "*", "wss:")):
            yield Hop.PROXY.failure(
                "headers.connect-policy",
                f"Content-Security-Policy lets the page connect to nothing of its own (connect-src {connects}).",
                "Neither the API nor the WebSocket is reached from the page.",
                "Add 'self' to connect-src.",
                setting="proxy.headers.content_security_policy.policy",
            )


def _directive(policy: str, name: str) -> str | None:
    for part in policy.split(";"):
        words = part.split()
        if words and words[0].lower() == name:
            return " ".join(words[1:])
    return None


def _permissions(answer: http_client.Answer) -> Iterator[Finding]:
    for policy in answer.all("Permissions-Policy"):
        if re.search(r"microphone=\(\s*\)", policy):
            yield Hop.PROXY.warning(
                "headers.microphone",
                "Permissions-Policy says microphone=().",
                "Voice input and calls do not work: browsers do not even ask for the microphone.",
                "Write microphone=(self), camera=(self) in proxy.headers.permissions_policy, or in the proxy that "
                "adds it.",
                setting="proxy.headers.permissions_policy",
                value="camera=(self), microphone=(self)",
            )


def _transport_security(subject: Subject, answer: http_client.Answer) -> Iterator[Finding]:
    if subject.scheme == "http":
        return
    values = answer.all("Strict-Transport-Security")
    is_expected = subject.expectations.hsts
    if not values:
        if is_expected:
            yield Hop.PROXY.warning(
                "headers.hsts",
                "proxy.headers.hsts is on, and the header does not arrive.",
                "Browsers go on trying plain HTTP first.",
                "A proxy in front drops it: add Strict-Transport-Security there, or let it pass.",
                setting="proxy.headers.hsts.enabled",
            )
        elif is_expected is None:
            yield Hop.PROXY.note("headers.hsts", "Strict-Transport-Security is not set; browsers try HTTP first.")
        return
    age = re.search(r"max-age\s*=\s*\"?(\d+)", values[0])
    if age is None:
        yield Hop.PROXY.warning(
            "headers.hsts",
            f"Strict-Transport-Security has no max-age ({values[0]}), so browsers ignore it.",
            "They go on trying plain HTTP first.",
            "Write max-age=31536000.",
            setting="proxy.headers.hsts.max_age",
        )
    elif int(age[1]) < _A_DAY:
        yield Hop.PROXY.note("headers.hsts", f"Strict-Transport-Security lasts {age[1]} s only.")


def _cached_page(subject: Subject) -> Iterator[Finding]:
    answer = http_client.page(subject)
    control = answer.header("Cache-Control").lower()
    age = _number(answer.header("Age"))
    seconds = _seconds(control)
    asked_anew = any(word in control for word in ("no-cache", "no-store", "max-age=0", "must-revalidate"))
    marks = " ".join(answer.header(name) for name in ("X-Cache", "CF-Cache-Status", "X-Cache-Status")).lower()
    hit = re.search(r"\bhit\b", marks)
    if (seconds and not {"no-cache", "no-store"} & set(re.split(r"[,\s]+", control))) or "immutable" in control:
        seen = f"The page may be cached: Cache-Control: {answer.header('Cache-Control')}."
    elif age > _STALE or (hit and not asked_anew):
        seen = f"A proxy serves a cached page (Age: {age}, {hit[0] if hit else 'no mark'})."
    elif not control and not answer.header("ETag") and not answer.header("Last-Modified"):
        yield Hop.PROXY.note("cache.page", "The page does not state how long it may be cached.")
        return
    else:
        yield Hop.PROXY.ok("cache.page", "The page is revalidated each time.")
        return
    yield Hop.PROXY.warning(
        "cache.page",
        seen,
        "After an update it asks for files that are gone: people see a white page until they empty their cache.",
        "Let pages pass as Open WebUI sends them (Cache-Control: no-cache): in Nginx no `expires` or `add_header "
        "Cache-Control` outside `location /_app/immutable/`, and no proxy_cache for `location /`; at a CDN a rule that "
        "caches nothing but /_app/immutable/.",
        setting="proxy.cache",
    )


def _cached_error(subject: Subject) -> Iterator[Finding]:
    answer = http_client.ask(subject, _MISSING)
    control = answer.header("Cache-Control").lower()
    is_a_page = answer.is_html and answer.status == 200  # noqa: PLR2004  # Open WebUI's page in place of a file
    if "immutable" in control or (_seconds(control) or 0) > _STALE:
        seen = "a page in its place" if is_a_page else f"status {answer.status}"
        yield Hop.PROXY.warning(
            "cache.missing-file",
            f"A file that is not there gives {seen}, to be kept: Cache-Control: {answer.header('Cache-Control')}.",
            "In an update browsers ask for a file a moment too early or too late, and then keep its absence for as "
            "long: a white page that no reload mends.",
            "Mark only what is there: in Nginx `add_header Cache-Control …` without `always`, and `expires` by a map "
            "on $sent_http_content_type that leaves text/html out.",
            setting="proxy.cache",
        )
    else:
        yield Hop.PROXY.ok("cache.missing-file", "No cache stores that a file is missing.")


def _cached_answer(subject: Subject) -> Iterator[Finding]:
    answer = http_client.page(subject, "/api/config")
    control = answer.header("Cache-Control").lower()
    age = _number(answer.header("Age"))
    if age > _STALE or ("public" in control and (_seconds(control) or 0) > _STALE):
        yield Hop.PROXY.failure(
            "cache.private",
            f"/api/config comes out of a cache (Age: {age}, Cache-Control: "
            f"{answer.header('Cache-Control') or 'none'}).",
            "It differs from user to user: one may see what is another's, and after a sign-in the page of before.",
            "Keep nothing of /api/: in Nginx no proxy_cache there, at a CDN a rule that bypasses /api/ and /ws/.",
            setting="proxy.cache",
        )
    else:
        yield Hop.PROXY.ok("cache.private", "Answers of the API come from no cache.")


def _seconds(control: str) -> int | None:
    values = re.search(r"(?:s-maxage|max-age)\s*=\s*(\d+)", control)
    return int(values[1]) if values else None


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


QUESTIONS = (
    Question("headers.once", Hop.PROXY, "each header once", ("app.answers",), _once),
    Question("headers.policies", Hop.PROXY, "policies for the page", ("app.answers",), _policies),
    Question("cache.page", Hop.PROXY, "is the page cached", ("app.answers",), _cached_page),
    Question("cache.missing-file", Hop.PROXY, "is a missing file cached", ("app.answers",), _cached_error),
    Question("cache.private", Hop.PROXY, "are answers cached", ("app.answers",), _cached_answer),
)
