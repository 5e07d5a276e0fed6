"""Load balancers in front of the instance: an ALB, which terminates TLS, and an NLB, which forwards TCP."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from open_webui_edge.components.aws.access_logs import AccessLogs, AccessLogsArgs
from open_webui_edge.components.aws.tags import physical_name, tags

_NAME = 32
_LOG_RETENTION_DAYS = 90
# With one target no other can take over, so a longer delay would not help (default 300).
_DEREGISTRATION_DELAY = 30
_COOKIE_SECONDS = 24 * 60 * 60


class LoadBalancerKind(StrEnum):
    """The kind of load balancer in front of the instance, if there is one."""

    NONE = "none"
    ALB = "alb"
    NLB = "nlb"


class LoadBalancerOptions(TypedDict):
    """Options of both kinds."""

    ipv6: bool
    """The subnets have IPv6."""
    idle_timeout: int
    """Seconds: 1 to 4000 of an ALB, 60 to 6000 of an NLB."""
    health_check_path: str
    """Path that the proxy answers with 200 for every Host."""
    deletion_protection: bool


class ApplicationOptions(TypedDict):
    """Options of an ALB alone."""

    tls_policy: str
    access_logs: bool
    web_acl: NotRequired[str | None]
    """ARN of a web application firewall's list in the same region."""


class NetworkLoadBalancerArgs(LoadBalancerOptions):
    """Its network, target and listeners."""

    vpc_id: pulumi.Input[str]
    subnet_ids: pulumi.Input[Sequence[pulumi.Input[str]]]
    """Public ones; an ALB needs them in two zones or more."""
    security_group_id: pulumi.Input[str]
    instance_id: pulumi.Input[str]


class ApplicationLoadBalancerArgs(NetworkLoadBalancerArgs, ApplicationOptions):
    """Its network, target and listeners."""

    certificate_arn: pulumi.Input[str]
    """Of an issued certificate in the same region."""


class _LoadBalancer(pulumi.ComponentResource):
    dns_name: pulumi.Output[str]
    zone_id: pulumi.Output[str]
    """Hosted zone of its DNS name, for an alias record."""
    arn_suffix: pulumi.Output[str]
    """Its dimension in CloudWatch metrics."""
    target_group_arn_suffix: pulumi.Output[str]
    """Of the target group for HTTPS."""

    def _register(self, balancer: aws.lb.LoadBalancer, https: aws.lb.TargetGroup) -> None:
        self.dns_name, self.zone_id, self.arn_suffix = balancer.dns_name, balancer.zone_id, balancer.arn_suffix
        self.target_group_arn_suffix = https.arn_suffix
        self.register_outputs(
            {
                "dns_name": self.dns_name,
                "zone_id": self.zone_id,
                "arn_suffix": self.arn_suffix,
                "target_group_arn_suffix": self.target_group_arn_suffix,
            }
        )


class ApplicationLoadBalancer(_LoadBalancer):
    """Terminates TLS with an ACM certificate; connects to the instance by HTTPS without verifying its certificate."""

    def __init__(
        self, name: str, args: ApplicationLoadBalancerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Create it, with a listener for HTTPS and one that redirects to HTTPS."""
        # Without inputs: else all children would wait for the slowest of them.
        super().__init__("open-webui-edge:index:ApplicationLoadBalancer", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)

        logs = None
        if args["access_logs"]:
            access_logs = AccessLogs(f"{name}-access-logs", AccessLogsArgs(keep_days=_LOG_RETENTION_DAYS), opts=child)
            logs = aws.lb.LoadBalancerAccessLogsArgs(bucket=access_logs.bucket, enabled=True)
        balancer = aws.lb.LoadBalancer(
            f"{name}-alb",
            name=_name("alb", args["vpc_id"]),
            load_balancer_type="application",
            internal=False,
            ip_address_type="dualstack" if args["ipv6"] else "ipv4",
            subnets=args["subnet_ids"],
            security_groups=[args["security_group_id"]],
            idle_timeout=args["idle_timeout"],
            enable_deletion_protection=args["deletion_protection"],
            # Default off; Nginx would drop them as well, but cannot misread headers that it never sees.
            drop_invalid_header_fields=True,
            # "strictest" refuses unusual requests too; "defensive" refuses ambiguous ones.
            desync_mitigation_mode="defensive",
            # A client's own entries stay in front; the proxy takes only the last entry.
            xff_header_processing_mode="append",
            # Default off. OAuth sign-in compares the requested host name.
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
            deregistration_delay=_DEREGISTRATION_DELAY,
            stickiness={"type": "lb_cookie", "enabled": True, "cookie_duration": _COOKIE_SECONDS},
            health_check=_health("HTTPS", args["health_check_path"], "traffic-port"),
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
        web_acl = args.get("web_acl")
        if web_acl is not None:
            aws.wafv2.WebAclAssociation(f"{name}-web-acl", resource_arn=balancer.arn, web_acl_arn=web_acl, opts=child)
        self._register(balancer, targets)


class NetworkLoadBalancer(_LoadBalancer):
    """Forwards TCP, and passes the client's address by PROXY protocol v2.

    The instance sees the load balancer's addresses. So its security group admits only the load balancer's, the proxy
    trusts the PROXY protocol by network, an instance can reach its own name, and clients over IPv6 keep their address.
    The cost: at most 55,000 connections at a time for each address of the load balancer and each port.
    """

    def __init__(self, name: str, args: NetworkLoadBalancerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create it, with a listener and a target group for each of the two ports."""
        # Without inputs: else all children would wait for the slowest of them.
        super().__init__("open-webui-edge:index:NetworkLoadBalancer", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)

        balancer = aws.lb.LoadBalancer(
            f"{name}-nlb",
            name=_name("nlb", args["vpc_id"]),
            load_balancer_type="network",
            internal=False,
            ip_address_type="dualstack" if args["ipv6"] else "ipv4",
            subnets=args["subnet_ids"],
            # A load balancer without security groups can never get one.
            security_groups=[args["security_group_id"]],
            enable_deletion_protection=args["deletion_protection"],
            # Default off: its addresses in zones without an instance would not answer.
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
                deregistration_delay=_DEREGISTRATION_DELAY,
                # Default off: clients would keep connections to an instance that is gone.
                connection_termination=True,
                # Checks send a PROXY protocol header too, without an address. A TCP check would only prove that the
                # kernel listens, and an HTTPS check would depend on the proxy's TLS settings.
                health_check=_health("HTTP", args["health_check_path"], "80"),
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
        self._register(balancer, groups["https"])


def _name(role: str, vpc_id: pulumi.Input[str]) -> pulumi.Output[str]:
    """Return a name that depends on the VPC: during a move to another VPC the old and the new resource both exist."""
    return pulumi.Output.from_input(vpc_id).apply(lambda vpc: physical_name(f"{role}-{vpc}", _NAME))


def _health(protocol: str, path: str, port: str) -> aws.lb.TargetGroupHealthCheckArgs:
    return aws.lb.TargetGroupHealthCheckArgs(
        protocol=protocol,
        path=path,
        port=port,
        matcher="200",
        interval=10,
        timeout=5,
        healthy_threshold=2,
        unhealthy_threshold=3,
    )
