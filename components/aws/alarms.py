"""CloudWatch alarms, and the topic that sends them by e-mail."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from open_webui_edge.components.aws.ec2_host import METRICS_NAMESPACE
from open_webui_edge.components.aws.iam import policy_document
from open_webui_edge.components.aws.load_balancer import LoadBalancerKind
from open_webui_edge.components.aws.tags import physical_name, tags

# Metrics that the instance publishes every five minutes (runtime/instance/metrics.py).
DISK_USED_PERCENT = "disk_used_percent"
CERTIFICATE_DAYS_LEFT = "certificate_days_left"

_NAME = 255
_MINUTE = 60
_DAY = 24 * 60 * 60
# Errors in five minutes, twice in a row: a single error is no reason to wake an operator.
_ERRORS = 10
# The metric only has data points when something happens.
_NOT_BREACHING = "notBreaching"
# Data points are rare: the alarm keeps its state.
_IGNORE = "ignore"


@dataclass(frozen=True)
class _Alarm:
    role: str
    description: str
    """The text that an operator reads."""
    namespace: str
    metric: str
    dimensions: Mapping[str, pulumi.Input[str]]
    statistic: str
    """For "Minimum" the threshold is a minimum."""
    threshold: float
    period: int = _MINUTE
    periods: int = 3
    missing_data: str = "breaching"
    """By default, what publishes the metric is gone."""


class WatchedLoadBalancer(TypedDict):
    """The dimensions of its metrics."""

    kind: LoadBalancerKind
    arn_suffix: pulumi.Input[str]
    target_group_arn_suffix: pulumi.Input[str]


class AlarmThresholds(TypedDict):
    """Thresholds of the alarms, and their recipient."""

    disk_percent: int
    """Alarm at this usage of the data volume."""
    expiry_days: int
    """Alarm this many days before the certificate expires."""
    email: NotRequired[str | None]
    """Recipient, who must confirm the subscription first. Left out: only the console shows alarms."""


class AlarmsArgs(AlarmThresholds):
    """The monitored resources, and the thresholds."""

    instance_id: pulumi.Input[str]
    load_balancer: NotRequired[WatchedLoadBalancer]
    certificate_arn: NotRequired[pulumi.Input[str] | None]
    """The certificate in ACM that clients see; left out: the proxy's, whose expiry the instance publishes."""


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

        email = args.get("email")
        self.topic_arn = None if email is None else self._topic(name, email)
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
                comparison_operator=(
                    "LessThanThreshold" if alarm.statistic == "Minimum" else "GreaterThanOrEqualToThreshold"
                ),
                treat_missing_data=alarm.missing_data,
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
    )
    published = partial(
        _Alarm, namespace=METRICS_NAMESPACE, dimensions={"Stack": pulumi.get_stack()}, period=5 * _MINUTE
    )
    # A full disk may stop the program that measures it.
    yield published(
        "disk",
        f"The data volume is used by {args['disk_percent']} % or more, or the instance does not say. Make"
        " platform.aws.instance.data_volume larger.",
        metric=DISK_USED_PERCENT,
        statistic="Maximum",
        threshold=args["disk_percent"],
    )
    problem = f"The certificate ends in less than {args['expiry_days']} days, and nothing has renewed it"
    certificate = args.get("certificate_arn")
    if certificate is None:
        yield published(
            "certificate",
            f"{problem}, or the instance does not say. `make doctor` says why.",
            metric=CERTIFICATE_DAYS_LEFT,
            statistic="Minimum",
            threshold=args["expiry_days"],
        )
    else:
        yield _Alarm(
            "certificate",
            f"{problem}. AWS Certificate Manager says why; the records for its validation must stand.",
            "AWS/CertificateManager",
            "DaysToExpiry",
            {"CertificateArn": certificate},
            "Minimum",
            args["expiry_days"],
            period=_DAY,
            periods=1,
            # Published twice a day, but not on the first day.
            missing_data=_IGNORE,
        )
    if "load_balancer" in args:
        yield from _load_balancer(args["load_balancer"])


def _load_balancer(watched: WatchedLoadBalancer) -> Iterator[_Alarm]:
    dimensions = {"LoadBalancer": watched["arn_suffix"]}
    # An NLB forwards TCP: there are no HTTP errors to count.
    namespace = "AWS/NetworkELB"
    if watched["kind"] is LoadBalancerKind.ALB:
        namespace = "AWS/ApplicationELB"
        for role, source, problem in (
            ("load-balancer-5xx", "ELB", "The load balancer gets no answer from Nginx"),
            ("target-5xx", "Target", "Nginx or the application answers with errors"),
        ):
            yield _Alarm(
                role,
                f"{problem}: {_ERRORS} errors or more in five minutes, twice in a row.",
                namespace,
                f"HTTPCode_{source}_5XX_Count",
                dimensions,
                "Sum",
                _ERRORS,
                period=5 * _MINUTE,
                periods=2,
                missing_data=_NOT_BREACHING,
            )
    # The metric has data points as long as an instance is registered.
    yield _Alarm(
        "unhealthy",
        "The load balancer's health check fails: Nginx does not answer on the instance, or there is none.",
        namespace,
        "UnHealthyHostCount",
        {**dimensions, "TargetGroup": watched["target_group_arn_suffix"]},
        "Maximum",
        1,
    )
