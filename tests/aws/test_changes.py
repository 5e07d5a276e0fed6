"""What a changed setting does to a stack that is up: a file a case, and no case loses data."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.aws import stack_files
from tests.aws.combinations import PREVIEWED, Combination, nearest
from tests.aws.stacks import WANTED, ByName, Stacks
from tests.support.case_files import CASES, SEPARATOR, case_files
from tests.support.cloud import CloudStack, Refused, Step

KEPT = {
    "aws:ebs/volume:Volume",
    "aws:backup/vault:Vault",
    "aws:route53/zone:Zone",
    "tls:index/privateKey:PrivateKey",
}
"""What holds data, or what others rely on."""
LOST = {"delete", "replace", "create-replacement", "delete-replaced"}


@pytest.mark.parametrize("path", case_files("changed"), ids=lambda path: path.stem)
def test_a_changed_setting_does_what_the_case_says(
    stacks: Stacks, again: ByName[list[str]], path: Path, *, update: bool
) -> None:
    text, _, expected = path.read_text().partition(SEPARATOR)
    case = yaml.safe_load(text)
    assert again[case["stack"]] == []
    found = _after(stacks[case["stack"]], lambda config: _set(config, case["set"]))
    told = "".join(f"{line}\n" for line in _told(found))
    if update:
        path.write_text(f"{text}{SEPARATOR}{told}")
    else:
        assert told == expected


@pytest.mark.parametrize("wanted", PREVIEWED, ids=lambda wanted: wanted.label)
def test_every_other_combination_is_a_change_that_loses_no_data(stacks: Stacks, wanted: Combination) -> None:
    (name,) = [name for name, each in WANTED.items() if each == nearest(wanted)]
    stack = stacks[name]

    def choose(config: dict[str, Any]) -> None:
        config.clear()
        config.update(stack_files.config_of(wanted, stack.cloud))
        stack_files.provide(config, stack.workshop.directory)

    steps = _after(stack, choose)
    assert not isinstance(steps, Refused), steps.words
    assert steps != []
    assert [str(step) for step in steps if step.type in KEPT and step.operation in LOST] == []


def _after(stack: CloudStack, change: Any) -> list[Step] | Refused:
    """Return what an update would do after a change of the settings, which is taken back."""
    before = copy.deepcopy(stack.config)
    change(stack.config)
    stack.write()
    try:
        return stack.preview()
    finally:
        stack.config = before
        stack.write()


def _set(config: dict[str, Any], settings: dict[str, Any]) -> None:
    for path, value in settings.items():
        *topics, last = path.split(".")
        place = config
        for topic in topics:
            place = place.setdefault(topic, {})
        place[last] = value


def _told(found: list[Step] | Refused) -> list[str]:
    if isinstance(found, Refused):
        return [f"refused: {line}" for line in found.words.splitlines()]
    assert [str(step) for step in found if step.type in KEPT and step.operation in LOST] == []
    return [str(step) for step in found] or ["nothing"]


def test_there_are_enough_cases() -> None:
    assert len(list((CASES / "changed").iterdir())) >= 30
