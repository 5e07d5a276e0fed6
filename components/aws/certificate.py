"""A certificate of AWS Certificate Manager, which ACM renews as long as its validation records exist."""

from collections.abc import Sequence
from typing import TypedDict

import pulumi
import pulumi_aws as aws
from pulumi_aws.acm.outputs import CertificateDomainValidationOption

from open_webui_edge.components.aws.dns import TTL
from open_webui_edge.components.aws.tags import tags

# https://docs.aws.amazon.com/acm/latest/userguide/setup-caa.html: any one would do; Amazon chooses among them.
CAA_ISSUERS = ("amazon.com", "amazontrust.com", "awstrust.com", "amazonaws.com")

# AWS checks every few minutes. Default 75 minutes, which is long if the zone is not delegated.
_VALIDATION_TIMEOUT = "20m"


class AcmCertificateArgs(TypedDict):
    """The names of the certificate, and their zone."""

    names: Sequence[str]
    """The first is the subject: at most 64 characters. AWS's default quota is ten names per certificate."""
    zone_id: pulumi.Input[str]
    """The public zone of all names."""


class AcmCertificate(pulumi.ComponentResource):
    """A certificate in the provider's region, validated by records in DNS."""

    arn: pulumi.Output[str]
    """Known once the certificate is issued."""

    def __init__(self, name: str, args: AcmCertificateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Request the certificate, create its validation records, and wait until it is issued."""
        super().__init__("open-webui-edge:index:AcmCertificate", name, {**args}, opts)
        child = pulumi.ResourceOptions(parent=self)
        first, *others = args["names"]
        certificate = aws.acm.Certificate(
            f"{name}-certificate",
            domain_name=first,
            subject_alternative_names=others,
            validation_method="DNS",
            tags=tags("certificate"),
            opts=pulumi.ResourceOptions(parent=self, depends_on=None if opts is None else opts.depends_on),
        )
        records: list[aws.route53.Record] = []
        for domain in proven_names(args["names"]):
            proof = certificate.domain_validation_options.apply(lambda options, of=domain: proof_of(of, options))
            records.append(
                aws.route53.Record(
                    f"{name}-{domain}-validation",
                    zone_id=args["zone_id"],
                    name=proof.resource_record_name,
                    type=proof.resource_record_type,
                    ttl=TTL,
                    records=[proof.resource_record_value],
                    # A name's record is the same for all certificates of an account, so it may exist already with the
                    # same value.
                    allow_overwrite=True,
                    opts=child,
                )
            )
        validation = aws.acm.CertificateValidation(
            f"{name}-validation",
            certificate_arn=certificate.arn,
            validation_record_fqdns=[record.fqdn for record in records],
            opts=pulumi.ResourceOptions(parent=self, custom_timeouts=pulumi.CustomTimeouts(create=_VALIDATION_TIMEOUT)),
        )
        self.arn = validation.certificate_arn
        self.register_outputs({"arn": self.arn})


def proven_names(names: Sequence[str]) -> list[str]:
    """Return the names that need a validation record: a wildcard shares that of its parent name."""
    return list(dict.fromkeys(name.removeprefix("*.") for name in names))


def proof_of(name: str, options: Sequence[CertificateDomainValidationOption]) -> CertificateDomainValidationOption:
    """Return the validation record of a name."""
    return next(option for option in options if (option.domain_name or "").removeprefix("*.") == name)
