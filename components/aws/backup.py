"""Copies of a volume, made by AWS Backup while it is in use."""

import json
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from components.aws.policy import trust_in
from components.aws.tags import physical_name, tags
from components.keeping import kept

_NAME = 50
# AWS ends a role's name itself.
_ROLE_PREFIX = 37
# Minutes: it begins within an hour, which is the least that AWS takes, and has seven more.
_START_WITHIN = 60
_END_WITHIN = 8 * 60
_POLICIES = {
    "back-up": "AWSBackupServiceRolePolicyForBackup",
    # For whoever restores by hand: the role to choose is there.
    "restore": "AWSBackupServiceRolePolicyForRestores",
}


class DailyArgs(TypedDict):
    """When, and for how long."""

    at: str
    """Time of day in UTC: 03:00."""
    keep_days: int


class BackupArgs(TypedDict):
    """Copies of a volume."""

    daily: NotRequired[DailyArgs]
    """Left out: none is made any more, and those that are there stay until their time is over."""


class VolumeBackupArgs(BackupArgs):
    """Which volume, and whether it is copied."""

    volume_arn: pulumi.Input[str]


class VolumeBackup(pulumi.ComponentResource):
    """A snapshot a day, in a vault that is kept.

    Snapshots are of one instant, as after a power cut, which PostgreSQL and SQLite are made for. With the vault its
    role is kept: AWS Backup deletes a copy whose time is over in the name of the role that made it, and one without
    that role stays and costs (https://docs.aws.amazon.com/aws-backup/latest/devguide/backup-iam.html, read in 2026).
    Neither costs anything.
    """

    vault_name: pulumi.Output[str]

    def __init__(self, name: str, args: VolumeBackupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the vault and the role, and where copies are wanted, the plan."""
        # Not of the arguments: what the parent of a kept vault depends on would be kept as well.
        super().__init__("open-webui-edge:index:VolumeBackup", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        called = physical_name("data", _NAME)

        role = aws.iam.Role(
            f"{name}-role",
            name_prefix=f"{physical_name('backup', _ROLE_PREFIX)}-",
            assume_role_policy=json.dumps(trust_in("backup.amazonaws.com")),
            tags=tags("backup"),
            opts=kept(self),
        )
        partition = aws.get_partition_output(opts=pulumi.InvokeOutputOptions(parent=self)).partition
        rights = [
            aws.iam.RolePolicyAttachment(
                f"{name}-role-{right}",
                role=role.name,
                policy_arn=pulumi.Output.concat("arn:", partition, ":iam::aws:policy/service-role/", policy),
                opts=kept(self),
            )
            for right, policy in _POLICIES.items()
        ]
        # Without a key of its own it is encrypted with AWS Backup's.
        vault = aws.backup.Vault(
            f"{name}-vault",
            name=called,
            # Who removes the data removes its copies; until then it is kept.
            force_destroy=True,
            tags=tags("backup"),
            # It goes first: its copies are deleted in the name of the role.
            opts=pulumi.ResourceOptions.merge(kept(self), pulumi.ResourceOptions(depends_on=rights)),
        )
        if "daily" in args:
            plan = aws.backup.Plan(
                f"{name}-plan",
                name=called,
                rules=[
                    {
                        "rule_name": "daily",
                        "target_vault_name": vault.name,
                        "schedule": cron(args["daily"]["at"]),
                        "start_window": _START_WITHIN,
                        "completion_window": _END_WITHIN,
                        "lifecycle": {"delete_after": args["daily"]["keep_days"]},
                        "recovery_point_tags": tags("backup"),
                    }
                ],
                tags=tags("backup"),
                opts=child,
            )
            # By its ARN: then it is saved even where the account has opted out of volumes.
            aws.backup.Selection(
                f"{name}-selection",
                name=called,
                plan_id=plan.id,
                iam_role_arn=role.arn,
                resources=[args["volume_arn"]],
                # AWS keeps no two of one name, and a moment without one loses nothing.
                opts=pulumi.ResourceOptions(parent=self, depends_on=rights, delete_before_replace=True),
            )
        self.vault_name = vault.name
        self.register_outputs({"vault_name": self.vault_name})


def cron(at: str) -> str:
    """Return a time of day in AWS's words."""
    hour, minute = (int(part) for part in at.split(":"))
    return f"cron({minute} {hour} * * ? *)"
