"""A restore that changes the stack's secret key: the key of the stack's own is never lost, wherever it is cut short."""

from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.backup import secret_key

OWN, THEIRS, OLD = "the key of its own", "that of the backup", "one of last year"
KINDS = {"written": OWN, "generated": None}


class PowerLostError(BaseException):
    """Nothing runs any more."""


class Target:
    """A stack's file, and an update that may fail."""

    name = "chat"

    def __init__(self, key: str | None, *, former: list[str], steps: int = 1000, fails: bool = False) -> None:
        self.key, self.former = key, former
        self.steps, self.fails = steps, fails
        self.seen: list[tuple[str | None, list[str]]] = []

    @property
    def settings(self) -> dict[str, Any]:
        key = {} if self.key is None else {"secret_key": {"secure": "…"}}
        return {"open_webui": {**key, "former_secret_keys": [{"secure": "…"} for _ in self.former]}}

    def _step(self) -> None:
        if not self.steps:
            raise PowerLostError
        self.steps -= 1
        self.seen.append((self.key, list(self.former)))

    def set_secret(self, path: str, value: str) -> None:
        self._step()
        if path == "open_webui.secret_key":
            self.key = value
        else:
            index = int(path.partition("[")[2][:-1])
            self.former[index:] = [value, *self.former[index + 1 :]]

    def unset(self, path: str) -> None:
        self._step()
        if path == "open_webui.secret_key":
            self.key = None
        else:
            del self.former[int(path.partition("[")[2][:-1])]

    def setting_in_clear(self, path: str) -> str:
        if path == "open_webui.secret_key":
            assert self.key is not None
            return self.key
        return self.former[int(path.partition("[")[2][:-1])]

    def run(self, *_: str) -> None:
        self._step()
        # What every update refuses.
        assert self.key not in self.former
        if self.fails:
            raise ProblemError("up failed")


class Noted:
    """The tasks of the volume, of which the note is one."""

    def __init__(self, note: str = "") -> None:
        self.note = note

    def run(self, _purpose: str, *words: str) -> str:
        if words[0] == "note_other_key":
            self.note = self.note or words[1]
            return ""
        assert words == ("other_key",)
        return f"{self.note} {THEIRS}" if self.note else ""


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Target, Noted], Any]:
    def made(target: Target, noted: Noted) -> Any:
        monkeypatch.setattr(secret_key.stack, "settings_of", lambda _: target.settings)
        return SimpleNamespace(stack=target, name="chat", run_files=noted.run)

    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("former", [[], [OLD], [OLD, THEIRS]], ids=["none", "one", "theirs too"])
@pytest.mark.parametrize("steps", range(12))
def test_a_change_that_is_cut_short_goes_both_ways(
    deployed: Callable[[Target, Noted], Any], kind: str, former: list[str], steps: int
) -> None:
    target, noted = Target(KINDS[kind], former=list(former), steps=steps), Noted()
    with suppress(PowerLostError):
        secret_key.update_with(deployed(target, noted), THEIRS)
    seen = [*target.seen, (target.key, target.former)]
    assert kind == "generated" or all(OWN in {key, *given_up} for key, given_up in seen)
    assert all(OLD in given_up for _, given_up in seen) == bool(former)

    if not noted.note:
        return
    # Forwards.
    again = Target(target.key, former=list(target.former))
    secret_key.update_with(deployed(again, Noted(noted.note)), THEIRS)
    assert again.key == THEIRS
    assert (OWN in again.former) == (kind == "written")
    # And back.
    again = Target(target.key, former=list(target.former))
    secret_key.restore_own_key(deployed(again, noted), THEIRS, noted.note)
    assert again.key == KINDS[kind]
    assert OWN not in again.former or again.key is None or target.key != THEIRS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("former", [[], [OLD]], ids=["none", "one"])
def test_an_update_that_fails_leaves_the_own_key_in_use_and_the_other_one_readable(
    deployed: Callable[[Target, Noted], Any], kind: str, former: list[str]
) -> None:
    target, noted = Target(KINDS[kind], former=list(former), fails=True), Noted()
    for _ in range(2):
        with pytest.raises(ProblemError, match="up failed"):
            secret_key.update_with(deployed(target, noted), THEIRS)
        assert target.key == KINDS[kind]
        assert target.former == [*former, THEIRS]
