"""What a stack's settings want of AWS: plain values, no resource."""

from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from components.aws.backup import BackupArgs, DailyArgs
from components.aws.behind import Behind
from components.aws.dns import DnsZoneArgs
from components.aws.ec2_host import Architecture, MachineImage
from components.aws.network import NetworkArgs
from components.aws.vm import AwsVmArgs, LoadBalancingArgs, MachineArgs, NamesArgs, WatchArgs
from components.reverse_proxy.rendering import HEALTH_OF_LOAD_BALANCER
from stacks.aws import LoadBalancerSettings
from stacks.backup import RepositoryKind
from stacks.certificate import CertificateMode
from stacks.dns import DnsProvider
from stacks.placement import Placement, reached_ports
from stacks.settings import StackSettings
from stacks.values import is_ip_address

# Who honours a record of which name, and where its directory is (each one's documentation on CAA, read in 2025).
_CAA_DOMAINS = {
    "letsencrypt.org": "letsencrypt.org",
    "zerossl.com": "sectigo.com",
    "pki.goog": "pki.goog",
    "ssl.com": "ssl.com",
    "buypass.com": "buypass.com",
}


def vm_args(settings: StackSettings, placement: Placement) -> AwsVmArgs:
    """Return it, of settings whose platform is aws-vm."""
    aws = settings.platform.aws
    assert aws is not None  # noqa: S101 - asked only then
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
            ssh_from=list(aws.instance.ssh_from),
            http3=placement.http3,
            reaches=reached_ports(settings),
        ),
        names=_names(settings),
    )
    if aws.load_balancer.used:
        args["load_balancing"] = _load_balancing(aws.load_balancer, placement)
    if settings.backup.model_fields_set:
        # Who writes that none are wanted any more, or are kept elsewhere, may have some that are kept.
        args["backup"] = BackupArgs()
    if settings.backup.enabled and settings.backup.kind_on(aws=True) is RepositoryKind.AWS_BACKUP:
        args["backup"] = BackupArgs(daily=DailyArgs(at=settings.backup.at, keep_days=settings.backup.keep.days))
    alarms = settings.monitoring.alarms
    if alarms.enabled:
        days = max(1, settings.certificate.warn_before // timedelta(days=1))
        args["alarms"] = WatchArgs(disk_percent=alarms.disk_percent, expiry_days=days)
        if alarms.email is not None:
            args["alarms"]["email"] = alarms.email
    return args


def _names(settings: StackSettings) -> NamesArgs:
    names = NamesArgs(
        hosts=[host for host in settings.site.hosts if not is_ip_address(host)],
        certificate_names=list(settings.certificate_names),
        issuers=_caa_domains(settings),
    )
    if settings.certificate.acm.arn is not None:
        names["certificate_arn"] = settings.certificate.acm.arn
    if settings.dns.provider is DnsProvider.ROUTE53 and settings.dns.zone is not None:
        names["zone"] = DnsZoneArgs(zone=settings.dns.zone, create=settings.dns.create)
        names["answers_challenges"] = settings.certificate.by_the_role
    return names


def _load_balancing(load_balancer: LoadBalancerSettings, placement: Placement) -> LoadBalancingArgs:
    idle = placement.idle_timeout
    assert idle is not None  # noqa: S101 - of one that is used
    args = LoadBalancingArgs(
        kind=Behind(load_balancer.kind),
        ipv6=placement.dual_stack,
        idle_timeout=round(idle.total_seconds()),
        health_check_path=HEALTH_OF_LOAD_BALANCER,
        deletion_protection=load_balancer.deletion_protection,
        tls_policy=load_balancer.tls_policy,
        access_logs=load_balancer.access_logs,
    )
    if load_balancer.web_acl is not None:
        args["web_acl"] = load_balancer.web_acl
    return args


def _caa_domains(settings: StackSettings) -> Sequence[str]:
    """Return by which names CAA records know the issuers; none where one of them is not known by any."""
    if settings.certificate.mode is not CertificateMode.LETS_ENCRYPT:
        return []
    hosts = [urlsplit(issuer.directory).hostname or "" for issuer in settings.certificate.lets_encrypt.issuers]
    known = [
        next((domain for of, domain in _CAA_DOMAINS.items() if host == of or host.endswith(f".{of}")), None)
        for host in hosts
    ]
    return [] if None in known else list(dict.fromkeys(domain for domain in known if domain is not None))
