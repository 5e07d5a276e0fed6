"""Snapshots of a volume by AWS Backup."""

import json
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from open_webui_edge.components.aws.iam import trust_in
from open_webui_edge.components.aws.tags import physical_name, tags
from open_webui_edge.components.protection import protected

_NAME = 50
# AWS appends a suffix to a role's name.
_ROLE_PREFIX = 37
# Minutes: a job starts within an hour, the least that AWS allows, and has seven more hours.
_START_WITHIN = 60
_END_WITHIN = 8 * 60
_POLICIES = {
    "back-up": "AWSBackupServiceRolePolicyForBackup",
    # For a restore by hand in the console, which asks for a role.
    "restore": "AWSBackupServiceRolePolicyForRestores",
}


class DailyArgs(TypedDict):
    """Time of day and retention."""

    at: str
    """Time of day in UTC: 03:00."""
    keep_days: int


class BackupArgs(TypedDict):
    """Daily snapshots."""

    daily: NotRequired[DailyArgs]
    """Left out: no new snapshots; existing ones stay until they expire."""


class VolumeBackupArgs(BackupArgs):
    """The volume, and its daily snapshots."""

    volume_arn: pulumi.Input[str]


class VolumeBackup(pulumi.ComponentResource):
    """A snapshot a day, in a protected vault.

    A snapshot is crash-consistent, like a disk after a power cut, from which PostgreSQL and SQLite recover. The role is
    protected with the vault: AWS Backup deletes an expired snapshot with the role that created it, and without that
    role the snapshot stays and costs (https://docs.aws.amazon.com/aws-backup/latest/devguide/backup-iam.html, read in
    2026). Vault and role themselves cost nothing.
    """

    vault_name: pulumi.Output[str]

    def __init__(self, name: str, args: VolumeBackupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the vault and the role, and with daily snapshots the plan."""
        # Without inputs: the dependencies of a protected vault's parent could not be deleted either.
        super().__init__("open-webui-edge:index:VolumeBackup", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        display_name = physical_name("data", _NAME)

        role = aws.iam.Role(
            f"{name}-role",
            name_prefix=f"{physical_name('backup', _ROLE_PREFIX)}-",
            assume_role_policy=json.dumps(trust_in("backup.amazonaws.com")),
            tags=tags("backup"),
            opts=protected(self),
        )
        partition = aws.get_partition_output(opts=pulumi.InvokeOutputOptions(parent=self)).partition
        attachments = [
            aws.iam.RolePolicyAttachment(
                f"{name}-role-{role_key}",
                role=role.name,
                policy_arn=pulumi.Output.concat("arn:", partition, ":iam::aws:policy/service-role/", policy),
                opts=protected(self),
            )
            for role_key, policy in _POLICIES.items()
        ]
        # Without a KMS key it is encrypted with AWS Backup's.
        vault = aws.backup.Vault(
            f"{name}-vault",
            name=display_name,
            # `make down DATA=delete` deletes the snapshots too; until then the vault is protected.
            force_destroy=True,
            tags=tags("backup"),
            # The vault is deleted first: its snapshots are deleted with the role.
            opts=pulumi.ResourceOptions.merge(protected(self), pulumi.ResourceOptions(depends_on=attachments)),
        )
        if "daily" in args:
            plan = aws.backup.Plan(
                f"{name}-plan",
                name=display_name,
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
            # By ARN, which works even in accounts that opted out of volume backups.
            aws.backup.Selection(
                f"{name}-selection",
                name=display_name,
                plan_id=plan.id,
                iam_role_arn=role.arn,
                resources=[args["volume_arn"]],
                # Two selections cannot have the same name, and a moment without one loses nothing.
                opts=pulumi.ResourceOptions(parent=self, depends_on=attachments, delete_before_replace=True),
            )
        self.vault_name = vault.name
        self.register_outputs({"vault_name": self.vault_name})


def cron(at: str) -> str:
    """Return a time of day as a cron expression of AWS."""
    hour, minute = (int(part) for part in at.split(":"))
    return f"cron({minute} {hour} * * ? *)"
