"""What a setting of one topic asks of another one's: which go together on a platform, and which to drop."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from stacks.aws import LoadBalancerKind
from stacks.backup import RepositoryKind
from stacks.certificate import CertificateMode
from stacks.dns import DnsProvider
from stacks.models import OllamaMode
from stacks.placement import IDLE_TIMEOUT_MAX, waits_through_a_load_balancer
from stacks.platform import PlatformKind
from stacks.proxy import AuthenticationMode, TlsProfile
from stacks.values import BelowError, is_ip_address, region_of_arn, write_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stacks.aws import AwsSettings
    from stacks.settings import StackSettings
    from stacks.site import SiteSettings

_KIND = "platform.aws.load_balancer.kind"


def faults_of_platform(settings: StackSettings) -> Iterator[BelowError]:
    """Return what the platform rules out; the message names both settings, and which to drop."""
    aws = settings.platform.aws
    if settings.platform.kind is PlatformKind.DOCKER or aws is None:
        yield from _docker(settings)
        return
    yield from _site(settings, aws)
    yield from _strangers(settings)
    yield from _certificate(settings, aws)
    yield from _dns(settings)
    if settings.data.volume is not None:
        yield BelowError(
            "data.volume",
            f"is {settings.data.volume}, but platform.kind is aws-vm, whose instance has only the volumes that are made"
            " for it; drop data.volume, or write platform.kind: docker",
        )
    yield from _backup(settings)
    if settings.models.ollama.mode is OllamaMode.CONTAINER and settings.models.ollama.container.gpu:
        yield BelowError(
            "models.ollama.container.gpu",
            "is true, but platform.kind is aws-vm, whose instance gets no NVIDIA container toolkit; drop gpu, or run"
            " Ollama yourself and write models.ollama.mode: url",
        )
    if aws.load_balancer.used:
        yield from _proxy_behind(settings, aws)


def _docker(settings: StackSettings) -> Iterator[BelowError]:
    if settings.certificate.mode is CertificateMode.ACM:
        yield BelowError(
            "certificate.mode",
            "is acm, whose certificates never leave AWS, but platform.kind is docker; choose another mode, or write"
            f" platform.kind: aws-vm with {_KIND}: alb",
        )
    if settings.dns.provider is DnsProvider.ROUTE53:
        yield BelowError(
            "dns.provider",
            "is route53, but platform.kind is docker, whose address only you know; drop dns and make the records"
            " yourself, or write platform.kind: aws-vm",
        )
    if settings.backup.repository.kind is RepositoryKind.AWS_BACKUP:
        yield BelowError(
            "backup.repository.kind",
            "is aws-backup, which copies a volume of AWS, but platform.kind is docker; drop kind, or write s3",
        )
    if settings.monitoring.alarms.enabled:
        yield BelowError(
            "monitoring.alarms.enabled",
            "is true, but platform.kind is docker, for which alarms come with day two; drop alarms, or write"
            " platform.kind: aws-vm",
        )


def _backup(settings: StackSettings) -> Iterator[BelowError]:
    backup = settings.backup
    if backup.kind_on(aws=True) is not RepositoryKind.AWS_BACKUP:
        return
    for key, written in (("encrypted", not backup.encrypted), ("password", backup.password is not None)):
        if written:
            yield BelowError(
                f"backup.{key}",
                f"is set, but backup.repository.kind is aws-backup, which encrypts with a key of AWS; drop {key}, or"
                " write kind: s3 or volume",
            )


def _site(settings: StackSettings, aws: AwsSettings) -> Iterator[BelowError]:
    site, kind = settings.site, aws.load_balancer.kind
    written = site.listen.model_fields_set
    for name in ("address", "http_port", "https_port"):
        if name in written:
            yield BelowError(
                f"site.listen.{name}",
                f"is set, but platform.kind is aws-vm, whose instance listens on all addresses, ports 80 and 443; drop"
                f" {name}",
            )
    if "ipv6" in written and site.listen.ipv6 and kind is LoadBalancerKind.NONE:
        yield BelowError(
            "site.listen.ipv6",
            f"is true, but {_KIND} is none, and an elastic IP is an IPv4 address; drop ipv6, or write kind: alb or nlb",
        )
    for key, host in _names(site):
        if _is_local(host):
            yield BelowError(
                key,
                f"{host} is whatever machine a browser runs on, but platform.kind is aws-vm; write a name of a domain"
                " of yours, such as chat.example.com",
            )
        elif is_ip_address(host) and kind is not LoadBalancerKind.NONE:
            yield BelowError(
                key,
                f"{host} is one address, but {_KIND} is {kind}, whose addresses change; write a name, or drop"
                " load_balancer",
            )


def _names(site: SiteSettings) -> Iterator[tuple[str, str]]:
    """Return the site's names, and where each is written."""
    yield "site.domain", site.domain
    # The default is the fault of the domain that it follows.
    if "aliases" in site.model_fields_set:
        yield from (("site.aliases", alias) for alias in site.aliases)


def _is_local(host: str) -> bool:
    if is_ip_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _strangers(settings: StackSettings) -> Iterator[BelowError]:
    if settings.open_webui.admin is None:
        yield BelowError(
            "open_webui.admin",
            "is missing, and platform.kind is aws-vm, which everybody can reach: whoever signs up first would become"
            " the administrator; add email",
        )
    if settings.open_webui.environment.get("WEBUI_AUTH", "true").lower() != "true":
        yield BelowError(
            "open_webui.environment.WEBUI_AUTH",
            "switches sign-in off, but platform.kind is aws-vm, and everybody who can reach it would be the"
            " administrator; drop it",
        )


def _certificate(settings: StackSettings, aws: AwsSettings) -> Iterator[BelowError]:
    certificate, kind = settings.certificate, aws.load_balancer.kind
    if certificate.mode is CertificateMode.ACM:
        yield from _acm(settings, aws)
    elif kind is LoadBalancerKind.ALB:
        yield BelowError(
            "certificate.mode",
            f"is {certificate.mode}, but {_KIND} is alb, which answers browsers itself, with a certificate of ACM;"
            " write certificate.mode: acm, or kind: nlb, which passes TLS through",
        )
    elif certificate.by_the_role:
        yield from _by_the_role(settings)


def _by_the_role(settings: StackSettings) -> Iterator[BelowError]:
    dns = settings.dns
    if dns.provider is DnsProvider.NONE:
        yield BelowError(
            "certificate.lets_encrypt.route53.access_key_id",
            "is missing, and challenge is dns-01 with dns.provider none, so the instance's role gets no right in a"
            " zone; add access_key_id and secret_access_key, or write dns.provider: route53 and dns.zone",
        )
        return
    for name in settings.certificate.additional_names:
        if not dns.covers(name.removeprefix("*.")):
            yield BelowError(
                "certificate.additional_names",
                f"{name} does not lie in dns.zone {dns.zone}, the only one that the instance's role may change; drop"
                " it, or add access_key_id and secret_access_key to certificate.lets_encrypt.route53",
            )


def _acm(settings: StackSettings, aws: AwsSettings) -> Iterator[BelowError]:
    acm, kind = settings.certificate.acm, aws.load_balancer.kind
    if kind is not LoadBalancerKind.ALB:
        why = "which passes TLS through to Nginx" if kind is LoadBalancerKind.NLB else "so that Nginx answers browsers"
        yield BelowError(
            "certificate.mode",
            f"is acm, whose certificates never leave AWS, but {_KIND} is {kind}, {why}; choose another mode, or write"
            " kind: alb",
        )
    if acm.arn is None:
        if settings.dns.provider is DnsProvider.NONE:
            yield BelowError(
                "certificate.acm.arn",
                "is missing, and dns.provider is none, so no record can show ACM whose the names are; add the ARN of an"
                " issued certificate, or write dns.provider: route53",
            )
    elif region_of_arn(acm.arn) != aws.region:
        yield BelowError(
            "certificate.acm.arn",
            f"is in {region_of_arn(acm.arn)}, but platform.aws.region is {aws.region}, and a load balancer uses what is"
            " in its own; write the ARN of a certificate there, or drop arn",
        )


def _dns(settings: StackSettings) -> Iterator[BelowError]:
    dns, certificate = settings.dns, settings.certificate
    if dns.provider is DnsProvider.NONE:
        return
    for key, host in _names(settings.site):
        if not dns.covers(host) and not _is_local(host):
            yield BelowError(
                key,
                f"{host} does not lie in dns.zone {dns.zone}, so no record of it can be made; write a name that ends in"
                f" .{dns.zone}, or drop dns and make the records yourself",
            )
    if certificate.mode is CertificateMode.ACM and certificate.acm.arn is None:
        for name in certificate.additional_names:
            if not dns.covers(name.removeprefix("*.")):
                yield BelowError(
                    "certificate.additional_names",
                    f"{name} does not lie in dns.zone {dns.zone}, so no record can show ACM whose it is; drop it, or"
                    " write certificate.acm.arn",
                )


def _proxy_behind(settings: StackSettings, aws: AwsSettings) -> Iterator[BelowError]:
    proxy, balancer = settings.proxy, aws.load_balancer
    if proxy.http3:
        yield BelowError(
            "proxy.http3", f"is true, but {_KIND} is {balancer.kind}, which passes no HTTP/3 on; drop http3"
        )
    if proxy.proxy_protocol:
        alb = balancer.kind is LoadBalancerKind.ALB
        why = "which says the client's address in a header" if alb else "from which it follows"
        yield BelowError("proxy.proxy_protocol", f"is true, but {_KIND} is {balancer.kind}, {why}; drop proxy_protocol")
    if balancer.kind is LoadBalancerKind.ALB:
        if proxy.tls_profile is TlsProfile.MODERN and not balancer.tls_1_3_alone:
            yield BelowError(
                "proxy.tls_profile",
                f"is modern, but {_KIND} is alb, and browsers meet its tls_policy {balancer.tls_policy} with TLS 1.2;"
                " drop tls_profile, or write tls_policy: ELBSecurityPolicy-TLS13-1-3-2021-06",
            )
        if proxy.authentication.mode is AuthenticationMode.CLIENT_CERTIFICATES:
            yield BelowError(
                "proxy.authentication.mode",
                f"is client-certificates, but {_KIND} is alb, which answers browsers itself and passes no certificate"
                " of theirs on; choose another mode, or write kind: nlb",
            )
    longest = IDLE_TIMEOUT_MAX[balancer.kind]
    for key, wait in waits_through_a_load_balancer(proxy).items():
        if wait > longest:
            yield BelowError(
                f"proxy.{key}",
                f"{write_duration(wait)} is longer than {_KIND} {balancer.kind} keeps a silent connection; write at"
                f" most {round(longest.total_seconds())}s, or drop load_balancer",
            )
