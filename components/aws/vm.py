"""An EC2 instance with its network, DNS, load balancer, certificate, backups and alarms."""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from open_webui_edge.components.aws.alarms import Alarms, AlarmsArgs, AlarmThresholds, WatchedLoadBalancer
from open_webui_edge.components.aws.backup import BackupArgs, VolumeBackup, VolumeBackupArgs
from open_webui_edge.components.aws.certificate import CAA_ISSUERS, AcmCertificate, AcmCertificateArgs
from open_webui_edge.components.aws.dns import (
    Alias,
    CaaRecords,
    CaaRecordsArgs,
    DnsRecords,
    DnsRecordsArgs,
    DnsZone,
    DnsZoneArgs,
)
from open_webui_edge.components.aws.ec2_host import Ec2Host, Ec2HostArgs, MachineArgs
from open_webui_edge.components.aws.load_balancer import (
    ApplicationLoadBalancer,
    ApplicationLoadBalancerArgs,
    ApplicationOptions,
    LoadBalancerKind,
    LoadBalancerOptions,
    NetworkLoadBalancer,
    NetworkLoadBalancerArgs,
)
from open_webui_edge.components.aws.network import Network, NetworkArgs
from open_webui_edge.components.aws.security_groups import SecurityGroups, SecurityGroupsArgs, TrafficArgs


class LoadBalancingArgs(LoadBalancerOptions, ApplicationOptions):
    """The load balancer in front of the instance."""

    kind: LoadBalancerKind


class DnsArgs(TypedDict):
    """The site's names, their zone, and their certificate."""

    hosts: Sequence[str]
    """The site's names."""
    certificate_names: Sequence[str]
    """All names in its certificate."""
    certificate_arn: NotRequired[str | None]
    """ARN of an issued certificate in ACM, for an ALB; left out: a new one is requested, which needs a zone."""
    issuers: Sequence[str]
    """CAA domains of the CAs that may issue certificates for these names; an ALB uses ACM's instead. Empty: no CAA
    records."""
    zone: NotRequired[DnsZoneArgs]
    """Left out: the records are managed elsewhere."""
    answers_challenges: NotRequired[bool]
    """Whether the instance's role may create records for DNS-01 challenges in the zone."""


class AwsVmArgs(TypedDict):
    """The parts on AWS."""

    region: str
    network: NetworkArgs
    machine: MachineArgs
    traffic: TrafficArgs
    load_balancing: NotRequired[LoadBalancingArgs]
    """Left out: clients connect to the instance."""
    names: DnsArgs
    backup: NotRequired[BackupArgs]
    """Left out: the data volume never had snapshots."""
    alarms: NotRequired[AlarmThresholds]


class AwsVm(pulumi.ComponentResource):
    """An instance with Docker, reachable by the site's names."""

    load_balancer: pulumi.Output[str] | None
    """DNS name of the load balancer; None without one."""
    name_servers: pulumi.Output[Sequence[str]] | None
    """Name servers to set at the domain's registrar, if the zone is created here."""
    records_to_create: pulumi.Output[Sequence[Mapping[str, str]]] | None
    """Records to create if they are managed elsewhere: name, type, value."""

    def __init__(self, name: str, args: AwsVmArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create all parts."""
        super().__init__("open-webui-edge:index:AwsVm", name, {}, opts)
        self._name, self._args = name, args
        provider = aws.Provider(f"{name}-aws", region=args["region"], opts=pulumi.ResourceOptions(parent=self))
        self._child = child = pulumi.ResourceOptions(parent=self, provider=provider)
        balancing = args.get("load_balancing")
        self._kind = LoadBalancerKind.NONE if balancing is None else balancing["kind"]

        network = Network(f"{name}-network", args["network"], child)
        groups = SecurityGroups(
            f"{name}-security-groups",
            SecurityGroupsArgs(**args["traffic"], vpc_id=network.vpc_id, load_balancer=self._kind),
            child,
        )
        zone, authorized = self._zone()
        answers_challenges = args["names"].get("answers_challenges", False)
        host = Ec2HostArgs(
            **args["machine"],
            subnet_id=network.public_subnet_ids[0],
            availability_zone=network.availability_zone,
            security_group_ids=[groups.instance],
            acme_zone_arn=zone.zone_arn if zone is not None and answers_challenges else None,
        )
        self.host = Ec2Host(f"{name}-host", host, child)
        certificate = self._certificate(zone, authorized)
        balancer = self._load_balancer(network, groups, certificate)
        records = self._records(zone, balancer)
        # An issuer can only validate the site's names once these exist.
        dependencies = (authorized, balancer, records, self.host.acme_dns_permission)
        self.dns_dependencies = [part for part in dependencies if part is not None]
        self.load_balancer = None if balancer is None else balancer.dns_name
        if "backup" in args:
            VolumeBackup(f"{name}-backup", VolumeBackupArgs(volume_arn=self.host.volume_arn, **args["backup"]), child)
        if "alarms" in args:
            alarms = AlarmsArgs(**args["alarms"], instance_id=self.host.instance_id, certificate_arn=certificate)
            if balancer is not None:
                alarms["load_balancer"] = WatchedLoadBalancer(
                    kind=self._kind,
                    arn_suffix=balancer.arn_suffix,
                    target_group_arn_suffix=balancer.target_group_arn_suffix,
                )
            Alarms(f"{name}-alarms", alarms, child)
        self.register_outputs({"load_balancer": self.load_balancer, "name_servers": self.name_servers})

    def _zone(self) -> tuple[DnsZone | None, CaaRecords | None]:
        """Return the zone, and the CAA records in it."""
        names = self._args["names"]
        self.name_servers = None
        if "zone" not in names:
            return None, None
        zone = DnsZone(f"{self._name}-zone", names["zone"], self._child)
        if names["zone"]["create"]:
            self.name_servers = zone.name_servers
        issuers = CAA_ISSUERS if self._kind is LoadBalancerKind.ALB else names["issuers"]
        if not issuers:
            return zone, None
        args = CaaRecordsArgs(
            zone_id=zone.zone_id, names=names["hosts"], issuers=issuers, certificate_names=names["certificate_names"]
        )
        return zone, CaaRecords(f"{self._name}-caa", args, self._child)

    def _certificate(self, zone: DnsZone | None, authorized: CaaRecords | None) -> pulumi.Input[str] | None:
        """Return the ARN of an ALB's certificate."""
        names = self._args["names"]
        if self._kind is not LoadBalancerKind.ALB:
            return None
        existing = names.get("certificate_arn")
        if existing is not None or zone is None:
            return existing
        args = AcmCertificateArgs(names=names["certificate_names"], zone_id=zone.zone_id)
        after = pulumi.ResourceOptions(depends_on=[] if authorized is None else [authorized])
        opts = pulumi.ResourceOptions.merge(self._child, after)
        return AcmCertificate(f"{self._name}-certificate", args, opts).arn

    def _load_balancer(
        self, network: Network, groups: SecurityGroups, certificate: pulumi.Input[str] | None
    ) -> ApplicationLoadBalancer | NetworkLoadBalancer | None:
        args = self._args.get("load_balancing")
        if args is None or groups.load_balancer is None:
            return None
        name = f"{self._name}-load-balancer"
        target = NetworkLoadBalancerArgs(
            vpc_id=network.vpc_id,
            subnet_ids=network.public_subnet_ids,
            security_group_id=groups.load_balancer,
            instance_id=self.host.instance_id,
            ipv6=args["ipv6"],
            idle_timeout=args["idle_timeout"],
            health_check_path=args["health_check_path"],
            deletion_protection=args["deletion_protection"],
        )
        if args["kind"] is LoadBalancerKind.NLB:
            return NetworkLoadBalancer(name, target, self._child)
        if certificate is None:
            raise ValueError("an ALB needs a certificate: names.certificate_arn or names.zone")
        alb = ApplicationLoadBalancerArgs(
            **target,
            certificate_arn=certificate,
            tls_policy=args["tls_policy"],
            access_logs=args["access_logs"],
            web_acl=args.get("web_acl"),
        )
        return ApplicationLoadBalancer(name, alb, self._child)

    def _records(
        self, zone: DnsZone | None, balancer: ApplicationLoadBalancer | NetworkLoadBalancer | None
    ) -> DnsRecords | None:
        """Create the records of the site's names, or set those to create elsewhere."""
        hosts = self._args["names"]["hosts"]
        self.records_to_create = None
        if zone is None:
            kind, value = ("A", self.host.address) if balancer is None else ("CNAME", balancer.dns_name)
            self.records_to_create = value.apply(
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
