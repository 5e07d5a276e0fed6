"""What must hold for everything on AWS; and that the rules would find what breaks them."""

import json
from collections.abc import Callable
from typing import Any

import pulumi_aws as aws
import pytest

from open_webui_edge.components.aws.ec2_host import Architecture, Ec2Host, Ec2HostArgs, MachineImage
from open_webui_edge.components.aws.load_balancer import LoadBalancerKind
from open_webui_edge.components.aws.network import Network, NetworkArgs
from open_webui_edge.components.aws.security_groups import SecurityGroups, SecurityGroupsArgs
from tests.unit.aws_rules import faults, leaks
from tests.unit.graph import Graph, graph_of

KEY = "OPENSSH PRIVATE KEY"
TAGS = {"app": "open-webui-edge", "stack": "unit", "component": "test"}


def machine(
    load_balancer: LoadBalancerKind = LoadBalancerKind.NONE, image: MachineImage = MachineImage.DEBIAN
) -> dict[str, Any]:
    network = Network("edge-network", NetworkArgs(cidr="10.20.0.0/16", availability_zones=2))
    groups = SecurityGroups(
        "edge-groups",
        SecurityGroupsArgs(
            vpc_id=network.vpc_id,
            load_balancer=load_balancer,
            ssh_from=["203.0.113.0/24"],
            http3=load_balancer is LoadBalancerKind.NONE,
        ),
    )
    host = Ec2Host(
        "edge-host",
        Ec2HostArgs(
            image=image,
            architecture=Architecture.AMD64,
            instance_type="t3.large",
            root_volume=16,
            data_volume=50,
            availability_zone=network.availability_zone,
            subnet_id=network.public_subnet_ids[0],
            security_group_ids=[groups.instance],
        ),
    )
    return {"address": host.address, "key": host.ssh.client_private_key, "host_key": host.ssh.host_key}


@pytest.fixture(
    params=[
        (load_balancer, image, preview)
        for load_balancer in LoadBalancerKind
        for image in MachineImage
        for preview in (False, True)
    ],
    ids=str,
)
def graph(request: pytest.FixtureRequest) -> Graph:
    load_balancer, image, preview = request.param
    return graph_of(lambda: machine(load_balancer, image), preview=preview)


def test_everything_keeps_the_rules(graph: Graph) -> None:
    assert faults(graph) == []


def test_no_secret_is_in_clear(graph: Graph) -> None:
    assert leaks(graph, KEY) == []


def _open_policy(**changes: Any) -> str:
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", **changes}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "untagged": (lambda: aws.ec2.Vpc("x", cidr_block="10.0.0.0/16"), "it lacks the tags app, component, stack"),
    "volume in clear": (
        lambda: aws.ebs.Volume("x", availability_zone="a", size=1, tags=TAGS),
        "it is not encrypted",
    ),
    "volume to be deleted": (
        lambda: aws.ebs.Volume("x", availability_zone="a", size=1, encrypted=True, tags=TAGS),
        "it is not kept",
    ),
    "file system in clear": (lambda: aws.efs.FileSystem("x", tags=TAGS), "it is not encrypted"),
    "queue in clear": (lambda: aws.sqs.Queue("x", tags=TAGS), "no key is named to encrypt it with"),
    "parameter in clear": (
        lambda: aws.ssm.Parameter("x", type="String", value="v", tags=TAGS),
        "a parameter is in clear",
    ),
    "metadata without a token": (
        lambda: aws.ec2.Instance("x", tags=TAGS),
        "its metadata service can be asked without a token, or from a container",
    ),
    "root volume in clear": (lambda: aws.ec2.Instance("x", tags=TAGS), "its root volume is not encrypted"),
    "public addresses": (
        lambda: aws.ec2.Subnet("x", vpc_id="v", map_public_ip_on_launch=True, tags=TAGS),
        "it is public by mapPublicIpOnLaunch",
    ),
    "public database": (
        lambda: aws.rds.Instance("x", instance_class="c", publicly_accessible=True, tags=TAGS),
        "it is public by publiclyAccessible",
    ),
    "ssh for everybody": (
        lambda: aws.vpc.SecurityGroupIngressRule(
            "x", security_group_id="s", ip_protocol="tcp", from_port=22, to_port=22, cidr_ipv6="::/0", tags=TAGS
        ),
        "::/0 on other ports than 80 and 443",
    ),
    "a range of ports": (
        lambda: aws.vpc.SecurityGroupIngressRule(
            "x", security_group_id="s", ip_protocol="tcp", from_port=80, to_port=443, cidr_ipv4="0.0.0.0/0", tags=TAGS
        ),
        "0.0.0.0/0 on other ports than 80 and 443",
    ),
    "a rule within a group": (
        lambda: aws.ec2.SecurityGroup(
            "x",
            egress=[{"from_port": 0, "to_port": 0, "protocol": "-1", "cidr_blocks": ["0.0.0.0/0"]}],
            tags=TAGS,
        ),
        "0.0.0.0/0 on other ports than 80 and 443",
    ),
    "everything of a service": (
        lambda: aws.iam.RolePolicy("x", role="r", policy=_open_policy(Action="s3:*")),
        "its policy allows s3:*",
    ),
    "an action on everything": (
        lambda: aws.iam.RolePolicy("x", role="r", policy=_open_policy()),
        "its policy allows s3:GetObject on everything",
    ),
    "all but": (
        lambda: aws.iam.RolePolicy("x", role="r", policy=_open_policy(NotAction="iam:*")),
        "its policy allows what it does not name",
    ),
    "metrics of everybody": (
        lambda: aws.iam.RolePolicy("x", role="r", policy=_open_policy(Action="cloudwatch:PutMetricData")),
        "its policy allows metrics in every namespace",
    ),
    "records of every name": (
        lambda: aws.iam.RolePolicy(
            "x", role="r", policy=_open_policy(Action="route53:ChangeResourceRecordSets", Resource="arn:zone")
        ),
        "its policy allows records of every name",
    ),
    "a bucket for everybody": (
        lambda: aws.s3.BucketPolicy("x", bucket="b", policy=_open_policy(Principal="*", Resource="arn:b")),
        "its policy lets everybody in",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_rule_finds_what_breaks_it(case: str) -> None:
    make, fault = BROKEN[case]

    def program() -> None:
        make()

    assert f"x: {fault}" in faults(graph_of(program))


def test_a_secret_in_clear_is_found() -> None:
    def program() -> dict[str, str]:
        aws.ec2.Vpc("x", tags={**TAGS, "key": KEY})
        return {"key": KEY}

    assert leaks(graph_of(program), KEY) == ["x: tags", "output key"]
