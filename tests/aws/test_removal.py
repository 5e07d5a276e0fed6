"""How a stack on AWS goes. The last file of this folder: afterwards there is none."""

import pytest

from tests.aws.combinations import Dns
from tests.aws.stacks import COMBINATIONS, ONE_OF_EACH, ByName, Stacks
from tests.support.cloud import CloudStack


@ONE_OF_EACH
def test_a_refresh_finds_everything_as_it_was_and_a_removal_leaves_only_what_holds_data(
    gone: ByName[str], stacks: Stacks, name: str
) -> None:
    assert gone[name] == ""
    stack = stacks[name]
    ec2 = stack.cloud.client("ec2")
    assert [each["VolumeId"] for each in ec2.describe_volumes()["Volumes"]] == [
        _retained(stack, "aws:ebs/volume:Volume")
    ]
    states = {
        instance["State"]["Name"]
        for reservation in ec2.describe_instances()["Reservations"]
        for instance in reservation["Instances"]
    }
    assert states <= {"terminated"}
    assert ec2.describe_addresses()["Addresses"] == []
    assert stack.cloud.client("elbv2").describe_load_balancers()["LoadBalancers"] == []
    assert stack.cloud.client("s3").list_buckets()["Buckets"] == []
    if COMBINATIONS[name].dns is Dns.CREATED:
        assert _retained(stack, "aws:route53/zone:Zone")


@pytest.fixture(scope="module")
def gone(stacks: Stacks, again: ByName[list[str]]) -> ByName[str]:
    """What went wrong when each was refreshed and then removed but for its data; "" where nothing did."""
    del again

    def remove(stack: CloudStack) -> str:
        balancer = stack.config["platform"]["aws"].get("load_balancer", {})
        ended = [stack.refresh()]
        changed = [str(step) for step in stack.steps()]
        if balancer.pop("deletion_protection", False):
            stack.write()
            ended.append(stack.up())
        ended.append(stack.destroy("--exclude-protected"))
        return "\n".join([*(each.output for each in ended if each.code), *changed])

    return stacks.each(remove)


def _retained(stack: CloudStack, type_: str) -> str:
    (result,) = [each["id"] for each in stack.state() if each["type"] == type_]
    return result
