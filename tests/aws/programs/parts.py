"""The components that stand on AWS, put together as a stack file would, without the host they serve."""

from typing import Any

import pulumi
import pulumi_aws as aws

from components.aws.alarms import Alarms, AlarmsArgs, WatchedLoadBalancer
from components.aws.backup import VolumeBackup, VolumeBackupArgs
from components.aws.behind import Behind
from components.aws.certificate import AcmCertificate, AcmCertificateArgs
from components.aws.dns import Alias, CaaRecords, CaaRecordsArgs, DnsRecords, DnsRecordsArgs, DnsZone, DnsZoneArgs
from components.aws.load_balancer import (
    ApplicationLoadBalancer,
    ApplicationLoadBalancerArgs,
    NetworkLoadBalancer,
    NetworkLoadBalancerArgs,
)
from components.aws.network import Network, NetworkArgs
from components.aws.security_groups import SecurityGroups, SecurityGroupsArgs
from components.keeping import kept

HEALTH = "/nginx/load-balancer-health"


class Parts(pulumi.ComponentResource):
    """Everything but the host."""

    def __init__(self, given: dict[str, Any], opts: pulumi.ResourceOptions) -> None:
        super().__init__("test:index:Parts", "edge", {}, opts)
        self.opts = pulumi.ResourceOptions(parent=self)
        self.given = given
        self.behind = Behind(given.get("behind", "none"))
        self.network = Network("edge", NetworkArgs(**given["network"]), opts=self.opts)
        groups = SecurityGroups(
            "edge",
            SecurityGroupsArgs(
                vpc_id=self.network.vpc_id, load_balancer=self.behind, ssh_from=given.get("ssh_from", [])
            ),
            opts=self.opts,
        )
        self.instance = aws.ec2.Instance(
            "edge-instance",
            ami=given["image"],
            instance_type="t3.large",
            subnet_id=self.network.public_subnet_ids[0],
            vpc_security_group_ids=[groups.instance],
            opts=self.opts,
        )
        self.address = aws.ec2.Eip("edge-address", instance=self.instance.id, domain="vpc", opts=self.opts)
        self.volume = aws.ebs.Volume(
            "edge-data",
            availability_zone=self.network.availability_zone,
            size=given.get("size", 50),
            encrypted=True,
            opts=kept(self),
        )
        self.zone = None if "zone" not in given else DnsZone("edge", DnsZoneArgs(**given["zone"]), opts=self.opts)
        certificate = None
        if self.zone and given.get("certificate") == "acm":
            names = AcmCertificateArgs(names=given["names"], zone_id=self.zone.zone_id)
            certificate = AcmCertificate("edge", names, opts=self.opts).arn
        balancer = None
        if groups.load_balancer is not None:
            balancer = self.balancer(groups.load_balancer, certificate or given.get("certificate_arn", ""))
        if self.zone:
            self.records(self.zone, balancer)
        if "backup" in given:
            VolumeBackup("edge", VolumeBackupArgs(volume_arn=self.volume.arn, **given["backup"]), opts=self.opts)
        if "alarms" in given:
            watched = AlarmsArgs(instance_id=self.instance.id, **given["alarms"])
            if balancer:
                watched["load_balancer"] = WatchedLoadBalancer(
                    kind=self.behind,
                    arn_suffix=balancer.arn_suffix,
                    target_group_arn_suffix=balancer.target_group_arn_suffix,
                )
            Alarms("edge", watched, opts=self.opts)

    def balancer(
        self, group: pulumi.Input[str], certificate: pulumi.Input[str]
    ) -> ApplicationLoadBalancer | NetworkLoadBalancer:
        common = NetworkLoadBalancerArgs(
            vpc_id=self.network.vpc_id,
            subnet_ids=self.network.public_subnet_ids,
            ipv6="vpc_id" not in self.given["network"],
            security_group_id=group,
            instance_id=self.instance.id,
            idle_timeout=self.given.get("idle_timeout", 3600),
            health_check_path=HEALTH,
            deletion_protection=False,
        )
        if self.behind is Behind.NLB:
            return NetworkLoadBalancer("edge", common, opts=self.opts)
        args = ApplicationLoadBalancerArgs(
            **common,
            certificate_arn=certificate,
            tls_policy="ELBSecurityPolicy-TLS13-1-2-2021-06",
            access_logs=self.given.get("access_logs", True),
        )
        if "web_acl" in self.given:
            args["web_acl"] = self.given["web_acl"]
        return ApplicationLoadBalancer("edge", args, opts=self.opts)

    def records(self, zone: DnsZone, balancer: ApplicationLoadBalancer | NetworkLoadBalancer | None) -> None:
        leads = DnsRecordsArgs(zone_id=zone.zone_id, names=self.given["names"])
        if balancer is None:
            leads["address"] = self.address.public_ip
        else:
            leads["alias"] = Alias(
                dns_name=balancer.dns_name, zone_id=balancer.zone_id, ipv6="vpc_id" not in self.given["network"]
            )
        DnsRecords("edge", leads, opts=self.opts)
        if "issuers" in self.given:
            issuers = CaaRecordsArgs(
                zone_id=zone.zone_id,
                names=self.given["names"],
                issuers=self.given["issuers"],
                certificate_names=self.given["names"],
            )
            CaaRecords("edge", issuers, opts=self.opts)


site = pulumi.Config().require_object("site")
provider = aws.Provider("aws", region="eu-central-1")
parts = Parts(site, pulumi.ResourceOptions(providers=[provider]))
pulumi.export("vpc", parts.network.vpc_id)
pulumi.export("volume", parts.volume.id)
pulumi.export("address", parts.address.public_ip)
if parts.zone:
    pulumi.export("zone", parts.zone.zone_id)
