"""Which pages may call the API with a user's session?"""

from collections.abc import Iterator

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import http_client
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

STRANGE = "https://doctor.invalid"
"""An origin that no site can have."""
_PATH = "/api/config"
_BAD = 400
"""From this status on an answer is none."""
_ALLOW, _CREDENTIALS = "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"


def _asked_from(subject: Subject, origin: str) -> tuple[http_client.Answer, http_client.Answer]:
    """Return the answers to a question and to the one that a browser asks beforehand."""
    preflight = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type"),
    ]
    return (
        http_client.ask(subject, _PATH, headers=[("Origin", origin)]),
        http_client.ask(subject, _PATH, method="OPTIONS", headers=preflight),
    )


def _strange(subject: Subject) -> Iterator[Finding]:
    answers = _asked_from(subject, STRANGE)
    for answer in answers:
        allowed = answer.all(_ALLOW)
        if "true" not in [value.lower() for value in answer.all(_CREDENTIALS)]:
            continue
        if STRANGE in allowed:
            yield Hop.APPLICATION.failure(
                "cors.reflected",
                f"Any page of any site may call the API with the visitor's session: {STRANGE} is allowed, with "
                "credentials.",
                "A malicious page can read a visitor's chats and act in their name.",
                _list_fix(subject),
                setting="proxy.cors.allowed_origins",
                value=subject.origin,
                explains=("cors.*",),
            )
            return
        if "*" in allowed:
            yield Hop.PROXY.warning(
                "cors.contradictory",
                "Access-Control-Allow-Origin: * comes with Access-Control-Allow-Credentials: true.",
                "Browsers refuse this combination, so calls from other pages fail; it was meant to open everything.",
                _list_fix(subject),
                setting="proxy.cors.allowed_origins",
                explains=("cors.*",),
            )
            return
    if any("*" in answer.all(_ALLOW) for answer in answers):
        yield Hop.PROXY.warning(
            "cors.any",
            "Any page of any site may call the API, though without the visitor's session (*).",
            "Any page can use a known key, and any page can call what needs no authentication.",
            _list_fix(subject),
            setting="proxy.cors.allowed_origins",
        )
    else:
        yield Hop.PROXY.ok("cors.strange", "A page of another site may not call the API.")


def _list_fix(subject: Subject) -> str:
    if subject.of_a_stack:
        return (
            "Name the pages that may in proxy.cors.allowed_origins, and no others; the site's own needs no entry. If "
            "the stack says so already, something else adds these headers."
        )
    return (
        f"Set CORS_ALLOW_ORIGIN={subject.origin} for Open WebUI (several with ; between; its default * allows "
        "everybody) and restart it. Let the proxy add no CORS headers: in Nginx remove `add_header "
        "Access-Control-Allow-Origin $http_origin`, in Caddy the same `header`."
    )


def _own(subject: Subject) -> Iterator[Finding]:
    others = subject.expectations.allowed_origins
    findings: dict[str, Finding] = {}
    for origin in (subject.origin, *others):
        for answer in _asked_from(subject, origin):
            finding = _fault_for(subject, origin, answer)
            if finding is not None:
                findings[finding.check] = finding
    yield from findings.values()
    if not findings:
        yield Hop.PROXY.ok("cors.allowed", f"{', '.join((subject.origin, *others))} may call the API.")


def _fault_for(subject: Subject, origin: str, answer: http_client.Answer) -> Finding | None:
    allowed = answer.all(_ALLOW)
    if len(allowed) > 1 or "," in answer.header(_ALLOW):
        return Hop.PROXY.failure(
            "cors.doubled",
            f"Access-Control-Allow-Origin comes twice: {' and '.join(allowed)}.",
            "Browsers refuse such an answer, so calls from other pages fail.",
            "One of the two says it: Open WebUI does (CORS_ALLOW_ORIGIN), so remove the proxy's: in Nginx `add_header "
            "Access-Control-Allow-Origin …`, or keep it and write `proxy_hide_header Access-Control-Allow-Origin;`.",
            setting="proxy.cors.allowed_origins",
            explains=("cors.allowed", "headers.once"),
        )
    # A page of the site itself needs no leave; only what was asked beforehand may not be refused.
    if {origin, "*"} & {*allowed} or (origin == subject.origin and answer.status < _BAD):
        return None
    return Hop.PROXY.warning(
        "cors.allowed",
        f"Pages of {origin} may not call the API: it answers {answer.status} without leave.",
        "Their calls fail in the browser, whatever the server did.",
        f"Add {origin} to proxy.cors.allowed_origins"
        + (" and run `make up`." if subject.of_a_stack else f": for Open WebUI CORS_ALLOW_ORIGIN={origin}."),
        setting="proxy.cors.allowed_origins",
        value=origin,
    )


QUESTIONS = (
    Question("cors.strange", Hop.APPLICATION, "calls from a foreign origin", ("app.answers",), _strange),
    Question("cors.own", Hop.PROXY, "calls from its own page", ("app.answers",), _own),
)
