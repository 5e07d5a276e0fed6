"""A virtual machine with everything around it: network, names, load balancer, certificate, backups, alarms."""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict, assert_never

import pulumi
import pulumi_aws as aws

from components.aws.alarms import Alarms, AlarmsArgs, WatchedLoadBalancer
from components.aws.backup import BackupArgs, VolumeBackup, VolumeBackupArgs
from components.aws.behind import Behind
from components.aws.certificate import CAA_ISSUERS, AcmCertificate, AcmCertificateArgs
from components.aws.dns import Alias, CaaRecords, CaaRecordsArgs, DnsRecords, DnsRecordsArgs, DnsZone, DnsZoneArgs
from components.aws.ec2_host import Architecture, Ec2Host, Ec2HostArgs, MachineImage
from components.aws.load_balancer import (
    ApplicationLoadBalancer,
    ApplicationLoadBalancerArgs,
    NetworkLoadBalancer,
    NetworkLoadBalancerArgs,
)
from components.aws.network import Network, NetworkArgs
from components.aws.security_groups import SecurityGroups, SecurityGroupsArgs


class MachineArgs(TypedDict):
    """The instance, and whom it speaks with."""

    image: MachineImage
    architecture: Architecture
    """That of the type."""
    instance_type: str
    root_volume: int
    """Size of the disk with the system, in GiB."""
    data_volume: int
    """Size of the disk with Docker's data, in GiB."""
    ssh_from: Sequence[str]
    """Networks that may log in."""
    http3: bool
    """Whether it answers HTTP/3."""
    reaches: Sequence[int]
    """TCP ports, besides 80 and 443, of services elsewhere."""


class LoadBalancingArgs(TypedDict):
    """What stands in front of the instance."""

    kind: Behind
    ipv6: bool
    idle_timeout: int
    """Seconds."""
    health_check_path: str
    """What the proxy answers with 200 whatever the Host."""
    deletion_protection: bool
    tls_policy: str
    """Of an ALB, like the two that follow."""
    access_logs: bool
    web_acl: NotRequired[str]
    """ARN."""


class NamesArgs(TypedDict):
    """What the site is called, and who vouches for it."""

    hosts: Sequence[str]
    """Names that lead to the site."""
    certificate_names: Sequence[str]
    """All names in its certificate."""
    certificate_arn: NotRequired[str]
    """Of an issued certificate in ACM, for an ALB; left out, one is ordered, which needs a zone."""
    issuers: Sequence[str]
    """Domains of the authorities that may issue certificates for these names, as CAA records write them; with an ALB
    those of ACM, and with none no record says anything."""
    zone: NotRequired[DnsZoneArgs]
    """Left out: somebody else keeps the records."""
    answers_challenges: NotRequired[bool]
    """Whether the instance's role may show issuers by the zone's records whose the names are."""


class WatchArgs(TypedDict):
    """What is too much, too little, and who hears of it."""

    disk_percent: int
    expiry_days: int
    email: NotRequired[str]


class AwsVmArgs(TypedDict):
    """What there is on AWS."""

    region: str
    network: NetworkArgs
    machine: MachineArgs
    load_balancing: NotRequired[LoadBalancingArgs]
    """Left out: the instance itself is the site's address."""
    names: NamesArgs
    backup: NotRequired[BackupArgs]
    """Left out: there never were any copies of the data volume."""
    alarms: NotRequired[WatchArgs]


class AwsVm(pulumi.ComponentResource):
    """An instance with Docker, reachable under its names."""

    load_balancer: pulumi.Output[str] | None
    """DNS name of the load balancer; None without one."""
    name_servers: pulumi.Output[Sequence[str]] | None
    """Where the domain's registrar must point to, where the zone is made here."""
    wanted_records: pulumi.Output[Sequence[Mapping[str, str]]] | None
    """What to enter where somebody else keeps the records: name, type, value."""

    def __init__(self, name: str, args: AwsVmArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make all of it."""
        super().__init__("open-webui-edge:index:AwsVm", name, {}, opts)
        self._name, self._args = name, args
        provider = aws.Provider(f"{name}-aws", region=args["region"], opts=pulumi.ResourceOptions(parent=self))
        self._child = child = pulumi.ResourceOptions(parent=self, provider=provider)
        machine = args["machine"]
        balancing = args.get("load_balancing")
        behind = Behind.NONE if balancing is None else balancing["kind"]

        network = Network(f"{name}-network", args["network"], child)
        groups = SecurityGroups(
            f"{name}-security-groups",
            SecurityGroupsArgs(
                vpc_id=network.vpc_id,
                load_balancer=behind,
                ssh_from=machine["ssh_from"],
                http3=machine["http3"],
                reaches=machine["reaches"],
            ),
            child,
        )
        zone, authorized = self._zone(behind)
        host = Ec2HostArgs(
            image=machine["image"],
            architecture=machine["architecture"],
            instance_type=machine["instance_type"],
            root_volume=machine["root_volume"],
            data_volume=machine["data_volume"],
            subnet_id=network.public_subnet_ids[0],
            availability_zone=network.availability_zone,
            security_group_ids=[groups.instance],
        )
        if zone is not None and args["names"].get("answers_challenges"):
            host["answers_challenges_in"] = zone.zone_arn
        self.host = Ec2Host(f"{name}-host", host, child)
        certificate = self._certificate(behind, zone, authorized)
        balancer = self._load_balancer(network, groups, certificate)
        records = self._records(zone, balancer)
        # What must be there before an issuer can be shown whose the site's names are.
        needed = (authorized, balancer, records, self.host.answers_challenges)
        self.published = [part for part in needed if part is not None]
        self.load_balancer = None if balancer is None else balancer.dns_name
        self._backup()
        self._alarms(behind, balancer, certificate)
        self.register_outputs({"load_balancer": self.load_balancer, "name_servers": self.name_servers})

    def _zone(self, behind: Behind) -> tuple[DnsZone | None, CaaRecords | None]:
        """Return the zone, and who may issue certificates for the names in it."""
        names = self._args["names"]
        self.name_servers = None
        if "zone" not in names:
            return None, None
        zone = DnsZone(f"{self._name}-zone", names["zone"], self._child)
        if names["zone"]["create"]:
            self.name_servers = zone.name_servers
        issuers = CAA_ISSUERS if behind is Behind.ALB else names["issuers"]
        if not issuers:
            return zone, None
        authorized = CaaRecords(
            f"{self._name}-caa",
            CaaRecordsArgs(
                zone_id=zone.zone_id,
                names=names["hosts"],
                issuers=issuers,
                certificate_names=names["certificate_names"],
            ),
            self._child,
        )
        return zone, authorized

    def _certificate(
        self, behind: Behind, zone: DnsZone | None, authorized: CaaRecords | None
    ) -> pulumi.Input[str] | None:
        """Return the ARN of the certificate that an ALB shows."""
        names = self._args["names"]
        if behind is not Behind.ALB:
            return None
        if "certificate_arn" in names or zone is None:
            return names.get("certificate_arn")
        return AcmCertificate(
            f"{self._name}-certificate",
            AcmCertificateArgs(names=names["certificate_names"], zone_id=zone.zone_id),
            pulumi.ResourceOptions.merge(
                self._child, pulumi.ResourceOptions(depends_on=[] if authorized is None else [authorized])
            ),
        ).arn

    def _load_balancer(
        self, network: Network, groups: SecurityGroups, certificate: pulumi.Input[str] | None
    ) -> ApplicationLoadBalancer | NetworkLoadBalancer | None:
        args = self._args.get("load_balancing")
        if args is None or groups.load_balancer is None:
            return None
        match args["kind"]:
            case Behind.NONE:
                return None
            case Behind.ALB:
                if certificate is None:
                    raise ValueError("an ALB needs a certificate: names.certificate_arn or names.zone")
                alb = ApplicationLoadBalancerArgs(
                    vpc_id=network.vpc_id,
                    subnet_ids=network.public_subnet_ids,
                    ipv6=args["ipv6"],
                    security_group_id=groups.load_balancer,
                    instance_id=self.host.instance_id,
                    certificate_arn=certificate,
                    tls_policy=args["tls_policy"],
                    idle_timeout=args["idle_timeout"],
                    health_check_path=args["health_check_path"],
                    access_logs=args["access_logs"],
                    deletion_protection=args["deletion_protection"],
                )
                if "web_acl" in args:
                    alb["web_acl"] = args["web_acl"]
                return ApplicationLoadBalancer(f"{self._name}-load-balancer", alb, self._child)
            case Behind.NLB:
                nlb = NetworkLoadBalancerArgs(
                    vpc_id=network.vpc_id,
                    subnet_ids=network.public_subnet_ids,
                    ipv6=args["ipv6"],
                    security_group_id=groups.load_balancer,
                    instance_id=self.host.instance_id,
                    idle_timeout=args["idle_timeout"],
                    health_check_path=args["health_check_path"],
                    deletion_protection=args["deletion_protection"],
                )
                return NetworkLoadBalancer(f"{self._name}-load-balancer", nlb, self._child)
            case _:
                assert_never(args["kind"])

    def _records(
        self, zone: DnsZone | None, balancer: ApplicationLoadBalancer | NetworkLoadBalancer | None
    ) -> DnsRecords | None:
        """Lead the names to the site, or say what to enter elsewhere for it."""
        hosts = self._args["names"]["hosts"]
        self.wanted_records = None
        if zone is None:
            kind, value = ("A", self.host.address) if balancer is None else ("CNAME", balancer.dns_name)
            self.wanted_records = value.apply(
                lambda value: [{"name": host, "type": kind, "value": value} for host in hosts]
            )
            return None
        args = DnsRecordsArgs(zone_id=zone.zone_id, names=hosts)
        if balancer is None:
            args["address"] = self.host.address
        else:
            ipv6 = "load_balancing" in self._args and self._args["load_balancing"]["ipv6"]
            args["alias"] = Alias(dns_name=balancer.dns_name, zone_id=balancer.zone_id, ipv6=ipv6)
        return DnsRecords(f"{self._name}-records", args, self._child)

    def _backup(self) -> None:
        if "backup" in self._args:
            args = VolumeBackupArgs(volume_arn=self.host.volume_arn, **self._args["backup"])
            VolumeBackup(f"{self._name}-backup", args, self._child)

    def _alarms(
        self,
        behind: Behind,
        balancer: ApplicationLoadBalancer | NetworkLoadBalancer | None,
        certificate: pulumi.Input[str] | None,
    ) -> None:
        if "alarms" not in self._args:
            return
        wanted = self._args["alarms"]
        args = AlarmsArgs(
            instance_id=self.host.instance_id,
            disk_percent=wanted["disk_percent"],
            expiry_days=wanted["expiry_days"],
        )
        if "email" in wanted:
            args["email"] = wanted["email"]
        if certificate is not None:
            args["certificate_arn"] = certificate
        if balancer is not None:
            args["load_balancer"] = WatchedLoadBalancer(
                kind=behind,
                arn_suffix=balancer.arn_suffix,
                target_group_arn_suffix=balancer.target_group_arn_suffix,
            )
        Alarms(f"{self._name}-alarms", args, self._child)
