"""Obtains, renews and offers, until the container ends."""

import signal
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import NoReturn

from . import offer, schedule, state, trouble
from .issuing import Certbot, Ended, alone, full
from .log import say
from .pair import Pair
from .settings import Issuer, Settings, read
from .shown import Shown
from .trouble import Trouble

_LONGEST_LIMIT = timedelta(days=8)
"""Issuers count by the week."""


def main() -> int:
    """Go on until the container is stopped."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    settings = read()
    say(f"for {', '.join(settings.names)}, from {settings.issuers[0].directory}")
    offer.prepare()
    Loop(settings).run()
    return 0


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End whatever goes on, certbot with it."""
    say("ending")
    sys.exit(0)


@dataclass(frozen=True)
class _Failed:
    """One issuer's failure."""

    trouble: Trouble
    kind: str
    directory: str
    counted: bool = False
    """Whether an order was made, which counts against the issuer's limits."""


class Loop:
    """What goes on."""

    def __init__(self, settings: Settings) -> None:
        """Remember what an earlier container with the same settings found out."""
        self._settings = settings
        self._timing = settings.timing
        self._certbot = Certbot(settings)
        self._memory = state.remembered(settings.fingerprint)
        for issuer in settings.issuers:
            of = self._memory.of(issuer.directory)
            if not of.limited and (issuer.staging is not None or not of.real_failures):
                # Whoever restarted it may have mended something, and to see that costs nothing.
                of.not_before = None
        self._shown = Shown(settings, self._memory)

    def run(self) -> None:
        """Attempt when it is time, and see in between that what is offered is served."""
        due, elapsed = _now(), time.monotonic()
        while True:
            # By either: a clock may be set back, and a machine may sleep.
            if _now() >= due or time.monotonic() >= elapsed:
                with alone():
                    wait = self._attempt()
                due, elapsed = _now() + wait, time.monotonic() + wait.total_seconds()
                self._shown.next_attempt(due)
            seen = self._see_that_it_is_served()
            left = min((due - _now()).total_seconds(), elapsed - time.monotonic())
            time.sleep(max(0, left if seen else min(left, self._timing.look_again)))

    def _attempt(self) -> timedelta:
        """Have certbot do what is due, and return how long to wait for the next time."""
        held = self._certbot.lineage()
        usable = held is not None and held.fault(self._settings.names, _now()) is None
        if held is not None and usable:
            # Before anybody is asked: after a restart, or beside a kept account, there may be nothing to ask for.
            self._offer(held)
        asked = False
        for issuer in self._settings.issuers:
            if self._is_to_be_left_alone(issuer):
                continue
            asked = True
            failed = self._ask(issuer, held if usable else None, stale=held is not None and not self._is_wanted(held))
            if failed is None:
                return self._succeeded(issuer)
            self._failed(issuer, failed)
        if asked:
            self._memory.attempts += 1
            self._remember()
        return self._until_somebody_may_be_asked()

    def _ask(self, issuer: Issuer, held: Pair | None, *, stale: bool) -> _Failed | None:
        """Ask one issuer, after a failure first in a dry run; return why there is still no certificate."""
        kind = "issue" if held is None else "renewal"
        no_room = full()
        if no_room is not None:
            return _Failed(self._explained(_unsaid(no_room), issuer.directory), kind, issuer.directory)
        if issuer.staging is not None and self._memory.of(issuer.directory).failures:
            say(f"dry run at {issuer.staging}, since the last attempt failed")
            ended = self._certbot.rehearse(issuer)
            if not ended.succeeded:
                return _Failed(self._explained(ended, issuer.staging), "dry run", issuer.staging)
            self._shown.attempted("dry run", issuer.staging)
        ended = self._certbot.issue(issuer, renew=stale)
        if not ended.succeeded and not (ended.ordered or stale) and held is not None and _now() < held.renew_from:
            # Certbot asks for the directory before it knows whether anything is due; to miss that is no failure yet.
            why = self._explained(ended, issuer.directory)
            say(f"{issuer.directory} could not be asked whether to renew already: {why.error}")
            return None
        if not ended.succeeded:
            return _Failed(self._explained(ended, issuer.directory), kind, issuer.directory, ended.ordered)
        new = self._certbot.lineage()
        fault = "certbot kept no certificate" if new is None else new.fault(self._settings.names, _now())
        if new is None or fault is not None:
            why = self._explained(_unsaid(f"{fault}"), issuer.directory)
            return _Failed(why, kind, issuer.directory, counted=True)
        if held is None or new.serial != held.serial:
            say(f"{kind}: {issuer.directory} issued {new.serial}, valid until {new.not_after:%F %T} UTC")
            self._memory.issued = {"serial": new.serial, "directory": issuer.directory, "profile": issuer.profile}
            self._shown.attempted(kind, issuer.directory)
        elif self._memory.attempts:
            # What stood in the way is gone, and nothing is due.
            self._shown.attempted(kind, issuer.directory)
        self._offer(new)
        return None

    def _explained(self, ended: Ended, directory: str) -> Trouble:
        asked = trouble.Asked(self._settings.names, self._settings.challenge, directory, _now())
        return trouble.explain(ended.output, ended.log, asked)

    def _succeeded(self, issuer: Issuer) -> timedelta:
        self._memory.issuers[issuer.directory] = state.OfIssuer()
        self._memory.attempts = 0
        self._remember()
        offered = offer.offered()
        if offered is None:
            return timedelta(seconds=self._timing.look_again)
        return schedule.next_check(offered.not_before, offered.not_after, self._timing)

    def _failed(self, issuer: Issuer, failed: _Failed) -> None:
        why = failed.trouble
        say(f"{failed.kind} at {failed.directory} failed: {why.error}")
        say(why.hint)
        self._shown.attempted(failed.kind, failed.directory, why)
        of = self._memory.of(issuer.directory)
        of.failures += 1
        of.real_failures += failed.counted
        of.limited = why.not_before is not None
        # The first failure is followed by a dry run where there is a place for it; what fails after a good one, or
        # where there is none, is tried seldom.
        if not failed.counted or (issuer.staging is not None and of.real_failures == 1):
            wait = schedule.back_off(of.failures, self._timing.rehearsals, self._timing)
        else:
            wait = schedule.back_off(of.real_failures, self._timing.attempts, self._timing)
        later = max(_now() + wait, why.not_before) if why.not_before is not None else _now() + wait
        of.not_before = state.iso(later)
        if "forgotten the account" in why.hint:
            self._certbot.forget_account(issuer)

    def _is_to_be_left_alone(self, issuer: Issuer) -> bool:
        of = self._memory.of(issuer.directory)
        if of.not_before is None:
            return False
        ahead = datetime.fromisoformat(of.not_before) - _now()
        # Further ahead is only what was written by a clock that was wrong.
        longest = _LONGEST_LIMIT if of.limited else timedelta(seconds=2 * self._timing.attempts[1])
        return timedelta(0) < ahead < longest

    def _until_somebody_may_be_asked(self) -> timedelta:
        moments = [self._memory.of(issuer.directory).not_before for issuer in self._settings.issuers]
        earliest = min(datetime.fromisoformat(moment) for moment in moments if moment is not None)
        return max(earliest - _now(), timedelta(seconds=1))

    def _is_wanted(self, held: Pair) -> bool:
        """Whether it comes from one of these issuers, with the profile that is wanted of it."""
        issued = self._memory.issued
        if issued.get("serial") != held.serial:
            return True
        return any(
            (issued["directory"], issued["profile"]) == (issuer.directory, issuer.profile)
            for issuer in self._settings.issuers
        )

    def _offer(self, new: Pair) -> None:
        current = offer.offered()
        if current is None or current.serial != new.serial:
            try:
                offer.offer(new)
            except OSError as error:
                why = self._explained(_unsaid(str(error)), str(offer.OFFERED))
                say(f"the certificate cannot be offered: {why.error}. {why.hint}")
                self._shown.attempted("offer", str(offer.OFFERED), why)
                return
            say(f"offered to the proxy: {new.serial} for {', '.join(new.names)}")
        self._shown.offered(new)

    def _see_that_it_is_served(self) -> bool:
        """Whether the proxy serves what is offered; after an offer it has some time for that."""
        offered = offer.offered()
        if offered is None:
            return True
        deadline = time.monotonic() + (0 if self._shown.missed == offered.serial else self._timing.served_within)
        while True:
            try:
                found = offer.served(self._settings)
                why = f"the proxy serves {found.serial}"
            except OSError as error:
                found, why = None, f"the proxy does not answer ({error})"
            if found is not None and found.serial == offered.serial:
                if self._shown.served(found):
                    say(f"the proxy serves {found.serial}")
                    offer.forget_others(found.serial)
                return True
            if time.monotonic() >= deadline:
                self._shown.not_served(offered.serial, why)
                return False
            time.sleep(0.5)

    def _remember(self) -> None:
        try:
            state.remember(self._memory)
        except OSError as error:
            say(f"what happened cannot be written down: {error}")


def _unsaid(words: str) -> Ended:
    """Return what stands in the way before, or after, certbot could say anything."""
    return Ended(succeeded=False, output=words, log="")


def _now() -> datetime:
    return datetime.now(UTC)
