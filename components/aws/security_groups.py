"""Security groups, with one rule per purpose."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from open_webui_edge.components.aws.load_balancer import LoadBalancerKind
from open_webui_edge.components.aws.tags import physical_name, tags

_IN, _OUT = aws.vpc.SecurityGroupIngressRule, aws.vpc.SecurityGroupEgressRule
RuleResource = type[aws.vpc.SecurityGroupIngressRule] | type[aws.vpc.SecurityGroupEgressRule]
_HTTP, _HTTPS, _SSH = 80, 443, 22
_ANYWHERE = {"ipv4": "0.0.0.0/0", "ipv6": "::/0"}
# Networks of external databases and caches: in this VPC, or in a peered one.
_PRIVATE = {"10-8": "10.0.0.0/8", "172-16": "172.16.0.0/12", "192-168": "192.168.0.0/16"}


class TrafficArgs(TypedDict):
    """Traffic of the instance."""

    ssh_from: Sequence[str]
    """Networks that may log in by ssh."""
    http3: NotRequired[bool]
    """Whether the instance answers HTTP/3; not behind a load balancer."""
    egress_ports: NotRequired[Sequence[int]]
    """TCP ports of external services in the stack's settings, besides 80 and 443."""


class SecurityGroupsArgs(TrafficArgs):
    """The VPC and its traffic."""

    vpc_id: pulumi.Input[str]
    load_balancer: LoadBalancerKind


class SecurityGroups(pulumi.ComponentResource):
    """The groups of the instance and of the load balancer. All traffic without a rule is denied."""

    instance: pulumi.Output[str]
    """ID of the instance's group."""
    load_balancer: pulumi.Output[str] | None
    """ID of the load balancer's group; None without one."""

    def __init__(self, name: str, args: SecurityGroupsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the groups and their rules."""
        # The states of existing stacks call the ports `reaches`.
        inputs = {"reaches" if key == "egress_ports" else key: value for key, value in args.items()}
        super().__init__("open-webui-edge:index:SecurityGroups", name, inputs, opts)
        self._name = name
        self._vpc_id = args["vpc_id"]
        self.instance = self._group("instance", "The instance that runs the containers")
        self.load_balancer = None
        if args["load_balancer"] is LoadBalancerKind.NONE:
            self._ingress("instance", self.instance, http3=args.get("http3", False))
        else:
            self.load_balancer = self._group("load-balancer", "The load balancer in front of the instance")
            self._ingress("load-balancer", self.load_balancer, http3=False)
            self._from_lb(self.load_balancer, args["load_balancer"])
        for network in args["ssh_from"]:
            self._rule(_IN, f"instance-ssh-{_key(network)}", self.instance, _cidr(network), _SSH, "Log in")
        self._egress(args.get("egress_ports", ()))
        self.register_outputs({"instance": self.instance, "load_balancer": self.load_balancer})

    def _group(self, role: str, description: str) -> pulumi.Output[str]:
        return aws.ec2.SecurityGroup(
            f"{self._name}-{role}",
            # With a random suffix: a replacement exists before the old group is deleted.
            name_prefix=f"{physical_name(role, 70)}-",
            description=description,
            vpc_id=self._vpc_id,
            tags=tags("security-groups", role),
            opts=pulumi.ResourceOptions(parent=self),
        ).id

    def _ingress(self, role: str, group: pulumi.Output[str], *, http3: bool) -> None:
        for family, network in _ANYWHERE.items():
            cidr = _cidr(network)
            self._rule(_IN, f"{role}-http-{family}", group, cidr, _HTTP, "HTTP, which is redirected")
            self._rule(_IN, f"{role}-https-{family}", group, cidr, _HTTPS, "HTTPS")
            if http3:
                self._rule(_IN, f"{role}-http3-{family}", group, cidr, _HTTPS, "HTTP/3", "udp")

    def _from_lb(self, load_balancer: pulumi.Output[str], kind: LoadBalancerKind) -> None:
        # An ALB answers port 80 itself.
        ports = {"https": _HTTPS} if kind is LoadBalancerKind.ALB else {"http": _HTTP, "https": _HTTPS}
        sender, receiver = ({"referenced_security_group_id": group} for group in (load_balancer, self.instance))
        for purpose, port in ports.items():
            self._rule(_IN, f"instance-{purpose}", self.instance, sender, port, "From the load balancer")
            self._rule(_OUT, f"load-balancer-{purpose}", load_balancer, receiver, port, "To the instance")

    def _egress(self, ports: Sequence[int]) -> None:
        # Security groups do not filter AWS's own DNS, NTP and metadata services.
        purposes = {_HTTP: "Packages", _HTTPS: "Packages, images, AWS and models"}
        for port in [_HTTP, _HTTPS, *sorted(set(ports) - {_HTTP, _HTTPS})]:
            for family, network in _ANYWHERE.items():
                purpose = purposes.get(port, "Services that the settings name")
                self._rule(_OUT, f"instance-out-{port}-{family}", self.instance, _cidr(network), port, purpose)
        for key, network in _PRIVATE.items():
            purpose = "Services on private networks"
            self._rule(_OUT, f"instance-out-private-{key}", self.instance, _cidr(network), None, purpose)

    def _rule(  # noqa: PLR0913, PLR0917 - the parts of a rule
        self,
        kind: RuleResource,
        name: str,
        group: pulumi.Output[str],
        peer: Mapping[str, pulumi.Input[str]],
        port: int | None,
        purpose: str,
        protocol: str = "tcp",
    ) -> None:
        """Allow traffic with a network or a group; without a port, on every port."""
        kind(
            f"{self._name}-{name}",
            security_group_id=group,
            ip_protocol=protocol,
            from_port=0 if port is None else port,
            to_port=65535 if port is None else port,
            description=purpose,
            tags=tags("security-groups"),
            opts=pulumi.ResourceOptions(parent=self),
            **peer,
        )


def _cidr(network: str) -> dict[str, str]:
    return {f"cidr_ipv{ipaddress.ip_network(network).version}": network}


def _key(network: str) -> str:
    """Return a network as part of a logical name, which allows neither colons nor slashes."""
    return network.replace(":", "-").replace("/", "-")
