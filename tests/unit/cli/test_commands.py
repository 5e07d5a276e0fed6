"""`make down`: what it deletes and what it leaves, also where it was cut short and is given again."""

import json
from typing import Any

import pytest

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli import commands, session, stack

KEY = "urn:pulumi:x::open-webui-edge::tls:index/privateKey:PrivateKey::edge-identity"
DATA = "urn:pulumi:x::open-webui-edge::docker:index/volume:Volume::edge-open-webui-data"
CONTAINER = "urn:pulumi:x::open-webui-edge::docker:index/container:Container::edge-open-webui-replica"
STEPS = 3
"""What `make down DATA=delete` has Pulumi do."""


def _made(urn: str, role: str, *, is_protected: bool) -> dict[str, Any]:
    labels = {"app": "open-webui-edge", "stack": "x", "role": role}
    marks = {"labels": [{"label": key, "value": value} for key, value in labels.items()]}
    protection = {"protect": True, "retainOnDelete": True} if is_protected else {}
    return {"urn": urn, "type": urn.split("::")[2], "outputs": {} if urn == KEY else marks, **protection}


class CutShortError(Exception):
    """The command was killed."""


class FakeStack:
    """A stack whose state and engine are lists, and whose Pulumi does as the real one."""

    name = "x"

    def __init__(self) -> None:
        self.state = [
            _made(KEY, "", is_protected=True),
            _made(DATA, "open-webui-data", is_protected=True),
            _made(CONTAINER, "open-webui", is_protected=False),
        ]
        self.engine = {DATA, CONTAINER}
        self.steps_left = 99

    def exists(self) -> bool:
        return True

    def resources(self) -> list[dict[str, Any]]:
        return json.loads(json.dumps(self.state))

    def run(self, *words: str) -> None:
        self._step()
        if "--exclude-protected" not in words and any(one.get("protect") for one in self.state):
            raise ProblemError("it is protected")
        going = [one for one in self.state if not one.get("protect")]
        self.engine -= {one["urn"] for one in going if not one.get("retainOnDelete")}
        self.state = [one for one in self.state if one not in going]

    def unlock(self) -> None:
        """Nothing holds it."""

    def unprotect(self) -> None:
        self._step()
        self._read(stack.unprotected_state(self._written()))

    def protect(self, urns: list[str]) -> None:
        self._read(stack.protected_state(self._written(), urns))

    def _written(self) -> str:
        return json.dumps({"deployment": {"resources": self.state}})

    def _read(self, text: str) -> None:
        self.state = json.loads(text)["deployment"]["resources"]

    def _step(self) -> None:
        if not self.steps_left:
            raise CutShortError
        self.steps_left -= 1


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> FakeStack:
    made = FakeStack()
    monkeypatch.setenv("YES", "1")
    monkeypatch.setattr(session, "stack_of", lambda _: made)
    monkeypatch.setattr(session, "reachable_engine", lambda *_: None)
    monkeypatch.setattr(commands.OneOffRunner, "clear", lambda *_: None)
    monkeypatch.setattr("open_webui_edge.cli.containers.untag_images", lambda *_: None)
    monkeypatch.setattr("open_webui_edge.cli.stack.settings_of", lambda _: {})
    return made


def test_down_leaves_the_data(target: FakeStack) -> None:
    assert commands.down("x") == 0
    assert target.engine == {DATA}
    assert {one["urn"] for one in target.state} == {KEY, DATA}


@pytest.mark.parametrize("steps", range(STEPS + 1))
def test_deleting_data_that_was_cut_short_is_given_again_and_goes_on(
    target: FakeStack, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA", "delete")
    target.steps_left = steps
    if steps < STEPS:
        with pytest.raises(CutShortError):
            commands.down("x")
    target.steps_left = STEPS
    assert commands.down("x") == 0
    assert target.state == []
    assert target.engine == set()


@pytest.mark.parametrize("steps", range(STEPS))
def test_down_after_a_deletion_that_was_cut_short_leaves_the_data(
    target: FakeStack, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA", "delete")
    target.steps_left = steps
    with pytest.raises(CutShortError):
        commands.down("x")
    monkeypatch.delenv("DATA")
    target.steps_left = STEPS
    assert commands.down("x") == 0
    assert target.engine == {DATA}
    assert [(one["urn"], one["protect"], one["retainOnDelete"]) for one in target.state] == [
        (KEY, True, True),
        (DATA, True, True),
    ]


@pytest.mark.parametrize("data", ["", "delete"])
def test_a_renamed_stack_is_not_taken_down(target: FakeStack, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", data)
    target.name = "y"
    with pytest.raises(ProblemError, match=r"^Nothing was changed\. The stack y was created as x: "):
        commands.down("y")
    assert target.engine == {DATA, CONTAINER}
