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
from tests.aws.stacks import ALWAYS, WANTED, ByName, Stacks, asked_of
from tests.support.case_files import CASES, SEPARATOR, case_files
from tests.support.cloud import CloudStack, Refused, Step, type_and_name

Change = Callable[[CloudStack], None]
KEPT = {
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
Found = list[Step] | Refused


def _case(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text().partition(SEPARATOR)[0])


def _start(wanted: Combination) -> str:
    (name,) = [name for name, each in WANTED.items() if each == nearest(wanted)]
    return name


def _marks(path: Path) -> Sequence[pytest.MarkDecorator]:
    return () if path.stem in IN_EVERY_RUN else (pytest.mark.long,)


@pytest.fixture(scope="module")
def changed(request: pytest.FixtureRequest, stacks: Stacks, again: ByName[list[str]]) -> Mapping[str, Found]:
    """What an update would do in each case, and after each change to another combination, that is asked for.

    Those of one stack come one after the other, since they change its file; several stacks at a time.
    """
    del again
    by_stack: dict[str, dict[str, Change]] = defaultdict(dict)
    for params in asked_of(request):
        if "path" in params:
            by_stack[params["name"]][params["path"].stem] = partial(_set, _case(params["path"])["set"])
        else:
            by_stack[params["name"]][params["wanted"].label] = partial(_choose, params["wanted"])

    def of(stack: CloudStack) -> dict[str, Found]:
        return {label: _after(stack, change) for label, change in by_stack[stack.name].items()}

    return {label: found for each in stacks.each(of).values() for label, found in each.items()}


@pytest.mark.parametrize(
    ("name", "path"),
    [pytest.param(_case(path)["stack"], path, marks=_marks(path), id=path.stem) for path in CASES_HERE],
)
def test_a_changed_setting_does_what_the_case_says(
    changed: Mapping[str, Found], name: str, path: Path, *, update: bool
) -> None:
    assert name == ALWAYS or path.stem not in IN_EVERY_RUN, "every run brings up one stack"
    text, _, expected = path.read_text().partition(SEPARATOR)
    told = "".join(f"{line}\n" for line in _told(changed[path.stem]))
    if update:
        path.write_text(f"{text}{SEPARATOR}{told}")
    else:
        assert told == expected


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "wanted"), [pytest.param(_start(wanted), wanted, id=wanted.label) for wanted in PREVIEWED]
)
def test_every_other_combination_is_a_change_that_loses_no_data(
    changed: Mapping[str, Found], name: str, wanted: Combination
) -> None:
    assert _start(wanted) == name
    found = changed[wanted.label]
    assert not isinstance(found, Refused), found.words
    assert _lost(found) == []


def _after(stack: CloudStack, change: Change) -> Found:
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


def _choose(wanted: Combination, stack: CloudStack) -> None:
    stack.config = stack_files.config_of(wanted, stack.cloud)
    stack_files.provide(stack.config, stack.workshop.directory)


def _lost(steps: Sequence[Step]) -> list[str]:
    return [str(step) for step in steps if step.type in KEPT and step.operation in LOST]


def _set(settings: dict[str, Any], stack: CloudStack) -> None:
    for path, value in settings.items():
        *topics, last = path.split(".")
        place = stack.config
        for topic in topics:
            place = place.setdefault(topic, {})
        place[last] = value


def _told(found: Found) -> list[str]:
    if isinstance(found, Refused):
        if "protect" not in found.words:
            # What a cloud calls things is another thing each time.
            said = re.sub(r"subnet-[0-9a-f]+", "subnet-…", found.words)
            return [f"refused: {line.removeprefix('error: ')}" for line in said.splitlines()]
        urns = set(re.findall(r"urn:pulumi:[^\"'\s]+", found.words))
        return sorted(f"refused: {' '.join(type_and_name(urn))} is kept" for urn in urns)
    assert _lost(found) == []
    # Those of one update come in any order; a component is what its resources are.
    return sorted(str(step) for step in found if not step.type.startswith("open-webui-edge:")) or ["nothing"]


def test_there_are_enough_cases() -> None:
    assert len(list((CASES / "changed").iterdir())) >= 30
