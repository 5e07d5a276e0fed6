"""The program reads its own state, which Pulumi writes at the same time."""

import asyncio
from typing import Any
from unittest.mock import Mock

import pulumi
import pytest
from pulumi.runtime import mocks

from open_webui_edge.components import preflight


class _State(mocks.Mocks):
    """A backend that counts how often it is read."""

    reads = 0

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        return args.name, dict(args.inputs)

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        assert args.token == "pulumi:pulumi:readStackResourceOutputs"
        assert args.args == {"stackName": "acme/open-webui-edge/unit"}
        self.reads += 1
        return {"outputs": {"urn:of-a-volume": {"outputs": {"name": "edge-unit"}}, "urn:of-a-component": {}}}, []


def _state(backend: _State, monkeypatch: pytest.MonkeyPatch, saved: pulumi.Output[str]) -> Any:
    pulumi.runtime.set_mocks(backend, project="open-webui-edge", stack="unit", organization="acme")
    monkeypatch.setattr(pulumi.runtime, "get_root_resource", lambda: Mock(urn=saved))
    return preflight._state_of("unit")  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def test_the_state_is_read_once_the_stack_itself_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = _State()

    async def program() -> None:
        unsaved: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        unsaved.set_exception(TimeoutError("the stack is still being saved"))
        with pytest.raises(TimeoutError, match="still being saved"):
            _state(backend, monkeypatch, pulumi.Output.from_input(unsaved))
        assert backend.reads == 0
        outputs = _state(backend, monkeypatch, pulumi.Output.from_input("urn:of-the-stack"))
        assert outputs == {"urn:of-a-volume": {"name": "edge-unit"}, "urn:of-a-component": {}}

    asyncio.run(program())
