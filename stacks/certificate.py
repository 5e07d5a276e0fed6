"""Who vouches for the site: the stack's own authority, an ACME issuer, or who signed what somebody brings."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self, assert_never
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema, model_validator

from stacks.values import (
    BelowError,
    CertificateName,
    CertificatesPem,
    Duration,
    EmailAddress,
    HttpsUrl,
    HttpUrl,
    Region,
    SecretInsideError,
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
    """Who vouches for the site."""

    SELF_SIGNED = "self-signed"
    LETS_ENCRYPT = "lets-encrypt"
    PROVIDED = "provided"
    ACM = "acm"


class Challenge(StrEnum):
    """How an issuer is shown whose a name is (RFC 8555 section 8)."""

    HTTP_01 = "http-01"
    DNS_01 = "dns-01"


def _key_id(value: str) -> str:
    if not _KEY_ID.fullmatch(value):
        raise ValueError("is not a key's name; write it as the issuer gave it, printable ASCII without blanks")
    return value


def _hmac_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not _BASE64URL.fullmatch(text) or len(text.rstrip("=")) % 4 == 1:
        raise SecretInsideError(
            "is not base64url; write it as the issuer gave it, made of letters, digits, - and _ (a + is a -, a / a _)",
        )
    if len(text.rstrip("=")) * 3 // 4 < _HMAC_KEY_MIN:
        raise SecretInsideError(
            f"is shorter than {_HMAC_KEY_MIN} bytes, and no issuer's key is; copy the whole of it",
        )
    return value


def _profile(value: str) -> str:
    if not _PROFILE.fullmatch(value):
        raise ValueError("is not a profile's name; the issuer's directory lists its own, such as classic")
    return value


def _access_key_id(value: str) -> str:
    if not _ACCESS_KEY_ID.fullmatch(value):
        raise ValueError("is not the id of an access key; write one such as AKIAIOSFODNN7EXAMPLE")
    return value


def _secret_access_key(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[A-Za-z0-9/+=]{3,128}", value.get_secret_value()):
        raise SecretInsideError("is not a secret access key; copy it as AWS showed it, without blanks or quotes")
    return value


def _acm_arn(value: str) -> str:
    if not regional_arn("acm", "certificate/[0-9A-Za-z-]{1,64}").fullmatch(value):
        raise ValueError(
            "is not the ARN of a certificate; write one such as"
            " arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef",
        )
    return value


def _file(value: str) -> str:
    if not value or not value.isprintable() or value != value.strip():
        raise ValueError("is not the path of a file; write one such as tls/chain.pem, relative to the project's folder")
    return value


def _provided_certificate(value: str) -> str:
    if "PRIVATE KEY" in value:
        raise SecretInsideError(
            "holds a private key, which belongs encrypted in private_key; where others could read it, it is to be"
            " replaced by a new one",
        )
    return value


AcmArn = Annotated[str, AfterValidator(_acm_arn), WithJsonSchema({"type": "string", "pattern": "^arn:aws"})]


class ExternalAccountSettings(Settings):
    """An account at the issuer that exists already, to which the ACME account is bound (RFC 8555 section 7.3.4)."""

    key_id: Annotated[str, AfterValidator(_key_id)]
    """Name of the key, as the issuer gave it."""

    hmac_key: Annotated[SecretStr, AfterValidator(_hmac_key)]
    """The key itself (base64url), encrypted: `pulumi config set --path --secret
    certificate.lets_encrypt.external_account.hmac_key`."""


class IssuerSettings(Settings):
    """An ACME issuer, and what it is told."""

    email: EmailAddress | None = None
    """Address that the issuer may write to, about an account or a certificate that must be replaced. Some demand
    one."""

    directory: HttpsUrl
    """The issuer's ACME directory."""

    directory_ca: CertificatesPem | None = None
    """Certificates of the authorities that vouch for the directory's own address, in PEM form, where the public ones do
    not: a company's issuer, step-ca."""

    external_account: ExternalAccountSettings | None = None
    """An account that exists at the issuer already. ZeroSSL, Google Trust Services and SSL.com demand one."""

    profile: Annotated[str, AfterValidator(_profile)] | None = None
    """One of the kinds of certificate that the issuer's directory lists, such as Let's Encrypt's classic, tlsserver
    (without what browsers do not need) or shortlived (some six days). Left out: the issuer's choice."""

    @property
    def is_lets_encrypt(self) -> bool:
        """Whether the issuer is Let's Encrypt itself."""
        host = urlsplit(self.directory).hostname or ""
        return host == _LETS_ENCRYPT_DOMAIN or host.endswith(f".{_LETS_ENCRYPT_DOMAIN}")

    @model_validator(mode="after")
    def _lets_encrypt_by_its_own_address(self) -> Self:
        if self.directory == LETS_ENCRYPT_STAGING:
            raise BelowError(
                "directory",
                "is Let's Encrypt's staging directory, whose certificates nobody trusts; for tests drop directory and"
                " write certificate.lets_encrypt.staging: true",
            )
        if self.is_lets_encrypt and self.directory != LETS_ENCRYPT:
            raise BelowError("directory", f'"{self.directory}" is no directory of Let\'s Encrypt; write {LETS_ENCRYPT}')
        return self

    @model_validator(mode="after")
    def _external_account_where_there_is_one(self) -> Self:
        issuer = _WITH_EXTERNAL_ACCOUNT.get(urlsplit(self.directory).hostname or "")
        if issuer is not None and self.external_account is None:
            raise BelowError(
                "external_account",
                f"is missing, and {issuer} takes no account without one; add key_id and hmac_key, which its web site"
                " gives to who signs in",
            )
        if self.is_lets_encrypt and self.external_account is not None:
            raise BelowError(
                "external_account",
                "is set, but Let's Encrypt has no such accounts; drop it, or write the directory of the issuer that"
                " gave it",
            )
        return self

    def uncertifiable(self, names: Sequence[str]) -> list[str]:
        """Return the names that this issuer certifies for nobody."""
        return [name for name in names if self.is_lets_encrypt and _is_private(name)]

    @property
    def most_names(self) -> int:
        """How many names one certificate may have."""
        return _NAMES_MAX_OF_PROFILE.get(self.profile or "", _NAMES_MAX) if self.is_lets_encrypt else _NAMES_MAX


class FallbackIssuerSettings(IssuerSettings):
    """The issuer that is asked when the first one fails."""

    directory: HttpsUrl
    """The second issuer's ACME directory. Its terms of service are accepted as well."""


class Route53Settings(Settings):
    """Route 53, where a record in the zone shows whose a name is."""

    access_key_id: Annotated[str, AfterValidator(_access_key_id)] | None = None
    """Of a user who may route53:ListHostedZones, route53:GetChange and, in the zone,
    route53:ChangeResourceRecordSets. Left out: the role of the machine that the engine runs on; with platform.kind
    aws-vm that is the instance's, which then gets these rights in dns.zone, for the records of challenges alone."""

    secret_access_key: Annotated[SecretStr, AfterValidator(_secret_access_key)] | None = None
    """Its secret, encrypted: `pulumi config set --path --secret certificate.lets_encrypt.route53.secret_access_key`."""

    region: Region = "us-east-1"
    """Region whose endpoint is asked. Route 53 itself is the same in all of them; us-gov-west-1 and cn-northwest-1 are
    worlds of their own."""

    endpoint: HttpUrl | None = None
    """Another address of the API: a private endpoint, or something that speaks it as well."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        for given, other in (("access_key_id", "secret_access_key"), ("secret_access_key", "access_key_id")):
            if getattr(self, given) is not None and getattr(self, other) is None:
                raise BelowError(other, f"is missing, and {given} is set; add it, or drop both for the machine's role")
        return self


class LetsEncryptSettings(IssuerSettings):
    """Certificates of Let's Encrypt, or of another issuer that speaks ACME."""

    directory: HttpsUrl = LETS_ENCRYPT
    """The issuer's ACME directory: Let's Encrypt's, or another's such as https://acme.zerossl.com/v2/DV90."""

    staging: bool = False
    """Take certificates of Let's Encrypt's staging directory, for good: browsers do not trust them, and its limits are
    wide."""

    staging_directory: HttpsUrl | None = None
    """A directory of another issuer's for dry runs, as Let's Encrypt has one: after a failure it is asked first, and by
    `make certificate-dry-run`. Left out, there is no dry run."""

    challenge: Challenge = Challenge.HTTP_01
    """http-01: the issuer asks each name on port 80, which must lead to site.listen.http_port; dns-01: a record in the
    zone shows it, for names with `*.` and for sites that the internet cannot reach."""

    route53: Route53Settings | None = None
    """With challenge dns-01, where the zone is. Left out: Route 53, with the machine's own role."""

    fallback: FallbackIssuerSettings | None = None
    """Another issuer, asked when the first one fails."""

    wait: Annotated[Duration, between_durations("30s", "1h")] = timedelta(minutes=5)
    """How long an update waits for the first certificate. Without one by then it says what stands in the way and fails;
    the deployment runs on, with a certificate of the stack's own, and goes on trying."""

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
            raise BelowError(
                "staging",
                "is Let's Encrypt's, and directory names another issuer; drop staging, or write that issuer's own"
                " staging address in directory",
            )
        if self.staging_directory is not None and self.is_lets_encrypt:
            raise BelowError(
                "staging_directory",
                "is set, and directory is Let's Encrypt's, whose staging directory is known; drop staging_directory",
            )
        if self.staging_directory is not None and self.staging_directory == self.directory:
            raise BelowError("staging_directory", "is directory itself, where each attempt counts; drop it")
        return self

    @model_validator(mode="after")
    def _another_issuer(self) -> Self:
        if self.fallback is not None and self.fallback.directory == self.directory:
            raise BelowError(
                "fallback.directory",
                "is the first issuer's too, so it would fail as that one does; write another issuer's, or drop"
                " fallback",
            )
        return self

    @model_validator(mode="after")
    def _route53_for_dns(self) -> Self:
        if self.route53 is not None and self.challenge is not Challenge.DNS_01:
            raise BelowError(
                "route53", f"is set, but challenge is {self.challenge}; drop route53 or write challenge: dns-01"
            )
        return self


class ProvidedSettings(Settings):
    """A certificate that somebody brings. It is looked at before anything is touched; another one is a `pulumi up`."""

    certificate: Annotated[str, AfterValidator(_provided_certificate)] | None = None
    """The site's certificate in PEM form and, behind it, each authority that vouches for the one before; the root is
    not needed."""

    certificate_file: Annotated[str, AfterValidator(_file)] | None = None
    """Or the file that holds it, relative to the project's folder."""

    private_key: SecretStr | None = None
    """Its private key in PEM form, encrypted: `pulumi config set --path --secret certificate.provided.private_key <
    key.pem`."""

    private_key_file: Annotated[str, AfterValidator(_file)] | None = None
    """Or the file that holds it, relative to the project's folder; nobody but its owner may read it (chmod 600)."""

    passphrase: SecretStr | None = None
    """Passphrase of the private key, where it has one, encrypted: `pulumi config set --path --secret
    certificate.provided.passphrase`. The proxy gets the key without it."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for name in ("certificate", "private_key"):
            here, file = getattr(self, name) is not None, getattr(self, f"{name}_file") is not None
            if here and file:
                raise ValueError(f"{name} and {name}_file are both set; drop one of them")
            if not here and not file:
                raise BelowError(name, f"is missing; add it, or {name}_file with the path of a file that holds it")
        return self


class AcmSettings(Settings):
    """A certificate of AWS Certificate Manager, which an Application Load Balancer serves. AWS renews it."""

    arn: AcmArn | None = None
    """ARN of an issued certificate in platform.aws.region that covers the site's names. Left out: one is asked for, and
    records in dns.zone show whose the names are."""


class SelfSignedSettings(Settings):
    """The certificate authority of this stack's own."""

    generation: Annotated[int, Field(ge=1, le=100)] = 1
    """Which of its authorities signs: the next number is a new one, with a new key, for when others may have the key of
    the one in use. Browsers are told to trust it by `make trust-ca`, which takes the old one's trust away. It is never
    lowered, whatever the mode: an authority is kept."""


class CertificateSettings(Settings):
    """Who vouches for the site."""

    mode: CertificateMode = CertificateMode.SELF_SIGNED
    """self-signed: a certificate authority of this stack's own, which browsers must be told to trust (`make trust-ca`);
    lets-encrypt: Let's Encrypt, or another issuer that speaks ACME, and whoever chooses it accepts that issuer's terms
    of service; provided: a certificate that somebody brings; acm: AWS Certificate Manager, where
    platform.aws.load_balancer.kind is alb."""

    warn_before: Annotated[Duration, between_durations("1h", "90d")] = timedelta(days=14)
    """From how much time before its end the certificate is warned about: in the log, by the proxy's health check, by
    `make certificate`, and in the metrics."""

    additional_names: tuple[CertificateName, ...] = ()
    """Names that the certificate covers beside the site's own, for other uses of it; nothing is served under them.
    `*.example.com` stands for every name one label longer; an ACME issuer gives that only by challenge dns-01."""

    self_signed: SelfSignedSettings = SelfSignedSettings()
    """With mode self-signed."""

    lets_encrypt: LetsEncryptSettings = LetsEncryptSettings()
    """With mode lets-encrypt: which issuer, and how it is shown whose the names are."""

    provided: ProvidedSettings | None = None
    """With mode provided."""

    acm: AcmSettings = AcmSettings()
    """With mode acm."""

    @property
    def by_the_role(self) -> bool:
        """Whether the role of a machine, and no key, opens the zone in which an issuer is shown whose the names are."""
        acme = self.lets_encrypt
        keys = acme.route53 is not None and acme.route53.access_key_id is not None
        return self.mode is CertificateMode.LETS_ENCRYPT and acme.challenge is Challenge.DNS_01 and not keys

    @property
    def trusted(self) -> bool:
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
            raise BelowError(
                "lets_encrypt", f"is set, but mode is {self.mode}; drop lets_encrypt or write mode: lets-encrypt"
            )
        if "acm" in self.model_fields_set and self.mode is not CertificateMode.ACM:
            raise BelowError("acm", f"is set, but mode is {self.mode}; drop acm or write mode: acm")
        if self.acm.arn is not None and self.additional_names:
            raise BelowError(
                "additional_names",
                "is set, but acm.arn names a certificate that is issued, and what it covers is in it; drop"
                " additional_names or acm.arn",
            )
        if self.provided is not None and self.mode is not CertificateMode.PROVIDED:
            raise BelowError("provided", f"is set, but mode is {self.mode}; drop provided or write mode: provided")
        if self.provided is None and self.mode is CertificateMode.PROVIDED:
            raise BelowError(
                "provided", "is missing, and mode is provided; add certificate_file and private_key_file, or another"
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
                raise BelowError("certificate.additional_names", f"{name} is there {where}; write it once")
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
            raise BelowError(
                places[private[0]],
                f"ACM certifies public names only, and these are not: {listed}; write names of a domain of yours, or"
                " drop certificate.mode: acm",
            )
        if len(names) > _NAMES_MAX_OF_ACM:
            raise BelowError(
                "certificate.additional_names",
                f"makes it {len(names)} names in one certificate, and ACM allows {_NAMES_MAX_OF_ACM}; drop some (one"
                " with *. covers many)",
            )

    def _check_acme_names(self, names: Sequence[str], places: Mapping[str, str]) -> None:
        acme = self.lets_encrypt
        most = min(issuer.most_names for issuer in acme.issuers)
        if len(names) > most:
            raise BelowError(
                "certificate.additional_names",
                f"makes it {len(names)} names in one certificate, and the issuer allows {most}; drop some (one with *."
                " covers many)",
            )
        private = [name for issuer in acme.issuers for name in issuer.uncertifiable(names)]
        if private:
            listed = ", ".join(f"{name} ({places[name]})" for name in dict.fromkeys(private))
            raise BelowError(
                places[private[0]],
                f"Let's Encrypt certifies public names only, and these are not: {listed}; write names of a domain of"
                " yours, or certificate.mode: self-signed",
            )
        addresses = [name for name in names if is_ip_address(name)]
        if addresses and acme.challenge is Challenge.DNS_01:
            raise BelowError(
                places[addresses[0]],
                f"{', '.join(addresses)} cannot be shown by dns-01, no zone having addresses (RFC 8738); drop them, or"
                " write certificate.lets_encrypt.challenge: http-01",
            )
        wildcards = [name for name in names if name.startswith("*.")]
        if wildcards and acme.challenge is Challenge.HTTP_01:
            raise BelowError(
                "certificate.additional_names",
                f"{', '.join(wildcards)} cannot be shown by http-01, as nobody can ask all those names; write"
                " certificate.lets_encrypt.challenge: dns-01, or name each one",
            )


def _is_private(name: str) -> bool:
    if is_ip_address(name):
        return True
    *parents, top = name.removeprefix("*.").split(".")
    return not parents or top in _PRIVATE_DOMAINS
