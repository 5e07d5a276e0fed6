"""What moto answers otherwise than AWS does, corrected in its own process."""

from typing import Any

from moto.backup.models import BackupBackend
from moto.core.utils import utcnow
from moto.ec2.models.instances import Instance, InstanceState
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.models.subnets import Subnet
from moto.ssm.models import Parameter, ParameterDict

# Of the images that moto knows, one for each; what is in them is nobody's business here.
IMAGES = {
    "/aws/service/debian/release/13/latest/amd64": "ami-785db401",
    "/aws/service/debian/release/13/latest/arm64": "ami-0e9271c829888680e",
    "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id": "ami-1e749f67",
    "/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id": "ami-0e9271c829888680e",
}
"""Public parameters of Debian's and Canonical's, which moto lacks and lets no client set."""


def patch() -> None:
    """Patch it, once a process."""
    _subnets()
    _security_group_rules()
    _public_parameters()
    _backup_plans()
    _addresses_of_instances()


def _subnets() -> None:
    # The provider waits for the state of a block that it looks for by the association's id. moto knows no such
    # filter, and wraps the state twice.
    asked = Subnet.get_filter_value

    def get_filter_value(self: Subnet, filter_name: str, method_name: str | None = None) -> Any:
        if filter_name == "ipv6-cidr-block-association.association-id":
            return list(self.ipv6_cidr_block_associations)
        return asked(self, filter_name, method_name)

    def ipv6_cidr_block_association_set(self: Subnet) -> list[dict[str, Any]]:
        return [
            {
                "ipv6CidrBlock": association["ipv6CidrBlock"],
                "associationId": association["associationId"],
                "ipv6CidrBlockState": association["ipv6CidrBlockState"],
            }
            for association in self.ipv6_cidr_block_associations.values()
            if association["ipv6CidrBlockState"]["State"] == "associated"
        ]

    Subnet.get_filter_value = get_filter_value
    Subnet.ipv6_cidr_block_association_set = property(ipv6_cidr_block_association_set)  # pyright: ignore[reportAttributeAccessIssue]  # it is one there, too


def _security_group_rules() -> None:
    # That of a rule about another group is with that group.
    def description(self: SecurityGroupRule) -> str | None:
        return self.ip_range.get("Description") or self.source_group.get("Description")

    SecurityGroupRule.description = property(description)  # pyright: ignore[reportAttributeAccessIssue]  # as above


def _public_parameters() -> None:
    load = ParameterDict._check_loading_status  # noqa: SLF001  # where moto loads those that it has

    def check_loading_status(self: ParameterDict, key: str) -> None:
        load(self, key)
        if key in IMAGES and not dict.__contains__(self, key):
            dict.__setitem__(
                self,
                key,
                [
                    Parameter(
                        account_id=self.account_id,
                        name=key,
                        value=IMAGES[key],
                        parameter_type="String",
                        description=None,
                        allowed_pattern=None,
                        keyid=None,
                        last_modified_date=utcnow(),
                        version=1,
                        data_type="aws:ec2:image",
                    )
                ],
            )

    ParameterDict._check_loading_status = check_loading_status  # noqa: SLF001  # as above


def _backup_plans() -> None:
    # The name of one that was deleted is free again.
    delete = BackupBackend.delete_backup_plan

    def delete_backup_plan(self: BackupBackend, backup_plan_id: str) -> tuple[str, str, float, str]:
        deleted = delete(self, backup_plan_id)
        del self.plans[backup_plan_id]
        return deleted

    BackupBackend.delete_backup_plan = delete_backup_plan


def _addresses_of_instances() -> None:
    # An instance that is terminated loses its elastic addresses.
    terminate = Instance.terminate

    def terminate_without_address(self: Instance) -> InstanceState:
        for allocation in self.ec2_backend.describe_addresses():
            if allocation.instance is self and allocation.association_id:
                self.ec2_backend.disassociate_address(association_id=allocation.association_id)
        return terminate(self)

    Instance.terminate = terminate_without_address
