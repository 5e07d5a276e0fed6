"""Certificate issuer: the stack's own CA, an ACME issuer, a provided certificate, or ACM."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, assert_never
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, WithJsonSchema

from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.values import (
    CertificateName,
    CertificatesPem,
    Duration,
    EmailAddress,
    HttpsUrl,
    HttpUrl,
    Region,
    Settings,
    between,
    is_ip_address,
    is_one_line,
    matching,
    regional_arn,
    require,
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


_KEY_ID = matching("[!-~]{1,256}", "is not a key ID; copy it from the issuer: printable ASCII without spaces")
_BASE64URL = require(
    lambda text: re.fullmatch("[A-Za-z0-9_-]+={0,2}", text) and len(text.rstrip("=")) % 4 != 1,
    "is not base64url; copy it from the issuer: letters, digits, - and _ (replace + by - and / by _)",
)
# RFC 2104 section 3 advises against keys shorter than the hash; issuers give 32 bytes and more. 22 characters are 16.
_LONG_KEY = matching("[^=]{22,}=*", "is shorter than 16 bytes, which no issuer uses; copy it completely")
_PROFILE = matching(
    "[A-Za-z0-9._-]{1,64}", "is not a profile name; write one that the issuer's directory lists, such as classic"
)
_ACCESS_KEY_ID = matching("[A-Za-z0-9_]{3,128}", "is not an access key ID; write one such as AKIAIOSFODNN7EXAMPLE")
_SECRET_ACCESS_KEY = matching(
    "[A-Za-z0-9/+=]{3,128}", "is not a secret access key; copy it from AWS, without spaces or quotes"
)
_ACM_ARN = regional_arn(
    "acm",
    "certificate/[0-9A-Za-z-]{1,64}",
    "is not the ARN of an ACM certificate; write one such as"
    " arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef",
)
_FILE = require(is_one_line, "is not a file path; write one such as tls/chain.pem, relative to the project's folder")
_NO_PRIVATE_KEY = require(
    lambda text: "PRIVATE KEY" not in text,
    "contains a private key; move it to private_key, encrypted, and replace it by a new one if others could read it",
    leaks=True,
)


class ExternalAccountSettings(Settings):
    """External account binding: an existing account at the issuer (RFC 8555 section 7.3.4)."""

    key_id: Annotated[str, _KEY_ID]
    """Key ID of the external account, as the issuer gave it."""

    hmac_key: Annotated[SecretStr, _BASE64URL, _LONG_KEY]
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

    profile: Annotated[str, _PROFILE] | None = None
    """ACME profile of the certificate, one that the issuer's directory lists: at Let's Encrypt classic, tlsserver
    (without fields that browsers do not need) or shortlived (about six days). Default: the issuer's choice."""

    @property
    def is_lets_encrypt(self) -> bool:
        """Whether the issuer is Let's Encrypt itself."""
        host = urlsplit(self.directory).hostname or ""
        return host == _LETS_ENCRYPT_DOMAIN or host.endswith(f".{_LETS_ENCRYPT_DOMAIN}")

    def _faults(self) -> Iterator[Fault]:
        if self.directory == LETS_ENCRYPT_STAGING:
            yield Fault(
                "directory",
                "is Let's Encrypt's staging directory, whose certificates no browser trusts; for tests remove directory"
                " and write certificate.lets_encrypt.staging: true",
            )
        elif self.is_lets_encrypt and self.directory != LETS_ENCRYPT:
            yield Fault("directory", f'"{self.directory}" is not a directory of Let\'s Encrypt; write {LETS_ENCRYPT}')
        issuer = _WITH_EXTERNAL_ACCOUNT.get(urlsplit(self.directory).hostname or "")
        if issuer is not None and self.external_account is None:
            yield Fault(
                "external_account",
                f"is missing, and {issuer} requires one; add key_id and hmac_key from your account on its web site",
            )
        if self.is_lets_encrypt and self.external_account is not None:
            yield Fault(
                "external_account",
                "is set, but Let's Encrypt does not support it; remove it, or write the directory of the issuer that it"
                " is from",
            )

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

    access_key_id: Annotated[str, _ACCESS_KEY_ID] | None = None
    """ID of an access key that allows route53:ListHostedZones, route53:GetChange and, in the zone,
    route53:ChangeResourceRecordSets. Default: the IAM role of the machine that runs the engine. With platform.kind
    aws-vm the instance's role gets these rights in dns.zone, for challenge records only."""

    secret_access_key: Annotated[SecretStr, _SECRET_ACCESS_KEY] | None = None
    """Secret access key, encrypted: `pulumi config set --path --secret
    certificate.lets_encrypt.route53.secret_access_key`. Default: none, as for access_key_id."""

    region: Region = "us-east-1"
    """AWS region of the API endpoint. Zones are the same in all regions of a partition; us-gov-west-1 and
    cn-northwest-1 belong to other partitions."""

    endpoint: HttpUrl | None = None
    """URL of another endpoint of the Route 53 API, such as a private one. Default: the public endpoint."""

    def _faults(self) -> Iterator[Fault]:
        for given, other in (("access_key_id", "secret_access_key"), ("secret_access_key", "access_key_id")):
            if getattr(self, given) is not None and getattr(self, other) is None:
                yield Fault(other, f"is missing, and {given} is set; add it, or remove both to use the machine's role")


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

    wait: Annotated[Duration, between("30s", "1h")] = timedelta(minutes=5)
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
    def urls(self) -> tuple[str, ...]:
        """URLs that certbot requests."""
        endpoint = None if self.route53 is None else self.route53.endpoint
        directories = (self.directory_in_use, self.directory_for_dry_runs, *(one.directory for one in self.issuers))
        return tuple(url for url in (*directories, endpoint) if url)

    @property
    def issuers(self) -> tuple[IssuerSettings, ...]:
        """All that may be asked, the first one first."""
        return (self,) if self.fallback is None else (self, self.fallback)

    def _faults(self) -> Iterator[Fault]:
        yield from super()._faults()
        if self.staging and not self.is_lets_encrypt:
            yield Fault(
                "staging",
                "is true, but directory is not Let's Encrypt's; remove staging, or write that issuer's staging"
                " directory in directory",
            )
        if self.staging_directory is not None and self.is_lets_encrypt:
            yield Fault(
                "staging_directory",
                "is set, but directory is Let's Encrypt's, whose staging directory is known; remove staging_directory",
            )
        elif self.staging_directory == self.directory:
            yield Fault(
                "staging_directory", "is the same as directory, where attempts count against rate limits; remove it"
            )
        if self.fallback is not None and self.fallback.directory == self.directory:
            yield Fault(
                "fallback.directory",
                "is the directory of the first issuer, too; write another issuer's, or remove fallback",
            )
        if self.route53 is not None and self.challenge is not Challenge.DNS_01:
            yield Fault(
                "route53", f"is set, but challenge is {self.challenge}; remove route53 or write challenge: dns-01"
            )


class ProvidedSettings(Settings):
    """A certificate that you provide. It is validated before the update changes anything."""

    certificate: Annotated[str, _NO_PRIVATE_KEY] | None = None
    """Certificate of the site (PEM), followed by its intermediate certificates in order; the root is not needed. Set
    this or certificate_file. Default: none."""

    certificate_file: Annotated[str, _FILE] | None = None
    """Path of a file with the certificate and its intermediates, relative to the project's folder. Default: none."""

    private_key: SecretStr | None = None
    """Private key of the certificate (PEM), encrypted: `pulumi config set --path --secret
    certificate.provided.private_key < key.pem`. Set this or private_key_file. Default: none."""

    private_key_file: Annotated[str, _FILE] | None = None
    """Path of a file with the private key, relative to the project's folder; only its owner may read it (chmod 600).
    Default: none."""

    passphrase: SecretStr | None = None
    """Passphrase of the private key, encrypted: `pulumi config set --path --secret certificate.provided.passphrase`.
    The proxy gets the decrypted key. Default: none."""

    def _faults(self) -> Iterator[Fault]:
        for name in ("certificate", "private_key"):
            here, file = getattr(self, name) is not None, getattr(self, f"{name}_file") is not None
            if here and file:
                yield Fault("", f"{name} and {name}_file are both set; remove one of them")
            if not here and not file:
                yield Fault(name, f"is missing; add it, or {name}_file with the path of its file")


class AcmSettings(Settings):
    """A certificate of AWS Certificate Manager (ACM), which an Application Load Balancer serves and AWS renews."""

    arn: Annotated[str, _ACM_ARN, WithJsonSchema({"type": "string", "pattern": "^arn:aws"})] | None = None
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

    warn_before: Annotated[Duration, between("1h", "90d")] = timedelta(days=14)
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

    def _faults(self) -> Iterator[Fault]:
        for mode in (CertificateMode.LETS_ENCRYPT, CertificateMode.ACM, CertificateMode.PROVIDED):
            name = mode.replace("-", "_")
            if mode is not self.mode and name in self.model_fields_set and getattr(self, name) is not None:
                yield Fault(name, f"is set, but mode is {self.mode}; remove {name} or write mode: {mode}")
        if self.mode is CertificateMode.ACM and self.acm.arn is not None and self.additional_names:
            yield Fault(
                "additional_names",
                "is set, but acm.arn selects an issued certificate, whose names are fixed; remove additional_names or"
                " acm.arn",
            )
        if self.provided is None and self.mode is CertificateMode.PROVIDED:
            yield Fault(
                "provided",
                "is missing, but mode is provided; add certificate_file and private_key_file, or another mode",
            )

    def faults_of_names(self, hosts: Sequence[str]) -> Iterator[Fault]:
        """Return what no certificate of this mode can say about the site's `hosts`; paths are those of a stack file."""
        names = [*hosts, *self.additional_names]
        for name in dict.fromkeys(self.additional_names):
            if names.count(name) > 1:
                where = "as a name of the site already" if name in hosts else "twice"
                yield Fault("certificate.additional_names", f"{name} is listed {where}; write it once")
        places = dict.fromkeys(names, "certificate.additional_names")
        places |= dict.fromkeys(hosts, "site.aliases") | {hosts[0]: "site.domain"}
        private = [name for name in places if _is_private(name)]
        if self.mode is CertificateMode.ACM:
            yield from _too_many(places, "ACM", _NAMES_MAX_OF_ACM)
            yield from _not_public(private, places, "ACM", "remove certificate.mode: acm")
        if self.mode is CertificateMode.LETS_ENCRYPT:
            issuers = self.lets_encrypt.issuers
            if not any(issuer.is_lets_encrypt for issuer in issuers):
                private = []
            yield from _too_many(places, "the issuer", min(issuer.max_names for issuer in issuers))
            yield from _not_public(private, places, "Let's Encrypt", "certificate.mode: self-signed")
            yield from self._faults_of_challenge({name: places[name] for name in places if name not in private})

    def _faults_of_challenge(self, places: Mapping[str, str]) -> Iterator[Fault]:
        challenge = self.lets_encrypt.challenge
        addresses = [name for name in places if is_ip_address(name)]
        if addresses and challenge is Challenge.DNS_01:
            yield Fault(
                places[addresses[0]],
                f"{', '.join(addresses)} cannot be validated by dns-01, because DNS zones contain no IP addresses (RFC"
                " 8738); remove them, or write certificate.lets_encrypt.challenge: http-01",
            )
        wildcards = [name for name in places if name.startswith("*.")]
        if wildcards and challenge is Challenge.HTTP_01:
            yield Fault(
                "certificate.additional_names",
                f"{', '.join(wildcards)} cannot be validated by http-01, because a wildcard needs dns-01; write"
                " certificate.lets_encrypt.challenge: dns-01, or list each name",
            )


def _too_many(names: Collection[str], issuer: str, most: int) -> Iterator[Fault]:
    if len(names) > most:
        yield Fault(
            "certificate.additional_names",
            f"makes {len(names)} names in one certificate, but {issuer} allows {most}; remove some (a wildcard *."
            " covers many)",
        )


def _not_public(private: Sequence[str], places: Mapping[str, str], issuer: str, instead: str) -> Iterator[Fault]:
    if private:
        listed = ", ".join(f"{name} ({places[name]})" for name in private)
        yield Fault(
            places[private[0]],
            f"{issuer} issues certificates for public names only, and these are not public: {listed}; write names in"
            f" your own domain, or {instead}",
        )


def _is_private(name: str) -> bool:
    if is_ip_address(name):
        return True
    *parents, top = name.removeprefix("*.").split(".")
    return not parents or top in _PRIVATE_DOMAINS
