"""Explains the errors that certbot and ACME issuers report, with a hint for each."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_SETTING = "certificate.lets_encrypt"


@dataclass(frozen=True)
class AcmeFailure:
    """Why an attempt failed."""

    error: str
    """In the issuer's or certbot's own words."""
    hint: str
    """What it means, and how to fix it."""
    not_before: datetime | None = None
    """Earliest time of the next attempt that the issuer allows."""


@dataclass(frozen=True)
class Request:
    """What was requested of which issuer, for the hint."""

    names: tuple[str, ...]
    challenge: str
    directory: str
    now: datetime


@dataclass(frozen=True)
class _ChallengeError:
    """A challenge that the issuer could not validate."""

    name: str
    kind: str
    detail: str


_CHALLENGE_ERRORS = re.compile(
    r"^ *(?:Identifier|Domain): (?P<name>.+)\n *Type: +(?P<kind>.+)\n *Detail: (?P<detail>(?:.+\n?)+)", re.MULTILINE
)
# In the debug log: the error that ended the run. Certbot handles others itself, such as a stale nonce.
_ERROR_TYPE = re.compile(r"^acme\.messages\.Error: urn:ietf:params:acme:error:(\w+)", re.MULTILINE)
_RETRY_AFTER = re.compile(r"HTTP (?:429|503)\n(?:[\w-]+: .*\n)*?Retry-After: (\d+)", re.IGNORECASE)
_RETRY_DATE = re.compile(
    r"retry after (\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d+)?\s*(?:UTC|Z|\+0000)?", re.IGNORECASE
)
_CHATTER = re.compile(
    r"Saving debug log|Ask for help or search|An unexpected error occurred|Account registered|Requesting a certificate"
    r"|Renewing an existing|Simulating |Some challenges have failed|Certbot failed to authenticate|Hint: |- - -"
    r"|Encountered exception during recovery|ValueError: list\.remove|An error occurred requesting ACME Renewal"
    r"|problem persists|issue at https|^https://github"
)
_NO_ADDRESS = re.compile(
    r"NXDOMAIN|could not resolve|while resolving|no valid A(?:AAA)? records|looking up A|no such host|SERVFAIL|no IP",
    re.IGNORECASE,
)

_UNREACHABLE = (
    r"Max retries exceeded|NameResolutionError|Name or service not known|name resolution|Connection refused"
    r"|timed out|Connection aborted|Network is unreachable|No route to host"
)


def is_stale_nonce(log: str) -> bool:
    """Return whether a run failed because its nonces were refused; a retry may succeed (RFC 8555 section 6.5)."""
    kinds = _ERROR_TYPE.findall(log)
    return bool(kinds) and kinds[-1] == "badNonce"


def explain(output: str, log: str, request: Request) -> AcmeFailure:
    """Return the failure; `log` is certbot's debug log of the same run."""
    challenge_errors = [
        _ChallengeError(match["name"].strip(), match["kind"].strip(), " ".join(match["detail"].split()))
        for match in _CHALLENGE_ERRORS.finditer(output)
    ]
    if challenge_errors:
        error = "; ".join(f"{challenge_error.name}: {challenge_error.detail}" for challenge_error in challenge_errors)
        hint = " ".join(dict.fromkeys(_hint_for(challenge_error, request) for challenge_error in challenge_errors))
        return AcmeFailure(error, hint, _retry_date(error, log, request.now))
    words = _message(output)
    kinds = _ERROR_TYPE.findall(log)
    kind = kinds[-1] if kinds else ""
    not_before = _retry_date(words, log, request.now)
    if kind == "rateLimited" or not_before is not None or re.search(r"too many|rate ?limit", words, re.IGNORECASE):
        return AcmeFailure(words, _rate_limit_hint(not_before), not_before)
    for pattern, hint in _HINTS:
        if re.search(pattern, f"{kind}: {words}", re.IGNORECASE):
            return AcmeFailure(words, hint(request))
    return AcmeFailure(
        words, "No fix for this is known here; certbot's own output is in the log (make logs ROLE=certbot)."
    )


def _message(output: str) -> str:
    lines = (line.strip() for line in output.splitlines())
    errors = [line for line in lines if line and not _CHATTER.search(line)]
    return " ".join(errors) or "certbot failed without a message"


def _retry_date(words: str, log: str, now: datetime) -> datetime | None:
    """Return the earliest time of the next attempt that the issuer allows."""
    match = _RETRY_DATE.search(words)
    if match is not None:
        return datetime.fromisoformat(f"{match[1]}T{match[2]}").replace(tzinfo=UTC)
    seconds = _RETRY_AFTER.findall(log)
    return now + timedelta(seconds=int(seconds[-1])) if seconds else None


def _rate_limit_hint(not_before: datetime | None) -> str:
    until = "some hours" if not_before is None else f"{not_before:%F %T} UTC"
    return (
        f"The issuer's rate limit is reached; it accepts no further order until {until}, and there is no attempt before"
        f" that. Another issuer can issue one now: {_SETTING}.fallback."
    )


def _hint_for(challenge_error: _ChallengeError, request: Request) -> str:
    name, detail = challenge_error.name, challenge_error.detail
    if challenge_error.kind == "caa" or "CAA" in detail:
        return _caa(name)
    if request.challenge == "dns-01":
        return (
            f"The issuer does not find the TXT record at _acme-challenge.{name.removeprefix('*.')}: the zone at"
            " Route 53 must be the one to which the domain's name servers (NS, at its registrar) delegate."
        )
    if challenge_error.kind in {"dns", "unknownHost", "dnssec"} or _NO_ADDRESS.search(detail):
        return (
            f"The name {name} has no A/AAAA record: create an A record with this machine's public address (an AAAA"
            " record only if IPv6 reaches this machine). A new record takes some minutes to be visible everywhere."
        )
    if challenge_error.kind in {"connection", "tls"}:
        return (
            f"Nothing answers for {name} at port 80: its A and AAAA records must point to this machine, and"
            " port 80 must be open from the internet, in firewall, security group and router (site.listen.http_port)."
        )
    if challenge_error.kind in {"unauthorized", "incorrectResponse"}:
        return (
            f"Another server answers for {name}: its A and AAAA records must point to this machine, and any proxy in"
            " front of it must forward http://…/.well-known/acme-challenge/."
        )
    return f"The issuer could not validate that you control {name}."


def _caa(name: str) -> str:
    return (
        f"A CAA record of {name}, or of a domain above it, allows other issuers only: add one for this issuer, such as"
        ' 0 issue "letsencrypt.org".'
    )


def _fixed(words: str) -> Callable[[Request], str]:
    return lambda _: words


# The first match wins; errors of this machine come before those that an issuer reports.
_HINTS: tuple[tuple[str, Callable[[Request], str]], ...] = (
    (
        r"No space left on device|Errno 28\b|Disk quota exceeded",
        _fixed(
            "The disk is full: free some space where Docker stores its volumes (`docker system df` shows what uses it)."
            " There is no attempt before that."
        ),
    ),
    (
        r"certificate is not yet valid|certificate has expired|by this machine's clock",
        lambda request: (
            f"By this machine's clock ({request.now:%F %T} UTC) a certificate is not valid: correct the clock"
            " (`timedatectl` shows it). If it is right, the certificate of the directory has expired."
        ),
    ),
    (
        r"unable to get local issuer|self[- ]signed certificate|unable to get issuer",
        lambda request: (
            f"No CA that this container trusts signed the certificate of {request.directory}: put the PEM of its CA"
            f" into {_SETTING}.directory_ca."
        ),
    ),
    (
        r"Hostname mismatch|doesn't match|IP address mismatch",
        lambda request: (
            f"The server at {request.directory} has a certificate for another name; check {_SETTING}.directory."
        ),
    ),
    (
        r"Unable to find a Route53 hosted zone",
        _fixed(
            "This AWS account has no public hosted zone for the name: create one, or set keys of the account that has"
            f" it ({_SETTING}.route53)."
        ),
    ),
    (
        r"Unable to locate credentials|NoCredentials",
        _fixed(f"There are no AWS keys: set {_SETTING}.route53, or give this machine a role that can change the zone."),
    ),
    (
        r"AccessDenied|not authorized to perform",
        _fixed(
            "The AWS keys lack permissions: they need route53:ListHostedZones, route53:GetChange and"
            " route53:ChangeResourceRecordSets."
        ),
    ),
    (
        r"InvalidClientTokenId|SignatureDoesNotMatch|security token included in the request",
        _fixed(f"AWS does not know these keys: check {_SETTING}.route53."),
    ),
    (
        r"Could not connect to the endpoint URL|EndpointConnectionError|Connect timeout on endpoint",
        _fixed(
            f"Route 53 cannot be reached from this machine: check its internet access, and {_SETTING}.route53.endpoint."
        ),
    ),
    (
        r"external account binding|externalAccountRequired|externalAccount",
        _fixed(
            f"The issuer requires external account binding: set {_SETTING}.external_account to the key id and HMAC key"
            " that it gave you."
        ),
    ),
    (r"\bcaa\b", lambda request: _caa(request.names[0])),
    (
        r"invalidProfile|\bprofile\b",
        _fixed(f"The issuer has no such profile: {_SETTING}.profile must be one that it lists, or null."),
    ),
    (
        r"userActionRequired|terms of service",
        _fixed("The issuer requires agreement to its new terms: open the address that it names, and agree there."),
    ),
    (
        r"invalidContact|invalidEmail|unsupportedContact|invalid email|contact email",
        _fixed(f"The issuer does not accept this e-mail address: check {_SETTING}.email."),
    ),
    (
        r"rejectedIdentifier|unsupportedIdentifier|forbidden by policy|redundant with a wildcard|blocked|public suffix",
        _fixed(
            "The issuer issues no certificate for one of these names: check site.domain, site.aliases and"
            " certificate.additional_names."
        ),
    ),
    (
        r"does not support any combination of challenges|none of the preferred challenges|wildcard",
        _fixed(f"The issuer requires another challenge for a name: a wildcard needs {_SETTING}.challenge: dns-01."),
    ),
    (
        r"accountDoesNotExist",
        _fixed("The issuer has forgotten the account that is stored here; the next attempt creates a new one."),
    ),
    (
        _UNREACHABLE,
        lambda request: (
            f"{request.directory} cannot be reached from this container: check this machine's internet access"
            " (firewall, DNS) and the issuer's status page."
        ),
    ),
    (
        r"serverInternal|HTTP 5\d\d|Service busy",
        _fixed("The issuer itself has a problem; see its status page."),
    ),
    (r"Another instance of Certbot", _fixed("A dry run is in progress; the next attempt follows it.")),
)
