"""The certificate of a running stack: what is served, until when, and what comes next."""

import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from bootstrap import stack
from bootstrap.engine import Engine
from bootstrap.front_door import PROXY_UNKNOWN
from diagnostics.moment import moment_of
from stacks.values import parse_duration

INSTALLED = "/etc/open-webui-edge/current/tls/certificate.pem"
STATE = "/var/lib/open-webui-edge/state.json"
"""In the volume that certbot's container and the proxy share."""
DRY_RUN = ("sh", "-c", "cd /run/open-webui-edge && exec python3 -B -m obtain dry-run")
"""What certbot's container runs to practise a renewal (components/certificates)."""
_WARN_BEFORE = timedelta(days=14)
_SECONDS_TO_ANSWER = 10


@dataclass(frozen=True)
class Wanted:
    """What the stack file says of it."""

    domain: str
    mode: str
    warn_before: timedelta
    proxy_protocol: bool

    @classmethod
    def by(cls, settings: Mapping[str, Any]) -> "Wanted":
        """Read it as far as it can be read; the program itself refuses the rest."""
        warn_before = _WARN_BEFORE
        with suppress(ValueError):
            warn_before = parse_duration(stack.setting(settings, "certificate.warn_before") or "14d")
        return cls(
            str(stack.setting(settings, "site.domain") or "localhost"),
            str(stack.setting(settings, "certificate.mode") or "self-signed"),
            warn_before,
            bool(stack.setting(settings, "proxy.proxy_protocol")),
        )


def published(container: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return the address and port at which the proxy's container serves HTTPS to others."""
    for binding in (container["NetworkSettings"]["Ports"] or {}).get("443/tcp") or ():
        address = binding.get("HostIp") or "0.0.0.0"  # noqa: S104 - compared, not bound
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address), int(binding["HostPort"])  # noqa: S104 - likewise
    return None


def served(engine: Engine, container: Mapping[str, Any], wanted: Wanted) -> tuple[x509.Certificate, str]:
    """Return the certificate of the proxy and how it was found out.

    Raises:
        OSError: the proxy did not show one.

    """
    where = published(container)
    if engine.is_local and where is not None:
        return _shown_at(*where, wanted), f"served at {where[0]}:{where[1]}"
    # Its port may be open to that machine alone.
    found = engine.ask("exec", str(container["Name"]).lstrip("/"), "cat", INSTALLED, timeout=_SECONDS_TO_ANSWER)
    if found.returncode:
        raise OSError(found.stderr.strip() or "its container has no certificate")
    return x509.load_pem_x509_certificates(found.stdout.encode())[0], f"installed on {engine.address}"


def _shown_at(address: str, port: int, wanted: Wanted) -> x509.Certificate:
    # It is looked at, whoever signed it.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((address, port), _SECONDS_TO_ANSWER) as plain:
        if wanted.proxy_protocol:
            plain.sendall(PROXY_UNKNOWN)
        with context.wrap_socket(plain, server_hostname=wanted.domain) as secure:
            der = secure.getpeercert(binary_form=True)
    if der is None:
        raise OSError("it showed no certificate")
    return x509.load_der_x509_certificate(der)


def state_of(engine: Engine, certbot: str) -> dict[str, Any] | None:
    """Return what certbot's container says of its attempts; None where it says nothing yet."""
    found = engine.ask("exec", certbot, "cat", STATE, timeout=_SECONDS_TO_ANSWER)
    try:
        state = json.loads(found.stdout) if found.returncode == 0 else None
    except ValueError:
        return None
    return state if isinstance(state, dict) else None


def table(
    certificate: x509.Certificate,
    wanted: Wanted,
    *,
    how: str,
    state: Mapping[str, Any] | None,
    now: datetime | None = None,
) -> str:
    """Return one line a fact."""
    now = datetime.now(UTC) if now is None else now
    own = _is_own(certificate)
    rows = [
        ("names", ", ".join(_names(certificate)) or "none"),
        ("mode", wanted.mode),
        ("issuer", _issuer(certificate) + (", this stack's own authority" if own else "")),
        ("serial", f"{certificate.serial_number:x}"),
        ("valid from", _written(certificate.not_valid_before_utc)),
        ("valid until", _written(certificate.not_valid_after_utc)),
        ("days left", _days_left(certificate, wanted, now)),
        ("next renewal", _next_renewal(certificate, wanted, state)),
        *_attempts(wanted, state),
        ("seen", how),
    ]
    if own and wanted.mode == "lets-encrypt":
        rows.insert(0, ("placeholder", "the issuer's certificate is not there yet; this one fills its place"))
    if own and wanted.mode == "provided":
        rows.insert(0, ("placeholder", "the stack file brings another certificate, which `make up` installs"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def is_over(certificate: x509.Certificate, now: datetime | None = None) -> bool:
    """Whether browsers refuse it for its dates."""
    now = datetime.now(UTC) if now is None else now
    return not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def _issuer(certificate: x509.Certificate) -> str:
    parts = [
        str(attribute.value)
        for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
        for attribute in certificate.issuer.get_attributes_for_oid(kind)[:1]
    ]
    # Whoever signs may write what he likes; a terminal is shown letters only.
    return "".join(sign if sign.isprintable() else "?" for sign in " of ".join(parts)) or "nobody named"


def _is_own(certificate: x509.Certificate) -> bool:
    organizations = certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return any(organization.value == stack.PROJECT for organization in organizations)


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _days_left(certificate: x509.Certificate, wanted: Wanted, now: datetime) -> str:
    left = certificate.not_valid_after_utc - now
    threshold = f"a warning from {_span(wanted.warn_before)} on"
    if left <= timedelta():
        return "0: EXPIRED, browsers refuse it"
    if certificate.not_valid_before_utc > now:
        return f"{left.days}: NOT YET VALID, or this machine's clock is wrong"
    return f"{left.days}: WARNING, {threshold}" if left <= wanted.warn_before else f"{left.days} ({threshold})"


def _span(span: timedelta) -> str:
    return f"{span.days} days" if span.days else f"{span.seconds // 3600} hours"


def _next_renewal(certificate: x509.Certificate, wanted: Wanted, state: Mapping[str, Any] | None) -> str:
    if wanted.mode == "provided":
        return "by hand: bring its successor and run `make up`"
    if wanted.mode == "lets-encrypt":
        moments = [moment_of(state.get(key)) for key in ("renew_from", "next_attempt")] if state else []
        known = [_written(moment) for moment in moments if moment is not None]
        return ", next looked at ".join(known) or "unknown: certbot's container has said nothing yet"
    # components/certificates/self_signed.py: the last third.
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return f"by any `make up` from {_written(certificate.not_valid_after_utc - life / 3)} on"


def _attempts(wanted: Wanted, state: Mapping[str, Any] | None) -> Sequence[tuple[str, str]]:
    if wanted.mode != "lets-encrypt":
        return ()
    last = state.get("last_attempt") if state else None
    if not state or not isinstance(last, dict):
        return (("last attempt", "none yet"),)
    moment = moment_of(last.get("at"))
    when = "at a time unknown" if moment is None else _written(moment)
    rows = [("last attempt", f"{last.get('kind')}, {when}, {last.get('directory')}")]
    if last.get("error"):
        rows.append(("error", _one_line(last["error"])))
        failed = state.get("attempts")
        if isinstance(failed, int) and failed > 1:
            rows.append(("in a row", f"{failed} attempts failed"))
    else:
        rows.append(("error", "none"))
    if last.get("hint"):
        rows.append(("what to do", _one_line(last["hint"])))
    missing = [name for name in state.get("wanted") or () if name not in (state.get("names") or ())]
    if missing and state.get("names"):
        rows.append(("still missing", ", ".join(map(str, missing))))
    return rows


def _one_line(text: object) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(text)).split())
