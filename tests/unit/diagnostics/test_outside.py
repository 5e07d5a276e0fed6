"""What is made of the answers of deployments that no machine here has: clouds, doors, records, old releases."""

import json
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

from open_webui_edge.diagnostics import outside
from open_webui_edge.diagnostics.finding import Finding, Severity
from open_webui_edge.diagnostics.outside import addresses, certificate, dns, http_client
from open_webui_edge.diagnostics.outside.cookies import about_cookies
from open_webui_edge.diagnostics.outside.http_client import Answer
from open_webui_edge.diagnostics.outside.streams import Stream, judged
from open_webui_edge.diagnostics.subject import Expectations, Subject
from tests.support.certificates import authority, pem, server

URL = "https://chat.example.com"
JSON = (("Content-Type", "application/json"),)
HTML = (("Content-Type", "text/html"),)
Headers = tuple[tuple[str, str], ...]


def answer(status: int = 200, headers: Headers = JSON, body: object = b"") -> Answer:
    return Answer(status, headers, body if isinstance(body, bytes) else json.dumps(body).encode(), began=0.0)


VERSION = answer(body={"version": "0.12.4"})
CONFIG = answer(body={"name": "Open WebUI", "features": {}, "oauth": {"providers": {}}})
PAGE = answer(headers=(*HTML, ("Cache-Control", "no-cache")), body=b"<html></html>")


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    """Ask one question of a site that answers so: path -> answer."""

    def asked(question: str, answers: Mapping[str, Answer], **known: Any) -> list[Finding]:
        there = {"/": PAGE, "/api/version": VERSION, "/api/config": CONFIG, **answers}

        def given(_: Subject, path: str, **__: object) -> Answer:
            return there.get(path, answer(404, body={"detail": "Not Found"}))

        monkeypatch.setattr(http_client, "ask", given)
        (result,) = [each for each in outside.QUESTIONS if each.id == question]
        return list(result.ask(Subject(URL, **known)))

    return asked


@pytest.mark.parametrize(
    ("given", "check", "severity", "words"),
    [
        (answer(body={"version": "0.12.4"}), "app.answers", Severity.OK, "Open WebUI 0.12.4."),
        (answer(502, (("Server", "nginx"),)), "app.dead", Severity.FAILURE, "Nginx answers 502"),
        (answer(503, (("Server", "Caddy"),)), "app.dead", Severity.FAILURE, "Caddy answers 503"),
        (answer(521, (("Server", "cloudflare"),)), "app.dead", Severity.FAILURE, "Cloudflare answers 521"),
        (answer(524, (("CF-RAY", "1"),)), "app.timeout", Severity.FAILURE, "Cloudflare answers 524"),
        (answer(504, (("Server", "awselb/2.0"),)), "app.timeout", Severity.FAILURE, "an Application Load Balancer"),
        (answer(525, (("CF-RAY", "1"),)), "app.certificate-behind", Severity.FAILURE, "525"),
        (answer(401, (("Server", "nginx"),)), "app.door", Severity.UNKNOWN, "another authenticator is in front"),
        (
            answer(302, (("Location", "https://auth.example.com/?rd=secret"),)),
            "app.door",
            Severity.UNKNOWN,
            "example.com/:",
        ),
        (
            answer(400, HTML, b"No required SSL certificate was sent"),
            "app.door",
            Severity.UNKNOWN,
            "another authenticator",
        ),
        (answer(403, (("CF-Mitigated", "challenge"),)), "app.door", Severity.UNKNOWN, "a person is there"),
        (answer(429), "app.answers", Severity.UNKNOWN, "too many questions"),
        (answer(200, HTML, b"<title> Nextcloud\n</title>"), "app.other", Severity.FAILURE, 'a page "Nextcloud"'),
        (answer(200, JSON, {"version": 3}), "app.other", Severity.FAILURE, "application/json"),
        (answer(404, ()), "app.other", Severity.FAILURE, "404"),
        (answer(200, JSON, ["version"]), "app.other", Severity.FAILURE, "200"),
        (
            answer(503, (*JSON, ("Retry-After", "5")), {"detail": "This service does not answer: it is starting."}),
            "app.dead",
            Severity.FAILURE,
            "it is starting",
        ),
        (
            answer(
                503,
                (*JSON, ("Retry-After", "5")),
                {"detail": "The authenticator in front of this site does not answer as it should, and without it …"},
            ),
            "app.authenticator",
            Severity.FAILURE,
            "because the authenticator in front of Open WebUI does not",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_wrong_answer_is_told_apart(
    ask: Callable[..., list[Finding]], given: Answer, check: str, severity: Severity, words: str
) -> None:
    (result,) = ask("app.answers", {"/api/version": given})
    assert (result.check, result.severity) == (check, severity)
    assert words in result.seen
    assert "secret" not in result.seen


@pytest.mark.parametrize(
    ("given", "severity"),
    [
        (answer(body={"status": True}), Severity.OK),
        (answer(503, JSON, {"status": False}), Severity.FAILURE),
        (answer(200, HTML, b"<html>"), Severity.NOTE),
        (answer(403), Severity.WARNING),
    ],
)
def test_readiness_is_read_with_its_body(ask: Callable[..., list[Finding]], given: Answer, severity: Severity) -> None:
    (result,) = ask("app.ready", {"/ready": given})
    assert (result.check, result.severity) == ("app.ready", severity)


@pytest.mark.parametrize(
    ("headers", "severity", "words"),
    [
        ((), Severity.OK, "No hop with a known limit"),
        ((("Via", "1.1 abc.cloudfront.net (CloudFront)"),), Severity.WARNING, "CloudFront is in front, which ends"),
        ((("Server", "cloudflare"),), Severity.NOTE, "after 100 s of silence"),
        ((("Server", "cloudflare"), ("Via", "1.1 google")), Severity.WARNING, "after 30 s of silence"),
    ],
)
def test_patience_of_known_hops(
    ask: Callable[..., list[Finding]], headers: Headers, severity: Severity, words: str
) -> None:
    (result,) = ask("silence.hops", {"/": answer(headers=headers)})
    assert result.severity is severity
    assert words in result.seen


def test_stack_s_own_load_balancer_waits_as_long_as_its_proxy(ask: Callable[..., list[Finding]]) -> None:
    headers = (("Set-Cookie", "AWSALB=x; Path=/"),)
    known = {"expected": Expectations(outer_proxy=True, read_timeout=1800)}
    (result,) = ask("silence.hops", {"/": answer(headers=headers)}, **known)
    assert result.severity is Severity.OK
    (result,) = ask("silence.hops", {"/": answer(headers=headers)}, expected=Expectations(read_timeout=1800))
    assert "proxy.timeouts.read is 1800 s" in result.seen


@pytest.mark.parametrize(
    ("headers", "check"),
    [
        ((("Cache-Control", "no-cache"),), "cache.page"),
        ((("Cache-Control", "no-cache"), ("Age", "4000")), "cache.page"),
        ((("Cache-Control", "public, max-age=600"),), "cache.page"),
        ((("Cache-Control", "no-cache"), ("X-Cache", "Hit from cloudfront")), "cache.page"),
        ((("X-Cache", "Hit from cloudfront"), ("ETag", "x")), "cache.page"),
        ((("ETag", "x"),), "cache.page"),
        ((), "cache.page"),
    ],
)
def test_page_out_of_a_cache_is_found(ask: Callable[..., list[Finding]], headers: Headers, check: str) -> None:
    (result,) = ask("cache.page", {"/": answer(headers=(*HTML, *headers))})
    is_cached = any(value in {"4000", "public, max-age=600"} for _, value in headers) or headers[:1] == (
        ("X-Cache", "Hit from cloudfront"),
    )
    assert (result.check, result.is_trouble) == (check, is_cached)


@pytest.mark.parametrize(
    ("policy", "check"),
    [
        ("script-src 'self'", "headers.script-policy"),
        ("default-src 'self'", "headers.script-policy"),
        ("default-src 'self'; script-src 'self' 'unsafe-inline'", ""),
        ("script-src 'nonce-abc'", ""),
        ("connect-src https://api.example.com", "headers.connect-policy"),
        ("frame-ancestors 'none'", ""),
    ],
)
def test_policy_that_stops_the_page_is_found(ask: Callable[..., list[Finding]], policy: str, check: str) -> None:
    result = ask("headers.policies", {"/": answer(headers=(*HTML, ("Content-Security-Policy", policy)))})
    assert [finding.check for finding in result if finding.is_trouble] == ([check] if check else [])


@pytest.mark.parametrize(
    ("line", "checks"),
    [
        ("token=x; Path=/; Secure; SameSite=lax", []),
        ("token=x; Path=/; SameSite=lax", ["cookies.secure"]),
        ("owui-session=x; Secure; HttpOnly; SameSite=lax", []),
        ("owui-session=x; Secure; SameSite=None", ["cookies.http-only", "cookies.same-site"]),
        ('token=""; Max-Age=0; Path=/', []),
        ("AWSALB=x; Path=/", []),
    ],
)
def test_flags_of_each_cookie(line: str, checks: list[str]) -> None:
    assert [finding.check for finding in about_cookies(Subject(URL), [line])] == checks


def test_cookie_for_other_sites_is_right_where_the_site_is_shown_in_theirs() -> None:
    line = "token=x; Secure; SameSite=None"
    assert list(about_cookies(Subject(URL, expected=Expectations(embedded=True)), [line])) == []


@pytest.mark.parametrize(
    ("location", "check"),
    [
        (
            "https://id.example.com/auth?redirect_uri=https%3A%2F%2Fchat.example.com%2Foauth%2Foidc%2Fcallback",
            "oauth.redirect",
        ),
        ("https://id.example.com/auth?redirect_uri=http%3A%2F%2Fchat.example.com%2Foauth", "oauth.scheme"),
        ("https://id.example.com/auth?redirect_uri=https%3A%2F%2Fopen-webui%3A8080%2Foauth", "oauth.host"),
        ("https://id.example.com/auth", "oauth.login"),
    ],
)
def test_way_back_from_an_identity_provider(ask: Callable[..., list[Finding]], location: str, check: str) -> None:
    config = answer(body={"features": {}, "oauth": {"providers": {"oidc": "SSO"}}})
    begun = answer(302, (("Location", location),))
    (result,) = ask("oauth.redirect", {"/api/config": config, "/oauth/oidc/login": begun})
    assert result.check == check


def test_identity_provider_that_is_not_reached_is_a_warning(ask: Callable[..., list[Finding]]) -> None:
    config = answer(body={"features": {}, "oauth": {"providers": {"oidc": "SSO"}}})
    (result,) = ask("oauth.redirect", {"/api/config": config, "/oauth/oidc/login": answer(500)})
    assert (result.check, result.severity) == ("oauth.login", Severity.WARNING)
    assert "OPENID_PROVIDER_URL" in result.fix


# ---- names


def records(monkeypatch: pytest.MonkeyPatch, known: Mapping[tuple[str, str], Iterable[str]], issuer: str) -> None:
    def result(_: Subject, name: str, kind: str) -> list[Any]:
        values = known.get((name, kind), ())
        if kind == "CAA":
            return [SimpleNamespace(tag=value.split()[0].encode(), value=value.split()[1].encode()) for value in values]
        return [SimpleNamespace(to_text=lambda value=value: value) for value in values]

    for module in (addresses, dns):
        monkeypatch.setattr(module, "records", result)
    monkeypatch.setattr(certificate, "issuer_of", lambda _: issuer)


def authorised(subject: Subject) -> Finding:
    (result,) = [each for each in outside.QUESTIONS if each.id == "name.caa"]
    (finding,) = result.ask(subject)
    return finding


@pytest.mark.parametrize(
    ("known", "issuer", "severity", "words"),
    [
        ({}, "Let's Encrypt E7", Severity.OK, "No CAA record"),
        (
            {("example.com", "CAA"): ["issue letsencrypt.org"]},
            "Let's Encrypt E7",
            Severity.OK,
            "allows letsencrypt.org",
        ),
        (
            {("example.com", "CAA"): ["issue digicert.com"]},
            "Let's Encrypt E7",
            Severity.WARNING,
            "example.com allows digicert",
        ),
        (
            {("chat.example.com", "CAA"): ["issue letsencrypt.org"], ("example.com", "CAA"): ["issue digicert.com"]},
            "Let's Encrypt E7",
            Severity.OK,
            "CAA of chat.example.com",
        ),
        ({("example.com", "CAA"): ["issue ;"]}, "Let's Encrypt E7", Severity.WARNING, "allows no issuer"),
        ({("example.com", "CAA"): ["iodef mailto:x"]}, "Let's Encrypt E7", Severity.OK, "No CAA record"),
        ({("example.com", "CAA"): ["issue digicert.com"]}, "the stack's own", Severity.OK, "digicert.com"),
    ],
)
def test_record_that_counts_is_the_nearest_one(
    known: Mapping[tuple[str, str], Iterable[str]],
    issuer: str,
    severity: Severity,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records(monkeypatch, known, issuer)
    result = authorised(Subject(URL, name_servers=("192.0.2.53",)))
    assert result.severity is severity
    assert words in result.seen
    if severity is Severity.WARNING:
        assert 'example.com CAA 0 issue "letsencrypt.org"' in result.fix


@pytest.mark.parametrize(
    ("there", "expected", "words"),
    [
        (["192.0.2.1"], ("192.0.2.1",), None),
        (["192.0.2.1", "2001:db8::1"], ("192.0.2.1", "2001:db8::1"), None),
        (["192.0.2.1", "2001:db8::9"], ("192.0.2.1",), "Change the AAAA record of chat.example.com to 192.0.2.1"),
        (["192.0.2.9"], ("192.0.2.1",), "Change the A record of chat.example.com to 192.0.2.1"),
    ],
)
def test_every_address_of_the_name_must_be_the_host_s(
    there: list[str], expected: tuple[str, ...], words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"A": [each for each in there if "." in each], "AAAA": [each for each in there if ":" in each]}
    records(monkeypatch, {("chat.example.com", kind): values for kind, values in kinds.items()}, "")
    subject = Subject(URL, name_servers=("192.0.2.53",), expected=Expectations(addresses=expected))
    (result,) = [each for each in outside.QUESTIONS if each.id == "name.leads-here"]
    (finding,) = result.ask(subject)
    assert finding.check == ("name.elsewhere" if words else "name.leads-here")
    assert (words or "") in finding.fix


@pytest.mark.parametrize(
    ("fault", "severity"),
    [(ConnectionRefusedError("refused"), Severity.WARNING), (TimeoutError("timed out"), Severity.FAILURE)],
)
def test_address_that_takes_no_connection_is_named(
    fault: OSError, severity: Severity, monkeypatch: pytest.MonkeyPatch
) -> None:
    records(monkeypatch, {("chat.example.com", "A"): ["192.0.2.1"], ("chat.example.com", "AAAA"): ["2001:db8::1"]}, "")

    def connect(where: tuple[str, int], **_: object) -> SimpleNamespace:
        if ":" in where[0]:
            raise fault
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(dns.socket, "create_connection", connect)
    (question,) = [each for each in outside.QUESTIONS if each.id == "name.each"]
    (result,) = question.ask(Subject(URL, name_servers=("192.0.2.53",)))
    assert (result.check, result.severity) == ("name.each", severity)
    assert "Remove the record that leads to 2001:db8::1" in result.fix


def test_machine_without_ipv6_blames_nobody_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    records(monkeypatch, {("chat.example.com", "A"): ["192.0.2.1"], ("chat.example.com", "AAAA"): ["2001:db8::1"]}, "")

    def connect(where: tuple[str, int], **_: object) -> SimpleNamespace:
        if ":" in where[0]:
            raise OSError(101, "Network is unreachable")
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(dns.socket, "create_connection", connect)
    (question,) = [each for each in outside.QUESTIONS if each.id == "name.each"]
    (result,) = question.ask(Subject(URL, name_servers=("192.0.2.53",)))
    assert result.severity is Severity.NOTE


@pytest.mark.parametrize(
    ("url", "severity"), [("https://chat.example.com", Severity.WARNING), ("https://localhost:8443", Severity.NOTE)]
)
def test_site_without_an_account_is_a_trouble_where_others_reach_it(
    url: str, severity: Severity, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = answer(body={"features": {}, "onboarding": True})
    monkeypatch.setattr(http_client, "ask", lambda *_, **__: fresh)
    (question,) = [each for each in outside.QUESTIONS if each.id == "app.config"]
    (result,) = question.ask(Subject(url))
    assert (result.check, result.severity) == ("app.unclaimed", severity)


# ---- certificates

ROOT = authority("The root")
MIDDLE = authority("The intermediate", ROOT)


def shown(monkeypatch: pytest.MonkeyPatch, *chain: x509.Certificate, distrust: str = "", stapled: bytes = b"") -> None:
    made = certificate.Served(chain, "TLSv1.3", stapled, distrust)
    monkeypatch.setattr(certificate, "served", lambda _: made)


def checks_of(question: str, **known: Any) -> list[str]:
    (result,) = [each for each in outside.QUESTIONS if each.id == question]
    return [finding.check for finding in result.ask(Subject(URL, **known))]


@pytest.mark.parametrize(
    ("names_of_it", "check"),
    [
        (["chat.example.com"], "tls.certificate"),
        (["*.example.com"], "tls.certificate"),
        (["CHAT.example.com"], "tls.certificate"),
        (["*.com"], "tls.name"),
        (["example.com"], "tls.name"),
        (["*.chat.example.com"], "tls.name"),
        ([], "tls.name"),
    ],
)
def test_name_is_covered_as_browsers_see_it(
    names_of_it: list[str], check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown(monkeypatch, server(names_of_it, MIDDLE).certificate, MIDDLE.certificate)
    assert checks_of("tls.certificate") == [check]


def test_certificate_that_demands_a_stapled_answer_and_has_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    must = x509.TLSFeature([x509.TLSFeatureType.status_request])
    shown(monkeypatch, server(["chat.example.com"], MIDDLE, further=[must]).certificate)
    assert "tls.staple" in checks_of("tls.certificate")


def test_public_certificate_that_nobody_logged_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    public = authority("Let's Encrypt E7", ROOT)
    shown(monkeypatch, server(["chat.example.com"], public).certificate, public.certificate)
    assert checks_of("tls.certificate")[0] == "tls.transparency"
    shown(monkeypatch, server(["chat.example.com"], MIDDLE).certificate, MIDDLE.certificate)
    assert checks_of("tls.certificate") == ["tls.certificate"]


def test_certificate_that_is_not_the_installed_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    installed, old = (server(["chat.example.com"], MIDDLE) for _ in range(2))
    shown(monkeypatch, old.certificate, MIDDLE.certificate)
    assert "tls.served" in checks_of(
        "tls.certificate", expected=Expectations(certificate_pem=pem(installed.certificate))
    )
    assert checks_of("tls.certificate", expected=Expectations(certificate_pem=pem(old.certificate))) == [
        "tls.certificate"
    ]


def test_old_certificate_of_a_renewed_authority_is_no_incomplete_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (authority("The stack's own") for _ in range(2))
    shown(monkeypatch, server(["chat.example.com"], old).certificate, distrust="certificate signature failure")
    assert checks_of("tls.certificate", trust=pem(new.certificate)) == ["tls.untrusted"]
    assert checks_of("tls.certificate", trust=pem(ROOT.certificate)) == ["tls.incomplete"]


def test_needless_certificate_in_a_chain_is_worth_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    shown(
        monkeypatch, server(["chat.example.com"], MIDDLE).certificate, MIDDLE.certificate, authority("Else").certificate
    )
    (result,) = [each for each in outside.QUESTIONS if each.id == "tls.chain"]
    (finding,) = result.ask(Subject(URL))
    assert (finding.severity, finding.seen) == (
        Severity.NOTE,
        "The chain contains unrelated certificates: Else.",
    )


# ---- streams


@pytest.mark.parametrize(
    ("through", "direct", "severity"),
    [
        (Stream(200, (), 0.2, 2.0, 10), Stream(200, (), 0.2, 2.0, 10), Severity.OK),
        (Stream(200, (), 2.0, 2.0, 1), Stream(200, (), 0.2, 2.0, 10), Severity.FAILURE),
        (Stream(200, (), 1.9, 2.0, 2), None, Severity.WARNING),
        (Stream(200, (), 1.9, 2.5, 12), None, Severity.OK),
        (Stream(200, (), 0.1, 0.2, 1), Stream(200, (), 0.1, 0.2, 2), Severity.NOTE),
        (Stream(200, (), 5.5, 6.0, 10), Stream(200, (), 5.4, 6.0, 10), Severity.NOTE),
    ],
    ids=["at-once", "kept-back", "kept-back-and-nothing-to-compare", "thinks-first", "too-short", "direct-thinks-too"],
)
def test_stream_is_judged_against_the_same_past_the_proxy(
    ask: Callable[..., list[Finding]], through: Stream, direct: Stream | None, severity: Severity
) -> None:
    ask("app.config", {})
    assert judged("stream.buffered", through, direct, Subject(URL)).severity is severity


@pytest.mark.parametrize(
    ("location", "known", "severity"),
    [
        ("https://auth.example.com/?rd=https%3A%2F%2Fchat.example.com%2F", {}, Severity.NOTE),
        (
            "https://auth.example.com/start",
            {"expected": Expectations(names=("chat.example.com",), authentication="external")},
            Severity.NOTE,
        ),
        ("https://elsewhere.example.com/", {}, Severity.FAILURE),
    ],
    ids=["leads-back", "by-the-stack", "another-host"],
)
def test_a_sign_in_in_front_is_no_redirect_to_another_host(
    ask: Callable[..., list[Finding]], location: str, known: dict[str, Any], severity: Severity
) -> None:
    (result,) = ask("redirect.home", {"/": answer(302, (("Location", location),))}, **known)
    assert result.severity is severity
    assert result.check == ("redirect.host" if severity is Severity.FAILURE else "redirect.home")
