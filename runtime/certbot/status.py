"""The status file that `make certificate` and the health check read."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from . import state
from .acme_errors import AcmeFailure
from .handover import ServedCertificate
from .key_pair import CertificateAndKey
from .log import say
from .settings import Settings
from .state import Memory, iso


class StatusFile:
    """One JSON document, rewritten at each change."""

    def __init__(self, settings: Settings, memory: Memory) -> None:
        """Start with the last attempt of an earlier container; everything else may have changed since."""
        before = state.read_status() or {}
        self._memory = memory
        self._proxy = str(settings.proxy)
        self.unserved_serial: str | None = None
        self._document: dict[str, Any] = {
            "wanted": list(settings.names),
            "names": [],
            "issuer": None,
            "serial": None,
            "not_before": None,
            "not_after": None,
            "renew_from": None,
            "next_attempt": None,
            "attempts": memory.attempts,
            "last_attempt": before.get("last_attempt"),
            "served": None,
        }
        self._write()

    def published(self, pair: CertificateAndKey) -> None:
        """Record the published certificate."""
        self._set(
            names=list(pair.names),
            issuer=pair.issuer,
            serial=pair.serial,
            not_before=iso(pair.not_before),
            not_after=iso(pair.not_after),
            renew_from=iso(pair.renew_from),
        )

    def attempted(self, kind: str, directory: str, why: AcmeFailure | None = None) -> None:
        """Record an attempt, and its failure."""
        self._set(
            last_attempt={
                "at": iso(datetime.now(UTC)),
                "kind": kind,
                "directory": directory,
                "error": None if why is None else why.error,
                "hint": None if why is None else why.hint,
            }
        )

    def next_attempt(self, moment: datetime) -> None:
        """Record the time of the next attempt."""
        self._set(next_attempt=iso(moment), attempts=self._memory.attempts)

    def served(self, certificate: ServedCertificate) -> bool:
        """Record the certificate that the proxy serves; return whether it changed."""
        last = self._document["last_attempt"]
        if self.unserved_serial is not None and last is not None and last["kind"] == "offer":
            self._document["last_attempt"] = {**last, "error": None, "hint": None}
        self.unserved_serial = None
        before = self._document["served"]
        is_new = before is None or before["serial"] != certificate.serial
        self._set(
            served={
                "serial": certificate.serial,
                "names": list(certificate.names),
                "not_after": iso(certificate.not_after),
            }
        )
        return bool(is_new)

    def not_served(self, serial: str, why: str) -> None:
        """Record that the published certificate is not served."""
        if self.unserved_serial == serial:
            return
        self.unserved_serial = serial
        error = f"the certificate {serial} is offered, and {why}"
        hint = (
            "The proxy installs an offered certificate within a minute; its log says why it did not"
            " (make logs ROLE=nginx)."
        )
        say(f"{error}. {hint}")
        self.attempted("offer", self._proxy, AcmeFailure(error, hint))

    def _set(self, **changed: object) -> None:
        before = dict(self._document)
        self._document.update(changed)
        if self._document != before:
            self._write()

    def _write(self) -> None:
        # The copy in memory is current even if the disk is full; without it the health check reads the other file.
        with suppress(OSError):
            state.write_status(self._document, state.TMP_COPY)
        try:
            state.write_status(self._document)
            state.write(state.METRICS_FILE, state.metrics(self._document).encode(), 0o644)
        except OSError as error:
            say(f"the status cannot be written: {error}")
