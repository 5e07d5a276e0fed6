"""Rules between settings of different topics: which go together on a platform, and which to remove."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from open_webui_edge.settings.aws import LoadBalancerKind
from open_webui_edge.settings.backup import RepositoryKind
from open_webui_edge.settings.certificate import CertificateMode
from open_webui_edge.settings.dns import DnsProvider
from open_webui_edge.settings.models import OllamaMode
from open_webui_edge.settings.placement import IDLE_TIMEOUT_MAX, idle_timeouts
from open_webui_edge.settings.platform import PlatformKind
from open_webui_edge.settings.proxy import AuthenticationMode, TlsProfile
from open_webui_edge.settings.values import FieldError, is_ip_address, region_of_arn, write_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from open_webui_edge.settings.aws import AwsSettings
    from open_webui_edge.settings.site import SiteSettings
    from open_webui_edge.settings.topics import Topics

_KIND = "platform.aws.load_balancer.kind"


def faults_of_platform(settings: Topics) -> Iterator[FieldError]:
    """Return settings that the platform excludes; the message names both settings, and which to remove."""
    aws = settings.platform.aws
    if settings.platform.kind is PlatformKind.DOCKER or aws is None:
        yield from _docker(settings)
        return
    yield from _site(settings, aws)
    yield from _sign_in(settings)
    yield from _certificate(settings, aws)
    yield from _dns(settings)
    if settings.data.volume is not None:
        yield FieldError(
            "data.volume",
            f"is {settings.data.volume}, but platform.kind is aws-vm, whose new instance has no existing volumes;"
            " remove data.volume, or write platform.kind: docker",
        )
    yield from _backup(settings)
    if settings.models.ollama.mode is OllamaMode.CONTAINER and settings.models.ollama.container.gpu:
        yield FieldError(
            "models.ollama.container.gpu",
            "is true, but platform.kind is aws-vm, whose instance has no NVIDIA container toolkit; remove gpu, or run"
            " Ollama yourself and write models.ollama.mode: url",
        )
    if aws.load_balancer.is_used:
        yield from _proxy_behind(settings, aws)


def _docker(settings: Topics) -> Iterator[FieldError]:
    if settings.certificate.mode is CertificateMode.ACM:
        yield FieldError(
            "certificate.mode",
            "is acm, which needs an Application Load Balancer, but platform.kind is docker; choose another mode, or"
            f" write platform.kind: aws-vm with {_KIND}: alb",
        )
    if settings.dns.provider is DnsProvider.ROUTE53:
        yield FieldError(
            "dns.provider",
            "is route53, but platform.kind is docker, whose public address is unknown to the stack; remove dns and"
            " create the records yourself, or write platform.kind: aws-vm",
        )
    if settings.backup.repository.kind is RepositoryKind.AWS_BACKUP:
        yield FieldError(
            "backup.repository.kind",
            "is aws-backup, which takes snapshots of an AWS disk, but platform.kind is docker; remove kind, or write"
            " s3",
        )
    if settings.monitoring.alarms.enabled:
        yield FieldError(
            "monitoring.alarms.enabled",
            "is true, but platform.kind is docker, which has no CloudWatch alarms; remove alarms, or write"
            " platform.kind: aws-vm",
        )


def _backup(settings: Topics) -> Iterator[FieldError]:
    backup = settings.backup
    if backup.kind_on(aws=True) is not RepositoryKind.AWS_BACKUP:
        return
    for key, written in (("encrypted", not backup.encrypted), ("password", backup.password is not None)):
        if written:
            yield FieldError(
                f"backup.{key}",
                f"is set, but backup.repository.kind is aws-backup, which encrypts with a key of AWS; remove {key}, or"
                " write kind: s3 or volume",
            )


def _site(settings: Topics, aws: AwsSettings) -> Iterator[FieldError]:
    site, kind = settings.site, aws.load_balancer.kind
    written = site.listen.model_fields_set
    for name in ("address", "http_port", "https_port"):
        if name in written:
            yield FieldError(
                f"site.listen.{name}",
                "is set, but platform.kind is aws-vm, whose instance listens on all addresses, ports 80 and 443;"
                " remove"
                f" {name}",
            )
    if "ipv6" in written and site.listen.ipv6 and kind is LoadBalancerKind.NONE:
        yield FieldError(
            "site.listen.ipv6",
            f"is true, but {_KIND} is none, and an elastic IP is IPv4 only; remove ipv6, or write kind: alb or nlb",
        )
    for key, host in _names(site):
        if _is_local(host):
            yield FieldError(
                key,
                f"{host} is the browser's own machine, but platform.kind is aws-vm; write a name in your own domain,"
                " such as chat.example.com",
            )
        elif is_ip_address(host) and kind is not LoadBalancerKind.NONE:
            yield FieldError(
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
    if is_ip_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _sign_in(settings: Topics) -> Iterator[FieldError]:
    if settings.open_webui.admin is None:
        yield FieldError(
            "open_webui.admin",
            "is missing, but platform.kind is aws-vm, which everybody can reach: the first user to sign up would become"
            " the administrator; add email",
        )
    if settings.open_webui.environment.get("WEBUI_AUTH", "true").lower() != "true":
        yield FieldError(
            "open_webui.environment.WEBUI_AUTH",
            "disables sign-in, but platform.kind is aws-vm, and everybody who can reach it would be the administrator;"
            " remove it",
        )


def _certificate(settings: Topics, aws: AwsSettings) -> Iterator[FieldError]:
    certificate, kind = settings.certificate, aws.load_balancer.kind
    if certificate.mode is CertificateMode.ACM:
        yield from _acm(settings, aws)
    elif kind is LoadBalancerKind.ALB:
        yield FieldError(
            "certificate.mode",
            f"is {certificate.mode}, but {_KIND} is alb, which terminates TLS with an ACM certificate; write"
            " certificate.mode: acm, or kind: nlb, which passes TLS through",
        )
    elif certificate.uses_instance_role:
        yield from _instance_role_zone(settings)


def _instance_role_zone(settings: Topics) -> Iterator[FieldError]:
    dns = settings.dns
    if dns.provider is DnsProvider.NONE:
        yield FieldError(
            "certificate.lets_encrypt.route53.access_key_id",
            "is missing, and challenge is dns-01 with dns.provider none, so the instance's role has no permission in"
            " any zone; add access_key_id and secret_access_key, or write dns.provider: route53 and dns.zone",
        )
        return
    for name in settings.certificate.additional_names:
        if not dns.covers(name.removeprefix("*.")):
            yield FieldError(
                "certificate.additional_names",
                f"{name} is not in dns.zone {dns.zone}, the only zone that the instance's role may change; remove"
                " it, or add access_key_id and secret_access_key to certificate.lets_encrypt.route53",
            )


def _acm(settings: Topics, aws: AwsSettings) -> Iterator[FieldError]:
    acm, kind = settings.certificate.acm, aws.load_balancer.kind
    if kind is not LoadBalancerKind.ALB:
        why = "which passes TLS through to Nginx" if kind is LoadBalancerKind.NLB else "so that Nginx terminates TLS"
        yield FieldError(
            "certificate.mode",
            f"is acm, which needs an Application Load Balancer, but {_KIND} is {kind}, {why}; choose another mode, or"
            " write"
            " kind: alb",
        )
    if acm.arn is None:
        if settings.dns.provider is DnsProvider.NONE:
            yield FieldError(
                "certificate.acm.arn",
                "is missing, and dns.provider is none, so ACM cannot validate the names by DNS records; add the ARN of"
                " an"
                " issued certificate, or write dns.provider: route53",
            )
    elif region_of_arn(acm.arn) != aws.region:
        yield FieldError(
            "certificate.acm.arn",
            f"is in {region_of_arn(acm.arn)}, but platform.aws.region is {aws.region}, and a load balancer can use only"
            " certificates of its own region; write the ARN of one there, or remove arn",
        )


def _dns(settings: Topics) -> Iterator[FieldError]:
    dns, certificate = settings.dns, settings.certificate
    if dns.provider is DnsProvider.NONE:
        return
    for key, host in _names(settings.site):
        if not dns.covers(host) and not _is_local(host):
            yield FieldError(
                key,
                f"{host} is not in dns.zone {dns.zone}, so the stack cannot create its record; write a name that ends"
                " in"
                f" .{dns.zone}, or remove dns and create the records yourself",
            )
    if certificate.mode is CertificateMode.ACM and certificate.acm.arn is None:
        for name in certificate.additional_names:
            if not dns.covers(name.removeprefix("*.")):
                yield FieldError(
                    "certificate.additional_names",
                    f"{name} is not in dns.zone {dns.zone}, so ACM cannot validate it by a DNS record; remove it, or"
                    " write certificate.acm.arn",
                )


def _proxy_behind(settings: Topics, aws: AwsSettings) -> Iterator[FieldError]:
    proxy, balancer = settings.proxy, aws.load_balancer
    if proxy.http3:
        yield FieldError(
            "proxy.http3", f"is true, but {_KIND} is {balancer.kind}, which does not support HTTP/3; remove http3"
        )
    if proxy.proxy_protocol:
        alb = balancer.kind is LoadBalancerKind.ALB
        why = "which sends the client's address in a header" if alb else "which implies it"
        yield FieldError(
            "proxy.proxy_protocol", f"is true, but {_KIND} is {balancer.kind}, {why}; remove proxy_protocol"
        )
    if balancer.kind is LoadBalancerKind.ALB:
        if proxy.tls_profile is TlsProfile.MODERN and not balancer.requires_tls_1_3:
            yield FieldError(
                "proxy.tls_profile",
                f"is modern, but {_KIND} is alb, whose tls_policy {balancer.tls_policy} allows TLS 1.2; remove"
                " tls_profile, or write tls_policy: ELBSecurityPolicy-TLS13-1-3-2021-06",
            )
        if proxy.authentication.mode is AuthenticationMode.CLIENT_CERTIFICATES:
            yield FieldError(
                "proxy.authentication.mode",
                f"is client-certificates, but {_KIND} is alb, which terminates TLS and passes no client certificate on;"
                " choose another mode, or write kind: nlb",
            )
    longest = IDLE_TIMEOUT_MAX[balancer.kind]
    for key, wait in idle_timeouts(proxy).items():
        if wait > longest:
            yield FieldError(
                f"proxy.{key}",
                f"{write_duration(wait)} exceeds the idle timeout limit of {_KIND} {balancer.kind}; write at most"
                f" {round(longest.total_seconds())}s, or remove load_balancer",
            )
