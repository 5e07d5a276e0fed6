"""A certificate chain with its private key, and its validation."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from .settings import covers

_SHORT_LIFETIME = timedelta(days=10)


class UnusableError(Exception):
    """Certificate and key cannot be used together."""


@dataclass(frozen=True)
class CertificateAndKey:
    """Both as PEM, and the fields of the certificate."""

    certificate: bytes
    """The whole chain, the server's certificate first."""
    private_key: bytes
    names: tuple[str, ...]
    serial: str
    """In hexadecimal, as `openssl x509 -serial` writes it."""
    issuer: str
    not_before: datetime
    not_after: datetime

    @property
    def renew_from(self) -> datetime:
        """When certbot renews it by its own rule; an issuer may advise another time (ARI)."""
        lifetime = self.not_after - self.not_before
        return self.not_before + (lifetime / 2 if lifetime < _SHORT_LIFETIME else lifetime * 2 / 3)

    def validation_error(self, names: Sequence[str], now: datetime) -> str | None:
        """Return why it cannot be served for these names; None if it can."""
        missing = [name for name in names if not any(covers(own, name) for own in self.names)]
        if missing:
            return f"the certificate is for {', '.join(self.names)} and not for {', '.join(missing)}"
        if now < self.not_before:
            return (
                f"by this machine's clock ({now:%F %T} UTC) the certificate is valid only from {self.not_before:%F %T}"
            )
        if now >= self.not_after:
            return f"by this machine's clock ({now:%F %T} UTC) the certificate expired at {self.not_after:%F %T}"
        return None


def read(certificate: bytes, private_key: bytes) -> CertificateAndKey:
    """Read both.

    Raises:
        UnusableError: one of them cannot be read, or they do not belong together.

    """
    try:
        leaf, *_ = x509.load_pem_x509_certificates(certificate)
        key = load_pem_private_key(private_key, password=None)
    except ValueError as error:
        raise UnusableError(f"certificate or key cannot be read ({error})") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise UnusableError("the private key does not belong to the certificate")
    names = names_of(leaf)
    if names is None:
        raise UnusableError("the certificate has no subject alternative names")
    return CertificateAndKey(
        certificate=certificate,
        private_key=private_key,
        names=names,
        serial=serial_of(leaf),
        issuer=leaf.issuer.rfc4514_string(),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def names_of(certificate: x509.Certificate) -> tuple[str, ...] | None:
    """Return the DNS names; None if the certificate has no subject alternative names."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return tuple(name.lower() for name in alternatives.get_values_for_type(x509.DNSName))


def serial_of(certificate: x509.Certificate) -> str:
    """Return the serial number in hexadecimal, as `openssl x509 -serial` writes it."""
    hexadecimal = f"{certificate.serial_number:X}"
    return hexadecimal if len(hexadecimal) % 2 == 0 else f"0{hexadecimal}"
