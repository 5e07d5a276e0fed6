"""From what certbot printed to what stands in the way, and what to do about it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_SETTING = "certificate.lets_encrypt"


@dataclass(frozen=True)
class Trouble:
    """Why an attempt came to nothing."""

    error: str
    """In the issuer's or certbot's own words."""
    hint: str
    """What that means, and what helps."""
    not_before: datetime | None = None
    """Until when the issuer wants not to be asked."""


@dataclass(frozen=True)
class Asked:
    """What was asked of whom, for the hint."""

    names: tuple[str, ...]
    challenge: str
    directory: str
    now: datetime


@dataclass(frozen=True)
class _Refusal:
    """A challenge that the issuer found unanswered."""

    name: str
    kind: str
    detail: str


_REFUSALS = re.compile(
    r"^ *(?:Identifier|Domain): (?P<name>.+)\n *Type: +(?P<kind>.+)\n *Detail: (?P<detail>(?:.+\n?)+)", re.MULTILINE
)
# What the debug log says of an answer that ended the run; others, such as of a stale nonce, certbot deals with itself.
_PROBLEM = re.compile(r"^acme\.messages\.Error: urn:ietf:params:acme:error:(\w+)", re.MULTILINE)
_TOO_MANY = re.compile(r"HTTP (?:429|503)\n(?:[\w-]+: .*\n)*?Retry-After: (\d+)", re.IGNORECASE)
_DATE = re.compile(r"retry after (\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d+)?\s*(?:UTC|Z|\+0000)?", re.IGNORECASE)
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

_NO_WAY = (
    r"Max retries exceeded|NameResolutionError|Name or service not known|name resolution|Connection refused"
    r"|timed out|Connection aborted|Network is unreachable|No route to host"
)


def is_stale_nonce(log: str) -> bool:
    """Whether a run ended because its nonces were refused, which says nothing of the next (RFC 8555 section 6.5)."""
    kinds = _PROBLEM.findall(log)
    return bool(kinds) and kinds[-1] == "badNonce"


def explain(output: str, log: str, asked: Asked) -> Trouble:
    """Return what stood in the way; `log` is certbot's debug log of the same run."""
    refusals = [
        _Refusal(found["name"].strip(), found["kind"].strip(), " ".join(found["detail"].split()))
        for found in _REFUSALS.finditer(output)
    ]
    if refusals:
        error = "; ".join(f"{refusal.name}: {refusal.detail}" for refusal in refusals)
        hint = " ".join(dict.fromkeys(_of_refusal(refusal, asked) for refusal in refusals))
        return Trouble(error, hint, _date(error, log, asked.now))
    words = _words(output)
    kinds = _PROBLEM.findall(log)
    kind = kinds[-1] if kinds else ""
    not_before = _date(words, log, asked.now)
    if kind == "rateLimited" or not_before is not None or re.search(r"too many|rate ?limit", words, re.IGNORECASE):
        return Trouble(words, _of_limit(not_before), not_before)
    for pattern, hint in _HINTS:
        if re.search(pattern, f"{kind}: {words}", re.IGNORECASE):
            return Trouble(words, hint(asked))
    return Trouble(
        words, "No cure for this is known here; certbot's own words are in the log (make logs ROLE=certbot)."
    )


def _words(output: str) -> str:
    lines = [line.strip() for line in output.splitlines()]
    kept = [line for line in lines if line and not _CHATTER.search(line)]
    return " ".join(kept) or "certbot ended without a word"


def _date(words: str, log: str, now: datetime) -> datetime | None:
    """Return the moment before which the issuer wants not to be asked."""
    found = _DATE.search(words)
    if found is not None:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}").replace(tzinfo=UTC)
    seconds = _TOO_MANY.findall(log)
    return now + timedelta(seconds=int(seconds[-1])) if seconds else None


def _of_limit(not_before: datetime | None) -> str:
    until = "some hours" if not_before is None else f"{not_before:%F %T} UTC"
    return (
        f"The issuer's limit is reached; it takes no further order until {until}, and is not asked before that. Another"
        f" issuer need not wait: {_SETTING}.fallback."
    )


def _of_refusal(refusal: _Refusal, asked: Asked) -> str:
    name, detail = refusal.name, refusal.detail
    if refusal.kind == "caa" or "CAA" in detail:
        return _caa(name)
    if asked.challenge == "dns-01":
        return (
            f"The issuer does not find the TXT record at _acme-challenge.{name.removeprefix('*.')}: the zone at"
            " Route 53 must be the one that the domain's name servers (NS, at its registrar) lead to."
        )
    if refusal.kind in {"dns", "unknownHost", "dnssec"} or _NO_ADDRESS.search(detail):
        return (
            f"The name {name} leads nowhere: make an A record with this machine's public address (an AAAA record only"
            " if IPv6 leads here too). A new record takes some minutes to be known everywhere."
        )
    if refusal.kind in {"connection", "tls"}:
        return (
            f"Nothing answers for {name} at port 80: its A and AAAA records must lead to this machine, and port 80 must"
            " be open from the internet to here, in firewall, security group and router (site.listen.http_port)."
        )
    if refusal.kind in {"unauthorized", "incorrectResponse"}:
        return (
            f"Another server answers for {name}: its A and AAAA records must lead to this machine, and whatever stands"
            " in front must pass http://…/.well-known/acme-challenge/ on to it."
        )
    return f"The issuer could not see that {name} is yours."


def _caa(name: str) -> str:
    return (
        f"A CAA record of {name}, or of a domain above it, allows other issuers only: add one for this issuer, such as"
        ' 0 issue "letsencrypt.org".'
    )


def _fixed(words: str) -> Callable[[Asked], str]:
    return lambda _: words


# The first that fits; what comes from this machine stands before what an issuer says.
_HINTS: tuple[tuple[str, Callable[[Asked], str]], ...] = (
    (
        r"No space left on device|Errno 28\b|Disk quota exceeded",
        _fixed(
            "The disk is full: free some space where Docker keeps its volumes (`docker system df` shows what takes it)."
            " Nothing is asked of an issuer before that."
        ),
    ),
    (
        r"certificate is not yet valid|certificate has expired|by this machine's clock",
        lambda asked: (
            f"This machine's clock says {asked.now:%F %T} UTC, and by it a certificate is out of date: set the clock"
            " right (`timedatectl` shows it). If it is right, the certificate of the directory is out of date."
        ),
    ),
    (
        r"unable to get local issuer|self[- ]signed certificate|unable to get issuer",
        lambda asked: (
            f"Nobody whom this container trusts vouches for {asked.directory}: put the PEM of its CA into"
            f" {_SETTING}.directory_ca."
        ),
    ),
    (
        r"Hostname mismatch|doesn't match|IP address mismatch",
        lambda asked: (
            f"The server at {asked.directory} has a certificate for another name; check {_SETTING}.directory."
        ),
    ),
    (
        r"Unable to find a Route53 hosted zone",
        _fixed(
            "This AWS account has no public hosted zone for the name: make one, or give keys of the account that has it"
            f" ({_SETTING}.route53)."
        ),
    ),
    (
        r"Unable to locate credentials|NoCredentials",
        _fixed(f"There are no AWS keys: set {_SETTING}.route53, or give this machine a role that may change the zone."),
    ),
    (
        r"AccessDenied|not authorized to perform",
        _fixed(
            "The AWS keys may not do that: they need route53:ListHostedZones, route53:GetChange and"
            " route53:ChangeResourceRecordSets."
        ),
    ),
    (
        r"InvalidClientTokenId|SignatureDoesNotMatch|security token included in the request",
        _fixed(f"AWS does not know these keys: check {_SETTING}.route53."),
    ),
    (
        r"Could not connect to the endpoint URL|EndpointConnectionError|Connect timeout on endpoint",
        _fixed(f"Route 53 cannot be reached from this machine: check its way out, and {_SETTING}.route53.endpoint."),
    ),
    (
        r"external account binding|externalAccountRequired|externalAccount",
        _fixed(
            f"The issuer wants to know whose account this is: set {_SETTING}.external_account to the key id and HMAC"
            " key that it gave you."
        ),
    ),
    (r"\bcaa\b", lambda asked: _caa(asked.names[0])),
    (
        r"invalidProfile|\bprofile\b",
        _fixed(f"The issuer has no such profile: {_SETTING}.profile must be one that it names, or null."),
    ),
    (
        r"userActionRequired|terms of service",
        _fixed("The issuer wants its terms agreed to anew: open the address that it names, and agree there."),
    ),
    (
        r"invalidContact|invalidEmail|unsupportedContact|invalid email|contact email",
        _fixed(f"The issuer does not take this e-mail address: check {_SETTING}.email."),
    ),
    (
        r"rejectedIdentifier|unsupportedIdentifier|forbidden by policy|redundant with a wildcard|blocked|public suffix",
        _fixed(
            "The issuer gives no certificate for one of these names: check site.domain, site.aliases and"
            " certificate.additional_names."
        ),
    ),
    (
        r"does not support any combination of challenges|none of the preferred challenges|wildcard",
        _fixed(
            f"The issuer wants another proof for one of the names: a wildcard demands {_SETTING}.challenge: dns-01."
        ),
    ),
    (
        r"accountDoesNotExist",
        _fixed("The issuer has forgotten the account that is kept here; a new one is made at the next attempt."),
    ),
    (
        _NO_WAY,
        lambda asked: (
            f"{asked.directory} cannot be reached from this container: check this machine's way out (firewall, DNS) and"
            " the issuer's status page."
        ),
    ),
    (
        r"serverInternal|HTTP 5\d\d|Service busy",
        _fixed("The issuer has a problem of its own; its status page may say which."),
    ),
    (r"Another instance of Certbot", _fixed("A dry run is going on; the next attempt comes after it.")),
)
