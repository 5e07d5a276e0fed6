"""Each component on AWS, by the real provider: it comes, stays as it is, is found by others, and goes."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.cloud import Cloud, CloudStack, Programs

T = TypeVar("T")
PARTS = Path(__file__).parent / "programs" / "parts.py"
IMAGE = "ami-12c6146b"
NAMES = ["chat.example.com", "www.chat.example.com"]

WANTED: dict[str, dict[str, Any]] = {
    "alb": {
        "behind": "alb",
        "image": IMAGE,
        "network": {"cidr": "10.20.0.0/16", "availability_zones": 2},
        "zone": {"zone": "example.com", "create": True},
        "names": NAMES,
        "issuers": ["amazon.com"],
        "certificate": "acm",
        "backup": {"at": "03:00", "keep_days": 35},
        "alarms": {"disk_percent": 85, "expiry_days": 20, "email": "ops@example.com"},
    },
    "nlb": {
        "behind": "nlb",
        "image": IMAGE,
        "network": {"cidr": "10.30.0.0/16", "availability_zones": 3},
        "zone": {"zone": "example.com", "create": False},
        "names": NAMES,
        "issuers": ["letsencrypt.org"],
        "alarms": {"disk_percent": 85, "expiry_days": 20},
    },
    "none": {
        "behind": "none",
        "image": IMAGE,
        "ssh_from": ["198.51.100.0/24", "2001:db8::/64"],
        "names": NAMES,
        "zone": {"zone": "example.com", "create": False},
        "backup": {"at": "22:30", "keep_days": 7},
    },
}


def existing(cloud: Cloud, name: str) -> dict[str, Any]:
    """Make what a person brings, and return what the stack is told of it."""
    found = WANTED[name]
    if "network" not in found:
        ec2 = cloud.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="172.20.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="172.20.1.0/24")["Subnet"]["SubnetId"]
        found = {**found, "network": {"vpc_id": vpc, "public_subnet_ids": [subnet]}}
    if not found["zone"]["create"]:
        cloud.client("route53").create_hosted_zone(Name="example.com", CallerReference=name)
    return found


Stacks = dict[str, CloudStack]


@pytest.fixture(scope="module")
def stacks(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stacks]:
    """All of them, brought up side by side: they mostly wait."""
    with ExitStack() as clouds:
        made: Stacks = {}
        for name in WANTED:
            cloud = clouds.enter_context(Cloud.open(tmp_path_factory.mktemp(name) / "moto.log"))
            made[name] = programs.stack(cloud, PARTS, name, {"site": existing(cloud, name)})
        for ended in _of_each(made, CloudStack.up).values():
            ended.succeeded()
        yield made


def _of_each(stacks: Stacks, action: Callable[[CloudStack], T]) -> dict[str, T]:
    with ThreadPoolExecutor() as pool:
        return dict(zip(stacks, pool.map(action, stacks.values()), strict=True))


def test_an_update_that_changes_nothing_says_so(stacks: Stacks) -> None:
    assert _of_each(stacks, _steps) == {"alb": [], "nlb": [], "none": []}


def _steps(stack: CloudStack) -> list[str]:
    return [str(step) for step in stack.steps()]


@pytest.mark.parametrize(("name", "zones"), [("alb", 2), ("nlb", 3)])
def test_a_new_network_has_a_public_and_a_private_subnet_in_each_zone(stacks: Stacks, name: str, zones: int) -> None:
    ec2 = stacks[name].cloud.client("ec2")
    of_network = [{"Name": "vpc-id", "Values": [stacks[name].outputs()["vpc"]]}]
    subnets = {each["SubnetId"]: each for each in ec2.describe_subnets(Filters=of_network)["Subnets"]}
    by_zone = Counter(each["AvailabilityZone"] for each in subnets.values())
    assert sorted(by_zone.values()) == [2] * zones
    assert all(len(each["Ipv6CidrBlockAssociationSet"]) == 1 for each in subnets.values())
    assert not any(each["MapPublicIpOnLaunch"] for each in subnets.values())
    public = [
        association["SubnetId"]
        for table in ec2.describe_route_tables(Filters=of_network)["RouteTables"]
        for association in table["Associations"]
        if any(route.get("GatewayId", "").startswith("igw-") for route in table["Routes"]) and "SubnetId" in association
    ]
    assert len(public) == zones


def test_what_a_person_brought_is_used_and_nothing_put_into_it(stacks: Stacks) -> None:
    stack = stacks["none"]
    ec2 = stack.cloud.client("ec2")
    (network,) = [each for each in ec2.describe_vpcs()["Vpcs"] if each["CidrBlock"] == "172.20.0.0/16"]
    assert stack.outputs()["vpc"] == network["VpcId"]
    of_network = [{"Name": "vpc-id", "Values": [network["VpcId"]]}]
    assert len(ec2.describe_subnets(Filters=of_network)["Subnets"]) == 1
    assert len(stack.cloud.client("route53").list_hosted_zones()["HostedZones"]) == 1


@pytest.mark.parametrize(
    ("name", "open_to_all", "from_balancer", "ssh"),
    [
        ("alb", set(), {443}, set()),
        ("nlb", set(), {80, 443}, set()),
        ("none", {80, 443}, set(), {"198.51.100.0/24", "2001:db8::/64"}),
    ],
)
def test_who_reaches_the_instance(
    stacks: Stacks, name: str, open_to_all: set[int], from_balancer: set[int], ssh: set[str]
) -> None:
    ec2 = stacks[name].cloud.client("ec2")
    (group,) = _instance(stacks[name])["SecurityGroups"]
    rules = [
        rule
        for rule in ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group["GroupId"]]}])[
            "SecurityGroupRules"
        ]
        if not rule["IsEgress"]
    ]
    ends = {(rule.get("CidrIpv4") or rule.get("CidrIpv6") or "group", rule["FromPort"]) for rule in rules}
    assert {port for end, port in ends if end == "0.0.0.0/0"} == open_to_all
    assert {port for end, port in ends if end == "::/0"} == open_to_all
    assert {port for end, port in ends if end == "group"} == from_balancer
    assert {end for end, port in ends if port == 22} == ssh


def _instance(stack: CloudStack) -> dict[str, Any]:
    (reservation,) = stack.cloud.client("ec2").describe_instances()["Reservations"]
    (instance,) = reservation["Instances"]
    return instance


def test_an_application_load_balancer_ends_tls_and_speaks_https_with_the_instance(stacks: Stacks) -> None:
    stack = stacks["alb"]
    elb = stack.cloud.client("elbv2")
    (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
    assert (balancer["Type"], balancer["Scheme"], balancer["IpAddressType"]) == (
        "application",
        "internet-facing",
        "dualstack",
    )
    listeners = {
        each["Port"]: each for each in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    }
    (redirect,) = listeners[80]["DefaultActions"]
    assert (redirect["Type"], redirect["RedirectConfig"]["StatusCode"]) == ("redirect", "HTTP_301")
    (used,) = listeners[443]["Certificates"]
    (certificate,) = stack.cloud.client("acm").list_certificates(CertificateStatuses=["ISSUED"])[
        "CertificateSummaryList"
    ]
    assert used["CertificateArn"] == certificate["CertificateArn"]
    (targets,) = elb.describe_target_groups()["TargetGroups"]
    assert (targets["Protocol"], targets["Port"], targets["HealthCheckProtocol"]) == ("HTTPS", 443, "HTTPS")
    (target,) = elb.describe_target_health(TargetGroupArn=targets["TargetGroupArn"])["TargetHealthDescriptions"]
    assert target["Target"]["Id"] == _instance(stack)["InstanceId"]
    given = elb.describe_load_balancer_attributes(LoadBalancerArn=balancer["LoadBalancerArn"])["Attributes"]
    attributes = {each["Key"]: each["Value"] for each in given}
    assert attributes["idle_timeout.timeout_seconds"] == "3600"
    bucket = attributes["access_logs.s3.bucket"]
    closed = stack.cloud.client("s3").get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert all(closed.values())


def test_a_network_load_balancer_passes_both_ports_on_with_the_clients_address(stacks: Stacks) -> None:
    elb = stacks["nlb"].cloud.client("elbv2")
    (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
    assert balancer["Type"] == "network"
    assert len(balancer["SecurityGroups"]) == 1
    for group in elb.describe_target_groups()["TargetGroups"]:
        given = elb.describe_target_group_attributes(TargetGroupArn=group["TargetGroupArn"])["Attributes"]
        attributes = {each["Key"]: each["Value"] for each in given}
        assert (group["Protocol"], attributes["proxy_protocol_v2.enabled"]) == ("TCP", "true")
    assert {group["Port"] for group in elb.describe_target_groups()["TargetGroups"]} == {80, 443}


def test_names_lead_to_what_is_in_front(stacks: Stacks) -> None:
    assert _of_each(stacks, _records) == {
        "alb": {(name, kind): "alias" for name in NAMES for kind in ("A", "AAAA")},
        "nlb": {(name, kind): "alias" for name in NAMES for kind in ("A", "AAAA")},
        "none": {(name, "A"): stacks["none"].outputs()["address"] for name in NAMES},
    }


def _records(stack: CloudStack) -> dict[tuple[str, str], str]:
    return {
        (record["Name"].rstrip("."), record["Type"]): (
            "alias" if "AliasTarget" in record else record["ResourceRecords"][0]["Value"]
        )
        for record in _record_sets(stack)
        if record["Type"] in {"A", "AAAA"}
    }


def _record_sets(stack: CloudStack) -> list[dict[str, Any]]:
    return stack.cloud.client("route53").list_resource_record_sets(HostedZoneId=stack.outputs()["zone"])[
        "ResourceRecordSets"
    ]


def test_who_may_issue_is_said_at_every_name(stacks: Stacks) -> None:
    issuers = {
        record["Name"].rstrip("."): {each["Value"] for each in record["ResourceRecords"]}
        for record in _record_sets(stacks["nlb"])
        if record["Type"] == "CAA"
    }
    assert issuers == {name: {'0 issue "letsencrypt.org"', '0 issuewild ";"'} for name in NAMES}


def test_the_data_volume_is_backed_up_each_day_and_nothing_else(stacks: Stacks) -> None:
    stack = stacks["none"]
    backup = stack.cloud.client("backup")
    (plan,) = backup.list_backup_plans()["BackupPlansList"]
    (rule,) = backup.get_backup_plan(BackupPlanId=plan["BackupPlanId"])["BackupPlan"]["Rules"]
    assert (rule["ScheduleExpression"], rule["Lifecycle"]["DeleteAfterDays"]) == ("cron(30 22 * * ? *)", 7)
    (listed,) = backup.list_backup_selections(BackupPlanId=plan["BackupPlanId"])["BackupSelectionsList"]
    chosen = backup.get_backup_selection(BackupPlanId=plan["BackupPlanId"], SelectionId=listed["SelectionId"])
    (resource,) = chosen["BackupSelection"]["Resources"]
    assert resource.endswith(f":volume/{stack.outputs()['volume']}")


def test_alarms_tell_a_topic_that_somebody_hears(stacks: Stacks) -> None:
    stack = stacks["alb"]
    alarms = stack.cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    (topic,) = stack.cloud.client("sns").list_topics()["Topics"]
    assert {tuple(alarm["AlarmActions"]) for alarm in alarms} == {(topic["TopicArn"],)}
    (heard,) = stack.cloud.client("sns").list_subscriptions()["Subscriptions"]
    assert (heard["Protocol"], heard["Endpoint"]) == ("email", "ops@example.com")
    assert {"AWS/EC2", "AWS/ApplicationELB", "open-webui-edge"} == {alarm["Namespace"] for alarm in alarms}


def test_a_larger_volume_is_an_update_and_never_another_one(stacks: Stacks) -> None:
    stack = stacks["none"]
    stack.config["site"] = {**stack.config["site"], "size": 60}
    stack.write()
    try:
        assert _steps(stack) == ["update aws:ebs/volume:Volume edge-data (size)"]
    finally:
        del stack.config["site"]["size"]
        stack.write()


def test_what_is_destroyed_is_gone_but_for_what_holds_data(stacks: Stacks) -> None:
    _of_each(stacks, lambda stack: stack.refresh().succeeded())
    assert _of_each(stacks, _steps) == {"alb": [], "nlb": [], "none": []}
    _of_each(stacks, lambda stack: stack.destroy("--exclude-protected").succeeded())
    for name, stack in stacks.items():
        ec2, elb = stack.cloud.client("ec2"), stack.cloud.client("elbv2")
        states = {
            each["State"]["Name"]
            for reservation in ec2.describe_instances()["Reservations"]
            for each in reservation["Instances"]
        }
        assert states <= {"terminated"}, name
        assert elb.describe_load_balancers()["LoadBalancers"] == [], name
        assert ec2.describe_addresses()["Addresses"] == [], name
        assert stack.cloud.client("s3").list_buckets()["Buckets"] == [], name
        volumes = [each["VolumeId"] for each in ec2.describe_volumes()["Volumes"]]
        assert volumes == [_kept(stack, "aws:ebs/volume:Volume")], name
    assert _kept(stacks["alb"], "aws:route53/zone:Zone")
    assert _kept(stacks["none"], "aws:backup/vault:Vault")


def _kept(stack: CloudStack, type_: str) -> str:
    (found,) = [each["id"] for each in stack.state() if each["type"] == type_]
    return found
