"""Translates a stack's settings into the arguments of `AwsVm`. Plain values, no resources."""

from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from open_webui_edge.components.aws.alarms import AlarmThresholds
from open_webui_edge.components.aws.backup import BackupArgs, DailyArgs
from open_webui_edge.components.aws.dns import DnsZoneArgs
from open_webui_edge.components.aws.ec2_host import Architecture, MachineArgs, MachineImage
from open_webui_edge.components.aws.load_balancer import LoadBalancerKind
from open_webui_edge.components.aws.network import NetworkArgs
from open_webui_edge.components.aws.security_groups import TrafficArgs
from open_webui_edge.components.aws.vm import AwsVmArgs, DnsArgs, LoadBalancingArgs
from open_webui_edge.components.reverse_proxy.rendering import HEALTH_OF_LOAD_BALANCER
from open_webui_edge.settings.backup import RepositoryKind
from open_webui_edge.settings.certificate import CertificateMode
from open_webui_edge.settings.dns import DnsProvider
from open_webui_edge.settings.placement import Placement, egress_ports
from open_webui_edge.settings.stack import StackSettings
from open_webui_edge.settings.values import is_ip_address

# Domain of a CA's ACME directory -> its CAA domain (each CA's documentation on CAA, read in 2025).
_CAA_DOMAINS = {
    "letsencrypt.org": "letsencrypt.org",
    "zerossl.com": "sectigo.com",
    "pki.goog": "pki.goog",
    "ssl.com": "ssl.com",
    "buypass.com": "buypass.com",
}


def vm_args(settings: StackSettings, placement: Placement) -> AwsVmArgs:
    """Return the arguments, for settings whose platform is aws-vm."""
    aws = settings.platform.aws
    assert aws is not None  # noqa: S101 - only called for aws-vm
    network = NetworkArgs(cidr=aws.vpc.cidr, availability_zones=aws.vpc.availability_zones)
    if aws.vpc.id is not None:
        network = NetworkArgs(vpc_id=aws.vpc.id, public_subnet_ids=list(aws.vpc.public_subnets))
        if placement.dual_stack:
            network["wants_ipv6"] = True
    args = AwsVmArgs(
        region=aws.region,
        network=network,
        machine=MachineArgs(
            image=MachineImage(aws.instance.image),
            architecture=Architecture(aws.instance.architecture),
            instance_type=aws.instance.type,
            root_volume=aws.instance.root_volume >> 30,
            data_volume=aws.instance.data_volume >> 30,
        ),
        traffic=TrafficArgs(
            ssh_from=list(aws.instance.ssh_from), http3=placement.http3, egress_ports=egress_ports(settings)
        ),
        names=_names(settings),
    )
    load_balancer, idle = aws.load_balancer, placement.idle_timeout
    if load_balancer.is_used:
        assert idle is not None  # noqa: S101 - set with a load balancer
        args["load_balancing"] = LoadBalancingArgs(
            kind=LoadBalancerKind(load_balancer.kind),
            ipv6=placement.dual_stack,
            idle_timeout=round(idle.total_seconds()),
            health_check_path=HEALTH_OF_LOAD_BALANCER,
            deletion_protection=load_balancer.deletion_protection,
            tls_policy=load_balancer.tls_policy,
            access_logs=load_balancer.access_logs,
            web_acl=load_balancer.web_acl,
        )
    if settings.backup.model_fields_set:
        # A backup section that disables snapshots keeps the vault with the existing ones.
        args["backup"] = BackupArgs()
    if settings.backup.enabled and settings.backup.kind_on(aws=True) is RepositoryKind.AWS_BACKUP:
        args["backup"] = BackupArgs(daily=DailyArgs(at=settings.backup.at, keep_days=settings.backup.keep.days))
    alarms = settings.monitoring.alarms
    if alarms.enabled:
        days = max(1, settings.certificate.warn_before // timedelta(days=1))
        args["alarms"] = AlarmThresholds(disk_percent=alarms.disk_percent, expiry_days=days, email=alarms.email)
    return args


def _names(settings: StackSettings) -> DnsArgs:
    names = DnsArgs(
        hosts=[host for host in settings.site.hosts if not is_ip_address(host)],
        certificate_names=list(settings.certificate_names),
        certificate_arn=settings.certificate.acm.arn,
        issuers=_caa_domains(settings),
    )
    if settings.dns.provider is DnsProvider.ROUTE53 and settings.dns.zone is not None:
        names["zone"] = DnsZoneArgs(zone=settings.dns.zone, create=settings.dns.create)
        names["answers_challenges"] = settings.certificate.uses_instance_role
    return names


def _caa_domains(settings: StackSettings) -> Sequence[str]:
    """Return the CAA domains of the issuers; empty if one of them has no known domain."""
    if settings.certificate.mode is not CertificateMode.LETS_ENCRYPT:
        return []
    hosts = [urlsplit(issuer.directory).hostname or "" for issuer in settings.certificate.lets_encrypt.issuers]
    known = [[domain for ca, domain in _CAA_DOMAINS.items() if host == ca or host.endswith(f".{ca}")] for host in hosts]
    return list(dict.fromkeys(domain for domains in known for domain in domains)) if all(known) else []
