"""What may go together on AWS goes together: each stack came about as it was meant to."""

import base64
import zlib
from collections import Counter
from typing import Any

from open_webui_edge.settings.aws import LoadBalancerKind
from tests.aws import stack_files
from tests.aws.combinations import Certificate, Dns, Network
from tests.aws.stacks import COMBINATIONS, ONE_OF_EACH, ByName, Stacks, each_of
from tests.support.cloud import CloudStack


@ONE_OF_EACH
def test_it_comes_up(stacks: Stacks, name: str) -> None:
    stacks.ended[name].succeeded()


@ONE_OF_EACH
def test_another_update_would_change_nothing(again: ByName[list[str]], name: str) -> None:
    assert again[name] == []


@each_of([name for name, expected in COMBINATIONS.items() if expected.network is Network.NEW])
def test_a_new_network_has_a_public_and_a_private_subnet_in_each_zone(stacks: Stacks, name: str) -> None:
    ec2 = stacks[name].cloud.client("ec2")
    of_network = [{"Name": "vpc-id", "Values": [_instance(stacks[name])["VpcId"]]}]
    subnets = ec2.describe_subnets(Filters=of_network)["Subnets"]
    assert sorted(Counter(each["AvailabilityZone"] for each in subnets).values()) == [2, 2]
    assert [len(each["Ipv6CidrBlockAssociationSet"]) for each in subnets] == [1] * 4
    assert not any(each["MapPublicIpOnLaunch"] for each in subnets)
    public = {
        association["SubnetId"]
        for table in ec2.describe_route_tables(Filters=of_network)["RouteTables"]
        for association in table["Associations"]
        if any(route.get("GatewayId", "").startswith("igw-") for route in table["Routes"]) and "SubnetId" in association
    }
    assert len(public) == 2
    assert _instance(stacks[name])["SubnetId"] in public


@each_of([name for name, expected in COMBINATIONS.items() if expected.network is Network.EXISTING])
def test_a_network_that_somebody_brings_is_used_and_nothing_put_into_it(stacks: Stacks, name: str) -> None:
    stack = stacks[name]
    ec2, provided = stack.cloud.client("ec2"), stack.config["platform"]["aws"]["vpc"]
    instance = _instance(stack)
    assert (instance["VpcId"], instance["SubnetId"]) == (provided["id"], provided["public_subnets"][0])
    of_network = [{"Name": "vpc-id", "Values": [provided["id"]]}]
    assert {each["SubnetId"] for each in ec2.describe_subnets(Filters=of_network)["Subnets"]} == {
        *provided["public_subnets"]
    }
    assert len(ec2.describe_route_tables(Filters=of_network)["RouteTables"]) == 1


@ONE_OF_EACH
def test_nobody_reaches_the_instance_but_by_the_front_door(stacks: Stacks, name: str) -> None:
    ec2 = stacks[name].cloud.client("ec2")
    (group,) = _instance(stacks[name])["SecurityGroups"]
    of_group = [{"Name": "group-id", "Values": [group["GroupId"]]}]
    rules = ec2.describe_security_group_rules(Filters=of_group)["SecurityGroupRules"]
    ends = {
        (rule.get("CidrIpv4") or rule.get("CidrIpv6") or "the load balancer", rule["FromPort"])
        for rule in rules
        if not rule["IsEgress"]
    }
    front = {
        LoadBalancerKind.NONE: {(network, port) for network in ("0.0.0.0/0", "::/0") for port in (80, 443)},
        LoadBalancerKind.ALB: {("the load balancer", 443)},
        LoadBalancerKind.NLB: {("the load balancer", port) for port in (80, 443)},
    }
    assert ends == {*front[COMBINATIONS[name].load_balancer], (stack_files.SSH_FROM, 22)}


@ONE_OF_EACH
def test_the_instance_gives_nothing_away(stacks: Stacks, name: str) -> None:
    stack = stacks[name]
    ec2, instance = stack.cloud.client("ec2"), _instance(stack)
    options = instance["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
    volumes = ec2.describe_volumes()["Volumes"]
    assert stack.outputs()["volume"] in [volume["VolumeId"] for volume in volumes]
    assert all(volume["Encrypted"] for volume in volumes)
    user_data = ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
    assert "PRIVATE KEY" not in _decoded(user_data["UserData"]["Value"])


@ONE_OF_EACH
def test_names_lead_to_what_is_in_front(stacks: Stacks, name: str) -> None:
    stack, expected = stacks[name], COMBINATIONS[name]
    outputs, hosts = stack.outputs(), _hosts(stack)
    if expected.dns is Dns.NONE:
        kind, value = (
            ("A", outputs["address"])
            if expected.load_balancer is LoadBalancerKind.NONE
            else ("CNAME", outputs["load_balancer"])
        )
        assert outputs["records"] == [{"name": host, "type": kind, "value": value} for host in hosts]
        return
    result = {
        (record["Name"].rstrip("."), record["Type"]): (
            "alias" if "AliasTarget" in record else record["ResourceRecords"][0]["Value"]
        )
        for record in _records(stack)
        if record["Type"] in {"A", "AAAA"}
    }
    direct = {(host, "A"): outputs["address"] for host in hosts}
    aliased = {(host, kind): "alias" for host in hosts for kind in ("A", "AAAA")}
    if expected.load_balancer is LoadBalancerKind.NONE:
        assert result == direct
    else:
        # The network that was there before has no IPv6.
        assert result == {key: aliased[key] for key in aliased if key[1] == "A" or expected.network is Network.NEW}


@ONE_OF_EACH
def test_who_may_issue_certificates_is_said_where_the_stack_keeps_the_zone(stacks: Stacks, name: str) -> None:
    expected = COMBINATIONS[name]
    said = {
        value["Value"].split('"')[1]
        for record in (_records(stacks[name]) if expected.dns is not Dns.NONE else [])
        if record["Type"] == "CAA"
        for value in record["ResourceRecords"]
        if " issue " in value["Value"]
    }
    issuers = {
        Certificate.ACM: {"amazon.com", "amazontrust.com", "awstrust.com", "amazonaws.com"},
        Certificate.LETS_ENCRYPT: {"letsencrypt.org"},
    }
    assert said == (issuers.get(expected.certificate, set()) if expected.dns is not Dns.NONE else set())


@each_of([name for name, expected in COMBINATIONS.items() if expected.load_balancer is LoadBalancerKind.ALB])
def test_an_application_load_balancer_ends_tls_and_speaks_https_with_the_instance(stacks: Stacks, name: str) -> None:
    stack = stacks[name]
    elb = stack.cloud.client("elbv2")
    (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
    # moto names no scheme where none was asked for, which is to face the internet.
    assert (balancer["Type"], balancer.get("Scheme") or "internet-facing") == ("application", "internet-facing")
    arn = balancer["LoadBalancerArn"]
    listeners = {each["Port"]: each for each in elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]}
    (redirect,) = listeners[80]["DefaultActions"]
    assert (redirect["Type"], redirect["RedirectConfig"]["StatusCode"]) == ("redirect", "HTTP_301")
    (used,) = listeners[443]["Certificates"]
    # moto knows no idempotency token, so that a request that was sent again on a slow machine is a second certificate.
    issued = stack.cloud.client("acm").list_certificates(CertificateStatuses=["ISSUED"])["CertificateSummaryList"]
    assert used["CertificateArn"] in [each["CertificateArn"] for each in issued]
    (targets,) = elb.describe_target_groups()["TargetGroups"]
    assert (targets["Protocol"], targets["Port"], targets["HealthCheckProtocol"]) == ("HTTPS", 443, "HTTPS")
    (target,) = elb.describe_target_health(TargetGroupArn=targets["TargetGroupArn"])["TargetHealthDescriptions"]
    assert target["Target"]["Id"] == _instance(stack)["InstanceId"]
    attributes = _attributes(elb.describe_load_balancer_attributes(LoadBalancerArn=arn))
    assert attributes["deletion_protection.enabled"] == ("true" if name == "production" else "false")
    bucket = attributes["access_logs.s3.bucket"]
    closed = stack.cloud.client("s3").get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True}


@each_of([name for name, expected in COMBINATIONS.items() if expected.load_balancer is LoadBalancerKind.NLB])
def test_a_network_load_balancer_passes_both_ports_on_with_the_clients_address(stacks: Stacks, name: str) -> None:
    elb = stacks[name].cloud.client("elbv2")
    (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
    assert (balancer["Type"], len(balancer["SecurityGroups"])) == ("network", 1)
    groups = elb.describe_target_groups()["TargetGroups"]
    assert {(group["Protocol"], group["Port"]) for group in groups} == {("TCP", 80), ("TCP", 443)}
    for group in groups:
        attributes = _attributes(elb.describe_target_group_attributes(TargetGroupArn=group["TargetGroupArn"]))
        assert attributes["proxy_protocol_v2.enabled"] == "true"


@each_of([name for name in COMBINATIONS if name != "staging"])
def test_the_data_volume_is_backed_up_and_alarms_are_heard(stacks: Stacks, name: str) -> None:
    stack = stacks[name]
    backup = stack.cloud.client("backup")
    (plan,) = backup.list_backup_plans()["BackupPlansList"]
    (listed,) = backup.list_backup_selections(BackupPlanId=plan["BackupPlanId"])["BackupSelectionsList"]
    chosen = backup.get_backup_selection(BackupPlanId=plan["BackupPlanId"], SelectionId=listed["SelectionId"])
    (resource,) = chosen["BackupSelection"]["Resources"]
    assert resource.endswith(f":volume/{stack.outputs()['volume']}")
    (topic,) = stack.cloud.client("sns").list_topics()["Topics"]
    alarms = stack.cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert {tuple(alarm["AlarmActions"]) for alarm in alarms} == {(topic["TopicArn"],)}
    (heard,) = stack.cloud.client("sns").list_subscriptions()["Subscriptions"]
    assert heard["Protocol"] == "email"


def _instance(stack: CloudStack) -> dict[str, Any]:
    (reservation,) = stack.cloud.client("ec2").describe_instances()["Reservations"]
    (instance,) = reservation["Instances"]
    return instance


def _decoded(user_data: str) -> str:
    data = base64.b64decode(user_data)
    return (zlib.decompress(data, wbits=31) if data.startswith(b"\x1f\x8b") else data).decode()


def _hosts(stack: CloudStack) -> list[str]:
    site = stack.config["site"]
    return [site["domain"], *site.get("aliases", [])]


def _records(stack: CloudStack) -> list[dict[str, Any]]:
    route53 = stack.cloud.client("route53")
    (zone,) = route53.list_hosted_zones()["HostedZones"]
    return route53.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]


def _attributes(answer: dict[str, Any]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in answer["Attributes"]}
