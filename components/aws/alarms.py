"""Alarms of CloudWatch, and who hears of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NotRequired, TypedDict, assert_never

import pulumi
import pulumi_aws as aws

from components.aws.behind import Behind
from components.aws.policy import policy_document
from components.aws.tags import physical_name, tags

# What the instance publishes every five minutes (host/metrics.py).
NAMESPACE = "open-webui-edge"
DISK_USED_PERCENT = "disk_used_percent"
CERTIFICATE_DAYS_LEFT = "certificate_days_left"

_NAME = 255
_MINUTE = 60
_DAY = 24 * 60 * 60
# Errors in five minutes, twice in a row: a person who meets one is no reason to wake another.
_ERRORS = 10


class _Silence(StrEnum):
    """What it means when there is no figure."""

    FAULT = "breaching"
    """Whoever measures, or is measured, is gone."""
    NO_FAULT = "notBreaching"
    """There are figures only when something happens."""
    NOTHING = "ignore"
    """Figures come seldom: what was true before, is."""


@dataclass(frozen=True)
class _Alarm:
    role: str
    says: str
    """What a person reads who is woken by it."""
    namespace: str
    metric: str
    dimensions: Mapping[str, pulumi.Input[str]]
    statistic: str
    threshold: float
    silence: _Silence
    period: int = _MINUTE
    periods: int = 3
    below: bool = False
    """Whether too little is the fault."""


class WatchedLoadBalancer(TypedDict):
    """What its metrics are known by."""

    kind: Behind
    arn_suffix: pulumi.Input[str]
    target_group_arn_suffix: pulumi.Input[str]


class AlarmsArgs(TypedDict):
    """What is watched."""

    instance_id: pulumi.Input[str]
    load_balancer: NotRequired[WatchedLoadBalancer]
    certificate_arn: NotRequired[pulumi.Input[str]]
    """The certificate in ACM that clients see; left out, they see the one that the instance publishes the end of."""
    disk_percent: int
    """Use of the disk that is too much."""
    expiry_days: int
    """Days before the certificate's end that are too few."""
    email: NotRequired[str]
    """Who hears of it, once they have agreed by the link that AWS sends. Left out, the console alone shows alarms."""


class Alarms(pulumi.ComponentResource):
    """What nobody would notice before the users do.

    The topic has no key of KMS: CloudWatch may not use that of the account for topics, one of one's own costs a dollar
    a month, and what is said ends in a mail. SNS encrypts its disks in any case.
    """

    topic_arn: pulumi.Output[str] | None
    """None without an address."""

    def __init__(self, name: str, args: AlarmsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the alarms, and the topic if somebody is to hear of them."""
        super().__init__("open-webui-edge:index:Alarms", name, {**args}, opts)
        child = pulumi.ResourceOptions(parent=self)

        self.topic_arn = self._topic(name, args["email"]) if "email" in args else None
        actions = [] if self.topic_arn is None else [self.topic_arn]
        for alarm in _alarms(args):
            aws.cloudwatch.MetricAlarm(
                f"{name}-{alarm.role}",
                name=physical_name(alarm.role, _NAME),
                alarm_description=alarm.says,
                namespace=alarm.namespace,
                metric_name=alarm.metric,
                dimensions=alarm.dimensions,
                statistic=alarm.statistic,
                period=alarm.period,
                evaluation_periods=alarm.periods,
                threshold=alarm.threshold,
                comparison_operator="LessThanThreshold" if alarm.below else "GreaterThanOrEqualToThreshold",
                treat_missing_data=alarm.silence.value,
                alarm_actions=actions,
                ok_actions=actions,
                tags=tags("alarms"),
                opts=child,
            )
        self.register_outputs({"topic_arn": self.topic_arn})

    def _topic(self, name: str, email: str) -> pulumi.Output[str]:
        child = pulumi.ResourceOptions(parent=self)
        topic = aws.sns.Topic(
            f"{name}-topic",
            name=physical_name("alarms", _NAME),
            tags=tags("alarms"),
            opts=child,
        )
        policy = aws.sns.TopicPolicy(
            f"{name}-topic-policy",
            arn=topic.arn,
            policy=pulumi.Output.json_dumps(
                policy_document(
                    {
                        "Sid": "AlarmsOfThisAccount",
                        "Effect": "Allow",
                        "Principal": {"Service": "cloudwatch.amazonaws.com"},
                        "Action": "sns:Publish",
                        "Resource": topic.arn,
                        "Condition": {"StringEquals": {"aws:SourceAccount": topic.owner}},
                    },
                )
            ),
            opts=child,
        )
        aws.sns.TopicSubscription(f"{name}-email", topic=topic.arn, protocol="email", endpoint=email, opts=child)
        return policy.arn


def _alarms(args: AlarmsArgs) -> Iterator[_Alarm]:
    yield _Alarm(
        "status",
        "The instance fails EC2's status checks, is stopped, or is gone. A missing one comes back by `pulumi up`.",
        "AWS/EC2",
        "StatusCheckFailed",
        {"InstanceId": args["instance_id"]},
        "Maximum",
        1,
        _Silence.FAULT,
    )
    yield _Alarm(
        "disk",
        f"The data volume is used by {args['disk_percent']} % or more, or the instance does not say. Make"
        " platform.aws.instance.data_volume larger.",
        NAMESPACE,
        DISK_USED_PERCENT,
        {"Stack": pulumi.get_stack()},
        "Maximum",
        args["disk_percent"],
        # What fills a disk may end what measures it.
        _Silence.FAULT,
        period=5 * _MINUTE,
    )
    yield _expiry(args)
    if "load_balancer" in args:
        yield from _load_balancer(args["load_balancer"])


def _expiry(args: AlarmsArgs) -> _Alarm:
    says = f"The certificate ends in less than {args['expiry_days']} days, and nothing has renewed it"
    if "certificate_arn" in args:
        return _Alarm(
            "certificate",
            f"{says}. AWS Certificate Manager says why; the records for its validation must stand.",
            "AWS/CertificateManager",
            "DaysToExpiry",
            {"CertificateArn": args["certificate_arn"]},
            "Minimum",
            args["expiry_days"],
            # Published twice a day, and not on the first.
            _Silence.NOTHING,
            period=_DAY,
            periods=1,
            below=True,
        )
    return _Alarm(
        "certificate",
        f"{says}, or the instance does not say. `make doctor` says why.",
        NAMESPACE,
        CERTIFICATE_DAYS_LEFT,
        {"Stack": pulumi.get_stack()},
        "Minimum",
        args["expiry_days"],
        _Silence.FAULT,
        period=5 * _MINUTE,
        below=True,
    )


def _load_balancer(watched: WatchedLoadBalancer) -> Iterator[_Alarm]:
    match watched["kind"]:
        case Behind.NONE:
            return
        case Behind.ALB:
            namespace = "AWS/ApplicationELB"
            yield _errors(watched, "load-balancer-5xx", "ELB", "The load balancer gets no answer from Nginx")
            yield _errors(watched, "target-5xx", "Target", "Nginx or the application answers with errors")
        case Behind.NLB:
            # It passes on what it does not read: there are no errors to count.
            namespace = "AWS/NetworkELB"
        case _:
            assert_never(watched["kind"])
    yield _Alarm(
        "unhealthy",
        "The load balancer's health check fails: Nginx does not answer on the instance, or there is none.",
        namespace,
        "UnHealthyHostCount",
        {"LoadBalancer": watched["arn_suffix"], "TargetGroup": watched["target_group_arn_suffix"]},
        "Maximum",
        1,
        # There are figures as long as an instance is registered.
        _Silence.FAULT,
    )


def _errors(watched: WatchedLoadBalancer, role: str, whose: str, says: str) -> _Alarm:
    return _Alarm(
        role,
        f"{says}: {_ERRORS} errors or more in five minutes, twice in a row.",
        "AWS/ApplicationELB",
        f"HTTPCode_{whose}_5XX_Count",
        {"LoadBalancer": watched["arn_suffix"]},
        "Sum",
        _ERRORS,
        _Silence.NO_FAULT,
        period=5 * _MINUTE,
        periods=2,
    )
