"""Who runs `make up` is allowed what the resource graph takes, and not much more."""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.unit.aws.deployments import STACKS, deployed
from tests.unit.aws.rights import LOOK_UPS, TYPES, policy

FILE = Path(__file__).parents[3] / "docs/aws-policy.json"
# Characters without white space, of a managed policy (IAM's quotas).
LONGEST = 6144


# One of each kind; of the others is known that they are made of the same (tests below).
SHOWN = ("staging", "production", "alb-new-created-acm", "nlb-existing-existing-lets-encrypt")


def types(stacks: Sequence[str] = SHOWN) -> set[str]:
    return {one.type for stack in stacks for one in deployed(stack).resources if one.type.startswith("aws:")}


def look_ups(stacks: Sequence[str] = SHOWN) -> set[str]:
    return {token for stack in stacks for token in deployed(stack).look_ups if token.startswith("aws:")}


def test_the_policy_allows_what_the_stacks_are_made_of(*, update: bool) -> None:
    result = policy(sorted(types()), sorted(look_ups()))
    if update:
        FILE.write_text(result)
    assert FILE.read_text() == result, "run: make docs"


def test_nothing_is_allowed_for_what_no_stack_has() -> None:
    assert set(TYPES) == types(STACKS) == types()
    assert set(LOOK_UPS) == look_ups(STACKS) == look_ups()


def test_the_policy_is_short_enough_for_iam() -> None:
    assert len("".join(FILE.read_text().split())) <= LONGEST


def test_nobody_gets_a_whole_service_or_rights_over_other_roles() -> None:
    for statement in json.loads(FILE.read_text())["Statement"]:
        for action in statement["Action"]:
            service, _, name = action.partition(":")
            assert name != "*", action
            # Whatever is there may be read; nothing else is allowed by a pattern but on what has a name of ours.
            assert (
                "*" not in name
                or name.rstrip("*") in {"Describe", "Get", "List"}
                or "edge-" in str(statement["Resource"])
            ), action
            if service == "iam":
                assert statement["Resource"] != "*", action


def test_what_destroys_is_confined_to_what_is_this_program_s() -> None:
    for statement in json.loads(FILE.read_text())["Statement"]:
        deletes = [one for one in statement["Action"] if one.startswith(("ec2:Delete", "ec2:Terminate", "ec2:Release"))]
        if deletes:
            assert statement["Condition"]["StringEquals"]["aws:ResourceTag/app"] == "open-webui-edge", deletes
