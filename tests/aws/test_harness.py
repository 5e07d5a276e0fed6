"""Whether these tests can be believed: a cloud and a provider that do what the real ones do.

Marked long: the result changes with the provider and the stand-in cloud, not with this project.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cloud import Cloud, CloudStack, Programs

pytestmark = pytest.mark.long

SMALL = Path(__file__).parent / "programs" / "small.py"


@pytest.fixture(scope="module")
def stack(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudStack]:
    with Cloud.open(tmp_path_factory.mktemp("cloud") / "moto.log") as cloud:
        stack = programs.stack(cloud, SMALL, "small", {"site": {}})
        stack.up().succeeded()
        yield stack


def test_what_came_about_is_in_the_cloud(stack: CloudStack) -> None:
    outputs = stack.outputs()
    ec2 = stack.cloud.client("ec2")
    (network,) = ec2.describe_vpcs(VpcIds=[outputs["network"]])["Vpcs"]
    assert network["CidrBlock"] == "10.20.0.0/16"
    (reservation,) = ec2.describe_instances(InstanceIds=[outputs["instance"]])["Reservations"]
    (instance,) = reservation["Instances"]
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    backup = stack.cloud.client("backup")
    (selection,) = backup.list_backup_selections(BackupPlanId=outputs["plan"])["BackupSelectionsList"]
    chosen = backup.get_backup_selection(BackupPlanId=outputs["plan"], SelectionId=selection["SelectionId"])
    (volume,) = ec2.describe_volumes(Filters=[{"Name": "size", "Values": ["10"]}])["Volumes"]
    assert [arn.partition("volume/")[2] for arn in chosen["BackupSelection"]["Resources"]] == [volume["VolumeId"]]


def test_an_update_that_changes_nothing_says_so(stack: CloudStack) -> None:
    assert stack.steps() == []


def test_a_preview_tells_updates_from_replacements(stack: CloudStack) -> None:
    stack.config["site"] = {"size": 20, "subnet": "10.20.2.0/24", "name": "second"}
    stack.write()
    try:
        assert {str(step) for step in stack.steps()} == {
            "update aws:ebs/volume:Volume volume",
            "update aws:ec2/vpc:Vpc network",
            "replace aws:ec2/subnet:Subnet subnet",
            "replace aws:ec2/instance:Instance instance",
        }
    finally:
        stack.config["site"] = {}
        stack.write()


def test_wrong_input_is_refused_before_anything_is_made(stack: CloudStack) -> None:
    stack.config["site"] = {"network": "10.20.0.1/16"}
    stack.write()
    try:
        refused = stack.up().failed()
    finally:
        stack.config["site"] = {}
        stack.write()
    assert "expected 10.20.0.0/16, got 10.20.0.1/16" in refused.output


def test_no_secret_is_in_clear_in_the_state(stack: CloudStack) -> None:
    secret = stack.outputs()["key"]
    assert secret.splitlines()[1] not in stack.pulumi("stack", "export", "--stack", stack.name).succeeded().output
    for resource in stack.state():
        for key, value in (resource.get("outputs") or {}).items():
            assert not key.startswith("__terraform") or set(value) == {"4dabf18193072939515e22adb298388d", "ciphertext"}


def test_what_is_destroyed_is_gone_from_the_cloud(stack: CloudStack) -> None:
    outputs = stack.outputs()
    stack.refresh().succeeded()
    stack.destroy().succeeded()
    assert stack.state() == []
    ec2 = stack.cloud.client("ec2")
    assert outputs["network"] not in [vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"]]
    assert ec2.describe_volumes()["Volumes"] == []
    assert stack.cloud.client("backup").list_backup_vaults()["BackupVaultList"] == []
