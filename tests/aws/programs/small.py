"""A few resources, functions and a secret: enough to see whether the provider can be believed."""

import json

import pulumi
import pulumi_aws as aws
import pulumi_tls as tls

given = pulumi.Config().get_object("site") or {}
provider = aws.Provider("aws", region="eu-central-1")
options = pulumi.ResourceOptions(provider=provider)
asking = pulumi.InvokeOptions(provider=provider)

zones = aws.get_availability_zones(state="available", opts=asking)
network = aws.ec2.Vpc(
    "network",
    cidr_block=given.get("network", "10.20.0.0/16"),
    assign_generated_ipv6_cidr_block=True,
    tags={"Name": given.get("name", "first")},
    opts=options,
)
subnet = aws.ec2.Subnet(
    "subnet",
    vpc_id=network.id,
    cidr_block=given.get("subnet", "10.20.1.0/24"),
    availability_zone=zones.names[0],
    opts=options,
)
group = aws.ec2.SecurityGroup("group", vpc_id=network.id, description="a test's", opts=options)
rule = aws.vpc.SecurityGroupIngressRule(
    "rule",
    security_group_id=group.id,
    cidr_ipv4="0.0.0.0/0",
    ip_protocol="tcp",
    from_port=443,
    to_port=443,
    opts=options,
)
key = tls.PrivateKey("key", algorithm="ED25519")
parameter = aws.ssm.Parameter("parameter", type="SecureString", value=key.private_key_openssh, opts=options)
volume = aws.ebs.Volume(
    "volume", availability_zone=zones.names[0], size=given.get("size", 10), encrypted=True, opts=options
)
image = aws.ec2.get_ami_output(
    most_recent=True,
    owners=["099720109477"],
    filters=[aws.ec2.GetAmiFilterArgs(name="architecture", values=["x86_64"])],
    opts=asking,
)
role = aws.iam.Role(
    "role",
    assume_role_policy=json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "backup.amazonaws.com"}}
            ],
        }
    ),
    opts=options,
)
vault = aws.backup.Vault("vault", tags={"app": "a test's"}, opts=options)
plan = aws.backup.Plan(
    "plan",
    rules=[
        aws.backup.PlanRuleArgs(
            rule_name="daily",
            target_vault_name=vault.name,
            schedule="cron(0 3 * * ? *)",
            lifecycle=aws.backup.PlanRuleLifecycleArgs(delete_after=35),
        )
    ],
    tags={"app": "a test's"},
    opts=options,
)
selection = aws.backup.Selection(
    "selection", plan_id=plan.id, iam_role_arn=role.arn, resources=[volume.arn], opts=options
)
instance = aws.ec2.Instance(
    "instance",
    ami=image.id,
    instance_type="t3.micro",
    subnet_id=subnet.id,
    vpc_security_group_ids=[group.id],
    metadata_options=aws.ec2.InstanceMetadataOptionsArgs(http_tokens="required", http_put_response_hop_limit=1),
    root_block_device=aws.ec2.InstanceRootBlockDeviceArgs(volume_size=16, encrypted=True),
    opts=options,
)

pulumi.export("network", network.id)
pulumi.export("instance", instance.id)
pulumi.export("plan", plan.id)
pulumi.export("key", key.private_key_openssh)
