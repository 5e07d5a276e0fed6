"""Alarms: what is watched, what silence means, and who hears of it."""

import json
from typing import Any

import pytest

from open_webui_edge.components.aws.alarms import Alarms, AlarmsArgs, WatchedLoadBalancer
from open_webui_edge.components.aws.load_balancer import LoadBalancerKind
from tests.unit.graph import UNKNOWN, Graph, graph_of


def alarms(load_balancer: LoadBalancerKind = LoadBalancerKind.NONE, *, preview: bool = False, **changes: Any) -> Graph:
    def program() -> dict[str, Any]:
        args = AlarmsArgs(instance_id="i-1", disk_percent=85, expiry_days=14)
        if load_balancer is not LoadBalancerKind.NONE:
            args["load_balancer"] = WatchedLoadBalancer(
                kind=load_balancer, arn_suffix="app/edge/0123", target_group_arn_suffix="targetgroup/edge/0123"
            )
        return {"topic_arn": Alarms("edge-alarms", AlarmsArgs(**{**args, **changes})).topic_arn}

    return graph_of(program, preview=preview)


ALWAYS = {"status", "disk", "certificate"}
WATCHED = {
    LoadBalancerKind.NONE: ALWAYS,
    LoadBalancerKind.NLB: {*ALWAYS, "unhealthy"},
    LoadBalancerKind.ALB: {*ALWAYS, "unhealthy", "load-balancer-5xx", "target-5xx"},
}


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("load_balancer", LoadBalancerKind)
def test_what_is_there_is_watched(load_balancer: LoadBalancerKind, *, preview: bool) -> None:
    result = {one.name.removeprefix("edge-alarms-") for one in alarms(load_balancer, preview=preview).of("MetricAlarm")}
    assert result == WATCHED[load_balancer]


FIGURES = [
    (
        "status",
        {},
        ("AWS/EC2", "StatusCheckFailed", {"InstanceId": "i-1"}, "Maximum", ">=", 1, 60, 3, "breaching"),
    ),
    (
        "disk",
        {},
        ("open-webui-edge", "disk_used_percent", {"Stack": "unit"}, "Maximum", ">=", 85, 300, 3, "breaching"),
    ),
    (
        "certificate",
        {},
        ("open-webui-edge", "certificate_days_left", {"Stack": "unit"}, "Minimum", "<", 14, 300, 3, "breaching"),
    ),
    (
        "certificate",
        {"certificate_arn": "arn:acm"},
        (
            "AWS/CertificateManager",
            "DaysToExpiry",
            {"CertificateArn": "arn:acm"},
            "Minimum",
            "<",
            14,
            86400,
            1,
            "ignore",
        ),
    ),
    (
        "load-balancer-5xx",
        {},
        (
            "AWS/ApplicationELB",
            "HTTPCode_ELB_5XX_Count",
            {"LoadBalancer": "app/edge/0123"},
            "Sum",
            ">=",
            10,
            300,
            2,
            "notBreaching",
        ),
    ),
    (
        "target-5xx",
        {},
        (
            "AWS/ApplicationELB",
            "HTTPCode_Target_5XX_Count",
            {"LoadBalancer": "app/edge/0123"},
            "Sum",
            ">=",
            10,
            300,
            2,
            "notBreaching",
        ),
    ),
    (
        "unhealthy",
        {},
        (
            "AWS/ApplicationELB",
            "UnHealthyHostCount",
            {"LoadBalancer": "app/edge/0123", "TargetGroup": "targetgroup/edge/0123"},
            "Maximum",
            ">=",
            1,
            60,
            3,
            "breaching",
        ),
    ),
]
COMPARED = {"GreaterThanOrEqualToThreshold": ">=", "LessThanThreshold": "<"}


@pytest.mark.parametrize(("role", "changes", "figures"), FIGURES, ids=[f"{role}{[*c]}" for role, c, _ in FIGURES])
def test_an_alarm_goes_off_at(role: str, changes: dict[str, Any], figures: tuple[Any, ...]) -> None:
    inputs = alarms(LoadBalancerKind.ALB, **changes).named(f"edge-alarms-{role}").inputs
    assert (
        inputs["namespace"],
        inputs["metricName"],
        inputs["dimensions"],
        inputs["statistic"],
        COMPARED[inputs["comparisonOperator"]],
        inputs["threshold"],
        inputs["period"],
        inputs["evaluationPeriods"],
        inputs["treatMissingData"],
    ) == figures


def test_a_network_load_balancer_counts_its_unhealthy_hosts_elsewhere() -> None:
    inputs = alarms(LoadBalancerKind.NLB).named("edge-alarms-unhealthy").inputs
    assert inputs["namespace"] == "AWS/NetworkELB"


def test_whoever_is_woken_reads_what_is_the_matter() -> None:
    for one in alarms(LoadBalancerKind.ALB).of("MetricAlarm"):
        assert one.inputs["alarmDescription"].endswith("."), one.name
        assert one.inputs["name"].startswith("edge-unit-"), one.name


@pytest.mark.parametrize("preview", [False, True])
def test_without_an_address_nobody_is_told(*, preview: bool) -> None:
    graph = alarms(preview=preview)
    assert not graph.of("Topic")
    assert not graph.of("TopicSubscription")
    assert all(not one.inputs.get("alarmActions") for one in graph.of("MetricAlarm"))
    assert graph.returned == {"topic_arn": None}


def test_an_address_hears_of_the_fault_and_of_its_end() -> None:
    graph = alarms(email="ops@example.com")
    (subscription,) = graph.of("TopicSubscription")
    assert (subscription.inputs["protocol"], subscription.inputs["endpoint"]) == ("email", "ops@example.com")
    for one in graph.of("MetricAlarm"):
        assert one.inputs["alarmActions"] == one.inputs["okActions"] == ["arn:topic"], one.name
        # CloudWatch may publish before it has to.
        assert "edge-alarms-topic-policy" in one.after, one.name


def test_only_alarms_of_this_account_publish() -> None:
    (policy,) = alarms(email="ops@example.com").of("TopicPolicy")
    assert json.loads(policy.inputs["policy"])["Statement"] == [
        {
            "Sid": "AlarmsOfThisAccount",
            "Effect": "Allow",
            "Principal": {"Service": "cloudwatch.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": "arn:topic",
            "Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}},
        }
    ]


def test_cloudwatch_can_publish_since_the_topic_has_not_the_accounts_key() -> None:
    (topic,) = alarms(email="ops@example.com").of("Topic")
    assert "kmsMasterKeyId" not in topic.inputs


def test_a_preview_has_the_same_resources() -> None:
    graph = alarms(LoadBalancerKind.ALB, email="ops@example.com", preview=True)
    assert graph.identities() == alarms(LoadBalancerKind.ALB, email="ops@example.com").identities()
    assert graph.returned == {"topic_arn": UNKNOWN}
