"""Copies of the data volume: when, for how long, by whom, and what stays."""

import json
from typing import Any

import pytest

from open_webui_edge.components.aws.backup import DailyArgs, VolumeBackup, VolumeBackupArgs, cron
from tests.unit.graph import Graph, graph_of


def backup(*, preview: bool = False, daily: bool = True) -> Graph:
    def program() -> dict[str, Any]:
        args = VolumeBackupArgs(volume_arn="arn:volume")
        if daily:
            args["daily"] = DailyArgs(at="03:00", keep_days=35)
        return {"vault_name": VolumeBackup("edge-backup", args).vault_name}

    return graph_of(program, preview=preview)


@pytest.mark.parametrize("preview", [False, True])
def test_the_vault_is_kept_and_hangs_on_nothing_that_costs(*, preview: bool) -> None:
    (vault,) = backup(preview=preview).of("Vault")
    assert (vault.protect, vault.retain) == (True, True)
    # Copies are deleted in the name of the role that made them, so the vault goes before it does.
    assert vault.after == {"edge-backup-role-back-up", "edge-backup-role-restore"}
    # Its snapshots go with it, once a user has unprotected both.
    assert vault.inputs["forceDestroy"] is True


@pytest.mark.parametrize("preview", [False, True])
def test_nothing_else_outlives_the_stack(*, preview: bool) -> None:
    retained = [one.name for one in backup(preview=preview).resources if one.protect or one.retain]
    assert sorted(retained) == [
        "edge-backup-role",
        "edge-backup-role-back-up",
        "edge-backup-role-restore",
        "edge-backup-vault",
    ]


@pytest.mark.parametrize("preview", [False, True])
def test_a_copy_is_made_each_day_and_deleted_in_the_end(*, preview: bool) -> None:
    graph = backup(preview=preview)
    (plan,) = graph.of("Plan")
    (rule,) = plan.inputs["rules"]
    assert rule["schedule"] == "cron(0 3 * * ? *)"
    assert rule["lifecycle"] == {"deleteAfter": 35}
    assert rule["targetVaultName"] == "edge-unit-data"
    assert graph.returned == {"vault_name": "edge-unit-data"}


@pytest.mark.parametrize(("at", "said"), [("00:00", "0 0"), ("23:59", "59 23"), ("08:09", "9 8")])
def test_a_time_of_day_is_written_as_aws_does(at: str, said: str) -> None:
    assert cron(at) == f"cron({said} * * ? *)"


def test_that_volume_is_saved_and_no_other() -> None:
    (selection,) = backup().of("Selection")
    assert selection.inputs["resources"] == ["arn:volume"]
    assert "selectionTags" not in selection.inputs


def test_the_role_is_for_aws_backup_alone_and_has_its_rights_before_it_is_used() -> None:
    graph = backup()
    (role,) = graph.of("Role")
    assert json.loads(role.inputs["assumeRolePolicy"])["Statement"] == [
        {"Effect": "Allow", "Principal": {"Service": "backup.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]
    rights = graph.of("RolePolicyAttachment")
    assert {one.inputs["policyArn"] for one in rights} == {
        "arn:aws-cn:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup",
        "arn:aws-cn:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForRestores",
    }
    (selection,) = graph.of("Selection")
    assert {one.name for one in rights} <= selection.after


def test_when_no_more_are_made_the_vault_and_its_role_are_as_they_were() -> None:
    graph, before = backup(daily=False), backup()
    assert {one.name for one in before.resources} - {one.name for one in graph.resources} == {
        "edge-backup-plan",
        "edge-backup-selection",
    }
    assert set(graph.identities().splitlines()) < set(before.identities().splitlines())


def test_a_preview_has_the_same_resources() -> None:
    assert backup(preview=True).identities() == backup().identities()
