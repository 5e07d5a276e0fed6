"""From an issuer's words to what a person reads: the words are Let's Encrypt's, ZeroSSL's, certbot's own."""

from datetime import UTC, datetime, timedelta

import pytest

from open_webui_edge.runtime.certbot.acme_errors import Request, explain

NOW = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
DIRECTORY = "https://acme-v02.api.letsencrypt.org/directory"
NAME = "chat.example.com"
TOKEN = f"http://{NAME}/.well-known/acme-challenge/Q1c"
ADVICE = (
    "Ask for help or search for solutions at https://community.letsencrypt.org. See the logfile"
    " /var/log/letsencrypt/letsencrypt.log or re-run Certbot with -v for more details."
)


def request(challenge: str = "http-01") -> Request:
    return Request((NAME,), challenge, DIRECTORY, NOW)


def refused(kind: str, detail: str, name: str = NAME) -> str:
    """Return what certbot prints of a challenge that failed."""
    return (
        f"Saving debug log to /var/log/letsencrypt/letsencrypt.log\nRequesting a certificate for {NAME}\n\n"
        "Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these"
        f" problems:\n  Identifier: {name}\n  Type:   {kind}\n  Detail: {detail}\n\nHint: The Certificate Authority"
        " failed to download the temporary challenge files created by Certbot.\n\nSome challenges have failed.\n"
        f"{ADVICE}\n"
    )


def unexpected(words: str) -> str:
    """Return what certbot prints of any other answer that ends it."""
    return (
        f"Saving debug log to /var/log/letsencrypt/letsencrypt.log\nAn unexpected error occurred:\n{words}\n{ADVICE}\n"
    )


def logged(kind: str) -> str:
    return f"acme.messages.Error: urn:ietf:params:acme:error:{kind} :: something :: in detail\n"


@pytest.mark.parametrize(
    ("kind", "detail", "hint"),
    [
        (
            "dns",
            f"DNS problem: NXDOMAIN looking up A for {NAME} - check that a DNS record exists for this domain",
            f"The name {NAME} has no A/AAAA record: create an A record with this machine's public address",
        ),
        ("dns", f"no valid A records found for {NAME}; no valid AAAA records found for {NAME}", "has no A/AAAA record"),
        (
            "dns",
            f"DNS problem: SERVFAIL looking up A for {NAME} - the domain's nameservers may be malfunctioning",
            "A new",
        ),
        (
            "connection",
            f"203.0.113.5: Fetching {TOKEN}: Timeout during connect (likely firewall problem)",
            f"Nothing answers for {NAME} at port 80",
        ),
        ("connection", f"203.0.113.5: Fetching {TOKEN}: Connection refused", "port 80 must be open from the internet"),
        ("unauthorized", f"203.0.113.5: Invalid response from {TOKEN}: 404", f"Another server answers for {NAME}"),
        (
            "unauthorized",
            f'203.0.113.5: Invalid response from {TOKEN}: "<!DOCTYPE html>"',
            "must forward http://…/.well-known/acme-challenge/",
        ),
        ("caa", f"CAA record for {NAME} prevents issuance", f"A CAA record of {NAME}, or of a domain above it"),
        ("caa", f"While processing CAA for {NAME}: DNS problem: SERVFAIL looking up CAA for {NAME}", "CAA record"),
    ],
)
def test_a_failed_challenge_is_said_with_its_cure(kind: str, detail: str, hint: str) -> None:
    failure = explain(refused(kind, detail), "", request())
    assert failure.error == f"{NAME}: {detail}"
    assert hint in failure.hint
    assert failure.not_before is None


def test_a_missing_text_record_is_said_with_the_zone_to_look_at() -> None:
    detail = f"No TXT record found at _acme-challenge.{NAME}"
    failure = explain(refused("unauthorized", detail), "", request("dns-01"))
    assert f"TXT record at _acme-challenge.{NAME}: the zone at Route 53" in failure.hint


def test_several_names_are_all_named_and_a_cure_that_they_share_is_said_once() -> None:
    both = refused("connection", "refused") + refused("connection", "refused", "www.example.com")
    failure = explain(both, "", request())
    assert failure.error == f"{NAME}: refused; www.example.com: refused"
    assert failure.hint.count("Nothing answers for") == 2
    same = refused("connection", "refused") * 2
    assert explain(same, "", request()).hint.count("Nothing answers for") == 1


def test_a_long_answer_of_the_issuer_is_one_line() -> None:
    folded = refused("connection", "one\n  two\n  three")
    assert explain(folded, "", request()).error == f"{NAME}: one two three"


@pytest.mark.parametrize(
    "words",
    [
        (
            "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry"
            " after 2026-11-26 17:15:14 UTC: see https://letsencrypt.org/docs/rate-limits/#new-certificates-per-exact-set"
        ),
        'too many failed authorizations (5) for "a.test" in the last 1h0m0s, retry after 2026-11-26 17:15:14 UTC',
        "too many new orders (300) from this account in the last 3h0m0s, retry after 2026-11-26T17:15:14Z",
    ],
)
def test_a_limit_is_said_with_its_date_and_kept(words: str) -> None:
    failure = explain(unexpected(f"Error creating new order :: {words}"), logged("rateLimited"), request())
    assert failure.not_before == datetime(2026, 11, 26, 17, 15, 14, tzinfo=UTC)
    assert "accepts no further order until 2026-11-26 17:15:14 UTC" in failure.hint
    assert words in failure.error


def test_a_limit_without_a_date_has_that_of_the_answers_header() -> None:
    log = f"HTTP 503\nServer: nginx\nRetry-After: 3600\nContent-Length: 1\n\n{{}}\n{logged('rateLimited')}"
    failure = explain(unexpected("Service busy; retry later."), log, request())
    assert failure.not_before == NOW + timedelta(hours=1)


def test_an_advice_when_to_look_at_an_order_again_is_no_limit() -> None:
    log = "HTTP 200\nServer: nginx\nRetry-After: 3\n\n{}\n"
    assert explain(refused("connection", "refused"), log, request()).not_before is None


@pytest.mark.parametrize(
    ("output", "log", "hint"),
    [
        (
            "Server requires external account binding. Please use --eab-kid and --eab-hmac-key.",
            "",
            "certificate.lets_encrypt.external_account",
        ),
        (
            (
                'Error creating new order :: Cannot issue for "chat.invalid": The ACME server refuses to issue a'
                " certificate for this domain name, because it is forbidden by policy"
            ),
            logged("rejectedIdentifier"),
            "check site.domain, site.aliases and certificate.additional_names",
        ),
        (
            'Domain name "a.example.com" is redundant with a wildcard domain in the same request.',
            logged("malformed"),
            "certificate.additional_names",
        ),
        ("must agree to terms of service", logged("userActionRequired"), "open the address that it names"),
        ("Error finalizing order :: CAA record for example.com prevents issuance", logged("caa"), "A CAA record of"),
        ('profile "x" is not recognized', logged("invalidProfile"), "certificate.lets_encrypt.profile"),
        ("contact email has forbidden domain", logged("invalidContact"), "check certificate.lets_encrypt.email"),
        ("The server is having a bad day", logged("serverInternal"), "The issuer itself has a problem"),
        (
            (
                "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='acme.example.org', port=443):"
                " Max retries exceeded with url: /directory (Caused by NewConnectionError('Connection refused'))"
            ),
            "",
            f"{DIRECTORY} cannot be reached from this container",
        ),
        (
            (
                "requests.exceptions.SSLError: HTTPSConnectionPool(host='acme.corp', port=443): Max retries"
                " exceeded with url: /directory (Caused by SSLError(SSLCertVerificationError(1, '[SSL: VERIFY_FAILED]"
                " certificate verify failed: unable to get local issuer certificate (_ssl.c:1081)')))"
            ),
            "",
            "certificate.lets_encrypt.directory_ca",
        ),
        (
            (
                "(Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify"
                " failed: certificate is not yet valid (_ssl.c:1081)')))"
            ),
            "",
            "By this machine's clock (2026-11-25 08:00:00 UTC)",
        ),
        ("OSError: [Errno 28] No space left on device", "", "The disk is full"),
        (
            (
                "An error occurred (AccessDenied) when calling the ListHostedZones operation: User is not authorized to"
                " perform: route53:ListHostedZones"
            ),
            "",
            "route53:ChangeResourceRecordSets",
        ),
        (
            (
                "An error occurred (InvalidClientTokenId) when calling the ListHostedZones operation: The security"
                " token included in the request is invalid"
            ),
            "",
            "AWS does not know these keys",
        ),
        (
            (
                "Client with the currently selected authenticator does not support any combination of challenges that"
                " will satisfy the CA."
            ),
            "",
            "certificate.lets_encrypt.challenge: dns-01",
        ),
        ("Account is not valid", logged("accountDoesNotExist"), "the next attempt creates a new one"),
        ("an unknown error", "", "No fix for this is known here"),
    ],
)
def test_what_ends_an_attempt_is_said_with_its_cure(output: str, log: str, hint: str) -> None:
    failure = explain(unexpected(output), log, request())
    assert hint in failure.hint
    assert failure.error == output


def test_an_answer_that_certbot_dealt_with_itself_is_no_reason() -> None:
    log = f'{{"type": "urn:ietf:params:acme:error:badNonce"}}\n{logged("caa")}'
    assert "CAA record" in explain(unexpected("no"), log, request()).hint


def test_a_silent_certbot_is_said() -> None:
    assert explain("", "", request()).error == "certbot failed without a message"
