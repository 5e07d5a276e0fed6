"""What stands at AWS: region, network, instance, load balancer."""

import ipaddress
import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from stacks.values import (
    BelowError,
    Bytes,
    Network,
    Region,
    Settings,
    between_bytes,
    refuse,
    region_of_arn,
    regional_arn,
)

_VPC = re.compile(r"vpc-([0-9a-f]{8}|[0-9a-f]{17})")
_SUBNET = re.compile(r"subnet-([0-9a-f]{8}|[0-9a-f]{17})")
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
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html, read in 2025: each
# policy whose name begins so takes TLS 1.2 and 1.3, or 1.3 alone, and none of the others refuses TLS 1.1.
_TLS_POLICY = re.compile(r"ELBSecurityPolicy-TLS13-1-[23](-[A-Za-z0-9]+)*-\d{4}-\d{2}")
_TLS_1_3_ALONE = "ELBSecurityPolicy-TLS13-1-3-"
# A VPC has a network between these (https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html).
_VPC_LARGEST, _VPC_SMALLEST = 16, 28
# It is cut into eight, however many zones are used, and a load balancer stands in a /27 or larger.
_OWN_SMALLEST = 24
# What a VPC may have for itself (RFC 1918, RFC 6598), without what Docker takes for its own networks: a load balancer
# with an address there could not be answered (https://docs.docker.com/engine/network/#subnet-allocation).
_OWN = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/16", "192.168.0.0/16", "100.64.0.0/10")))
_OF_DOCKER = ipaddress.IPv4Network("172.16.0.0/12")
_PASSES_THROUGH = ", which passes TCP through and reads no request"
# Larger ones are handed out to nobody: RFC 1918's largest, and what a registry of addresses gets.
_SSH_LARGEST = {4: 8, 6: 20}


def _vpc_id(value: str) -> str:
    if not _VPC.fullmatch(value):
        raise ValueError("is not the id of a VPC; write one such as vpc-0a1b2c3d4e5f60718")
    return value


def _subnet_id(value: str) -> str:
    if not _SUBNET.fullmatch(value):
        raise ValueError("is not the id of a subnet; write one such as subnet-0a1b2c3d4e5f60718")
    return value


def _cidr(value: str) -> str:
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError:
        raise ValueError(
            "is not an IPv4 network; write one in CIDR form without host bits, such as 10.20.0.0/16",
        ) from None
    if not _VPC_LARGEST <= network.prefixlen <= _VPC_SMALLEST:
        raise ValueError(f"is no network that a VPC can have; write one from /{_VPC_LARGEST} to /{_VPC_SMALLEST}")
    return str(network)


def _instance_type(value: str) -> str:
    match = _INSTANCE_TYPE.fullmatch(value)
    if match is None:
        raise ValueError("is not an instance type; write one such as t3.large, or t4g.large with an Arm processor")
    if match["family"] == "mac":
        raise ValueError("is a Macintosh, and neither Debian nor Ubuntu runs on one; write one such as t3.large")
    if f"{match['family']}{match['generation']}{match['abilities']}" in _XEN:
        raise ValueError(
            "is of a generation before Nitro, where the data volume is not found by its id; write a later one such as"
            " t3.large",
        )
    if match["size"] in _TOO_SMALL:
        raise ValueError(
            "has 1 GiB of memory or less, and Open WebUI needs two; write small or larger, such as t3.large"
        )
    return value


def _whole_gibibytes(value: int) -> int:
    if value % (1 << 30):
        raise ValueError("is not a whole number of GiB, in which volumes are sold; write one such as 50GiB")
    return value


def _network_of_people(value: str) -> str:
    network = ipaddress.ip_network(value)
    if network.prefixlen < _SSH_LARGEST[network.version]:
        raise ValueError("is a large part of the internet; name the addresses of those that are meant")
    return value


def _tls_policy(value: str) -> str:
    if not _TLS_POLICY.fullmatch(value):
        raise ValueError(
            "is not a policy that refuses TLS 1.1 and older; write one such as ELBSecurityPolicy-TLS13-1-2-2021-06",
        )
    return value


def _web_acl(value: str) -> str:
    if not regional_arn("wafv2", "regional/webacl/[A-Za-z0-9_-]{1,128}/[0-9a-f-]{36}").fullmatch(value):
        raise ValueError(
            "is not the ARN of a regional web ACL; write one such as"
            " arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/chat/01234567-89ab-cdef-0123-456789abcdef",
        )
    return value


VpcId = Annotated[str, AfterValidator(_vpc_id), WithJsonSchema({"type": "string", "pattern": "^vpc-"})]
SubnetId = Annotated[str, AfterValidator(_subnet_id), WithJsonSchema({"type": "string", "pattern": "^subnet-"})]
VpcCidr = Annotated[str, AfterValidator(_cidr), WithJsonSchema({"type": "string", "examples": ["10.20.0.0/16"]})]
"""An IPv4 network that a VPC can have."""
InstanceType = Annotated[
    str, AfterValidator(_instance_type), WithJsonSchema({"type": "string", "examples": ["t3.large"]})
]
SshNetwork = Annotated[Network, AfterValidator(_network_of_people)]
"""A network that is somebody's."""
TlsPolicy = Annotated[str, AfterValidator(_tls_policy)]
WebAclArn = Annotated[str, AfterValidator(_web_acl), WithJsonSchema({"type": "string", "pattern": "^arn:aws"})]


class InstanceImage(StrEnum):
    """Which distribution the instance runs."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"


class Architecture(StrEnum):
    """Of a processor, in the distributions' own words."""

    AMD64 = "amd64"
    ARM64 = "arm64"


class LoadBalancerKind(StrEnum):
    """What stands between browsers and the instance."""

    NONE = "none"
    ALB = "alb"
    NLB = "nlb"


class VpcSettings(Settings):
    """The network. Nothing in it is open but ports 80 and 443, and SSH from `instance.ssh_from`."""

    id: VpcId | None = None
    """Of a VPC that exists already. Left out: one of this stack's own."""

    cidr: VpcCidr = "10.20.0.0/16"
    """The VPC's IPv4 network. Of an existing one it is needed with a load balancer alone, whose addresses lie in it:
    from there, and nowhere else, the client's address is taken."""

    availability_zones: Annotated[int, Field(ge=2, le=4)] = 2
    """Over how many zones a VPC of this stack's own is spread."""

    public_subnets: tuple[SubnetId, ...] = ()
    """With `id`: subnets of it with a route to an internet gateway. The instance is in the first; a load balancer is
    in all of them, and needs two in different zones."""

    @property
    def exists(self) -> bool:
        """Whether it is there already."""
        return self.id is not None

    @model_validator(mode="after")
    def _new_or_existing(self) -> Self:
        refuse(self._faults_of_existing() if self.exists else self._faults_of_new())
        for name in self.public_subnets:
            if self.public_subnets.count(name) > 1:
                raise BelowError("public_subnets", f"{name} is named twice; write it once")
        return self

    def _faults_of_existing(self) -> list[BelowError]:
        faults: list[BelowError] = []
        if "availability_zones" in self.model_fields_set:
            faults.append(BelowError(
                "availability_zones",
                "is set, but id names a VPC that exists, whose subnets are where they are; drop availability_zones or"
                " id",
            ))  # fmt: skip
        if not self.public_subnets:
            faults.append(BelowError(
                "public_subnets",
                "is missing, and id names a VPC that exists; add the id of a subnet with a route to an internet"
                " gateway",
            ))  # fmt: skip
        return faults

    def _faults_of_new(self) -> list[BelowError]:
        faults: list[BelowError] = []
        if self.public_subnets:
            faults.append(BelowError(
                "public_subnets",
                "is set, but without id the VPC and its subnets are made; drop public_subnets, or add the id of the"
                " VPC",
            ))  # fmt: skip
        network = ipaddress.IPv4Network(self.cidr)
        if not any(network.subnet_of(own) for own in _OWN):
            whose = "Docker's on the instance" if network.overlaps(_OF_DOCKER) else "somebody's on the internet"
            faults.append(BelowError(
                "cidr",
                f"{self.cidr} is {whose}, and what has such an address could not be reached; write a part of"
                " 10.0.0.0/8, 172.16.0.0/16 or 192.168.0.0/16",
            ))  # fmt: skip
        if network.prefixlen > _OWN_SMALLEST:
            faults.append(BelowError(
                "cidr",
                f"{self.cidr} is too small for two subnets in each zone, a load balancer needing /27 or larger; write"
                f" /{_OWN_SMALLEST} or larger",
            ))  # fmt: skip
        return faults


class InstanceSettings(Settings):
    """The machine, with Docker on it."""

    type: InstanceType = "t3.large"
    """Instance type. One whose family has a g behind its number, such as t4g.large or m7g.large, has an Arm processor
    and gets images for it."""

    image: InstanceImage = InstanceImage.DEBIAN
    """Distribution: debian or ubuntu, its newest image of the day the instance is made. The instance keeps it."""

    root_volume: Annotated[Bytes, between_bytes("8GiB", "1024GiB"), AfterValidator(_whole_gibibytes)] = 16 << 30
    """Size of the disk with the system, which goes with the instance."""

    data_volume: Annotated[Bytes, between_bytes("20GiB", "16384GiB"), AfterValidator(_whole_gibibytes)] = 50 << 30
    """Size of the disk with all images, containers and data, which outlives the instance and `make down`. It can grow
    later, and never shrink."""

    ssh_from: tuple[SshNetwork, ...] = ()
    """Networks that may reach the instance by SSH, such as 203.0.113.7/32. At least that of the machine which runs
    `make up`: all containers are made over SSH."""

    @property
    def architecture(self) -> Architecture:
        """What processor the type has."""
        match = _INSTANCE_TYPE.fullmatch(self.type)
        # The kind of value is that of the field.
        assert match is not None  # noqa: S101
        arm = match["abilities"].startswith("g") or f"{match['family']}{match['generation']}" in _ARM_WITHOUT_LETTER
        return Architecture.ARM64 if arm else Architecture.AMD64


class LoadBalancerSettings(Settings):
    """What stands between browsers and the instance."""

    kind: LoadBalancerKind = LoadBalancerKind.NONE
    """none: browsers reach the instance itself, at an elastic IP; alb: an Application Load Balancer, with a certificate
    of ACM; nlb: a Network Load Balancer that passes TCP through, so that Nginx keeps the certificate."""

    tls_policy: TlsPolicy = "ELBSecurityPolicy-TLS13-1-2-2021-06"
    """With kind alb: which TLS versions and ciphers browsers may use, by the name of a policy of Elastic Load
    Balancing."""

    access_logs: bool = True
    """With kind alb: keep a line about each request in a bucket of this stack's own."""

    web_acl: WebAclArn | None = None
    """With kind alb: ARN of a web ACL of AWS WAF that it asks about each request."""

    deletion_protection: bool = False
    """With kind alb or nlb: nobody can delete it, `make down` included, until this is false again."""

    @property
    def used(self) -> bool:
        """Whether there is one."""
        return self.kind is not LoadBalancerKind.NONE

    @property
    def tls_1_3_alone(self) -> bool:
        """Whether its policy takes no older TLS."""
        return self.tls_policy.startswith(_TLS_1_3_ALONE)

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        of_alb = ("tls_policy", "access_logs", "web_acl")
        refuse(
            BelowError(
                name,
                f"is set, but kind is {self.kind}{_PASSES_THROUGH if self.kind is LoadBalancerKind.NLB else ''}; drop"
                f" {name} or write kind: alb",
            )
            for name in of_alb
            if name in self.model_fields_set and self.kind is not LoadBalancerKind.ALB
        )
        if self.deletion_protection and not self.used:
            raise BelowError(
                "deletion_protection",
                "is true, but kind is none, and there is nothing to protect; drop deletion_protection, or write kind:"
                " alb or nlb",
            )
        return self


class AwsSettings(Settings):
    """What stands at AWS."""

    region: Region
    """Where everything stands, such as eu-central-1."""

    vpc: VpcSettings = VpcSettings()
    """The network: one of this stack's own, or one that exists."""

    instance: InstanceSettings = InstanceSettings()
    """The machine."""

    load_balancer: LoadBalancerSettings = LoadBalancerSettings()
    """What stands in front of it."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> list[BelowError]:
        faults: list[BelowError] = []
        if not self.instance.ssh_from:
            faults.append(BelowError(
                "instance.ssh_from",
                "names nobody, and `make up` itself reaches the instance by SSH; add the address of the machine that"
                " runs it, such as 203.0.113.7/32",
            ))  # fmt: skip
        acl = self.load_balancer.web_acl
        if acl is not None and region_of_arn(acl) != self.region:
            faults.append(BelowError(
                "load_balancer.web_acl",
                f"is in {region_of_arn(acl)}, but region is {self.region}, and a load balancer uses what is in its own;"
                " make the web ACL there, or drop web_acl",
            ))  # fmt: skip
        if self.vpc.exists:
            faults += self._faults_with_existing_vpc()
        return faults

    def _faults_with_existing_vpc(self) -> list[BelowError]:
        kind, known = self.load_balancer.kind, "cidr" in self.vpc.model_fields_set
        if not self.load_balancer.used:
            if not known:
                return []
            return [BelowError(
                "vpc.cidr",
                "is set, but vpc.id names a VPC that exists and load_balancer.kind is none, so nothing asks for it;"
                " drop vpc.cidr, or vpc.id for a VPC of this stack's own",
            )]  # fmt: skip
        faults: list[BelowError] = []
        if not known:
            faults.append(BelowError(
                "vpc.cidr",
                f"is missing, and load_balancer.kind is {kind} in the VPC of vpc.id: the client's address is taken from"
                " the load balancer alone, whose addresses lie in that network; add it",
            ))  # fmt: skip
        if len(self.vpc.public_subnets) == 1:
            faults.append(BelowError(
                "vpc.public_subnets",
                f"names one subnet, but load_balancer.kind is {kind}, which stands in two zones; add a subnet of"
                " another zone, or drop load_balancer",
            ))  # fmt: skip
        return faults
