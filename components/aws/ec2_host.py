"""An instance that runs containers, and the volume that outlives it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_tls as tls

from components.aws import cloud_init
from components.aws.policy import policy_document, trust_in
from components.aws.tags import physical_name, tags
from components.keeping import kept

METRICS_NAMESPACE = "open-webui-edge"
"""CloudWatch's namespace of what the instance publishes itself."""
_PREFIX = 37
"""Characters before the suffix of a role's name."""


class MachineImage(StrEnum):
    """Whose image the instance starts from."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"


class Architecture(StrEnum):
    """What the instance's processor understands."""

    AMD64 = "amd64"
    ARM64 = "arm64"


_PARAMETERS = {
    MachineImage.DEBIAN: "/aws/service/debian/release/13/latest/{}",
    MachineImage.UBUNTU: "/aws/service/canonical/ubuntu/server/24.04/stable/current/{}/hvm/ebs-gp3/ami-id",
}
"""Public parameters in which Debian and Canonical say which image is the newest."""
_USERS = {MachineImage.DEBIAN: "admin", MachineImage.UBUNTU: "ubuntu"}


class Ec2HostArgs(TypedDict):
    """Which machine, and where."""

    image: MachineImage
    architecture: Architecture
    instance_type: str
    root_volume: int
    """GiB."""
    data_volume: int
    """GiB; it can grow, and never shrinks."""
    availability_zone: pulumi.Input[str]
    """The subnet's. The volume depends on it, and on nothing else."""
    subnet_id: pulumi.Input[str]
    security_group_ids: pulumi.Input[Sequence[pulumi.Input[str]]]
    answers_challenges_in: NotRequired[pulumi.Input[str]]
    """ARN of the zone in whose records it may show an issuer of certificates whose the names are."""


@dataclass(frozen=True)
class SshAccess:
    """What it takes to log in, and to know who answers."""

    user: str
    address: pulumi.Output[str]
    client_private_key: pulumi.Output[str]
    """In OpenSSH's form; secret."""
    host_key: pulumi.Output[str]
    """As known_hosts has it after the name: ssh-ed25519 AAAA…"""


class Ec2Host(pulumi.ComponentResource):
    """An EC2 instance with a Docker engine whose data lies on a volume of its own.

    The instance can be replaced at any time: volume, address and keys stay. Its image and what it is told at its first
    start stay too, whatever is newer, until somebody has the resource `<name>-<image>-<architecture>` replaced.
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
    """What the instance may do at AWS."""
    answers_challenges: aws.iam.RolePolicy | None
    """Its right to do so, where it has one."""

    ssh: SshAccess

    def __init__(self, name: str, args: Ec2HostArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the volume, the keys, and the instance that uses them."""
        # What it is told of others stays out: what is kept depends on its parents, and they on all they are told.
        of_others = {"subnet_id", "security_group_ids", "answers_challenges_in"}
        told = {key: value for key, value in args.items() if key not in of_others}
        super().__init__("open-webui-edge:index:Ec2Host", name, told, opts)
        self._name = name
        self._child = pulumi.ResourceOptions(parent=self)
        user = _USERS[args["image"]]

        client_key, host_key = (
            tls.PrivateKey(f"{name}-{whose}-key", algorithm="ED25519", opts=kept(self)) for whose in ("client", "host")
        )
        parameter_name = f"/open-webui-edge/{pulumi.get_stack()}/{name}/ssh-host-key"
        parameter = aws.ssm.Parameter(
            f"{name}-host-key-parameter",
            name=parameter_name,
            type=aws.ssm.ParameterType.SECURE_STRING,
            description="Private key by which sshd of the instance proves who it is",
            value=pulumi.Output.secret(host_key.private_key_openssh),
            tags=tags("host"),
            opts=self._child,
        )
        role, profile, policy = self._identity(args["image"], parameter)
        self.answers_challenges = None
        if "answers_challenges_in" in args:
            self.answers_challenges = aws.iam.RolePolicy(
                f"{name}-role-policy-challenges",
                name="challenges",
                role=role.name,
                policy=pulumi.Output.from_input(args["answers_challenges_in"]).apply(
                    lambda arn: json.dumps(permissions_of_challenges(arn))
                ),
                opts=self._child,
            )

        volume = aws.ebs.Volume(
            f"{name}-data",
            availability_zone=args["availability_zone"],
            size=args["data_volume"],
            type="gp3",
            encrypted=True,
            tags=tags("host", "data"),
            opts=kept(self),
        )
        pinned = self._pinned(
            args, cloud_init.template(login_user=user, stack=pulumi.get_stack(), host_key_parameter=parameter_name)
        )
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
            # What it boots with is the pinned text and the volume: neither changes by a new version of this program.
            user_data_replace_on_change=True,
            metadata_options=aws.ec2.InstanceMetadataOptionsArgs(
                http_endpoint="enabled",
                http_tokens="required",
                # An answer dies on the bridge: no container gets the role's keys, but one on the host's own network.
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
        attachment = aws.ec2.VolumeAttachment(
            f"{name}-data-attachment",
            device_name=cloud_init.DEVICE_NAME,
            instance_id=instance.id,
            volume_id=volume.id,
            # So that its file system is unmounted as it ought to be.
            stop_instance_before_detaching=True,
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        elastic_ip = aws.ec2.Eip(f"{name}-address", domain="vpc", tags=tags("host", "host"), opts=self._child)
        # A resource of its own, so that the address depends on no instance.
        association = aws.ec2.EipAssociation(
            f"{name}-address-association",
            allocation_id=elastic_ip.allocation_id,
            instance_id=instance.id,
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
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
                # What finds it again by the state alone (bootstrap/instance.py).
                "ssh": {
                    "host": pulumi.Output.concat("ssh://", user, "@", self.ssh.address),
                    "host_key": self.ssh.host_key,
                    "client_key": self.ssh.client_private_key,
                },
            },
        )

    def _pinned(self, args: Ec2HostArgs, user_data: str) -> pulumi.Output[dict[str, str]]:
        """Return the image and what it is told, as they were when this stack first asked."""
        newest = aws.ssm.get_parameter_output(
            name=_PARAMETERS[args["image"]].format(args["architecture"].value),
            opts=pulumi.InvokeOutputOptions(parent=self),
        )
        return pulumi.Stash(
            f"{self._name}-{args['image']}-{args['architecture']}",
            input={"image": newest.insecure_value, "user_data": user_data},
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["input"]),
        ).output

    def _identity(
        self, image: MachineImage, parameter: aws.ssm.Parameter
    ) -> tuple[aws.iam.Role, aws.iam.InstanceProfile, aws.iam.RolePolicy]:
        role = aws.iam.Role(
            f"{self._name}-role",
            name_prefix=f"{physical_name('host', _PREFIX - 1)}-",
            description="What the instance may do",
            assume_role_policy=json.dumps(trust_in("ec2.amazonaws.com")),
            tags=tags("host"),
            opts=self._child,
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-role-policy",
            name="host",
            role=role.name,
            policy=parameter.arn.apply(lambda arn: json.dumps(permissions(image, arn))),
            opts=self._child,
        )
        profile = aws.iam.InstanceProfile(
            f"{self._name}-profile",
            name_prefix=f"{physical_name('host', _PREFIX - 1)}-",
            role=role.name,
            tags=tags("host"),
            opts=self._child,
        )
        return role, profile, policy


def permissions(image: MachineImage, host_key_arn: str) -> dict[str, object]:
    """Return what the instance may do: fetch one parameter, publish metrics in one namespace.

    The key that the parameter is encrypted with (aws/ssm) is open to whoever may read it. Where a name is "*", AWS
    knows no narrower one.
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
        # Its agent of Systems Manager is a way in without ssh; AmazonSSMManagedInstanceCore would open every parameter.
        session = ["CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel"]
        actions = ["ssm:UpdateInstanceInformation", *(f"ssmmessages:{action}" for action in session)]
        statements.append({"Effect": "Allow", "Action": actions, "Resource": "*"})
    return policy_document(*statements)


def permissions_of_challenges(zone_arn: str) -> dict[str, object]:
    """Return what it takes to answer an issuer's challenges in a zone: the records of these, and no others.

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
            # All of what one request changes must fit, and one that says nothing of it does not.
            "Condition": {"ForAllValues:StringLike": keys, "Null": dict.fromkeys(keys, "false")},
        },
    )
