"""What a stack keeps and wants no longer: it stays where it is, and nothing that relies on it is lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from open_webui_edge.cli.stack import unprotected_state
from tests.support.cloud import Cloud, CloudStack, Programs

PROGRAM = Path(__file__).parent / "programs" / "kept.py"
ZONE = "aws:route53/zone:Zone"


@pytest.fixture(scope="module")
def stack(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudStack]:
    with Cloud.open(tmp_path_factory.mktemp("cloud") / "moto.log") as cloud:
        stack = programs.stack(cloud, PROGRAM, "kept", {"dns": {"create": True}, "backup": {"enabled": True}})
        stack.up().succeeded()
        yield stack


def test_when_no_more_copies_are_made_those_that_are_there_can_still_end(stack: CloudStack) -> None:
    role = rights_to_delete(stack)
    set_(stack, "backup", {})
    stack.up().succeeded()
    backup = stack.cloud.client("backup")
    assert backup.list_backup_plans()["BackupPlansList"] == []
    assert len(backup.list_backup_vaults()["BackupVaultList"]) == 1
    assert rights_to_delete(stack) == role
    set_(stack, "backup", {"enabled": True})
    stack.up().succeeded()
    assert len(backup.list_backup_plans()["BackupPlansList"]) == 1
    assert rights_to_delete(stack) == role


def test_a_zone_that_was_made_is_not_given_up_by_mistake(stack: CloudStack) -> None:
    set_(stack, "dns", {"create": False})
    said = stack.up().failed().output
    assert "edge-zone-zone" in said
    assert "protect" in said
    assert len(zones(stack)) == 1


def test_a_zone_that_the_stack_is_to_forget_stays_and_so_does_what_is_in_it(stack: CloudStack) -> None:
    (urn,) = [each["urn"] for each in stack.state() if each["type"] == ZONE]
    (zone,) = zones(stack)
    stack.pulumi("state", "unprotect", "--yes", "--stack", stack.name, urn).succeeded()
    set_(stack, "dns", {"create": False})
    stack.up().succeeded()
    assert [each for each in stack.state() if each["type"] == ZONE] == []
    assert zones(stack) == [zone]
    records = stack.cloud.client("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    assert [record["Name"] for record in records if record["Type"] == "A"] == ["chat.example.com."]
    assert stack.steps() == []


def test_who_removes_the_data_removes_vault_and_role(stack: CloudStack, tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text(unprotected_state(stack.pulumi("stack", "export", "--stack", stack.name).succeeded().output))
    stack.pulumi("stack", "import", "--stack", stack.name, "--file", str(file)).succeeded()
    stack.destroy().succeeded()
    assert stack.cloud.client("backup").list_backup_vaults()["BackupVaultList"] == []
    assert [role for role in roles(stack) if "backup" in role] == []


def set_(stack: CloudStack, topic: str, settings: dict[str, Any]) -> None:
    stack.config[topic] = settings
    stack.write()


def zones(stack: CloudStack) -> list[str]:
    return [zone["Id"] for zone in stack.cloud.client("route53").list_hosted_zones()["HostedZones"]]


def roles(stack: CloudStack) -> list[str]:
    return [role["RoleName"] for role in stack.cloud.client("iam").list_roles()["Roles"]]


def rights_to_delete(stack: CloudStack) -> str:
    """Return the role of those that make copies, which has its rights."""
    (role,) = [role for role in roles(stack) if "backup" in role]
    attached = stack.cloud.client("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert {policy["PolicyName"] for policy in attached} == {
        "AWSBackupServiceRolePolicyForBackup",
        "AWSBackupServiceRolePolicyForRestores",
    }
    return role
