"""Names in Route 53: the zone, where they lead to, and who may issue certificates for them."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict, Unpack

import pulumi
import pulumi_aws as aws

from components.aws.tags import tags
from components.keeping import kept

# Seconds. Long enough to be of use, short enough to wait for.
TTL = 300


class DnsZoneArgs(TypedDict):
    """Which zone."""

    zone: str
    """Its name: example.com."""
    create: bool
    """Make it; else it is looked up among those of the account."""


class DnsZone(pulumi.ComponentResource):
    """A public zone.

    One that is made here is kept: whoever delegated a domain to its name servers would have to do so again.
    """

    zone_id: pulumi.Output[str]
    zone_arn: pulumi.Output[str]
    name_servers: pulumi.Output[Sequence[str]]
    """Where the domain's registrar must point to."""

    def __init__(self, name: str, args: DnsZoneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make it or find it."""
        super().__init__("open-webui-edge:index:DnsZone", name, {**args}, opts)
        if args["create"]:
            made = aws.route53.Zone(
                f"{name}-zone",
                name=args["zone"],
                comment=f"open-webui-edge, stack {pulumi.get_stack()}",
                tags=tags("dns"),
                opts=kept(self),
            )
            self.zone_id, self.zone_arn, self.name_servers = made.zone_id, made.arn, made.name_servers
        else:
            found = aws.route53.get_zone_output(
                name=args["zone"], private_zone=False, opts=pulumi.InvokeOutputOptions(parent=self)
            )
            self.zone_id, self.zone_arn, self.name_servers = found.zone_id, found.arn, found.name_servers
        self.register_outputs({"zone_id": self.zone_id, "name_servers": self.name_servers})


class Alias(TypedDict):
    """What has a name of its own in AWS."""

    dns_name: pulumi.Input[str]
    zone_id: pulumi.Input[str]
    ipv6: bool
    """Whether it answers over IPv6."""


class _Content(TypedDict, total=False):
    ttl: int
    records: Sequence[pulumi.Input[str]]
    aliases: Sequence[aws.route53.RecordAliasArgs]


class DnsRecordsArgs(TypedDict):
    """Names, and one of the two that they may lead to."""

    zone_id: pulumi.Input[str]
    names: Sequence[str]
    address: NotRequired[pulumi.Input[str]]
    """An IPv4 address."""
    alias: NotRequired[Alias]


class DnsRecords(pulumi.ComponentResource):
    """Leads names to the site."""

    def __init__(self, name: str, args: DnsRecordsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the records of each name."""
        super().__init__("open-webui-edge:index:DnsRecords", name, {**args}, opts)
        for domain in args["names"]:
            if "address" in args:
                self._record(name, args["zone_id"], domain, "A", ttl=TTL, records=[args["address"]])
            if "alias" in args:
                alias = args["alias"]
                target = aws.route53.RecordAliasArgs(
                    name=alias["dns_name"],
                    zone_id=alias["zone_id"],
                    # There is nothing else that could be answered.
                    evaluate_target_health=False,
                )
                for kind in ("A", "AAAA") if alias["ipv6"] else ("A",):
                    self._record(name, args["zone_id"], domain, kind, aliases=[target])
        self.register_outputs({})

    def _record(
        self, name: str, zone_id: pulumi.Input[str], domain: str, kind: str, **content: Unpack[_Content]
    ) -> None:
        aws.route53.Record(
            f"{name}-{domain}-{kind.lower()}",
            zone_id=zone_id,
            name=domain,
            type=kind,
            opts=pulumi.ResourceOptions(parent=self),
            **content,
        )


class CaaRecordsArgs(TypedDict):
    """Whose names, and who may issue for them."""

    zone_id: pulumi.Input[str]
    names: Sequence[str]
    """Names that are this stack's own. A record at one holds for all below it too (RFC 8659 section 3)."""
    issuers: Sequence[str]
    """Domains by which authorities are known: letsencrypt.org."""
    certificate_names: Sequence[str]
    """All names of the certificates; without a wildcard among them, nobody may issue one."""
    report_to: NotRequired[str]
    """URL that an authority reports a refusal to: mailto:security@example.com."""


class CaaRecords(pulumi.ComponentResource):
    """Tells authorities which of them may issue certificates.

    Apart from the records that lead to the site, since it must be there before a certificate is asked for.
    """

    def __init__(self, name: str, args: CaaRecordsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the record of each name; an authority looks above a wildcard for it."""
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
    """Return what the CAA record of a name says, as RFC 8659 writes it."""
    wildcard = issuers if f"*.{domain}" in certificate_names else [";"]
    values = [f'0 issue "{issuer}"' for issuer in issuers]
    values += [f'0 issuewild "{issuer}"' for issuer in wildcard]
    return values if report_to is None else [*values, f'0 iodef "{report_to}"']
