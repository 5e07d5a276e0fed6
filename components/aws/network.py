"""The network on AWS: a new VPC, or an existing one."""

import ipaddress
from collections.abc import Sequence
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
        without = [subnet for subnet, details in subnets.items() if wants_ipv6 and not details.ipv6_cidr_block]
        if without:
            raise pulumi.RunError(
                "site.listen.ipv6: is not false, so the load balancer has IPv6 addresses in each subnet of"
                f" platform.aws.vpc.public_subnets, but AWS knows no IPv6 network of {', '.join(without)}; write"
                " site.listen.ipv6: false, or give each of them one"
            )
        self.vpc_id = pulumi.Output.from_input(vpc_id)
        self.public_subnet_ids = [pulumi.Output.from_input(subnet) for subnet in public]
        self.private_subnet_ids = []
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
        gateway = aws.ec2.InternetGateway(
            f"{name}-gateway", vpc_id=vpc.id, tags=tags("network", "network"), opts=self._child
        )
        tables: dict[str, pulumi.Output[str]] = {}
        # The IDs of each subnet and of its association with the table.
        subnets: dict[str, list[tuple[pulumi.Output[str], pulumi.Output[str]]]] = {"public": [], "private": []}
        for kind, cidrs, first_ipv6 in (("public", public_cidrs, 0), ("private", private_cidrs, _PRIVATE_IPV6)):
            tables[kind] = table = aws.ec2.RouteTable(
                f"{name}-{kind}", vpc_id=vpc.id, tags=tags("network", kind), opts=self._child
            ).id
            for index, block in enumerate(cidrs):
                number = f"{kind}-{index + 1}"
                subnet = aws.ec2.Subnet(
                    f"{name}-{number}",
                    vpc_id=vpc.id,
                    availability_zone=zones.apply(lambda names, index=index: zone(names, index)),
                    cidr_block=block,
                    ipv6_cidr_block=vpc.ipv6_cidr_block.apply(
                        lambda whole, number=first_ipv6 + index: ipv6_subnet(whole, number)
                    ),
                    assign_ipv6_address_on_creation=True,
                    # Clients reach an instance by its elastic IP or through a load balancer.
                    map_public_ip_on_launch=False,
                    tags=tags("network", number),
                    opts=self._child,
                ).id
                association = aws.ec2.RouteTableAssociation(
                    f"{name}-{number}-routes", subnet_id=subnet, route_table_id=table, opts=self._child
                )
                subnets[kind].append((subnet, association.id))
        everywhere = {"ipv4": {"destination_cidr_block": "0.0.0.0/0"}, "ipv6": {"destination_ipv6_cidr_block": "::/0"}}
        ways_out = [
            aws.ec2.Route(
                f"{name}-public-{family}",
                route_table_id=tables["public"],
                gateway_id=gateway.id,
                opts=self._child,
                **destination,
            ).id
            for family, destination in everywhere.items()
        ]
        # Free of charge, and traffic to S3 stays inside AWS.
        s3 = aws.ec2.get_vpc_endpoint_service_output(
            service="s3", service_type="Gateway", opts=pulumi.InvokeOutputOptions(parent=self)
        )
        aws.ec2.VpcEndpoint(
            f"{name}-s3",
            vpc_id=vpc.id,
            service_name=s3.service_name,
            vpc_endpoint_type="Gateway",
            route_table_ids=[*tables.values()],
            tags=tags("network", "s3"),
            opts=self._child,
        )
        self.vpc_id = vpc.id
        # Resources in the subnets depend on the routes to the internet.
        self.public_subnet_ids = [
            pulumi.Output.all(subnet, association, *ways_out).apply(lambda ids: str(ids[0]))
            for subnet, association in subnets["public"]
        ]
        self.private_subnet_ids = [subnet for subnet, _ in subnets["private"]]
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
    return str([*ipaddress.IPv6Network(block).subnets(new_prefix=64)][number])


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
