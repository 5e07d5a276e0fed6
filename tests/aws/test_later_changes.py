"""What a changed setting does to a stack that is up: a file a case, and no case loses data.

Behind the tests that look at what came about: what other combinations need is brought into the clouds here.

Every run previews the changes that could lose data or open a port, from the one stack that it brings up. The others are
marked long: each takes one more preview.
"""

import copy
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.aws import stack_files
from tests.aws.combinations import PREVIEWED, Combination, nearest
from tests.aws.stacks import ALWAYS, COMBINATIONS, ByName, Stacks, asked_of
from tests.support.case_files import CASES, SEPARATOR, case_files
from tests.support.cloud import CloudStack, Refused, Step, type_and_name

Change = Callable[[CloudStack], None]
RETAINED = {
    "aws:ebs/volume:Volume",
    "aws:backup/vault:Vault",
    "aws:route53/zone:Zone",
    "tls:index/privateKey:PrivateKey",
}
"""What holds data, or what others rely on."""
LOST = {"delete", "replace", "create-replacement", "delete-replaced"}


CASES_HERE = case_files("changed")
IN_EVERY_RUN = {
    *("backup-off", "data-volume-larger", "instance-with-an-arm-processor", "no-load-balancer-any-more"),
    *("other-network", "other-region", "ssh-from-one-more-network"),
}
Changed = list[Step] | Refused


def _case(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text().partition(SEPARATOR)[0])


def _start(required: Combination) -> str:
    (name,) = [name for name, each in COMBINATIONS.items() if each == nearest(required)]
    return name


def _marks(path: Path) -> Sequence[pytest.MarkDecorator]:
    return () if path.stem in IN_EVERY_RUN else (pytest.mark.long,)


@pytest.fixture(scope="module")
def changed(request: pytest.FixtureRequest, stacks: Stacks, again: ByName[list[str]]) -> Mapping[str, Changed]:
    """What an update would do in each case, and after each change to another combination, that is asked for.

    Those of one stack come one after the other, since they change its file; several stacks at a time.
    """
    del again
    by_stack: dict[str, dict[str, Change]] = defaultdict(dict)
    for params in asked_of(request):
        if "path" in params:
            by_stack[params["name"]][params["path"].stem] = partial(_set, _case(params["path"])["set"])
        else:
            by_stack[params["name"]][params["required"].label] = partial(_choose, params["required"])

    def of(stack: CloudStack) -> dict[str, Changed]:
        return {label: _after(stack, change) for label, change in by_stack[stack.name].items()}

    return {label: result for each in stacks.each(of).values() for label, result in each.items()}


@pytest.mark.parametrize(
    ("name", "path"),
    [pytest.param(_case(path)["stack"], path, marks=_marks(path), id=path.stem) for path in CASES_HERE],
)
def test_a_changed_setting_does_what_the_case_says(
    changed: Mapping[str, Changed], name: str, path: Path, *, update: bool
) -> None:
    assert name == ALWAYS or path.stem not in IN_EVERY_RUN, "every run brings up one stack"
    text, _, expected = path.read_text().partition(SEPARATOR)
    reported = "".join(f"{line}\n" for line in _reported(changed[path.stem]))
    if update:
        path.write_text(f"{text}{SEPARATOR}{reported}")
    else:
        assert reported == expected


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "required"), [pytest.param(_start(required), required, id=required.label) for required in PREVIEWED]
)
def test_every_other_combination_is_a_change_that_loses_no_data(
    changed: Mapping[str, Changed], name: str, required: Combination
) -> None:
    assert _start(required) == name
    result = changed[required.label]
    assert not isinstance(result, Refused), result.words
    assert _lost(result) == []


def _after(stack: CloudStack, change: Change) -> Changed:
    """Return what an update would do after a change of the settings, which is taken back."""
    before = copy.deepcopy(stack.config)
    change(stack)
    stack.write()
    try:
        # `again` has seen that the state is what is there.
        return stack.preview("--refresh=false")
    finally:
        stack.config = before
        stack.write()


def _choose(required: Combination, stack: CloudStack) -> None:
    stack.config = stack_files.config_of(required, stack.cloud)
    stack_files.provide(stack.config, stack.workshop.directory)


def _lost(steps: Sequence[Step]) -> list[str]:
    return [str(step) for step in steps if step.type in RETAINED and step.operation in LOST]


def _set(settings: dict[str, Any], stack: CloudStack) -> None:
    for path, value in settings.items():
        *topics, last = path.split(".")
        place = stack.config
        for topic in topics:
            place = place.setdefault(topic, {})
        place[last] = value


def _reported(result: Changed) -> list[str]:
    if isinstance(result, Refused):
        if "protect" not in result.words:
            # What a cloud calls things is another thing each time.
            said = re.sub(r"subnet-[0-9a-f]+", "subnet-…", result.words)
            return [f"refused: {line.removeprefix('error: ')}" for line in said.splitlines()]
        urns = set(re.findall(r"urn:pulumi:[^\"'\s]+", result.words))
        return sorted(f"refused: {' '.join(type_and_name(urn))} is kept" for urn in urns)
    assert _lost(result) == []
    # Those of one update come in any order; a component is what its resources are.
    return sorted(str(step) for step in result if not step.type.startswith("open-webui-edge:")) or ["nothing"]


def test_there_are_enough_cases() -> None:
    assert len(list((CASES / "changed").iterdir())) >= 30
