"""IAM permissions that `make up` needs, by the types in the resource graph."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

REGION = "eu-central-1"
"""Of the examples; other stacks use their own."""


class Reach(Enum):
    """How far an action goes; each becomes a statement of the policy."""

    READ = "Read"
    """What is there."""
    MAKE = "MakeInTheRegion"
    """What is new, has no name yet, and may name what is not ours: a subnet, an image."""
    OURS = "ChangeWhatIsOurs"
    """What carries this program's tag."""
    NAMED = "ByName"
    """What has a name that begins as all of ours do."""
    DNS = "Dns"
    """Zones have no names that a policy could tell apart, until they exist."""
    REGIONAL = "InTheRegion"
    """Services that know neither tags nor names in a policy for this."""
    ROLES = "Roles"
    """Rights of others."""
    PASS = "HandRolesOver"
    LINKED = "RolesOfAwsItself"


@dataclass(frozen=True)
class Rights:
    """What making, changing and removing one type takes."""

    service: str
    of: Mapping[Reach, Sequence[str]]


def _ec2(make: str, ours: str) -> Rights:
    return Rights("ec2", {Reach.READ: ["Describe*"], Reach.MAKE: make.split(), Reach.OURS: ours.split()})


_RULES = "ModifySecurityGroupRules UpdateSecurityGroupRuleDescriptionsIngress UpdateSecurityGroupRuleDescriptionsEgress"
_TAGS = "CreateTags"
_BALANCING = Rights(
    "elasticloadbalancing",
    {
        Reach.READ: ["Describe*"],
        Reach.NAMED: [
            "AddTags",
            "Create*",
            "Delete*",
            "DeregisterTargets",
            "Modify*",
            "RegisterTargets",
            "RemoveTags",
            "Set*",
        ],
    },
)
_BUCKETS = Rights(
    "s3",
    {
        Reach.NAMED: [
            "CreateBucket",
            "DeleteBucket",
            "DeleteBucketPolicy",
            "DeleteObject",
            "DeleteObjectVersion",
            "Get*",
            "ListBucket",
            "ListBucketVersions",
            "PutBucketOwnershipControls",
            "PutBucketPolicy",
            "PutBucketPublicAccessBlock",
            "PutBucketTagging",
            "PutEncryptionConfiguration",
            "PutLifecycleConfiguration",
        ]
    },
)
_ROLES = Rights(
    "iam",
    {
        Reach.ROLES: [
            "AddRoleToInstanceProfile",
            "AttachRolePolicy",
            "CreateInstanceProfile",
            "CreateRole",
            "DeleteInstanceProfile",
            "DeleteRole",
            "DeleteRolePolicy",
            "DetachRolePolicy",
            "Get*",
            "List*",
            "PutRolePolicy",
            "RemoveRoleFromInstanceProfile",
            "TagInstanceProfile",
            "TagRole",
            "UntagInstanceProfile",
            "UntagRole",
            "UpdateAssumeRolePolicy",
            "UpdateRoleDescription",
        ],
        Reach.PASS: ["PassRole"],
        Reach.LINKED: ["CreateServiceLinkedRole"],
    },
)
_BACKUP = Rights(
    "backup",
    {
        Reach.REGIONAL: [
            "CreateBackupPlan",
            "CreateBackupSelection",
            "CreateBackupVault",
            "DeleteBackupPlan",
            "DeleteBackupSelection",
            "DeleteBackupVault",
            "DeleteRecoveryPoint",
            "Describe*",
            "Get*",
            "List*",
            "TagResource",
            "UntagResource",
            "UpdateBackupPlan",
        ]
    },
)
_KEYS = Rights("kms", {Reach.REGIONAL: ["CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKey", "RetireGrant"]})
_STORAGE = Rights("backup-storage", {Reach.REGIONAL: ["MountCapsule"]})
_CERTIFICATES = Rights(
    "acm",
    {
        Reach.REGIONAL: [
            "AddTagsToCertificate",
            "DeleteCertificate",
            "DescribeCertificate",
            "ListTagsForCertificate",
            "RemoveTagsFromCertificate",
            "RequestCertificate",
        ]
    },
)
_ZONES = Rights(
    "route53",
    {
        Reach.DNS: [
            "ChangeResourceRecordSets",
            "ChangeTagsForResource",
            "CreateHostedZone",
            "DeleteHostedZone",
            "GetChange",
            "GetDNSSEC",
            "GetHostedZone",
            "ListHostedZones",
            "ListHostedZonesByName",
            "ListResourceRecordSets",
            "ListTagsForResource",
            "UpdateHostedZoneComment",
        ]
    },
)
_TOPICS = Rights(
    "sns",
    {
        Reach.NAMED: [
            "CreateTopic",
            "DeleteTopic",
            "GetTopicAttributes",
            "ListTagsForResource",
            "SetTopicAttributes",
            "Subscribe",
            "TagResource",
            "UntagResource",
        ],
        # A subscription is known by its own ARN only.
        Reach.REGIONAL: ["GetSubscriptionAttributes", "SetSubscriptionAttributes", "Unsubscribe"],
    },
)
_ALARMS = Rights(
    "cloudwatch",
    {
        Reach.READ: ["DescribeAlarms"],
        Reach.NAMED: ["DeleteAlarms", "ListTagsForResource", "PutMetricAlarm", "TagResource", "UntagResource"],
    },
)
_PARAMETERS = Rights(
    "ssm",
    {
        Reach.READ: ["DescribeParameters"],
        Reach.NAMED: [
            "AddTagsToResource",
            "DeleteParameter",
            "GetParameter",
            "GetParameters",
            "ListTagsForResource",
            "PutParameter",
            "RemoveTagsFromResource",
        ],
    },
)
_FIREWALL = Rights(
    "wafv2",
    {Reach.REGIONAL: ["AssociateWebACL", "DisassociateWebACL", "GetWebACL", "GetWebACLForResource"]},
)

TYPES: Mapping[str, Sequence[Rights]] = {
    "aws:acm/certificate:Certificate": [_CERTIFICATES],
    "aws:acm/certificateValidation:CertificateValidation": [_CERTIFICATES],
    "aws:backup/plan:Plan": [_BACKUP],
    "aws:backup/selection:Selection": [_BACKUP, _ROLES],
    "aws:backup/vault:Vault": [_BACKUP, _KEYS, _STORAGE],
    "aws:cloudwatch/metricAlarm:MetricAlarm": [_ALARMS],
    "aws:ebs/volume:Volume": [_ec2(f"CreateVolume {_TAGS}", "DeleteTags DeleteVolume ModifyVolume"), _KEYS],
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": [
        # It is AWS's own, made with the network, and has no tag yet.
        _ec2(f"RevokeSecurityGroupEgress RevokeSecurityGroupIngress {_TAGS}", "DeleteTags")
    ],
    "aws:ec2/eip:Eip": [_ec2(f"AllocateAddress {_TAGS}", "DeleteTags ReleaseAddress")],
    "aws:ec2/eipAssociation:EipAssociation": [_ec2("", "AssociateAddress DisassociateAddress")],
    "aws:ec2/instance:Instance": [
        _ec2(
            f"RunInstances {_TAGS}",
            "DeleteTags ModifyInstanceAttribute ModifyInstanceMetadataOptions StartInstances StopInstances"
            " TerminateInstances",
        ),
        _ROLES,
        _KEYS,
    ],
    "aws:ec2/internetGateway:InternetGateway": [
        _ec2(f"CreateInternetGateway {_TAGS}", "AttachInternetGateway DeleteInternetGateway DetachInternetGateway")
    ],
    "aws:ec2/route:Route": [_ec2("", "CreateRoute DeleteRoute ReplaceRoute")],
    "aws:ec2/routeTable:RouteTable": [_ec2(f"CreateRouteTable {_TAGS}", "DeleteRouteTable")],
    "aws:ec2/routeTableAssociation:RouteTableAssociation": [
        _ec2("", "AssociateRouteTable DisassociateRouteTable ReplaceRouteTableAssociation")
    ],
    "aws:ec2/securityGroup:SecurityGroup": [
        _ec2(f"CreateSecurityGroup RevokeSecurityGroupEgress {_TAGS}", "DeleteSecurityGroup")
    ],
    "aws:ec2/subnet:Subnet": [
        _ec2(f"CreateSubnet {_TAGS}", "AssociateSubnetCidrBlock DeleteSubnet DisassociateSubnetCidrBlock"),
        _ec2("", "ModifySubnetAttribute"),
    ],
    "aws:ec2/volumeAttachment:VolumeAttachment": [_ec2("", "AttachVolume DetachVolume StopInstances")],
    "aws:ec2/vpc:Vpc": [
        _ec2(f"CreateVpc {_TAGS}", "AssociateVpcCidrBlock DeleteVpc DisassociateVpcCidrBlock ModifyVpcAttribute")
    ],
    "aws:ec2/vpcEndpoint:VpcEndpoint": [_ec2(f"CreateVpcEndpoint {_TAGS}", "DeleteVpcEndpoints ModifyVpcEndpoint")],
    "aws:iam/instanceProfile:InstanceProfile": [_ROLES],
    "aws:iam/role:Role": [_ROLES],
    "aws:iam/rolePolicy:RolePolicy": [_ROLES],
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": [_ROLES],
    "aws:lb/listener:Listener": [_BALANCING],
    "aws:lb/loadBalancer:LoadBalancer": [_BALANCING, _ROLES],
    "aws:lb/targetGroup:TargetGroup": [_BALANCING],
    "aws:lb/targetGroupAttachment:TargetGroupAttachment": [_BALANCING],
    "aws:route53/record:Record": [_ZONES],
    "aws:route53/zone:Zone": [_ZONES],
    "aws:s3/bucket:Bucket": [_BUCKETS],
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": [_BUCKETS],
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": [_BUCKETS],
    "aws:s3/bucketPolicy:BucketPolicy": [_BUCKETS],
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": [_BUCKETS],
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": [_BUCKETS],
    "aws:sns/topic:Topic": [_TOPICS],
    "aws:sns/topicPolicy:TopicPolicy": [_TOPICS],
    "aws:sns/topicSubscription:TopicSubscription": [_TOPICS],
    "aws:ssm/parameter:Parameter": [_PARAMETERS, _KEYS],
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": [
        _ec2(_TAGS, f"AuthorizeSecurityGroupEgress RevokeSecurityGroupEgress {_RULES}")
    ],
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": [
        _ec2(_TAGS, f"AuthorizeSecurityGroupIngress RevokeSecurityGroupIngress {_RULES}")
    ],
    "aws:wafv2/webAclAssociation:WebAclAssociation": [_FIREWALL, _BALANCING],
}
LOOK_UPS: Mapping[str, Sequence[Rights]] = {
    "aws:ec2/getSubnet:getSubnet": [_ec2("", "")],
    "aws:ec2/getVpcEndpointService:getVpcEndpointService": [_ec2("", "")],
    "aws:index/getAvailabilityZones:getAvailabilityZones": [_ec2("", "")],
    # Everybody may ask who they are.
    "aws:index/getCallerIdentity:getCallerIdentity": [],
    "aws:index/getPartition:getPartition": [],
    "aws:route53/getZone:getZone": [_ZONES],
    "aws:ssm/getParameter:getParameter": [_PARAMETERS],
}

_NAMES = [
    "arn:aws:elasticloadbalancing:*:*:loadbalancer/app/edge-*",
    "arn:aws:elasticloadbalancing:*:*:loadbalancer/net/edge-*",
    "arn:aws:elasticloadbalancing:*:*:listener/app/edge-*",
    "arn:aws:elasticloadbalancing:*:*:listener/net/edge-*",
    "arn:aws:elasticloadbalancing:*:*:targetgroup/edge-*",
    "arn:aws:s3:::edge-*",
    "arn:aws:sns:*:*:edge-*",
    "arn:aws:cloudwatch:*:*:alarm:edge-*",
    "arn:aws:ssm:*:*:parameter/open-webui-edge/*",
    # In which Debian and Canonical say which image is the newest; only AWS writes there.
    "arn:aws:ssm:*::parameter/aws/service/*",
]
_HERE = {"StringEquals": {"aws:RequestedRegion": REGION}}
_STATEMENTS: Mapping[Reach, Mapping[str, Any]] = {
    Reach.READ: {"Resource": "*", "Condition": _HERE},
    Reach.MAKE: {"Resource": "*", "Condition": _HERE},
    Reach.OURS: {
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:RequestedRegion": REGION, "aws:ResourceTag/app": "open-webui-edge"}},
    },
    Reach.NAMED: {"Resource": _NAMES},
    Reach.DNS: {"Resource": "*"},
    Reach.REGIONAL: {"Resource": "*", "Condition": _HERE},
    Reach.ROLES: {"Resource": ["arn:aws:iam::*:role/edge-*", "arn:aws:iam::*:instance-profile/edge-*"]},
    Reach.PASS: {
        "Resource": "arn:aws:iam::*:role/edge-*",
        "Condition": {"StringEquals": {"iam:PassedToService": ["ec2.amazonaws.com", "backup.amazonaws.com"]}},
    },
    Reach.LINKED: {
        "Resource": "arn:aws:iam::*:role/aws-service-role/*",
        "Condition": {
            "StringEquals": {"iam:AWSServiceName": ["elasticloadbalancing.amazonaws.com", "backup.amazonaws.com"]}
        },
    },
}


def policy(types: Iterable[str], look_ups: Iterable[str]) -> str:
    """Return the document that allows to make, change and remove these types."""
    rights = [each for kind in types for each in TYPES[kind]] + [each for token in look_ups for each in LOOK_UPS[token]]
    allowed: dict[Reach, set[str]] = {reach: set() for reach in Reach}
    for each in rights:
        for reach, actions in each.of.items():
            allowed[reach] |= {f"{each.service}:{action}" for action in actions}
    statements = [
        {"Sid": reach.value, "Effect": "Allow", "Action": sorted(actions), **_STATEMENTS[reach]}
        for reach, actions in allowed.items()
        if actions
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2) + "\n"
