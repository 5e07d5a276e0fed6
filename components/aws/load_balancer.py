"""Load balancers in front of the instance: one that ends TLS, one that passes it on."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from components.aws.access_logs import AccessLogs, AccessLogsArgs
from components.aws.tags import physical_name, tags

_NAME = 32
_LOGS_KEPT_DAYS = 90
# With one target there is nobody else to take over: whoever waits, waits for nothing (default 300).
_DEREGISTRATION = 30
_COOKIE_SECONDS = 24 * 60 * 60


class ApplicationLoadBalancerArgs(TypedDict):
    """Where it stands, and what is behind it."""

    vpc_id: pulumi.Input[str]
    subnet_ids: pulumi.Input[Sequence[pulumi.Input[str]]]
    """Public ones, in two zones or more."""
    ipv6: bool
    """Whether the subnets have IPv6."""
    security_group_id: pulumi.Input[str]
    instance_id: pulumi.Input[str]
    certificate_arn: pulumi.Input[str]
    """Of an issued certificate in the same region."""
    tls_policy: str
    idle_timeout: int
    """Seconds, 1 to 4000."""
    health_check_path: str
    """What the proxy answers with 200 whatever the Host."""
    access_logs: bool
    web_acl: NotRequired[str]
    """ARN of a web application firewall's list in the same region."""
    deletion_protection: bool


class ApplicationLoadBalancer(pulumi.ComponentResource):
    """Ends TLS with a certificate of ACM, and speaks HTTPS with the instance, whose certificate it does not look at."""

    dns_name: pulumi.Output[str]
    zone_id: pulumi.Output[str]
    """Of its own name, for an alias."""
    arn_suffix: pulumi.Output[str]
    """What its metrics call it."""
    target_group_arn_suffix: pulumi.Output[str]

    def __init__(
        self, name: str, args: ApplicationLoadBalancerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Make it, with a listener for HTTPS and one that leads there."""
        # Not of the arguments: all of it would wait for the slowest of them, and it takes minutes itself.
        super().__init__("open-webui-edge:index:ApplicationLoadBalancer", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)

        logs = None
        if args["access_logs"]:
            written = AccessLogs(f"{name}-access-logs", AccessLogsArgs(keep_days=_LOGS_KEPT_DAYS), opts=child)
            logs = aws.lb.LoadBalancerAccessLogsArgs(bucket=written.bucket, enabled=True)
        balancer = aws.lb.LoadBalancer(
            f"{name}-alb",
            name=_name("alb", args["vpc_id"]),
            load_balancer_type="application",
            internal=False,
            ip_address_type=_address_type(ipv6=args["ipv6"]),
            subnets=args["subnet_ids"],
            security_groups=[args["security_group_id"]],
            idle_timeout=args["idle_timeout"],
            enable_deletion_protection=args["deletion_protection"],
            # Default off; Nginx would drop them as well, but what it never sees, it cannot misread.
            drop_invalid_header_fields=True,
            # The strictest refuses what is merely unusual; this one what is ambiguous.
            desync_mitigation_mode="defensive",
            # The client's own claim stays in front, and the proxy takes the last entry only.
            xff_header_processing_mode="append",
            # Default off. Sign-in by OAuth compares the name that was asked for.
            preserve_host_header=True,
            access_logs=logs,
            tags=tags("load-balancer"),
            opts=child,
        )
        targets = aws.lb.TargetGroup(
            f"{name}-https",
            name=_name("alb-443", args["vpc_id"]),
            vpc_id=args["vpc_id"],
            target_type="instance",
            protocol="HTTPS",
            # WebSockets need HTTP/1.1.
            protocol_version="HTTP1",
            port=443,
            deregistration_delay=_DEREGISTRATION,
            stickiness={"type": "lb_cookie", "enabled": True, "cookie_duration": _COOKIE_SECONDS},
            health_check=_health("HTTPS", args["health_check_path"]),
            tags=tags("load-balancer"),
            opts=child,
        )
        aws.lb.TargetGroupAttachment(
            f"{name}-https-instance",
            target_group_arn=targets.arn,
            target_id=args["instance_id"],
            port=443,
            opts=child,
        )
        aws.lb.Listener(
            f"{name}-listener-https",
            load_balancer_arn=balancer.arn,
            protocol="HTTPS",
            port=443,
            ssl_policy=args["tls_policy"],
            certificate_arn=args["certificate_arn"],
            default_actions=[{"type": "forward", "target_group_arn": targets.arn}],
            tags=tags("load-balancer"),
            opts=child,
        )
        aws.lb.Listener(
            f"{name}-listener-http",
            load_balancer_arn=balancer.arn,
            protocol="HTTP",
            port=80,
            default_actions=[
                {
                    "type": "redirect",
                    "redirect": {
                        "protocol": "HTTPS",
                        "host": "#{host}",
                        "port": "443",
                        "path": "/#{path}",
                        "query": "#{query}",
                        "status_code": "HTTP_301",
                    },
                }
            ],
            tags=tags("load-balancer"),
            opts=child,
        )
        if "web_acl" in args:
            aws.wafv2.WebAclAssociation(
                f"{name}-web-acl", resource_arn=balancer.arn, web_acl_arn=args["web_acl"], opts=child
            )

        self.dns_name = balancer.dns_name
        self.zone_id = balancer.zone_id
        self.arn_suffix = balancer.arn_suffix
        self.target_group_arn_suffix = targets.arn_suffix
        self.register_outputs(
            {
                "dns_name": self.dns_name,
                "zone_id": self.zone_id,
                "arn_suffix": self.arn_suffix,
                "target_group_arn_suffix": self.target_group_arn_suffix,
            }
        )


class NetworkLoadBalancerArgs(TypedDict):
    """Where it stands, and what is behind it."""

    vpc_id: pulumi.Input[str]
    subnet_ids: pulumi.Input[Sequence[pulumi.Input[str]]]
    """Public ones."""
    ipv6: bool
    """Whether the subnets have IPv6."""
    security_group_id: pulumi.Input[str]
    instance_id: pulumi.Input[str]
    idle_timeout: int
    """Seconds, 60 to 6000."""
    health_check_path: str
    """What the proxy answers with 200 whatever the Host."""
    deletion_protection: bool


class NetworkLoadBalancer(pulumi.ComponentResource):
    """Passes TCP on as it comes, and says by PROXY protocol v2 whom it comes from.

    The instance sees the load balancer's own addresses. So its security group can name the load balancer's and nobody
    else reaches it, whom the PROXY protocol is taken from can be told by network, an instance can call its own name,
    and a client over IPv6 is known like any other. It costs one thing: 55,000 connections at once for each address of
    the load balancer and each port.
    """

    dns_name: pulumi.Output[str]
    zone_id: pulumi.Output[str]
    """Of its own name, for an alias."""
    arn_suffix: pulumi.Output[str]
    """What its metrics call it."""
    target_group_arn_suffix: pulumi.Output[str]
    """Of those that take HTTPS."""

    def __init__(self, name: str, args: NetworkLoadBalancerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make it, with a listener and a target group for each of the two ports."""
        # Not of the arguments: all of it would wait for the slowest of them, and it takes minutes itself.
        super().__init__("open-webui-edge:index:NetworkLoadBalancer", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)

        balancer = aws.lb.LoadBalancer(
            f"{name}-nlb",
            name=_name("nlb", args["vpc_id"]),
            load_balancer_type="network",
            internal=False,
            ip_address_type=_address_type(ipv6=args["ipv6"]),
            subnets=args["subnet_ids"],
            # One that was made without any can never have one.
            security_groups=[args["security_group_id"]],
            enable_deletion_protection=args["deletion_protection"],
            # Default off: its addresses in the zones without an instance would answer nobody.
            enable_cross_zone_load_balancing=True,
            tags=tags("load-balancer"),
            opts=child,
        )
        groups: dict[str, aws.lb.TargetGroup] = {}
        for role, port in (("http", 80), ("https", 443)):
            groups[role] = aws.lb.TargetGroup(
                f"{name}-{role}",
                name=_name(f"nlb-{port}", args["vpc_id"]),
                vpc_id=args["vpc_id"],
                target_type="instance",
                protocol="TCP",
                port=port,
                proxy_protocol_v2=True,
                preserve_client_ip="false",
                deregistration_delay=_DEREGISTRATION,
                # Default off: a client would go on talking to an instance that is gone.
                connection_termination=True,
                # Checks carry a header of the PROXY protocol too, without an address. A connection alone would say that
                # the kernel listens; and what the proxy demands of TLS is no business of a check.
                health_check=_health("HTTP", args["health_check_path"], port=80),
                tags=tags("load-balancer"),
                opts=child,
            )
            aws.lb.TargetGroupAttachment(
                f"{name}-{role}-instance",
                target_group_arn=groups[role].arn,
                target_id=args["instance_id"],
                port=port,
                opts=child,
            )
            aws.lb.Listener(
                f"{name}-listener-{role}",
                load_balancer_arn=balancer.arn,
                protocol="TCP",
                port=port,
                tcp_idle_timeout_seconds=args["idle_timeout"],
                default_actions=[{"type": "forward", "target_group_arn": groups[role].arn}],
                tags=tags("load-balancer"),
                opts=child,
            )

        self.dns_name = balancer.dns_name
        self.zone_id = balancer.zone_id
        self.arn_suffix = balancer.arn_suffix
        self.target_group_arn_suffix = groups["https"].arn_suffix
        self.register_outputs(
            {
                "dns_name": self.dns_name,
                "zone_id": self.zone_id,
                "arn_suffix": self.arn_suffix,
                "target_group_arn_suffix": self.target_group_arn_suffix,
            }
        )


def _name(role: str, vpc_id: pulumi.Input[str]) -> pulumi.Output[str]:
    """Return a name that is another in another network, where neither can move to: both are there for a while."""
    return pulumi.Output.from_input(vpc_id).apply(lambda vpc: physical_name(f"{role}-{vpc}", _NAME))


def _address_type(*, ipv6: bool) -> str:
    return "dualstack" if ipv6 else "ipv4"


def _health(protocol: str, path: str, port: int | None = None) -> aws.lb.TargetGroupHealthCheckArgs:
    return aws.lb.TargetGroupHealthCheckArgs(
        protocol=protocol,
        path=path,
        port="traffic-port" if port is None else str(port),
        matcher="200",
        interval=10,
        timeout=5,
        healthy_threshold=2,
        unhealthy_threshold=3,
    )
