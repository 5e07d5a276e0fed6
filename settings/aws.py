"""AWS resources: region, network, instance, load balancer."""

import ipaddress
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.values import (
    Bytes,
    Network,
    Region,
    Settings,
    between,
    matching,
    region_of_arn,
    regional_arn,
    require,
)

# https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html, read in 2025: family, generation,
# processor and further abilities, size.
_INSTANCE_TYPE = re.compile(
    r"(?P<family>[a-z]{1,4})(?P<generation>\d{1,2})(?P<abilities>[a-z]{0,4}(-flex)?)"
    r"\.(?P<size>nano|micro|small|medium|large|\d{0,3}xlarge|metal(-\d{1,3}xl)?)"
)
# The first generation with Arm had no letter for it yet.
_ARM_WITHOUT_LETTER = {"a1"}
# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-nitro-instances.html, read in 2025: all that are not built on
# Nitro. A volume is not found by its id there.
_XEN = {
    "c1", "c3", "c4", "d2", "f1", "g3", "h1", "i2", "i3", "m1", "m2", "m3", "m4", "p2", "p3", "r3", "r4", "t1", "t2",
    "x1", "x1e",
}  # fmt: skip
_TOO_SMALL = {"nano", "micro"}
TLS_1_3_ONLY = "ELBSecurityPolicy-TLS13-1-3-"
"""Beginning of the names of the policies that take no older TLS."""
# A VPC has a network between these (https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html).
_VPC_LARGEST, _VPC_SMALLEST = 16, 28
# It is divided by eight, whatever the number of zones, and a load balancer needs a /27 or larger.
_OWN_SMALLEST = 24
# What a VPC may have for itself (RFC 1918, RFC 6598), without what Docker takes for its own networks: a load balancer
# with an address there could not be answered (https://docs.docker.com/engine/network/#subnet-allocation).
_OWN = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/16", "192.168.0.0/16", "100.64.0.0/10")))
_OF_DOCKER = ipaddress.IPv4Network("172.16.0.0/12")
# No organisation has a larger one: RFC 1918's largest, and the largest allocation of a registry.
_SSH_LARGEST = {4: 8, 6: 20}


def _cidr(value: str) -> str:
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError:
        raise ValueError(
            "is not an IPv4 network; write one in CIDR form without host bits, such as 10.20.0.0/16",
        ) from None
    if not _VPC_LARGEST <= network.prefixlen <= _VPC_SMALLEST:
        raise ValueError(f"is not a valid size for a VPC; write one from /{_VPC_LARGEST} to /{_VPC_SMALLEST}")
    return str(network)


def _instance_type(value: str) -> str:
    match = _INSTANCE_TYPE.fullmatch(value)
    if match is None:
        raise ValueError("is not an instance type; write one such as t3.large, or t4g.large with an Arm processor")
    if match["family"] == "mac":
        raise ValueError("is a Mac, which runs neither Debian nor Ubuntu; write one such as t3.large")
    if f"{match['family']}{match['generation']}{match['abilities']}" in _XEN:
        raise ValueError(
            "is not built on Nitro, so its data volume cannot be found by ID; write a newer type such as t3.large",
        )
    if match["size"] in _TOO_SMALL:
        raise ValueError("has 1 GiB of memory or less, but Open WebUI needs 2; write small or larger, such as t3.large")
    return value


_VPC_ID = matching("vpc-([0-9a-f]{8}|[0-9a-f]{17})", "is not a VPC ID; write one such as vpc-0a1b2c3d4e5f60718")
_SUBNET_ID = matching(
    "subnet-([0-9a-f]{8}|[0-9a-f]{17})", "is not a subnet ID; write one such as subnet-0a1b2c3d4e5f60718"
)
VpcId = Annotated[str, _VPC_ID, WithJsonSchema({"type": "string", "pattern": "^vpc-"})]
SubnetId = Annotated[str, _SUBNET_ID, WithJsonSchema({"type": "string", "pattern": "^subnet-"})]
VpcCidr = Annotated[str, AfterValidator(_cidr), WithJsonSchema({"type": "string", "examples": ["10.20.0.0/16"]})]
"""An IPv4 network that a VPC can have."""
InstanceType = Annotated[
    str, AfterValidator(_instance_type), WithJsonSchema({"type": "string", "examples": ["t3.large"]})
]
_WHOLE_GIBIBYTES = require(lambda size: size % (1 << 30) == 0, "is not a whole number of GiB; write one such as 50GiB")
SshNetwork = Annotated[
    Network,
    require(
        lambda value: (network := ipaddress.ip_network(value)).prefixlen >= _SSH_LARGEST[network.version],
        "is a large part of the internet; list the addresses to allow",
    ),
]
"""A network of one organisation at most."""
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html, read in 2025: each
# policy whose name begins so takes TLS 1.2 and 1.3, or 1.3 alone, and none of the others refuses TLS 1.1.
_TLS_POLICY = matching(
    r"ELBSecurityPolicy-TLS13-1-[23](-[A-Za-z0-9]+)*-\d{4}-\d{2}",
    "is not a TLS policy that refuses TLS 1.1 and older; write one such as ELBSecurityPolicy-TLS13-1-2-2021-06",
)
TlsPolicy = Annotated[str, _TLS_POLICY]
_WEB_ACL = regional_arn(
    "wafv2",
    "regional/webacl/[A-Za-z0-9_-]{1,128}/[0-9a-f-]{36}",
    "is not the ARN of a regional web ACL; write one such as"
    " arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/chat/01234567-89ab-cdef-0123-456789abcdef",
)
WebAclArn = Annotated[str, _WEB_ACL, WithJsonSchema({"type": "string", "pattern": "^arn:aws"})]


class InstanceImage(StrEnum):
    """Which distribution the instance runs."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"


class Architecture(StrEnum):
    """Processor architecture, as the distributions name it."""

    AMD64 = "amd64"
    ARM64 = "arm64"


class LoadBalancerKind(StrEnum):
    """Kind of load balancer in front of the instance."""

    NONE = "none"
    ALB = "alb"
    NLB = "nlb"


class VpcSettings(Settings):
    """The network. It allows ports 80 and 443, and SSH from `instance.ssh_from`; nothing else."""

    id: VpcId | None = None
    """ID of an existing VPC, such as vpc-0a1b2c3d4e5f60718. Default: create one."""

    cidr: VpcCidr = "10.20.0.0/16"
    """IPv4 network of the VPC in CIDR form. With an existing VPC, set it only if there is a load balancer: requests
    from this network are trusted to carry the client's address."""

    availability_zones: Annotated[int, Field(ge=2, le=4)] = 2
    """Number of availability zones that a new VPC spans."""

    public_subnets: tuple[SubnetId, ...] = ()
    """IDs of subnets of the existing VPC that have a route to an internet gateway. The instance runs in the first one;
    a load balancer uses all of them and needs two in different zones. Default: create them."""

    @property
    def exists(self) -> bool:
        """Whether it is there already."""
        return self.id is not None

    def _faults(self) -> Iterator[Fault]:
        yield from self._faults_of_existing() if self.exists else self._faults_of_new()
        for name in dict.fromkeys(self.public_subnets):
            if self.public_subnets.count(name) > 1:
                yield Fault("public_subnets", f"{name} is listed twice; write it once")

    def _faults_of_existing(self) -> Iterator[Fault]:
        if "availability_zones" in self.model_fields_set:
            yield Fault(
                "availability_zones",
                "is set, but id is an existing VPC, whose subnets are fixed; remove availability_zones or id",
            )
        if not self.public_subnets:
            yield Fault(
                "public_subnets",
                "is missing, but id is an existing VPC; add the ID of a subnet with a route to an internet gateway",
            )

    def _faults_of_new(self) -> Iterator[Fault]:
        if self.public_subnets:
            yield Fault(
                "public_subnets",
                "is set, but without id the VPC and its subnets are created; remove public_subnets, or add the ID of"
                " the VPC",
            )
        network = ipaddress.IPv4Network(self.cidr)
        if not any(network.subnet_of(own) for own in _OWN):
            whose = "used by Docker on the instance" if network.overlaps(_OF_DOCKER) else "public address space"
            yield Fault(
                "cidr",
                f"{self.cidr} is {whose}, so hosts with these addresses could not be reached; write a part of"
                " 10.0.0.0/8, 172.16.0.0/16 or 192.168.0.0/16",
            )
        if network.prefixlen > _OWN_SMALLEST:
            yield Fault(
                "cidr",
                f"{self.cidr} is too small for two subnets in each zone, because a load balancer needs /27 or larger;"
                f" write /{_OWN_SMALLEST} or larger",
            )


class InstanceSettings(Settings):
    """The EC2 instance, with Docker on it."""

    type: InstanceType = "t3.large"
    """EC2 instance type. A type with a g after its generation, such as t4g.large or m7g.large, has an Arm processor and
    runs Arm images."""

    image: InstanceImage = InstanceImage.DEBIAN
    """Linux distribution of the instance: debian or ubuntu, in its newest image when the instance is created. The
    instance keeps that image."""

    root_volume: Annotated[Bytes, between("8GiB", "1024GiB"), _WHOLE_GIBIBYTES] = 16 << 30
    """Size of the system disk in whole GiB. It is deleted with the instance."""

    data_volume: Annotated[Bytes, between("20GiB", "16384GiB"), _WHOLE_GIBIBYTES] = 50 << 30
    """Size of the data disk (images, containers and data) in whole GiB. It outlives the instance and `make down`. It
    can grow later, but never shrink."""

    ssh_from: tuple[SshNetwork, ...] = ()
    """Networks that may reach the instance by SSH, such as 203.0.113.7/32. Include the address of the machine that runs
    `make up`, which creates all containers over SSH. Default: none, which aws-vm refuses."""

    @property
    def architecture(self) -> Architecture:
        """What processor the type has."""
        match = _INSTANCE_TYPE.fullmatch(self.type)
        # The kind of value is that of the field.
        assert match is not None  # noqa: S101
        arm = match["abilities"].startswith("g") or f"{match['family']}{match['generation']}" in _ARM_WITHOUT_LETTER
        return Architecture.ARM64 if arm else Architecture.AMD64


class LoadBalancerSettings(Settings):
    """A load balancer between browsers and the instance."""

    kind: LoadBalancerKind = LoadBalancerKind.NONE
    """Kind of load balancer. none: browsers reach the instance itself, at an elastic IP; alb: an Application Load
    Balancer with an ACM certificate; nlb: a Network Load Balancer that passes TCP through, so that Nginx terminates
    TLS."""

    tls_policy: TlsPolicy = "ELBSecurityPolicy-TLS13-1-2-2021-06"
    """Security policy of an ALB by its name at Elastic Load Balancing: the TLS versions and ciphers that browsers may
    use."""

    access_logs: bool = True
    """Write the access log of an ALB to an S3 bucket of this stack."""

    web_acl: WebAclArn | None = None
    """ARN of an AWS WAF web ACL that an ALB applies to each request. Default: no web ACL."""

    deletion_protection: bool = False
    """Prevent the deletion of the load balancer, also by `make down`, until this is false again."""

    @property
    def is_used(self) -> bool:
        """Whether there is one."""
        return self.kind is not LoadBalancerKind.NONE

    def _faults(self) -> Iterator[Fault]:
        if self.kind is not LoadBalancerKind.ALB:
            why = ", which passes TCP through" if self.kind is LoadBalancerKind.NLB else ""
            for name in ("tls_policy", "access_logs", "web_acl"):
                if name in self.model_fields_set:
                    yield Fault(name, f"is set, but kind is {self.kind}{why}; remove {name} or write kind: alb")
        if self.deletion_protection and not self.is_used:
            yield Fault(
                "deletion_protection",
                "is true, but kind is none, so there is nothing to protect; remove deletion_protection, or write kind:"
                " alb or nlb",
            )


class AwsSettings(Settings):
    """AWS resources of the stack."""

    region: Region
    """AWS region of all resources, such as eu-central-1."""

    vpc: VpcSettings = VpcSettings()
    """The network: a new VPC, or an existing one."""

    instance: InstanceSettings = InstanceSettings()
    """The EC2 instance."""

    load_balancer: LoadBalancerSettings = LoadBalancerSettings()
    """The load balancer in front of the instance."""

    def _faults(self) -> Iterator[Fault]:
        kind, acl = self.load_balancer.kind, self.load_balancer.web_acl
        if not self.instance.ssh_from:
            yield Fault(
                "instance.ssh_from",
                "is empty, but `make up` needs SSH to the instance; add the address of the machine that runs it, such"
                " as 203.0.113.7/32",
            )
        if acl is not None and region_of_arn(acl) != self.region:
            yield Fault(
                "load_balancer.web_acl",
                f"is in {region_of_arn(acl)}, but region is {self.region}, and a load balancer can use only web ACLs of"
                " its own region; create it there, or remove web_acl",
            )
        if not self.vpc.exists:
            return
        has_cidr = "cidr" in self.vpc.model_fields_set
        if has_cidr and not self.load_balancer.is_used:
            yield Fault(
                "vpc.cidr",
                "is set, but vpc.id is an existing VPC and load_balancer.kind is none, so it has no use; remove"
                " vpc.cidr, or remove vpc.id to create a VPC",
            )
        if not has_cidr and self.load_balancer.is_used:
            yield Fault(
                "vpc.cidr",
                f"is missing, and load_balancer.kind is {kind} in an existing VPC: client addresses are trusted only"
                " from the load balancer, which is in this network; add it",
            )
        if self.load_balancer.is_used and len(self.vpc.public_subnets) == 1:
            yield Fault(
                "vpc.public_subnets",
                f"lists one subnet, but load_balancer.kind is {kind}, which needs two zones; add a subnet of another"
                " zone, or remove load_balancer",
            )
