"""Certificate issuer: the stack's own CA, an ACME issuer, a provided certificate, or ACM."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self, assert_never
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema, model_validator

from open_webui_edge.settings.values import (
    CertificateName,
    CertificatesPem,
    Duration,
    EmailAddress,
    FieldError,
    HttpsUrl,
    HttpUrl,
    LeakedSecretError,
    Region,
    Settings,
    between_durations,
    is_ip_address,
    regional_arn,
)

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
_LETS_ENCRYPT_DOMAIN = "letsencrypt.org"
# Their directories answer an account without one with externalAccountRequired (RFC 8555 section 7.3.4).
_WITH_EXTERNAL_ACCOUNT = {
    "acme.zerossl.com": "ZeroSSL",
    "dv.acme-v02.api.pki.goog": "Google Trust Services",
    "acme.ssl.com": "SSL.com",
}
# Let's Encrypt's profiles and how many names a certificate may have there: https://letsencrypt.org/docs/profiles/
_NAMES_MAX = 100
_NAMES_MAX_OF_PROFILE = {"tlsserver": 25, "shortlived": 25}
# Reserved or set apart for private use (RFC 6761, RFC 6762, RFC 8375, ICANN's .internal), or in wide use there: no
# public issuer can prove whose such a name is.
_PRIVATE_DOMAINS = (
    "localhost", "local", "internal", "test", "example", "invalid", "onion", "alt", "arpa", "lan", "home", "corp",
    "intranet", "localdomain", "private",
)  # fmt: skip

# What a quota can be raised to: https://docs.aws.amazon.com/acm/latest/userguide/acm-limits.html, read in 2025
_NAMES_MAX_OF_ACM = 100

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}")
_KEY_ID = re.compile(r"[!-~]{1,256}")
_PROFILE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ACCESS_KEY_ID = re.compile(r"\w{3,128}", re.ASCII)
# RFC 2104 section 3 advises against keys that are shorter than the hash; issuers give 32 bytes and more.
_HMAC_KEY_MIN = 16


class CertificateMode(StrEnum):
    """Where the certificate comes from."""

    SELF_SIGNED = "self-signed"
    LETS_ENCRYPT = "lets-encrypt"
    PROVIDED = "provided"
    ACM = "acm"


class Challenge(StrEnum):
    """How the issuer verifies control of a name (RFC 8555 section 8)."""

    HTTP_01 = "http-01"
    DNS_01 = "dns-01"


def _key_id(value: str) -> str:
    if not _KEY_ID.fullmatch(value):
        raise ValueError("is not a key ID; copy it from the issuer: printable ASCII without spaces")
    return value


def _hmac_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not _BASE64URL.fullmatch(text) or len(text.rstrip("=")) % 4 == 1:
        raise LeakedSecretError(
            "is not base64url; copy it from the issuer: letters, digits, - and _ (replace + by - and / by _)",
        )
    if len(text.rstrip("=")) * 3 // 4 < _HMAC_KEY_MIN:
        raise LeakedSecretError(
            f"is shorter than {_HMAC_KEY_MIN} bytes, which no issuer uses; copy it completely",
        )
    return value


def _profile(value: str) -> str:
    if not _PROFILE.fullmatch(value):
        raise ValueError("is not a profile name; write one that the issuer's directory lists, such as classic")
    return value


def _access_key_id(value: str) -> str:
    if not _ACCESS_KEY_ID.fullmatch(value):
        raise ValueError("is not an access key ID; write one such as AKIAIOSFODNN7EXAMPLE")
    return value


def _secret_access_key(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[A-Za-z0-9/+=]{3,128}", value.get_secret_value()):
        raise LeakedSecretError("is not a secret access key; copy it from AWS, without spaces or quotes")
    return value


def _acm_arn(value: str) -> str:
    if not regional_arn("acm", "certificate/[0-9A-Za-z-]{1,64}").fullmatch(value):
        raise ValueError(
            "is not the ARN of an ACM certificate; write one such as"
            " arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef",
        )
    return value


def _file(value: str) -> str:
    if not value or not value.isprintable() or value != value.strip():
        raise ValueError("is not a file path; write one such as tls/chain.pem, relative to the project's folder")
    return value


def _provided_certificate(value: str) -> str:
    if "PRIVATE KEY" in value:
        raise LeakedSecretError(
            "contains a private key; move it to private_key, encrypted, and replace it by a new one if others could"
            " read it",
        )
    return value


AcmArn = Annotated[str, AfterValidator(_acm_arn), WithJsonSchema({"type": "string", "pattern": "^arn:aws"})]


class ExternalAccountSettings(Settings):
    """External account binding: an existing account at the issuer (RFC 8555 section 7.3.4)."""

    key_id: Annotated[str, AfterValidator(_key_id)]
    """Key ID of the external account, as the issuer gave it."""

    hmac_key: Annotated[SecretStr, AfterValidator(_hmac_key)]
    """HMAC key of the external account (base64url), encrypted: `pulumi config set --path --secret` and the path of
    this key."""


class IssuerSettings(Settings):
    """An ACME issuer."""

    email: EmailAddress | None = None
    """E-mail address for notices of the issuer about the account and its certificates. Some issuers require one.
    Default: none."""

    directory: HttpsUrl
    """URL of the issuer's ACME directory."""

    directory_ca: CertificatesPem | None = None
    """CA certificates (PEM) to trust for the directory's own HTTPS, such as those of a company's CA or step-ca.
    Default: the public CAs."""

    external_account: ExternalAccountSettings | None = None
    """External account binding. ZeroSSL, Google Trust Services and SSL.com require it. Default: none."""

    profile: Annotated[str, AfterValidator(_profile)] | None = None
    """ACME profile of the certificate, one that the issuer's directory lists: at Let's Encrypt classic, tlsserver
    (without fields that browsers do not need) or shortlived (about six days). Default: the issuer's choice."""

    @property
    def is_lets_encrypt(self) -> bool:
        """Whether the issuer is Let's Encrypt itself."""
        host = urlsplit(self.directory).hostname or ""
        return host == _LETS_ENCRYPT_DOMAIN or host.endswith(f".{_LETS_ENCRYPT_DOMAIN}")

    @model_validator(mode="after")
    def _lets_encrypt_by_its_own_address(self) -> Self:
        if self.directory == LETS_ENCRYPT_STAGING:
            raise FieldError(
                "directory",
                "is Let's Encrypt's staging directory, whose certificates no browser trusts; for tests remove directory"
                " and"
                " write certificate.lets_encrypt.staging: true",
            )
        if self.is_lets_encrypt and self.directory != LETS_ENCRYPT:
            raise FieldError(
                "directory", f'"{self.directory}" is not a directory of Let\'s Encrypt; write {LETS_ENCRYPT}'
            )
        return self

    @model_validator(mode="after")
    def _external_account_where_there_is_one(self) -> Self:
        issuer = _WITH_EXTERNAL_ACCOUNT.get(urlsplit(self.directory).hostname or "")
        if issuer is not None and self.external_account is None:
            raise FieldError(
                "external_account",
                f"is missing, and {issuer} requires one; add key_id and hmac_key from your account on its web site",
            )
        if self.is_lets_encrypt and self.external_account is not None:
            raise FieldError(
                "external_account",
                "is set, but Let's Encrypt does not support it; remove it, or write the directory of the issuer that it"
                " is from",
            )
        return self

    def unissuable(self, names: Sequence[str]) -> list[str]:
        """Return the names for which this issuer issues no certificate."""
        return [name for name in names if self.is_lets_encrypt and _is_private(name)]

    @property
    def max_names(self) -> int:
        """How many names one certificate may have."""
        return _NAMES_MAX_OF_PROFILE.get(self.profile or "", _NAMES_MAX) if self.is_lets_encrypt else _NAMES_MAX


class FallbackIssuerSettings(IssuerSettings):
    """The issuer to use when the first one fails."""

    directory: HttpsUrl
    """URL of the second issuer's ACME directory. Setting it accepts its terms of service."""


class Route53Settings(Settings):
    """Access to Route 53, for challenges of kind dns-01."""

    access_key_id: Annotated[str, AfterValidator(_access_key_id)] | None = None
    """ID of an access key that allows route53:ListHostedZones, route53:GetChange and, in the zone,
    route53:ChangeResourceRecordSets. Default: the IAM role of the machine that runs the engine. With platform.kind
    aws-vm the instance's role gets these rights in dns.zone, for challenge records only."""

    secret_access_key: Annotated[SecretStr, AfterValidator(_secret_access_key)] | None = None
    """Secret access key, encrypted: `pulumi config set --path --secret
    certificate.lets_encrypt.route53.secret_access_key`. Default: none, as for access_key_id."""

    region: Region = "us-east-1"
    """AWS region of the API endpoint. Zones are the same in all regions of a partition; us-gov-west-1 and
    cn-northwest-1 belong to other partitions."""

    endpoint: HttpUrl | None = None
    """URL of another endpoint of the Route 53 API, such as a private one. Default: the public endpoint."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        for given, other in (("access_key_id", "secret_access_key"), ("secret_access_key", "access_key_id")):
            if getattr(self, given) is not None and getattr(self, other) is None:
                raise FieldError(
                    other, f"is missing, and {given} is set; add it, or remove both to use the machine's role"
                )
        return self


class LetsEncryptSettings(IssuerSettings):
    """Certificates of Let's Encrypt, or of another ACME issuer."""

    directory: HttpsUrl = LETS_ENCRYPT
    """URL of the issuer's ACME directory: Let's Encrypt's, or another one such as https://acme.zerossl.com/v2/DV90."""

    staging: bool = False
    """Use Let's Encrypt's staging directory: browsers do not trust its certificates, and its rate limits are high."""

    staging_directory: HttpsUrl | None = None
    """ACME directory of another issuer for dry runs. It is used first after a failure, and by `make
    certificate-dry-run`. Default: Let's Encrypt's own for
    Let's Encrypt, else none (no dry runs)."""

    challenge: Challenge = Challenge.HTTP_01
    """Challenge type. http-01: the issuer requests each name on port 80, which must reach site.listen.http_port;
    dns-01: a TXT record in the zone proves control, also of wildcard names and of sites that the internet cannot
    reach."""

    route53: Route53Settings | None = None
    """Access to Route 53, for challenge dns-01."""

    fallback: FallbackIssuerSettings | None = None
    """Another issuer, used when the first one fails. Default: none."""

    wait: Annotated[Duration, between_durations("30s", "1h")] = timedelta(minutes=5)
    """Time that an update waits for the first certificate. After that the update reports the obstacle and fails; the
    deployment runs on with a placeholder certificate and keeps trying."""

    @property
    def directory_in_use(self) -> str:
        """The directory that certificates come from."""
        return LETS_ENCRYPT_STAGING if self.staging else self.directory

    @property
    def directory_for_dry_runs(self) -> str:
        """The directory at which an attempt costs nothing, where the issuer has one."""
        if self.is_lets_encrypt:
            return LETS_ENCRYPT_STAGING
        return self.directory if self.staging_directory is None else self.staging_directory

    @property
    def issuers(self) -> tuple[IssuerSettings, ...]:
        """All that may be asked, the first one first."""
        return (self,) if self.fallback is None else (self, self.fallback)

    @model_validator(mode="after")
    def _staging_of_the_same_issuer(self) -> Self:
        if self.staging and not self.is_lets_encrypt:
            raise FieldError(
                "staging",
                "is true, but directory is not Let's Encrypt's; remove staging, or write that issuer's staging"
                " directory in directory",
            )
        if self.staging_directory is not None and self.is_lets_encrypt:
            raise FieldError(
                "staging_directory",
                "is set, but directory is Let's Encrypt's, whose staging directory is known; remove staging_directory",
            )
        if self.staging_directory is not None and self.staging_directory == self.directory:
            raise FieldError(
                "staging_directory", "is the same as directory, where attempts count against rate limits; remove it"
            )
        return self

    @model_validator(mode="after")
    def _another_issuer(self) -> Self:
        if self.fallback is not None and self.fallback.directory == self.directory:
            raise FieldError(
                "fallback.directory",
                "is the directory of the first issuer, too; write another issuer's, or remove fallback",
            )
        return self

    @model_validator(mode="after")
    def _route53_for_dns(self) -> Self:
        if self.route53 is not None and self.challenge is not Challenge.DNS_01:
            raise FieldError(
                "route53", f"is set, but challenge is {self.challenge}; remove route53 or write challenge: dns-01"
            )
        return self


class ProvidedSettings(Settings):
    """A certificate that you provide. It is validated before the update changes anything."""

    certificate: Annotated[str, AfterValidator(_provided_certificate)] | None = None
    """Certificate of the site (PEM), followed by its intermediate certificates in order; the root is not needed. Set
    this or certificate_file. Default: none."""

    certificate_file: Annotated[str, AfterValidator(_file)] | None = None
    """Path of a file with the certificate and its intermediates, relative to the project's folder. Default: none."""

    private_key: SecretStr | None = None
    """Private key of the certificate (PEM), encrypted: `pulumi config set --path --secret
    certificate.provided.private_key < key.pem`. Set this or private_key_file. Default: none."""

    private_key_file: Annotated[str, AfterValidator(_file)] | None = None
    """Path of a file with the private key, relative to the project's folder; only its owner may read it (chmod 600).
    Default: none."""

    passphrase: SecretStr | None = None
    """Passphrase of the private key, encrypted: `pulumi config set --path --secret certificate.provided.passphrase`.
    The proxy gets the decrypted key. Default: none."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for name in ("certificate", "private_key"):
            here, file = getattr(self, name) is not None, getattr(self, f"{name}_file") is not None
            if here and file:
                raise ValueError(f"{name} and {name}_file are both set; remove one of them")
            if not here and not file:
                raise FieldError(name, f"is missing; add it, or {name}_file with the path of its file")
        return self


class AcmSettings(Settings):
    """A certificate of AWS Certificate Manager (ACM), which an Application Load Balancer serves and AWS renews."""

    arn: AcmArn | None = None
    """ARN of an issued certificate in platform.aws.region that covers the site's names. Default: request one, validated
    by records in dns.zone."""


class SelfSignedSettings(Settings):
    """The certificate authority (CA) of this stack."""

    generation: Annotated[int, Field(ge=1, le=100)] = 1
    """Number of the CA that signs. Raise it by one to rotate the CA, for example when its key may have leaked: the next
    number is a new CA with a new key. `make trust-ca` makes browsers trust it and removes the old one. It never
    decreases, whatever the mode, because CAs are protected."""


class CertificateSettings(Settings):
    """Certificate issuer."""

    mode: CertificateMode = CertificateMode.SELF_SIGNED
    """Selects the issuer. self-signed: a certificate authority (CA) of this stack, which browsers trust after `make
    trust-ca`; lets-encrypt: Let's Encrypt or another ACME issuer, whose terms of service you accept by choosing it;
    provided: a certificate that you provide; acm: AWS Certificate Manager, with platform.aws.load_balancer.kind alb."""

    warn_before: Annotated[Duration, between_durations("1h", "90d")] = timedelta(days=14)
    """Time before expiry from which the certificate causes warnings: in the log, in the proxy's health check, in `make
    certificate` and in the metrics."""

    additional_names: tuple[CertificateName, ...] = ()
    """Names that the certificate covers in addition to the site's, for other uses of it; the proxy does not serve them.
    `*.example.com` covers every name one label longer; an ACME issuer requires challenge dns-01 for it. Default:
    none."""

    self_signed: SelfSignedSettings = SelfSignedSettings()
    """The certificate authority (CA), with mode self-signed."""

    lets_encrypt: LetsEncryptSettings = LetsEncryptSettings()
    """Issuer and challenge, with mode lets-encrypt."""

    provided: ProvidedSettings | None = None
    """The certificate and its key, with mode provided."""

    acm: AcmSettings = AcmSettings()
    """The ACM certificate, with mode acm."""

    @property
    def uses_instance_role(self) -> bool:
        """Whether the role of a machine, and no key, opens the zone in which an issuer is shown whose the names are."""
        acme = self.lets_encrypt
        keys = acme.route53 is not None and acme.route53.access_key_id is not None
        return self.mode is CertificateMode.LETS_ENCRYPT and acme.challenge is Challenge.DNS_01 and not keys

    @property
    def is_trusted(self) -> bool:
        """Whether browsers trust it by themselves."""
        match self.mode:
            case CertificateMode.SELF_SIGNED:
                return False
            case CertificateMode.LETS_ENCRYPT:
                return not self.lets_encrypt.staging
            case CertificateMode.PROVIDED | CertificateMode.ACM:
                return True
            case _:
                assert_never(self.mode)

    @model_validator(mode="after")
    def _one_mode(self) -> Self:
        if "lets_encrypt" in self.model_fields_set and self.mode is not CertificateMode.LETS_ENCRYPT:
            raise FieldError(
                "lets_encrypt", f"is set, but mode is {self.mode}; remove lets_encrypt or write mode: lets-encrypt"
            )
        if "acm" in self.model_fields_set and self.mode is not CertificateMode.ACM:
            raise FieldError("acm", f"is set, but mode is {self.mode}; remove acm or write mode: acm")
        if self.acm.arn is not None and self.additional_names:
            raise FieldError(
                "additional_names",
                "is set, but acm.arn selects an issued certificate, whose names are fixed; remove"
                " additional_names or acm.arn",
            )
        if self.provided is not None and self.mode is not CertificateMode.PROVIDED:
            raise FieldError("provided", f"is set, but mode is {self.mode}; remove provided or write mode: provided")
        if self.provided is None and self.mode is CertificateMode.PROVIDED:
            raise FieldError(
                "provided", "is missing, but mode is provided; add certificate_file and private_key_file, or another"
                " mode"
            )  # fmt: skip
        return self

    def check_names(self, hosts: Sequence[str]) -> None:
        """Refuse what no certificate of this mode can say about the site's `hosts`.

        Raises:
            BelowError: at the key, relative to the stack file.

        """
        names = [*hosts, *self.additional_names]
        for name in self.additional_names:
            if names.count(name) > 1:
                where = "as a name of the site already" if name in hosts else "twice"
                raise FieldError("certificate.additional_names", f"{name} is listed {where}; write it once")
        places = dict.fromkeys(names, "certificate.additional_names")
        places |= dict.fromkeys(hosts, "site.aliases") | {hosts[0]: "site.domain"}
        if self.mode is CertificateMode.LETS_ENCRYPT:
            self._check_acme_names(names, places)
        if self.mode is CertificateMode.ACM:
            self._check_acm_names(names, places)

    def _check_acm_names(self, names: Sequence[str], places: Mapping[str, str]) -> None:
        private = [name for name in names if _is_private(name)]
        if private:
            listed = ", ".join(f"{name} ({places[name]})" for name in private)
            raise FieldError(
                places[private[0]],
                f"ACM issues certificates for public names only, and these are not public: {listed}; write names in"
                " your own domain, or"
                " remove certificate.mode: acm",
            )
        if len(names) > _NAMES_MAX_OF_ACM:
            raise FieldError(
                "certificate.additional_names",
                f"makes {len(names)} names in one certificate, but ACM allows {_NAMES_MAX_OF_ACM}; remove some (a"
                " wildcard *. covers many)",
            )

    def _check_acme_names(self, names: Sequence[str], places: Mapping[str, str]) -> None:
        acme = self.lets_encrypt
        most = min(issuer.max_names for issuer in acme.issuers)
        if len(names) > most:
            raise FieldError(
                "certificate.additional_names",
                f"makes {len(names)} names in one certificate, but the issuer allows {most}; remove some (a wildcard *."
                " covers many)",
            )
        private = [name for issuer in acme.issuers for name in issuer.unissuable(names)]
        if private:
            listed = ", ".join(f"{name} ({places[name]})" for name in dict.fromkeys(private))
            raise FieldError(
                places[private[0]],
                f"Let's Encrypt issues certificates for public names only, and these are not public: {listed}; write"
                " names in your own domain, or certificate.mode: self-signed",
            )
        addresses = [name for name in names if is_ip_address(name)]
        if addresses and acme.challenge is Challenge.DNS_01:
            raise FieldError(
                places[addresses[0]],
                f"{', '.join(addresses)} cannot be validated by dns-01, because DNS zones contain no IP addresses (RFC"
                " 8738); remove them, or"
                " write certificate.lets_encrypt.challenge: http-01",
            )
        wildcards = [name for name in names if name.startswith("*.")]
        if wildcards and acme.challenge is Challenge.HTTP_01:
            raise FieldError(
                "certificate.additional_names",
                f"{', '.join(wildcards)} cannot be validated by http-01, because a wildcard needs dns-01; write"
                " certificate.lets_encrypt.challenge: dns-01, or list each name",
            )


def _is_private(name: str) -> bool:
    if is_ip_address(name):
        return True
    *parents, top = name.removeprefix("*.").split(".")
    return not parents or top in _PRIVATE_DOMAINS
