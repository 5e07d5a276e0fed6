"""Bad input gets one clear message before anything is touched: a file a case."""

import json
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pulumi
import pytest

from open_webui_edge.components.preflight import faults_on
from open_webui_edge.engine.engine import Engine, EngineFacts, Publication, VolumeUse
from open_webui_edge.settings.faults import SettingsError
from open_webui_edge.settings.needed_images import required_images
from open_webui_edge.settings.reading import read_settings
from open_webui_edge.settings.stack import StackSettings
from tests.support.case_files import CASES, Case, case_files, read_case
from tests.unit.graph import STACK, Resource, graph_of

IS_FREE = "open_webui_edge.components.preflight.address_is_free"
SOURCE = f"stacks/Pulumi.{STACK}.yaml"
ROOT = Path(__file__).parent.parent.parent
THROUGH_THE_PROGRAM = (
    *("unknown-key", "port-used-twice", "many-faults-at-once", "aws-many-faults-at-once", "api-key-in-clear"),
    *("listen-beyond-loopback-without-admin", "port-taken-by-a-container", "image-not-built"),
    *("image-cannot-be-pulled", "data-volume-in-use"),
)
"""A case of each way to a refusal: by the models, by what the file holds in clear, and by what the engine says.

All cases go through the loader: what follows it is the same for each.
"""


@pytest.fixture(params=case_files("refused"), ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> Case:
    return read_case(request.param)


def test_message_is_exactly_what_the_case_says(case: Case, *, update: bool) -> None:
    with pytest.raises(SettingsError) as refused:
        _check(case)
    message = f"{refused.value}\n"
    if update:
        case.rewrite(message)
    else:
        assert message == case.expected


@pytest.mark.parametrize("name", THROUGH_THE_PROGRAM)
def test_nothing_is_registered_and_no_traceback_is_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = read_case(CASES / f"refused/{name}.yaml")

    def facts(_: Engine, *, volume: tuple[str, str] | None, **required: Sequence[str]) -> EngineFacts:
        return _facts(case.machine, *required.values(), volume=volume)

    monkeypatch.setattr(Engine, "facts", facts)
    # It has never been up.
    monkeypatch.setattr("open_webui_edge.components.preflight._state_of", lambda _: {})
    monkeypatch.setattr("open_webui_edge.components.preflight._encrypted_paths", lambda _: case.encrypted_paths)
    monkeypatch.setattr(IS_FREE, lambda _, port: port not in _taken(case))
    registered: list[Resource] = []

    def program() -> None:
        pulumi.runtime.config.set_all_config(case.config, sorted(case.secret_keys))
        runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")

    # RunError is what Pulumi shows without a traceback, and ends with an exit code that is not 0.
    with pytest.raises(pulumi.RunError) as refused:
        graph_of(program, registered=registered)
    assert f"{refused.value}\n" == case.expected
    assert registered == []


def test_there_are_enough_cases() -> None:
    assert len(case_files("refused")) >= 40


def test_no_secret_is_in_a_message() -> None:
    for path in case_files("refused"):
        assert "hunter22" not in read_case(path).expected
        assert "correct-horse" not in read_case(path).expected


@pytest.mark.parametrize(
    "value", [{}, {"domain": "CHAT.Example.com"}, {"domain": "2001:db8::1"}, {"domain": "192.0.2.1"}]
)
def test_good_names_are_accepted(value: dict[str, Any]) -> None:
    settings = read_settings({"open-webui-edge:site": json.dumps(value)}, secret_keys=(), source=SOURCE)
    assert settings.site.domain == value.get("domain", "localhost").lower()


def test_a_stack_s_own_containers_are_not_in_its_way() -> None:
    facts = EngineFacts(local=True, publications=(Publication("127.0.0.1", 8443, "edge-unit-nginx", STACK),))
    with patch(IS_FREE, lambda _, port: port != 8443):
        assert faults_on(facts, StackSettings(), STACK) == []


def test_a_port_of_another_address_is_not_in_the_way() -> None:
    facts = EngineFacts(local=True, publications=(Publication("192.0.2.1", 8443, "blog", None),))
    with patch(IS_FREE, lambda *_: True):
        assert faults_on(facts, StackSettings(), STACK) == []


def _check(case: Case) -> None:
    settings = read_settings(
        case.config, secret_keys=case.secret_keys, source=SOURCE, encrypted_paths=case.encrypted_paths
    )
    volume = settings.data.volume
    facts = _facts(case.machine, required_images(settings), volume=None if volume is None else (volume, STACK))
    with patch(IS_FREE, lambda _, port: port not in _taken(case)):
        faults = faults_on(facts, settings, STACK)
    if faults:
        raise SettingsError(SOURCE, faults)


def _taken(case: Case) -> list[int]:
    return case.machine.get("taken", [])


def _facts(machine: dict[str, Any], required: Sequence[str], *, volume: tuple[str, str] | None) -> EngineFacts:
    return EngineFacts(
        local=True,
        rootless=machine.get("rootless", False),
        publications=tuple(
            Publication("0.0.0.0", port, name, None) for name, port in machine.get("published", {}).items()
        ),
        volumes=frozenset(machine.get("volumes", ())),
        missing_images={
            name: machine.get("registry", "") for name in required if name not in machine.get("images", required)
        },
        external_volume=None if volume is None else VolumeUse(**machine.get("volume", {"exists": True})),
    )
