"""CloudWatch alarms, and the topic that sends them by e-mail."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NotRequired, TypedDict, assert_never

import pulumi
import pulumi_aws as aws

from open_webui_edge.components.aws.iam import policy_document
from open_webui_edge.components.aws.load_balancer import LoadBalancerKind
from open_webui_edge.components.aws.tags import physical_name, tags

# Metrics that the instance publishes every five minutes (runtime/instance/metrics.py).
NAMESPACE = "open-webui-edge"
DISK_USED_PERCENT = "disk_used_percent"
CERTIFICATE_DAYS_LEFT = "certificate_days_left"

_NAME = 255
_MINUTE = 60
_DAY = 24 * 60 * 60
# Errors in five minutes, twice in a row: a single error is no reason to wake an operator.
_ERRORS = 10


class _MissingData(StrEnum):
    """How an alarm treats missing data points."""

    BREACHING = "breaching"
    """The instance that publishes the metric is gone."""
    NOT_BREACHING = "notBreaching"
    """The metric only has data points when something happens."""
    IGNORE = "ignore"
    """Data points are rare: the alarm keeps its state."""


@dataclass(frozen=True)
class _Alarm:
    role: str
    description: str
    """The text that an operator reads."""
    namespace: str
    metric: str
    dimensions: Mapping[str, pulumi.Input[str]]
    statistic: str
    threshold: float
    missing_data: _MissingData
    period: int = _MINUTE
    periods: int = 3
    is_minimum: bool = False
    """Whether the threshold is a minimum."""


class WatchedLoadBalancer(TypedDict):
    """The dimensions of its metrics."""

    kind: LoadBalancerKind
    arn_suffix: pulumi.Input[str]
    target_group_arn_suffix: pulumi.Input[str]


class AlarmsArgs(TypedDict):
    """The monitored resources, and the thresholds."""

    instance_id: pulumi.Input[str]
    load_balancer: NotRequired[WatchedLoadBalancer]
    certificate_arn: NotRequired[pulumi.Input[str]]
    """The certificate in ACM that clients see; left out: the proxy's, whose expiry the instance publishes."""
    disk_percent: int
    """Alarm at this usage of the data volume."""
    expiry_days: int
    """Alarm this many days before the certificate expires."""
    email: NotRequired[str]
    """Recipient, who must confirm the subscription first. Left out: only the console shows alarms."""


class Alarms(pulumi.ComponentResource):
    """Alarms about faults that only users would notice otherwise.

    The topic has no KMS key: CloudWatch cannot use the account's default key, a customer managed key costs a dollar a
    month, and the messages end in a mail. SNS encrypts its disks in any case.
    """

    topic_arn: pulumi.Output[str] | None
    """None without an address."""

    def __init__(self, name: str, args: AlarmsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the alarms, and the topic if there is a recipient."""
        super().__init__("open-webui-edge:index:Alarms", name, {**args}, opts)
        child = pulumi.ResourceOptions(parent=self)

        self.topic_arn = self._topic(name, args["email"]) if "email" in args else None
        actions = [] if self.topic_arn is None else [self.topic_arn]
        for alarm in _alarms(args):
            aws.cloudwatch.MetricAlarm(
                f"{name}-{alarm.role}",
                name=physical_name(alarm.role, _NAME),
                alarm_description=alarm.description,
                namespace=alarm.namespace,
                metric_name=alarm.metric,
                dimensions=alarm.dimensions,
                statistic=alarm.statistic,
                period=alarm.period,
                evaluation_periods=alarm.periods,
                threshold=alarm.threshold,
                comparison_operator="LessThanThreshold" if alarm.is_minimum else "GreaterThanOrEqualToThreshold",
                treat_missing_data=alarm.missing_data.value,
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
        _MissingData.BREACHING,
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
        # A full disk may stop the program that measures it.
        _MissingData.BREACHING,
        period=5 * _MINUTE,
    )
    yield _expiry(args)
    if "load_balancer" in args:
        yield from _load_balancer(args["load_balancer"])


def _expiry(args: AlarmsArgs) -> _Alarm:
    problem = f"The certificate ends in less than {args['expiry_days']} days, and nothing has renewed it"
    if "certificate_arn" in args:
        return _Alarm(
            "certificate",
            f"{problem}. AWS Certificate Manager says why; the records for its validation must stand.",
            "AWS/CertificateManager",
            "DaysToExpiry",
            {"CertificateArn": args["certificate_arn"]},
            "Minimum",
            args["expiry_days"],
            # Published twice a day, but not on the first day.
            _MissingData.IGNORE,
            period=_DAY,
            periods=1,
            is_minimum=True,
        )
    return _Alarm(
        "certificate",
        f"{problem}, or the instance does not say. `make doctor` says why.",
        NAMESPACE,
        CERTIFICATE_DAYS_LEFT,
        {"Stack": pulumi.get_stack()},
        "Minimum",
        args["expiry_days"],
        _MissingData.BREACHING,
        period=5 * _MINUTE,
        is_minimum=True,
    )


def _load_balancer(watched: WatchedLoadBalancer) -> Iterator[_Alarm]:
    match watched["kind"]:
        case LoadBalancerKind.NONE:
            return
        case LoadBalancerKind.ALB:
            namespace = "AWS/ApplicationELB"
            yield _errors(watched, "load-balancer-5xx", "ELB", "The load balancer gets no answer from Nginx")
            yield _errors(watched, "target-5xx", "Target", "Nginx or the application answers with errors")
        case LoadBalancerKind.NLB:
            # It forwards TCP: there are no HTTP errors to count.
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
        # The metric has data points as long as an instance is registered.
        _MissingData.BREACHING,
    )


def _errors(watched: WatchedLoadBalancer, role: str, source: str, problem: str) -> _Alarm:
    return _Alarm(
        role,
        f"{problem}: {_ERRORS} errors or more in five minutes, twice in a row.",
        "AWS/ApplicationELB",
        f"HTTPCode_{source}_5XX_Count",
        {"LoadBalancer": watched["arn_suffix"]},
        "Sum",
        _ERRORS,
        _MissingData.NOT_BREACHING,
        period=5 * _MINUTE,
        periods=2,
    )
