"""An instance that runs containers, and its data volume, which outlives it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_tls as tls

from open_webui_edge.components.aws import cloud_init
from open_webui_edge.components.aws.iam import policy_document, trust_in
from open_webui_edge.components.aws.tags import physical_name, tags
from open_webui_edge.components.protection import protected

METRICS_NAMESPACE = "open-webui-edge"
"""CloudWatch namespace of the instance's own metrics."""
_PREFIX = 36
"""Characters of a role's name before the hyphen and AWS's suffix."""


class MachineImage(StrEnum):
    """The distribution of the instance's image."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"


class Architecture(StrEnum):
    """The instance's processor architecture."""

    AMD64 = "amd64"
    ARM64 = "arm64"


_PARAMETERS = {
    MachineImage.DEBIAN: "/aws/service/debian/release/13/latest/{}",
    MachineImage.UBUNTU: "/aws/service/canonical/ubuntu/server/24.04/stable/current/{}/hvm/ebs-gp3/ami-id",
}
"""Public parameters in which Debian and Canonical publish the ID of the latest image."""
_USERS = {MachineImage.DEBIAN: "admin", MachineImage.UBUNTU: "ubuntu"}


class MachineArgs(TypedDict):
    """The instance and its volumes."""

    image: MachineImage
    architecture: Architecture
    """The architecture of the instance type."""
    instance_type: str
    root_volume: int
    """GiB."""
    data_volume: int
    """GiB of the volume with Docker's data; it can grow, but not shrink."""


class Ec2HostArgs(MachineArgs):
    """The instance, and its network."""

    availability_zone: pulumi.Input[str]
    """The subnet's. The volume depends on nothing else."""
    subnet_id: pulumi.Input[str]
    security_group_ids: pulumi.Input[Sequence[pulumi.Input[str]]]
    acme_zone_arn: NotRequired[pulumi.Input[str] | None]
    """ARN of the zone in which the instance may create records for DNS-01 challenges."""


@dataclass(frozen=True)
class SshAccess:
    """The login, and the host key to verify."""

    user: str
    address: pulumi.Output[str]
    client_private_key: pulumi.Output[str]
    """In OpenSSH's format; secret."""
    host_key: pulumi.Output[str]
    """As known_hosts has it after the name: ssh-ed25519 AAAA…"""


class Ec2Host(pulumi.ComponentResource):
    """An EC2 instance with a Docker engine whose data lies on a volume of its own.

    The instance can be replaced at any time: volume, address and keys stay. Its image and the user data of its first
    start stay too, whatever is newer, until a user replaces the resource `<name>-<image>-<architecture>`.
    """

    instance: aws.ec2.Instance
    complete: pulumi.Output[bool]
    """Known once the instance has its volume and its address."""
    address: pulumi.Output[str]
    """The elastic IP; it outlives the instance."""
    instance_id: pulumi.Output[str]
    volume_id: pulumi.Output[str]
    volume_arn: pulumi.Output[str]
    role_name: pulumi.Output[str]
    """Name of the instance's IAM role."""
    acme_dns_permission: aws.iam.RolePolicy | None
    """The policy for DNS-01 challenges, if there is one."""

    ssh: SshAccess

    def __init__(self, name: str, args: Ec2HostArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the volume, the keys and the instance."""
        # Outputs of other resources stay out of the component's inputs: a protected child depends on its parent, and
        # the parent on all of its inputs.
        untracked = {"subnet_id", "security_group_ids", "acme_zone_arn"}
        tracked_args = {key: value for key, value in args.items() if key not in untracked}
        super().__init__("open-webui-edge:index:Ec2Host", name, tracked_args, opts)
        child = pulumi.ResourceOptions(parent=self)
        user = _USERS[args["image"]]

        client_key, host_key = (
            tls.PrivateKey(f"{name}-{whose}-key", algorithm="ED25519", opts=protected(self))
            for whose in ("client", "host")
        )
        parameter_name = f"/open-webui-edge/{pulumi.get_stack()}/{name}/ssh-host-key"
        parameter = aws.ssm.Parameter(
            f"{name}-host-key-parameter",
            name=parameter_name,
            type=aws.ssm.ParameterType.SECURE_STRING,
            description="Private key by which sshd of the instance proves who it is",
            value=pulumi.Output.secret(host_key.private_key_openssh),
            tags=tags("host"),
            opts=child,
        )
        role = aws.iam.Role(
            f"{name}-role",
            name_prefix=f"{physical_name('host', _PREFIX)}-",
            description="What the instance may do",
            assume_role_policy=json.dumps(trust_in("ec2.amazonaws.com")),
            tags=tags("host"),
            opts=child,
        )
        policy = aws.iam.RolePolicy(
            f"{name}-role-policy",
            name="host",
            role=role.name,
            policy=parameter.arn.apply(lambda arn: json.dumps(instance_policy(args["image"], arn))),
            opts=child,
        )
        profile = aws.iam.InstanceProfile(
            f"{name}-profile",
            name_prefix=f"{physical_name('host', _PREFIX)}-",
            role=role.name,
            tags=tags("host"),
            opts=child,
        )
        self.acme_dns_permission = None
        zone_arn = args.get("acme_zone_arn")
        if zone_arn is not None:
            self.acme_dns_permission = aws.iam.RolePolicy(
                f"{name}-role-policy-challenges",
                name="challenges",
                role=role.name,
                policy=pulumi.Output.from_input(zone_arn).apply(lambda arn: json.dumps(acme_dns_policy(arn))),
                opts=child,
            )

        volume = aws.ebs.Volume(
            f"{name}-data",
            availability_zone=args["availability_zone"],
            size=args["data_volume"],
            type="gp3",
            encrypted=True,
            tags=tags("host", "data"),
            opts=protected(self),
        )
        latest = aws.ssm.get_parameter_output(
            name=_PARAMETERS[args["image"]].format(args["architecture"].value),
            opts=pulumi.InvokeOutputOptions(parent=self),
        )
        user_data = cloud_init.template(login_user=user, stack=pulumi.get_stack(), host_key_parameter=parameter_name)
        # The image and the user data, as they were when this stack first asked for them.
        pinned: pulumi.Output[dict[str, str]] = pulumi.Stash(
            f"{name}-{args['image']}-{args['architecture']}",
            input={"image": latest.insecure_value, "user_data": user_data},
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["input"]),
        ).output
        instance = aws.ec2.Instance(
            f"{name}-instance",
            ami=pinned["image"],
            instance_type=args["instance_type"],
            subnet_id=args["subnet_id"],
            vpc_security_group_ids=args["security_group_ids"],
            iam_instance_profile=profile.name,
            user_data=pulumi.Output.all(pinned["user_data"], volume.id, client_key.public_key_openssh).apply(
                lambda parts: cloud_init.filled(*parts)
            ),
            # The user data is pinned, so a new version of this program does not replace the instance.
            user_data_replace_on_change=True,
            metadata_options=aws.ec2.InstanceMetadataOptionsArgs(
                http_endpoint="enabled",
                http_tokens="required",
                # Responses expire at the bridge, so only containers on the host's network get the role's credentials.
                http_put_response_hop_limit=1,
            ),
            root_block_device=aws.ec2.InstanceRootBlockDeviceArgs(
                volume_size=args["root_volume"],
                volume_type="gp3",
                encrypted=True,
                delete_on_termination=True,
                tags=tags("host", "root"),
            ),
            tags=tags("host", "host"),
            # The volume can be attached to one instance only.
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True, depends_on=[policy, parameter]),
        )
        deleted_first = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        attachment = aws.ec2.VolumeAttachment(
            f"{name}-data-attachment",
            device_name=cloud_init.DEVICE_NAME,
            instance_id=instance.id,
            volume_id=volume.id,
            # So that its file system is unmounted cleanly.
            stop_instance_before_detaching=True,
            opts=deleted_first,
        )
        elastic_ip = aws.ec2.Eip(f"{name}-address", domain="vpc", tags=tags("host", "host"), opts=child)
        # A resource of its own, so that the address depends on no instance.
        association = aws.ec2.EipAssociation(
            f"{name}-address-association",
            allocation_id=elastic_ip.allocation_id,
            instance_id=instance.id,
            opts=deleted_first,
        )

        self.instance = instance
        self.complete = pulumi.Output.all(attachment.id, association.id).apply(lambda _: True)
        self.address = elastic_ip.public_ip
        self.instance_id = instance.id
        self.volume_id = volume.id
        self.volume_arn = volume.arn
        self.role_name = role.name
        self.ssh = SshAccess(
            user=user,
            address=self.address,
            client_private_key=pulumi.Output.secret(client_key.private_key_openssh),
            host_key=host_key.public_key_openssh.apply(str.strip),
        )
        self.register_outputs(
            {
                "address": self.address,
                "instance_id": self.instance_id,
                "volume_id": self.volume_id,
                "volume_arn": self.volume_arn,
                "role_name": self.role_name,
                # cli/instance.py finds the instance with these in the state.
                "ssh": {
                    "host": pulumi.Output.concat("ssh://", user, "@", self.ssh.address),
                    "host_key": self.ssh.host_key,
                    "client_key": self.ssh.client_private_key,
                },
            },
        )


def instance_policy(image: MachineImage, host_key_arn: str) -> dict[str, object]:
    """Return the instance's policy: read one parameter, publish metrics in one namespace.

    The parameter's KMS key (aws/ssm) needs no statement: it is open to all who may read the parameter. Where the
    resource is "*", AWS supports no narrower one.
    """
    statements: list[dict[str, object]] = [
        {"Effect": "Allow", "Action": "ssm:GetParameter", "Resource": host_key_arn},
        {
            "Effect": "Allow",
            "Action": "cloudwatch:PutMetricData",
            "Resource": "*",
            "Condition": {"StringEquals": {"cloudwatch:namespace": METRICS_NAMESPACE}},
        },
    ]
    if image is MachineImage.UBUNTU:
        # Systems Manager's agent is access without ssh; AmazonSSMManagedInstanceCore would open every parameter.
        session = ["CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel"]
        actions = ["ssm:UpdateInstanceInformation", *(f"ssmmessages:{action}" for action in session)]
        statements.append({"Effect": "Allow", "Action": actions, "Resource": "*"})
    return policy_document(*statements)


def acme_dns_policy(zone_arn: str) -> dict[str, object]:
    """Return the policy for DNS-01 challenges in a zone: their TXT records, and no others.

    Condition keys: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/specifying-conditions-route53.html
    """
    partition = zone_arn.split(":")[1]
    change = {
        "NormalizedRecordNames": ["_acme-challenge.*"],
        "RecordTypes": ["TXT"],
        "Actions": ["DELETE", "UPSERT"],
    }
    keys = {f"route53:ChangeResourceRecordSets{key}": values for key, values in change.items()}
    return policy_document(
        {"Effect": "Allow", "Action": "route53:ListHostedZones", "Resource": "*"},
        {"Effect": "Allow", "Action": "route53:GetChange", "Resource": f"arn:{partition}:route53:::change/*"},
        {
            "Effect": "Allow",
            "Action": "route53:ChangeResourceRecordSets",
            "Resource": zone_arn,
            # All changes of a request must match, and a request without these keys does not.
            "Condition": {"ForAllValues:StringLike": keys, "Null": dict.fromkeys(keys, "false")},
        },
    )
