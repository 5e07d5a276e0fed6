"""Who may speak with whom: one rule a purpose."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from components.aws.behind import Behind
from components.aws.tags import physical_name, tags

_IN, _OUT = aws.vpc.SecurityGroupIngressRule, aws.vpc.SecurityGroupEgressRule
_Rule = type[aws.vpc.SecurityGroupIngressRule] | type[aws.vpc.SecurityGroupEgressRule]
_HTTP, _HTTPS, _SSH = 80, 443, 22
_EVERYBODY = {"ipv4": "0.0.0.0/0", "ipv6": "::/0"}
# Where a database or a cache lies that the stack does not make: in this VPC, or in one joined with it.
_PRIVATE = {"10-8": "10.0.0.0/8", "172-16": "172.16.0.0/12", "192-168": "192.168.0.0/16"}


class SecurityGroupsArgs(TypedDict):
    """Who is there."""

    vpc_id: pulumi.Input[str]
    load_balancer: Behind
    ssh_from: Sequence[str]
    """Networks that may log in."""
    http3: NotRequired[bool]
    """Whether the instance answers HTTP/3; not behind a load balancer."""
    reaches: NotRequired[Sequence[int]]
    """TCP ports, besides 80 and 443, of services elsewhere that the stack's settings name."""


@dataclass(frozen=True)
class _Traffic:
    """What a rule lets through."""

    peer: Mapping[str, pulumi.Input[str]]
    """The other end: a network, or a group."""
    port: int | None
    """None: every port."""
    purpose: str
    """What the console shows."""
    protocol: str = "tcp"

    @property
    def ports(self) -> tuple[int, int]:
        return (0, 65535) if self.port is None else (self.port, self.port)


class SecurityGroups(pulumi.ComponentResource):
    """The instance's group and the load balancer's. What no rule names is closed."""

    instance: pulumi.Output[str]
    """Id of the instance's group."""
    load_balancer: pulumi.Output[str] | None
    """Id of the load balancer's group; None without one."""

    def __init__(self, name: str, args: SecurityGroupsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the groups and their rules."""
        super().__init__("open-webui-edge:index:SecurityGroups", name, {**args}, opts)
        self._name = name
        self._vpc_id = args["vpc_id"]
        self.instance = self._group("instance", "The instance that runs the containers")
        self.load_balancer = None
        if args["load_balancer"] is Behind.NONE:
            self._published("instance", self.instance, http3=args.get("http3", False))
        else:
            self.load_balancer = self._group("load-balancer", "The load balancer in front of the instance")
            self._published("load-balancer", self.load_balancer, http3=False)
            self._passed_on(self.load_balancer, args["load_balancer"])
        for network in args["ssh_from"]:
            self._rule(_IN, f"instance-ssh-{_key(network)}", self.instance, _Traffic(_cidr(network), _SSH, "Log in"))
        self._reached(args.get("reaches", ()))
        self.register_outputs({"instance": self.instance, "load_balancer": self.load_balancer})

    def _group(self, role: str, description: str) -> pulumi.Output[str]:
        return aws.ec2.SecurityGroup(
            f"{self._name}-{role}",
            # With a suffix of its own: one that takes another's place is there before the other goes.
            name_prefix=f"{physical_name(role, 70)}-",
            description=description,
            vpc_id=self._vpc_id,
            tags=tags("security-groups", role),
            opts=pulumi.ResourceOptions(parent=self),
        ).id

    def _published(self, role: str, group: pulumi.Output[str], *, http3: bool) -> None:
        for family, network in _EVERYBODY.items():
            cidr = _cidr(network)
            self._rule(_IN, f"{role}-http-{family}", group, _Traffic(cidr, _HTTP, "HTTP, which is redirected"))
            self._rule(_IN, f"{role}-https-{family}", group, _Traffic(cidr, _HTTPS, "HTTPS"))
            if http3:
                self._rule(_IN, f"{role}-http3-{family}", group, _Traffic(cidr, _HTTPS, "HTTP/3", "udp"))

    def _passed_on(self, load_balancer: pulumi.Output[str], behind: Behind) -> None:
        # An ALB answers port 80 itself.
        ports = {"https": _HTTPS} if behind is Behind.ALB else {"http": _HTTP, "https": _HTTPS}
        sender, receiver = ({"referenced_security_group_id": group} for group in (load_balancer, self.instance))
        for purpose, port in ports.items():
            self._rule(_IN, f"instance-{purpose}", self.instance, _Traffic(sender, port, "From the load balancer"))
            self._rule(_OUT, f"load-balancer-{purpose}", load_balancer, _Traffic(receiver, port, "To the instance"))

    def _reached(self, ports: Sequence[int]) -> None:
        # Names, time and the metadata service are AWS's own, which no group filters.
        purposes = {_HTTP: "Packages", _HTTPS: "Packages, images, AWS and models"}
        for port in [_HTTP, _HTTPS, *sorted(set(ports) - {_HTTP, _HTTPS})]:
            for family, network in _EVERYBODY.items():
                traffic = _Traffic(_cidr(network), port, purposes.get(port, "Services that the settings name"))
                self._rule(_OUT, f"instance-out-{port}-{family}", self.instance, traffic)
        for key, network in _PRIVATE.items():
            traffic = _Traffic(_cidr(network), None, "Services on private networks")
            self._rule(_OUT, f"instance-out-private-{key}", self.instance, traffic)

    def _rule(self, kind: _Rule, name: str, group: pulumi.Output[str], traffic: _Traffic) -> None:
        first, last = traffic.ports
        kind(
            f"{self._name}-{name}",
            security_group_id=group,
            ip_protocol=traffic.protocol,
            from_port=first,
            to_port=last,
            description=traffic.purpose,
            tags=tags("security-groups"),
            opts=pulumi.ResourceOptions(parent=self),
            **traffic.peer,
        )


def _cidr(network: str) -> dict[str, str]:
    return {f"cidr_ipv{ipaddress.ip_network(network).version}": network}


def _key(network: str) -> str:
    """Return a network as part of a logical name, which may hold neither of its signs."""
    return network.replace(":", "-").replace("/", "-")
