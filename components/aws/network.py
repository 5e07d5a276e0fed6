"""The network on AWS: a new VPC, or an existing one."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import TypedDict

import pulumi
import pulumi_aws as aws

from open_webui_edge.components.aws.tags import tags

MAX_AZS = 4
"""Each half of a network is split into this many parts, so that adding a zone renumbers no subnet."""
_PRIVATE_IPV6 = 16
"""Number of the first private /64, after all public ones."""


class NetworkArgs(TypedDict, total=False):
    """A VPC to create (`cidr`, `availability_zones`) or to import (`vpc_id` and IDs of subnets)."""

    cidr: str
    """IPv4 network of the new VPC, /16 to /24."""
    availability_zones: int
    """Number of availability zones with subnets, 1 to 4."""
    vpc_id: str
    """ID of an existing VPC; left out: a new one."""
    public_subnet_ids: Sequence[str]
    """Its public subnets."""
    wants_ipv6: bool
    """Whether the existing subnets must have IPv6; new ones have it."""


class Network(pulumi.ComponentResource):
    """A VPC with a public and a private subnet in each of several zones; an existing VPC is not changed."""

    vpc_id: pulumi.Output[str]
    public_subnet_ids: Sequence[pulumi.Output[str]]
    """One Output per subnet, so that adding one leaves the others known."""
    private_subnet_ids: Sequence[pulumi.Output[str]]
    """Empty for an existing VPC."""
    availability_zone: pulumi.Output[str]
    """The zone of the first public subnet. It stays the same when the network is created again."""

    public_cidrs: Sequence[str] | None
    """IPv4 networks of the public subnets; None for an existing VPC."""

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the network, or look up the existing one."""
        super().__init__("open-webui-edge:index:Network", name, {**args}, opts)
        self._name = name
        self._child = pulumi.ResourceOptions(parent=self)
        vpc_id = args.get("vpc_id")
        if vpc_id is None:
            self._create(args.get("cidr", ""), args.get("availability_zones", 0))
        else:
            self._import(vpc_id, args.get("public_subnet_ids", ()), wants_ipv6=args.get("wants_ipv6", False))
        self.register_outputs(
            {
                "vpc_id": self.vpc_id,
                "public_subnet_ids": self.public_subnet_ids,
                "private_subnet_ids": self.private_subnet_ids,
                "availability_zone": self.availability_zone,
            },
        )

    def _import(self, vpc_id: str, public: Sequence[str], *, wants_ipv6: bool) -> None:
        # Looked up at once and not as an Output: else resources would be created before an unusable network is refused.
        options = pulumi.InvokeOptions(parent=self)
        subnets = {
            subnet: aws.ec2.get_subnet(id=subnet, vpc_id=vpc_id, opts=options)
            for subnet in (public if wants_ipv6 else public[:1])
        }
        if wants_ipv6:
            require_ipv6({subnet: details.ipv6_cidr_block for subnet, details in subnets.items()})
        self.vpc_id = pulumi.Output.from_input(vpc_id)
        self.public_subnet_ids = [pulumi.Output.from_input(subnet) for subnet in public]
        self.private_subnet_ids = []
        self.public_cidrs = None
        self.availability_zone = pulumi.Output.from_input(subnets[public[0]].availability_zone)

    def _create(self, cidr: str, count: int) -> None:
        name = self._name
        public_cidrs, private_cidrs = subnet_cidrs(cidr, count)
        zones = self._zones()
        vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=cidr,
            assign_generated_ipv6_cidr_block=True,
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags=tags("network", "network"),
            opts=self._child,
        )
        # Resources without a security group of their own get no traffic in or out.
        aws.ec2.DefaultSecurityGroup(
            f"{name}-default-group",
            vpc_id=vpc.id,
            ingress=[],
            egress=[],
            tags=tags("network", "network-default"),
            opts=self._child,
        )
        public = self._subnets("public", vpc, zones, public_cidrs, first_ipv6=0)
        private = self._subnets("private", vpc, zones, private_cidrs, first_ipv6=_PRIVATE_IPV6)
        routed = self._routes(vpc, public, private)
        self.vpc_id = vpc.id
        # Resources in the subnets depend on the routes to the internet.
        self.public_subnet_ids = [
            pulumi.Output.all(subnet.id, *ways_out).apply(lambda ids: str(ids[0]))
            for subnet, ways_out in zip(public, routed, strict=True)
        ]
        self.private_subnet_ids = [subnet.id for subnet in private]
        self.public_cidrs = public_cidrs
        self.availability_zone = zones.apply(lambda names: zone(names, 0))

    def _zones(self) -> pulumi.Output[Sequence[str]]:
        offered = aws.get_availability_zones_output(
            state="available",
            # Without local and wavelength zones, which lack most services.
            filters=[
                aws.GetAvailabilityZonesFilterArgs(name="opt-in-status", values=["opt-in-not-required"]),
            ],
            opts=pulumi.InvokeOutputOptions(parent=self),
        )
        # Pinned: a region's zones change, but the data volume's zone must not. The protected volume depends on this
        # alone, so that it can outlive the network.
        pinned = pulumi.Stash(
            f"{self._name}-zones",
            input=offered.names.apply(sorted),
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["input"]),
        )
        return pinned.output

    def _subnets(
        self,
        kind: str,
        vpc: aws.ec2.Vpc,
        zones: pulumi.Output[Sequence[str]],
        cidrs: Sequence[str],
        *,
        first_ipv6: int,
    ) -> Sequence[aws.ec2.Subnet]:
        return [
            aws.ec2.Subnet(
                f"{self._name}-{kind}-{index + 1}",
                vpc_id=vpc.id,
                availability_zone=zones.apply(lambda names, index=index: zone(names, index)),
                cidr_block=block,
                ipv6_cidr_block=vpc.ipv6_cidr_block.apply(
                    lambda whole, number=first_ipv6 + index: ipv6_subnet(whole, number)
                ),
                assign_ipv6_address_on_creation=True,
                # Clients reach an instance by its elastic IP or through a load balancer.
                map_public_ip_on_launch=False,
                tags=tags("network", f"{kind}-{index + 1}"),
                opts=self._child,
            )
            for index, block in enumerate(cidrs)
        ]

    def _routes(
        self, vpc: aws.ec2.Vpc, public: Sequence[aws.ec2.Subnet], private: Sequence[aws.ec2.Subnet]
    ) -> Sequence[Sequence[pulumi.Output[str]]]:
        """Create the routes; return for each public subnet the IDs of those to the internet."""
        name, child = self._name, self._child
        gateway = aws.ec2.InternetGateway(f"{name}-gateway", vpc_id=vpc.id, tags=tags("network", "network"), opts=child)
        tables = {
            kind: aws.ec2.RouteTable(f"{name}-{kind}", vpc_id=vpc.id, tags=tags("network", kind), opts=child)
            for kind in ("public", "private")
        }
        outside = tables["public"].id
        everywhere = {"ipv4": {"destination_cidr_block": "0.0.0.0/0"}, "ipv6": {"destination_ipv6_cidr_block": "::/0"}}
        ways_out = [
            aws.ec2.Route(
                f"{name}-public-{family}", route_table_id=outside, gateway_id=gateway.id, opts=child, **destination
            ).id
            for family, destination in everywhere.items()
        ]
        routed = [
            [self._associate(tables["public"], "public", number, subnet), *ways_out]
            for number, subnet in enumerate(public, 1)
        ]
        for number, subnet in enumerate(private, 1):
            self._associate(tables["private"], "private", number, subnet)
        # Free of charge, and traffic to S3 stays inside AWS.
        s3 = aws.ec2.get_vpc_endpoint_service_output(
            service="s3", service_type="Gateway", opts=pulumi.InvokeOutputOptions(parent=self)
        )
        aws.ec2.VpcEndpoint(
            f"{name}-s3",
            vpc_id=vpc.id,
            service_name=s3.service_name,
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.id for table in tables.values()],
            tags=tags("network", "s3"),
            opts=child,
        )
        return routed

    def _associate(
        self, table: aws.ec2.RouteTable, kind: str, number: int, subnet: aws.ec2.Subnet
    ) -> pulumi.Output[str]:
        return aws.ec2.RouteTableAssociation(
            f"{self._name}-{kind}-{number}-routes", subnet_id=subnet.id, route_table_id=table.id, opts=self._child
        ).id


def subnet_cidrs(cidr: str, zones: int) -> tuple[list[str], list[str]]:
    """Return the IPv4 networks of the public and of the private subnets, one of each per zone.

    The lower half of the network is public.

    Raises:
        ValueError: too many zones.

    """
    if not 1 <= zones <= MAX_AZS:
        raise ValueError(f"{zones} availability zones; there are subnets for 1 to {MAX_AZS}")
    lower, upper = ipaddress.IPv4Network(cidr).subnets()
    parts = MAX_AZS.bit_length() - 1
    public, private = ([str(part) for part in half.subnets(parts)][:zones] for half in (lower, upper))
    return public, private


def ipv6_subnet(block: str, number: int) -> str:
    """Return the /64 with this number in the VPC's block (a /56)."""
    network = ipaddress.IPv6Network(block)
    return str(ipaddress.IPv6Network((int(network.network_address) + (number << 64), 64)))


def require_ipv6(blocks: Mapping[str, str]) -> None:
    """Check that all subnets have IPv6; `blocks` maps their IDs to IPv6 networks, "" for none.

    Raises:
        pulumi.RunError: a subnet has none.

    """
    without = [subnet for subnet, block in blocks.items() if not block]
    if without:
        raise pulumi.RunError(
            "site.listen.ipv6: is not false, so the load balancer has IPv6 addresses in each subnet of"
            f" platform.aws.vpc.public_subnets, but AWS knows no IPv6 network of {', '.join(without)}; write"
            " site.listen.ipv6: false, or give each of them one"
        )


def zone(names: Sequence[str], index: int) -> str:
    """Return a zone by its index.

    Raises:
        pulumi.RunError: the region has fewer.

    """
    if index < len(names):
        return names[index]
    offered = ", ".join(names) or "none"
    raise pulumi.RunError(
        f"platform.aws.vpc.availability_zones: is {index + 1}, but the region offers {len(names)} ({offered}); write a"
        " smaller number"
    )
