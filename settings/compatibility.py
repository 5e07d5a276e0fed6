"""Rules between settings of different topics: which go together on a platform, and which to remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_webui_edge.settings.aws import TLS_1_3_ONLY, LoadBalancerKind
from open_webui_edge.settings.backup import RepositoryKind
from open_webui_edge.settings.certificate import CertificateMode
from open_webui_edge.settings.dns import DnsProvider
from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.models import OllamaMode
from open_webui_edge.settings.placement import IDLE_TIMEOUT_MAX, idle_timeouts
from open_webui_edge.settings.proxy import AuthenticationMode, TlsProfile
from open_webui_edge.settings.values import is_ip_address, is_loopback, region_of_arn, write_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from open_webui_edge.settings.aws import AwsSettings, LoadBalancerSettings
    from open_webui_edge.settings.backup import BackupSettings
    from open_webui_edge.settings.proxy import ProxySettings
    from open_webui_edge.settings.site import SiteSettings
    from open_webui_edge.settings.topics import Topics

_KIND = "platform.aws.load_balancer.kind"


def faults_of_platform(settings: Topics) -> Iterator[Fault]:
    """Return settings that the platform excludes; the message names both settings, and which to remove."""
    aws = settings.platform.aws
    if aws is None:
        yield from _docker(settings)
        return
    yield from _site(settings.site, aws.load_balancer.kind)
    if settings.open_webui.admin is None:
        yield Fault(
            "open_webui.admin",
            "is missing, but platform.kind is aws-vm, which everybody can reach: the first user to sign up would become"
            " the administrator; add email",
        )
    if not settings.open_webui.requires_sign_in:
        yield Fault(
            "open_webui.environment.WEBUI_AUTH",
            "disables sign-in, but platform.kind is aws-vm, and everybody who can reach it would be the administrator;"
            " remove it",
        )
    yield from _certificate(settings, aws)
    yield from _dns(settings)
    if settings.data.volume is not None:
        yield Fault(
            "data.volume",
            f"is {settings.data.volume}, but platform.kind is aws-vm, whose new instance has no existing volumes;"
            " remove data.volume, or write platform.kind: docker",
        )
    yield from _backup(settings.backup)
    if settings.models.ollama.mode is OllamaMode.CONTAINER and settings.models.ollama.container.gpu:
        yield Fault(
            "models.ollama.container.gpu",
            "is true, but platform.kind is aws-vm, whose instance has no NVIDIA container toolkit; remove gpu, or run"
            " Ollama yourself and write models.ollama.mode: url",
        )
    if aws.load_balancer.is_used:
        yield from _proxy_behind(settings.proxy, aws.load_balancer)


def _docker(settings: Topics) -> Iterator[Fault]:
    if settings.certificate.mode is CertificateMode.ACM:
        yield Fault(
            "certificate.mode",
            "is acm, which needs an Application Load Balancer, but platform.kind is docker; choose another mode, or"
            f" write platform.kind: aws-vm with {_KIND}: alb",
        )
    if settings.dns.provider is DnsProvider.ROUTE53:
        yield Fault(
            "dns.provider",
            "is route53, but platform.kind is docker, whose public address is unknown to the stack; remove dns and"
            " create the records yourself, or write platform.kind: aws-vm",
        )
    if settings.backup.repository.kind is RepositoryKind.AWS_BACKUP:
        yield Fault(
            "backup.repository.kind",
            "is aws-backup, which takes snapshots of an AWS disk, but platform.kind is docker; remove kind, or write"
            " s3",
        )
    if settings.monitoring.alarms.enabled:
        yield Fault(
            "monitoring.alarms.enabled",
            "is true, but platform.kind is docker, which has no CloudWatch alarms; remove alarms, or write"
            " platform.kind: aws-vm",
        )


def _backup(backup: BackupSettings) -> Iterator[Fault]:
    is_at_aws = backup.kind_on(aws=True) is RepositoryKind.AWS_BACKUP
    for key, is_set in (("encrypted", not backup.encrypted), ("password", backup.password is not None)):
        if is_set and is_at_aws:
            yield Fault(
                f"backup.{key}",
                f"is set, but backup.repository.kind is aws-backup, which encrypts with a key of AWS; remove {key}, or"
                " write kind: s3 or volume",
            )


def _site(site: SiteSettings, kind: LoadBalancerKind) -> Iterator[Fault]:
    written = site.listen.model_fields_set
    for name in ("address", "http_port", "https_port"):
        if name in written:
            yield Fault(
                f"site.listen.{name}",
                "is set, but platform.kind is aws-vm, whose instance listens on all addresses, ports 80 and 443; remove"
                f" {name}",
            )
    if "ipv6" in written and site.listen.ipv6 and kind is LoadBalancerKind.NONE:
        yield Fault(
            "site.listen.ipv6",
            f"is true, but {_KIND} is none, and an elastic IP is IPv4 only; remove ipv6, or write kind: alb or nlb",
        )
    for key, host in _names(site):
        if _is_local(host):
            yield Fault(
                key,
                f"{host} is the browser's own machine, but platform.kind is aws-vm; write a name in your own domain,"
                " such as chat.example.com",
            )
        elif is_ip_address(host) and kind is not LoadBalancerKind.NONE:
            yield Fault(
                key,
                f"{host} is an IP address, but {_KIND} is {kind}, whose addresses change; write a name, or remove"
                " load_balancer",
            )


def _names(site: SiteSettings) -> Iterator[tuple[str, str]]:
    """Return the site's names, and where each is written."""
    yield "site.domain", site.domain
    # The default is the fault of the domain that it follows.
    if "aliases" in site.model_fields_set:
        yield from (("site.aliases", alias) for alias in site.aliases)


def _is_local(host: str) -> bool:
    return is_loopback(host) if is_ip_address(host) else f".{host}".endswith(".localhost")


def _certificate(settings: Topics, aws: AwsSettings) -> Iterator[Fault]:
    certificate, dns = settings.certificate, settings.dns
    if certificate.mode is CertificateMode.ACM:
        yield from _acm(settings, aws)
    elif aws.load_balancer.kind is LoadBalancerKind.ALB:
        yield Fault(
            "certificate.mode",
            f"is {certificate.mode}, but {_KIND} is alb, which terminates TLS with an ACM certificate; write"
            " certificate.mode: acm, or kind: nlb, which passes TLS through",
        )
    elif certificate.uses_instance_role and dns.provider is DnsProvider.NONE:
        yield Fault(
            "certificate.lets_encrypt.route53.access_key_id",
            "is missing, and challenge is dns-01 with dns.provider none, so the instance's role has no permission in"
            " any zone; add access_key_id and secret_access_key, or write dns.provider: route53 and dns.zone",
        )
    elif certificate.uses_instance_role:
        yield from _outside_the_zone(
            settings,
            "the only zone that the instance's role may change; remove it, or add access_key_id and secret_access_key"
            " to certificate.lets_encrypt.route53",
        )


def _outside_the_zone(settings: Topics, why: str) -> Iterator[Fault]:
    for name in settings.certificate.additional_names:
        if not settings.dns.covers(name.removeprefix("*.")):
            yield Fault("certificate.additional_names", f"{name} is not in dns.zone {settings.dns.zone}, {why}")


def _acm(settings: Topics, aws: AwsSettings) -> Iterator[Fault]:
    arn, kind = settings.certificate.acm.arn, aws.load_balancer.kind
    if kind is not LoadBalancerKind.ALB:
        why = "which passes TLS through to Nginx" if kind is LoadBalancerKind.NLB else "so that Nginx terminates TLS"
        yield Fault(
            "certificate.mode",
            f"is acm, which needs an Application Load Balancer, but {_KIND} is {kind}, {why}; choose another mode, or"
            " write kind: alb",
        )
    if arn is None and settings.dns.provider is DnsProvider.NONE:
        yield Fault(
            "certificate.acm.arn",
            "is missing, and dns.provider is none, so ACM cannot validate the names by DNS records; add the ARN of an"
            " issued certificate, or write dns.provider: route53",
        )
    if arn is not None and region_of_arn(arn) != aws.region:
        yield Fault(
            "certificate.acm.arn",
            f"is in {region_of_arn(arn)}, but platform.aws.region is {aws.region}, and a load balancer can use only"
            " certificates of its own region; write the ARN of one there, or remove arn",
        )


def _dns(settings: Topics) -> Iterator[Fault]:
    dns, certificate = settings.dns, settings.certificate
    if dns.provider is DnsProvider.NONE:
        return
    for key, host in _names(settings.site):
        if not dns.covers(host) and not _is_local(host):
            yield Fault(
                key,
                f"{host} is not in dns.zone {dns.zone}, so the stack cannot create its record; write a name that ends"
                f" in .{dns.zone}, or remove dns and create the records yourself",
            )
    if certificate.mode is CertificateMode.ACM and certificate.acm.arn is None:
        yield from _outside_the_zone(
            settings, "so ACM cannot validate it by a DNS record; remove it, or write certificate.acm.arn"
        )


def _proxy_behind(proxy: ProxySettings, balancer: LoadBalancerSettings) -> Iterator[Fault]:
    kind = balancer.kind
    if proxy.http3:
        yield Fault("proxy.http3", f"is true, but {_KIND} is {kind}, which does not support HTTP/3; remove http3")
    if proxy.proxy_protocol:
        alb = kind is LoadBalancerKind.ALB
        why = "which sends the client's address in a header" if alb else "which implies it"
        yield Fault("proxy.proxy_protocol", f"is true, but {_KIND} is {kind}, {why}; remove proxy_protocol")
    if kind is LoadBalancerKind.ALB:
        if proxy.tls_profile is TlsProfile.MODERN and not balancer.tls_policy.startswith(TLS_1_3_ONLY):
            yield Fault(
                "proxy.tls_profile",
                f"is modern, but {_KIND} is alb, whose tls_policy {balancer.tls_policy} allows TLS 1.2; remove"
                " tls_profile, or write tls_policy: ELBSecurityPolicy-TLS13-1-3-2021-06",
            )
        if proxy.authentication.mode is AuthenticationMode.CLIENT_CERTIFICATES:
            yield Fault(
                "proxy.authentication.mode",
                f"is client-certificates, but {_KIND} is alb, which terminates TLS and passes no client certificate on;"
                " choose another mode, or write kind: nlb",
            )
    longest = IDLE_TIMEOUT_MAX[kind]
    for key, wait in idle_timeouts(proxy).items():
        if wait > longest:
            yield Fault(
                f"proxy.{key}",
                f"{write_duration(wait)} exceeds the idle timeout limit of {_KIND} {kind}; write at most"
                f" {round(longest.total_seconds())}s, or remove load_balancer",
            )
