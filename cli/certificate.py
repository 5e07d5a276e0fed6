"""The certificate of a running stack: issuer, lifetime and next renewal."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.cli import stack
from open_webui_edge.cli.containers import publications, reachable_address
from open_webui_edge.cli.site import SiteClient
from open_webui_edge.diagnostics.finding import parse_time
from open_webui_edge.runtime.contract import CONFIG_DIR
from open_webui_edge.settings.values import parse_duration

INSTALLED = "/etc/open-webui-edge/current/tls/certificate.pem"
STATE = "/var/lib/open-webui-edge/state.json"
"""File with certbot's state, in the volume that certbot's container and the proxy share."""
DRY_RUN = ("sh", "-c", f"cd {CONFIG_DIR} && exec python3 -B -m obtain dry-run")
"""Command of certbot's container for a dry run of a renewal (components/certificates)."""
_WARN_BEFORE = timedelta(days=14)
_ANSWER_TIMEOUT = 10


@dataclass(frozen=True)
class CertificateConfig:
    """The certificate's settings in the stack file."""

    domain: str
    mode: str
    warn_before: timedelta
    proxy_protocol: bool

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "CertificateConfig":
        """Read the settings; invalid ones fall back to defaults, since the loader reports them."""
        warn_before = _WARN_BEFORE
        with suppress(ValueError):
            warn_before = parse_duration(stack.setting(settings, "certificate.warn_before") or "14d")
        return cls(
            str(stack.setting(settings, "site.domain") or "localhost"),
            str(stack.setting(settings, "certificate.mode") or "self-signed"),
            warn_before,
            bool(stack.setting(settings, "proxy.proxy_protocol")),
        )


def served(engine: Engine, container: Mapping[str, Any], config: CertificateConfig) -> tuple[x509.Certificate, str]:
    """Return the certificate of the proxy and where it was read; raises OSError if it serves none."""
    for inside, listening, port in publications(container):
        if engine.is_local and inside == "443/tcp":
            address = reachable_address(listening)
            # This shows any certificate, so it verifies none.
            host = f"[{config.domain}]" if ":" in config.domain else config.domain
            url = f"https://{host}:{port}"
            with SiteClient(url, address, None, config.proxy_protocol, unverified=True).connect() as secure:
                der = secure.getpeercert(binary_form=True)
            if der is None:
                raise OSError("it presented no certificate")
            return x509.load_der_x509_certificate(der), f"served at {address}:{port}"
    # The firewall may not let this machine reach its port.
    answer = engine.ask("exec", str(container["Name"]).lstrip("/"), "cat", INSTALLED, timeout=_ANSWER_TIMEOUT)
    if answer.returncode:
        raise OSError(answer.stderr.strip() or "its container has no certificate")
    return x509.load_pem_x509_certificates(answer.stdout.encode())[0], f"installed on {engine.address}"


def state_of(engine: Engine, certbot: str) -> dict[str, Any] | None:
    """Return certbot's state file; None if there is none yet."""
    answer = engine.ask("exec", certbot, "cat", STATE, timeout=_ANSWER_TIMEOUT)
    try:
        state = json.loads(answer.stdout) if answer.returncode == 0 else None
    except ValueError:
        return None
    return state if isinstance(state, dict) else None


def table(
    certificate: x509.Certificate,
    config: CertificateConfig,
    *,
    how: str,
    state: Mapping[str, Any] | None,
    now: datetime | None = None,
) -> str:
    """Format the certificate's facts, one per line."""
    now = datetime.now(UTC) if now is None else now
    organizations = certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    own = any(organization.value == stack.PROJECT for organization in organizations)
    rows = [
        ("names", ", ".join(_names(certificate)) or "none"),
        ("mode", config.mode),
        ("issuer", _issuer(certificate) + (", this stack's own CA" if own else "")),
        ("serial", f"{certificate.serial_number:x}"),
        ("valid from", _written(certificate.not_valid_before_utc)),
        ("valid until", _written(certificate.not_valid_after_utc)),
        ("days left", _days_left(certificate, config, now)),
        ("next renewal", _next_renewal(certificate, config, state)),
        *_attempts(config, state),
        ("seen", how),
    ]
    if own and config.mode == "lets-encrypt":
        rows.insert(0, ("placeholder", "served until the issuer's certificate arrives"))
    if own and config.mode == "provided":
        rows.insert(0, ("placeholder", "the stack file provides another certificate, which `make up` installs"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def is_outside_validity(certificate: x509.Certificate, now: datetime | None = None) -> bool:
    """Return whether the current time is outside the certificate's validity."""
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
    # The issuer's name is foreign text: control characters must not reach a terminal.
    return "".join(sign if sign.isprintable() else "?" for sign in " of ".join(parts)) or "not named"


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _days_left(certificate: x509.Certificate, config: CertificateConfig, now: datetime) -> str:
    left = certificate.not_valid_after_utc - now
    warn_before = config.warn_before
    span = f"{warn_before.days} days" if warn_before.days else f"{warn_before.seconds // 3600} hours"
    threshold = f"a warning from {span} on"
    if left <= timedelta():
        return "0: EXPIRED, browsers refuse it"
    if certificate.not_valid_before_utc > now:
        return f"{left.days}: NOT YET VALID, or this machine's clock is wrong"
    return f"{left.days}: WARNING, {threshold}" if left <= warn_before else f"{left.days} ({threshold})"


def _next_renewal(certificate: x509.Certificate, config: CertificateConfig, state: Mapping[str, Any] | None) -> str:
    if config.mode == "provided":
        return "by hand: provide a new certificate and run `make up`"
    if config.mode == "lets-encrypt":
        moments = [parse_time(state.get(key)) for key in ("renew_from", "next_attempt")] if state else []
        known = [_written(moment) for moment in moments if moment is not None]
        return ", next attempt ".join(known) or "unknown: certbot's container has not reported yet"
    # components/certificates/self_signed.py renews in the last third of the lifetime.
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return f"by any `make up` from {_written(certificate.not_valid_after_utc - life / 3)} on"


def _attempts(config: CertificateConfig, state: Mapping[str, Any] | None) -> Sequence[tuple[str, str]]:
    if config.mode != "lets-encrypt":
        return ()
    last = state.get("last_attempt") if state else None
    if not state or not isinstance(last, dict):
        return (("last attempt", "none yet"),)
    moment = parse_time(last.get("at"))
    when = "at a time unknown" if moment is None else _written(moment)
    error, failed = last.get("error"), state.get("attempts")
    rows = [
        ("last attempt", f"{last.get('kind')}, {when}, {last.get('directory')}"),
        ("error", _one_line(error) if error else "none"),
    ]
    if error and isinstance(failed, int) and failed > 1:
        rows.append(("in a row", f"{failed} attempts failed"))
    if last.get("hint"):
        rows.append(("what to do", _one_line(last["hint"])))
    missing = [name for name in state.get("wanted") or () if name not in (state.get("names") or ())]
    if missing and state.get("names"):
        rows.append(("still missing", ", ".join(map(str, missing))))
    return rows


def _one_line(text: object) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(text)).split())
