"""Explains the errors that certbot and ACME issuers report, with a hint for each."""

import re
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
    return _error_type(log) == "badNonce"


def _error_type(log: str) -> str:
    return (_ERROR_TYPE.findall(log) or [""])[-1]


def explain(output: str, log: str, request: Request) -> AcmeFailure:
    """Return the failure; `log` is certbot's debug log of the same run."""
    challenge_errors = [
        (match["name"].strip(), match["kind"].strip(), " ".join(match["detail"].split()))
        for match in _CHALLENGE_ERRORS.finditer(output)
    ]
    if challenge_errors:
        error = "; ".join(f"{name}: {detail}" for name, _, detail in challenge_errors)
        hints = [_challenge_hint(*challenge_error, request.challenge) for challenge_error in challenge_errors]
        return AcmeFailure(error, " ".join(dict.fromkeys(hints)), _retry_date(error, log, request.now))
    words = _message(output)
    kind = _error_type(log)
    not_before = _retry_date(words, log, request.now)
    if kind == "rateLimited" or not_before is not None or re.search(r"too many|rate ?limit", words, re.IGNORECASE):
        return AcmeFailure(words, _rate_limit_hint(not_before), not_before)
    for pattern, hint in _HINTS.items():
        if re.search(pattern, f"{kind}: {words}", re.IGNORECASE):
            name, directory, now = request.names[0], request.directory, request.now
            return AcmeFailure(words, hint.format(name=name, directory=directory, now=now, setting=_SETTING))
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


def _challenge_hint(name: str, kind: str, detail: str, challenge: str) -> str:
    """Return the hint for a challenge that the issuer could not validate."""
    if kind == "caa" or "CAA" in detail:
        hint = _CAA
    elif challenge == "dns-01":
        hint = (
            "The issuer does not find the TXT record at _acme-challenge.{zone}: the zone at"
            " Route 53 must be the one to which the domain's name servers (NS, at its registrar) delegate."
        )
    elif kind in {"dns", "unknownHost", "dnssec"} or _NO_ADDRESS.search(detail):
        hint = (
            "The name {name} has no A/AAAA record: create an A record with this machine's public address (an AAAA"
            " record only if IPv6 reaches this machine). A new record takes some minutes to be visible everywhere."
        )
    elif kind in {"connection", "tls"}:
        hint = (
            "Nothing answers for {name} at port 80: its A and AAAA records must point to this machine, and"
            " port 80 must be open from the internet, in firewall, security group and router (site.listen.http_port)."
        )
    elif kind in {"unauthorized", "incorrectResponse"}:
        hint = (
            "Another server answers for {name}: its A and AAAA records must point to this machine, and any proxy in"
            " front of it must forward http://…/.well-known/acme-challenge/."
        )
    else:
        hint = "The issuer could not validate that you control {name}."
    return hint.format(name=name, zone=name.removeprefix("*."))


_CAA = (
    "A CAA record of {name}, or of a domain above it, allows other issuers only: add one for this issuer, such as"
    ' 0 issue "letsencrypt.org".'
)
# The first match wins; errors of this machine come before those that an issuer reports.
_HINTS = {
    r"No space left on device|Errno 28\b|Disk quota exceeded": (
        "The disk is full: free some space where Docker stores its volumes (`docker system df` shows what uses it)."
        " There is no attempt before that."
    ),
    r"certificate is not yet valid|certificate has expired|by this machine's clock": (
        "By this machine's clock ({now:%F %T} UTC) a certificate is not valid: correct the clock"
        " (`timedatectl` shows it). If it is right, the certificate of the directory has expired."
    ),
    r"unable to get local issuer|self[- ]signed certificate|unable to get issuer": (
        "No CA that this container trusts signed the certificate of {directory}: put the PEM of its CA"
        " into {setting}.directory_ca, or that of a proxy that inspects TLS into outbound.certificate_authorities."
    ),
    r"Hostname mismatch|doesn't match|IP address mismatch": (
        "The server at {directory} has a certificate for another name; check {setting}.directory."
    ),
    r"Unable to find a Route53 hosted zone": (
        "This AWS account has no public hosted zone for the name: create one, or set keys of the account that has"
        " it ({setting}.route53)."
    ),
    r"Unable to locate credentials|NoCredentials": (
        "There are no AWS keys: set {setting}.route53, or give this machine a role that can change the zone."
    ),
    r"AccessDenied|not authorized to perform": (
        "The AWS keys lack permissions: they need route53:ListHostedZones, route53:GetChange and"
        " route53:ChangeResourceRecordSets."
    ),
    r"InvalidClientTokenId|SignatureDoesNotMatch|security token included in the request": (
        "AWS does not know these keys: check {setting}.route53."
    ),
    r"Could not connect to the endpoint URL|EndpointConnectionError|Connect timeout on endpoint": (
        "Route 53 cannot be reached from this machine: check its internet access, and {setting}.route53.endpoint."
    ),
    r"external account binding|externalAccountRequired|externalAccount": (
        "The issuer requires external account binding: set {setting}.external_account to the key id and HMAC key"
        " that it gave you."
    ),
    r"\bcaa\b": _CAA,
    r"invalidProfile|\bprofile\b": (
        "The issuer has no such profile: {setting}.profile must be one that it lists, or null."
    ),
    r"userActionRequired|terms of service": (
        "The issuer requires agreement to its new terms: open the address that it names, and agree there."
    ),
    r"invalidContact|invalidEmail|unsupportedContact|invalid email|contact email": (
        "The issuer does not accept this e-mail address: check {setting}.email."
    ),
    r"rejectedIdentifier|unsupportedIdentifier|forbidden by policy|redundant with a wildcard|blocked|public suffix": (
        "The issuer issues no certificate for one of these names: check site.domain, site.aliases and"
        " certificate.additional_names."
    ),
    r"does not support any combination of challenges|none of the preferred challenges|wildcard": (
        "The issuer requires another challenge for a name: a wildcard needs {setting}.challenge: dns-01."
    ),
    r"accountDoesNotExist": (
        "The issuer has forgotten the account that is stored here; the next attempt creates a new one."
    ),
    _UNREACHABLE: (
        "{directory} cannot be reached from this container: check this machine's internet access"
        " (firewall, DNS) and the issuer's status page; behind a company's proxy, set outbound.proxy."
    ),
    r"serverInternal|HTTP 5\d\d|Service busy": "The issuer itself has a problem; see its status page.",
    r"Another instance of Certbot": "A dry run is in progress; the next attempt follows it.",
}
"""Pattern of the error -> hint, in which `{name}` is the first name, and `{now}` the time."""
