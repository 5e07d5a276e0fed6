"""Route 53: the zone, the records of the site's names, and their CAA records."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from open_webui_edge.components.aws.tags import tags
from open_webui_edge.components.protection import protected

# Seconds: long enough for caches to help, short enough to wait for.
TTL = 300


class DnsZoneArgs(TypedDict):
    """The zone."""

    zone: str
    """Its name: example.com."""
    create: bool
    """Create it; else it must exist in the account."""


class DnsZone(pulumi.ComponentResource):
    """A public zone.

    A zone that is created here is protected: without it the domain would have to be delegated again.
    """

    zone_id: pulumi.Output[str]
    zone_arn: pulumi.Output[str]
    name_servers: pulumi.Output[Sequence[str]]
    """Name servers to set at the domain's registrar."""

    def __init__(self, name: str, args: DnsZoneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the zone, or look it up."""
        super().__init__("open-webui-edge:index:DnsZone", name, {**args}, opts)
        if args["create"]:
            zone = aws.route53.Zone(
                f"{name}-zone",
                name=args["zone"],
                comment=f"open-webui-edge, stack {pulumi.get_stack()}",
                tags=tags("dns"),
                opts=protected(self),
            )
        else:
            zone = aws.route53.get_zone_output(
                name=args["zone"], private_zone=False, opts=pulumi.InvokeOutputOptions(parent=self)
            )
        self.zone_id, self.zone_arn, self.name_servers = zone.zone_id, zone.arn, zone.name_servers
        self.register_outputs({"zone_id": self.zone_id, "name_servers": self.name_servers})


class Alias(TypedDict):
    """The target of an alias record."""

    dns_name: pulumi.Input[str]
    zone_id: pulumi.Input[str]
    ipv6: bool
    """Whether it answers over IPv6."""


class DnsRecordsArgs(TypedDict):
    """Names, and their address or alias."""

    zone_id: pulumi.Input[str]
    names: Sequence[str]
    address: NotRequired[pulumi.Input[str]]
    """An IPv4 address."""
    alias: NotRequired[Alias]


class DnsRecords(pulumi.ComponentResource):
    """The records that point names to the site."""

    def __init__(self, name: str, args: DnsRecordsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the records of each name."""
        super().__init__("open-webui-edge:index:DnsRecords", name, {**args}, opts)
        kinds, ttl, records, aliases = ["A"], None, None, None
        if "alias" in args:
            alias = args["alias"]
            if alias["ipv6"]:
                kinds.append("AAAA")
            # There is no second target to answer with.
            aliases = [
                aws.route53.RecordAliasArgs(
                    name=alias["dns_name"], zone_id=alias["zone_id"], evaluate_target_health=False
                )
            ]
        elif "address" in args:
            ttl, records = TTL, [args["address"]]
        for domain in args["names"]:
            for kind in kinds:
                aws.route53.Record(
                    f"{name}-{domain}-{kind.lower()}",
                    zone_id=args["zone_id"],
                    name=domain,
                    type=kind,
                    ttl=ttl,
                    records=records,
                    aliases=aliases,
                    opts=pulumi.ResourceOptions(parent=self),
                )
        self.register_outputs({})


class CaaRecordsArgs(TypedDict):
    """Names, and the CAs that may issue certificates for them."""

    zone_id: pulumi.Input[str]
    names: Sequence[str]
    """This stack's names. A CAA record covers all names below its own too (RFC 8659 section 3)."""
    issuers: Sequence[str]
    """CAA domains of the CAs: letsencrypt.org."""
    certificate_names: Sequence[str]
    """All names of the certificates; without a wildcard among them, no CA may issue one."""
    report_to: NotRequired[str]
    """URL to which a CA reports a refusal: mailto:security@example.com."""


class CaaRecords(pulumi.ComponentResource):
    """CAA records: which CAs may issue certificates.

    Apart from the address records, since they must exist before a certificate is requested.
    """

    def __init__(self, name: str, args: CaaRecordsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the record of each name; for a wildcard a CA checks the parent name."""
        super().__init__("open-webui-edge:index:CaaRecords", name, {**args}, opts)
        for domain in args["names"]:
            if domain.startswith("*."):
                continue
            aws.route53.Record(
                f"{name}-{domain}",
                zone_id=args["zone_id"],
                name=domain,
                type="CAA",
                ttl=TTL,
                records=caa_values(domain, args["issuers"], args["certificate_names"], args.get("report_to")),
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})


def caa_values(
    domain: str, issuers: Sequence[str], certificate_names: Sequence[str], report_to: str | None = None
) -> list[str]:
    """Return the values of a name's CAA record (RFC 8659)."""
    wildcard = issuers if f"*.{domain}" in certificate_names else [";"]
    values = [("issue", issuer) for issuer in issuers] + [("issuewild", issuer) for issuer in wildcard]
    if report_to is not None:
        values.append(("iodef", report_to))
    return [f'0 {tag} "{value}"' for tag, value in values]
