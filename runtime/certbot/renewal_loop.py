"""Obtains, renews and publishes the certificate until the container stops."""

import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any, NoReturn

from cryptography import x509

from . import handover, state
from .acme_errors import AcmeFailure
from .certbot import Certbot, disk_error, exclusive
from .key_pair import CertificateAndKey, names_of, serial_of
from .settings import Issuer, Settings, Timing, read
from .state import iso, say

_LONGEST_RATE_LIMIT = timedelta(days=8)
"""Issuers' rate limits last at most a week."""


def main() -> int:
    """Run until the container stops."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    settings = read()
    say(f"for {', '.join(settings.names)}, from {settings.issuers[0].directory}")
    handover.prepare()
    Renewer(settings).run()
    return 0


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    """Exit; this also stops a running certbot."""
    say("stopping")
    sys.exit(0)


class StatusFile:
    """One JSON document, rewritten at each change."""

    def __init__(self, settings: Settings, memory: state.Memory) -> None:
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
                "at": iso(_now()),
                "kind": kind,
                "directory": directory,
                "error": None if why is None else why.error,
                "hint": None if why is None else why.hint,
            }
        )

    def next_attempt(self, moment: datetime) -> None:
        """Record the time of the next attempt."""
        self._set(next_attempt=iso(moment), attempts=self._memory.attempts)

    def served(self, certificate: x509.Certificate) -> bool:
        """Record the certificate that the proxy serves; return whether it changed."""
        last = self._document["last_attempt"]
        if self.unserved_serial is not None and last is not None and last["kind"] == "offer":
            self._document["last_attempt"] = {**last, "error": None, "hint": None}
        self.unserved_serial = None
        before = self._document["served"]
        serial, names = serial_of(certificate), list(names_of(certificate) or ())
        self._set(served={"serial": serial, "names": names, "not_after": iso(certificate.not_valid_after_utc)})
        return before is None or bool(before["serial"] != serial)

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


class Renewer:
    """The renewal loop."""

    def __init__(self, settings: Settings) -> None:
        """Load the state of an earlier container with the same settings."""
        self._settings = settings
        self._timing = settings.timing
        self._certbot = Certbot(settings)
        self._memory = state.load(settings.fingerprint)
        for issuer in settings.issuers:
            issuer_state = self._memory.for_issuer(issuer.directory)
            if not issuer_state.limited and (issuer.staging is not None or not issuer_state.real_failures):
                # A restart may follow a fix, and a dry run or a first attempt costs nothing.
                issuer_state.not_before = None
        self._status = StatusFile(settings, self._memory)

    def run(self) -> None:
        """Attempt a renewal when it is due; in between, check that the published certificate is served."""
        due, elapsed = _now(), time.monotonic()
        while True:
            # Two clocks: the wall clock may be set back, the monotonic one stops while the machine sleeps.
            if _now() >= due or time.monotonic() >= elapsed:
                with exclusive():
                    wait = self._attempt()
                due, elapsed = _now() + wait, time.monotonic() + wait.total_seconds()
                self._status.next_attempt(due)
            is_served = self._wait_until_served()
            left = min((due - _now()).total_seconds(), elapsed - time.monotonic())
            time.sleep(max(0, left if is_served else min(left, self._timing.look_again)))

    def _attempt(self) -> timedelta:
        """Let each issuer try what is due until one succeeds; return the time to the next attempt."""
        lineage = self._certbot.lineage()
        usable = lineage is not None and lineage.validation_error(self._settings.names, _now()) is None
        if lineage is not None and usable:
            # Before any request: after a restart there may be nothing to request.
            self._publish(lineage)
        attempted = False
        for issuer in self._settings.issuers:
            if self._is_backing_off(issuer):
                continue
            attempted = True
            is_stale = lineage is not None and not self._is_from_an_issuer(lineage)
            if self._request(issuer, lineage if usable else None, is_stale=is_stale):
                return self._succeeded(issuer)
        if attempted:
            self._memory.attempts += 1
            self._save()
        return self._next_retry()

    def _request(self, issuer: Issuer, lineage: CertificateAndKey | None, *, is_stale: bool) -> bool:
        """Ask one issuer, after a failure first in a dry run; return whether there is a certificate for now."""
        kind = "issue" if lineage is None else "renewal"
        no_room = disk_error()
        if no_room is not None:
            return self._failed(issuer, kind, issuer.directory, self._certbot.explain(no_room, issuer.directory))
        if issuer.staging is not None and self._memory.for_issuer(issuer.directory).failures:
            say(f"dry run at {issuer.staging}, since the last attempt failed")
            result = self._certbot.dry_run(issuer)
            if not result.succeeded:
                why = self._certbot.explain(result.output, issuer.staging, result.log)
                return self._failed(issuer, "dry run", issuer.staging, why)
            self._status.attempted("dry run", issuer.staging)
        result = self._certbot.issue(issuer, renew=is_stale)
        is_due = result.has_ordered or is_stale or lineage is None or _now() >= lineage.renew_from
        if not result.succeeded:
            why = self._certbot.explain(result.output, issuer.directory, result.log)
            if is_due:
                return self._failed(issuer, kind, issuer.directory, why, counted=result.has_ordered)
            # Certbot fetches the directory before it knows whether a renewal is due; that error is no failure yet.
            say(f"{issuer.directory} could not be asked whether to renew already: {why.error}")
            return True
        new = self._certbot.lineage()
        error = "certbot stored no certificate" if new is None else new.validation_error(self._settings.names, _now())
        if new is None or error is not None:
            why = self._certbot.explain(str(error), issuer.directory)
            return self._failed(issuer, kind, issuer.directory, why, counted=True)
        if lineage is None or new.serial != lineage.serial:
            say(f"{kind}: {issuer.directory} issued {new.serial}, valid until {new.not_after:%F %T} UTC")
            self._memory.issued = {"serial": new.serial, "directory": issuer.directory, "profile": issuer.profile}
            self._status.attempted(kind, issuer.directory)
        elif self._memory.attempts:
            # The cause of the last failure is gone, and nothing is due.
            self._status.attempted(kind, issuer.directory)
        self._publish(new)
        return True

    def _succeeded(self, issuer: Issuer) -> timedelta:
        self._memory.issuers[issuer.directory] = state.IssuerState()
        self._memory.attempts = 0
        self._save()
        published = handover.published()
        if published is None:
            return timedelta(seconds=self._timing.look_again)
        return next_check(published.not_before, published.not_after, self._timing)

    def _failed(self, issuer: Issuer, kind: str, directory: str, why: AcmeFailure, *, counted: bool = False) -> bool:
        """Record a failure and set the issuer's back-off; return False, since there is no certificate.

        `counted`: whether there was an order, which counts against the issuer's rate limits.
        """
        say(f"{kind} at {directory} failed: {why.error}")
        say(why.hint)
        self._status.attempted(kind, directory, why)
        issuer_state = self._memory.for_issuer(issuer.directory)
        issuer_state.failures += 1
        issuer_state.real_failures += counted
        issuer_state.limited = why.not_before is not None
        # A dry run follows the first failure if the issuer has a staging directory. An order that fails after a
        # successful dry run, or without one, is retried rarely.
        if not counted or (issuer.staging is not None and issuer_state.real_failures == 1):
            wait = back_off(issuer_state.failures, self._timing.rehearsals, self._timing)
        else:
            wait = back_off(issuer_state.real_failures, self._timing.attempts, self._timing)
        later = max(_now() + wait, why.not_before) if why.not_before is not None else _now() + wait
        issuer_state.not_before = iso(later)
        if "forgotten the account" in why.hint:
            self._certbot.forget_account(issuer)
        return False

    def _is_backing_off(self, issuer: Issuer) -> bool:
        issuer_state = self._memory.for_issuer(issuer.directory)
        if issuer_state.not_before is None:
            return False
        ahead = datetime.fromisoformat(issuer_state.not_before) - _now()
        # A time further ahead was written while the clock was wrong.
        longest = _LONGEST_RATE_LIMIT if issuer_state.limited else timedelta(seconds=2 * self._timing.attempts[1])
        return timedelta(0) < ahead < longest

    def _next_retry(self) -> timedelta:
        moments = [self._memory.for_issuer(issuer.directory).not_before for issuer in self._settings.issuers]
        earliest = min(datetime.fromisoformat(moment) for moment in moments if moment is not None)
        return max(earliest - _now(), timedelta(seconds=1))

    def _is_from_an_issuer(self, lineage: CertificateAndKey) -> bool:
        """Return whether it comes from one of these issuers, with the requested profile."""
        issued = self._memory.issued
        if issued.get("serial") != lineage.serial:
            return True
        return any(
            (issued["directory"], issued["profile"]) == (issuer.directory, issuer.profile)
            for issuer in self._settings.issuers
        )

    def _publish(self, new: CertificateAndKey) -> None:
        current = handover.published()
        if current is None or current.serial != new.serial:
            try:
                handover.publish(new)
            except OSError as error:
                why = self._certbot.explain(str(error), str(handover.PUBLISHED))
                say(f"the certificate cannot be offered: {why.error}. {why.hint}")
                self._status.attempted("offer", str(handover.PUBLISHED), why)
                return
            say(f"offered to the proxy: {new.serial} for {', '.join(new.names)}")
        self._status.published(new)

    def _wait_until_served(self) -> bool:
        """Return whether the proxy serves the published certificate, within the time-out."""
        published = handover.published()
        if published is None:
            return True
        has_timed_out = self._status.unserved_serial == published.serial
        deadline = time.monotonic() + (0 if has_timed_out else self._timing.served_within)
        while True:
            try:
                served = handover.served(self._settings)
            except OSError as error:
                why = f"the proxy does not answer ({error})"
            else:
                why = f"the proxy serves {serial_of(served)}"
                if serial_of(served) == published.serial:
                    if self._status.served(served):
                        say(why)
                        handover.prune(published.serial)
                    return True
            if time.monotonic() >= deadline:
                self._status.not_served(published.serial, why)
                return False
            time.sleep(0.5)

    def _save(self) -> None:
        try:
            state.save(self._memory)
        except OSError as error:
            say(f"the state cannot be written: {error}")


def next_check(not_before: datetime, not_after: datetime, timing: Timing) -> timedelta:
    """Return how long to wait until certbot checks again whether to renew.

    Certbot decides, by the issuer's advice (ARI) or by its own rule; with frequent checks it renews early.
    """
    interval = (not_after - not_before).total_seconds() / timing.checks_per_lifetime
    return _with_jitter(min(max(interval, timing.shortest_check), timing.longest_check), timing)


def back_off(failures: int, first_and_longest: Sequence[float], timing: Timing) -> timedelta:
    """Return how long to wait after a number of failures in a row: exponential back-off."""
    first, longest = first_and_longest
    # 2.0**1024 overflows.
    return _with_jitter(min(first * 2.0 ** min(failures - 1, 60), longest), timing)


def _with_jitter(seconds: float, timing: Timing) -> timedelta:
    return timedelta(seconds=seconds * random.uniform(1 - timing.jitter, 1 + timing.jitter))  # noqa: S311 - no secret


def _now() -> datetime:
    return datetime.now(UTC)
