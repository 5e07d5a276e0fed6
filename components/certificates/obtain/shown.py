"""What `make certificate` and the health check are told."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from . import state
from .log import say
from .offer import Served
from .pair import Pair
from .settings import Settings
from .state import Memory, iso
from .trouble import Trouble


class Shown:
    """One document, written anew whenever it changes."""

    def __init__(self, settings: Settings, memory: Memory) -> None:
        """Go on from what an earlier container showed, but for what another one may have changed."""
        before = state.shown() or {}
        self._memory = memory
        self._proxy = str(settings.proxy)
        self.missed: str | None = None
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

    def offered(self, pair: Pair) -> None:
        """Say what is offered."""
        self._set(
            names=list(pair.names),
            issuer=pair.issuer,
            serial=pair.serial,
            not_before=iso(pair.not_before),
            not_after=iso(pair.not_after),
            renew_from=iso(pair.renew_from),
        )

    def attempted(self, kind: str, directory: str, why: Trouble | None = None) -> None:
        """Say what was tried, and what stood in the way."""
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
        """Say when something is tried, or looked at, next."""
        self._set(next_attempt=iso(moment), attempts=self._memory.attempts)

    def served(self, found: Served) -> bool:
        """Say what the proxy serves; return whether that is news."""
        last = self._document["last_attempt"]
        if self.missed is not None and last is not None and last["kind"] == "offer":
            self._document["last_attempt"] = {**last, "error": None, "hint": None}
        self.missed = None
        before = self._document["served"]
        news = before is None or before["serial"] != found.serial
        self._set(served={"serial": found.serial, "names": list(found.names), "not_after": iso(found.not_after)})
        return bool(news)

    def not_served(self, serial: str, why: str) -> None:
        """Say that what is offered is not served."""
        if self.missed == serial:
            return
        self.missed = serial
        error = f"the certificate {serial} is offered, and {why}"
        hint = (
            "The proxy takes an offer up by itself within a minute; its log says why it did not (make logs ROLE=nginx)."
        )
        say(f"{error}. {hint}")
        self.attempted("offer", self._proxy, Trouble(error, hint))

    def _set(self, **changed: object) -> None:
        before = dict(self._document)
        self._document.update(changed)
        if self._document != before:
            self._write()

    def _write(self) -> None:
        # Memory has room for it; without it the health check reads the other.
        with suppress(OSError):
            state.show(self._document, state.HERE)
        try:
            state.show(self._document)
            state.write(state.FIGURES, state.figures(self._document).encode(), 0o644)
        except OSError as error:
            say(f"the state cannot be written down: {error}")
