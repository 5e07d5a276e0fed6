"""Authorities and certificates of every kind, good and bad, made on the spot."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from open_webui_edge.settings.values import is_ip_address

Key = Any
"""Whatever signs: the kinds have no name in common that all of them fit."""


@dataclass(frozen=True)
class Issued:
    """A certificate, its key, and the authorities between it and its root."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> str:
        """The certificate alone."""
        return pem(self.certificate)

    @property
    def chain_pem(self) -> str:
        """The certificate and what chains it to its root, without that."""
        return pem(self.certificate, *self.chain)

    @property
    def key_pem(self) -> str:
        """The key, in clear."""
        return key_pem(self.key)


def pem(*certificates: x509.Certificate) -> str:
    """Write certificates one behind the other."""
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)


def key_pem(key: Key, passphrase: str | None = None, *, traditional: bool = False) -> str:
    """Write a key as PEM, encrypted where there is a passphrase."""
    encryption = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase.encode())
    )
    written = serialization.PrivateFormat.TraditionalOpenSSL if traditional else serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, written, encryption).decode()


def ecdsa() -> Key:
    """Make a key as most have today."""
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key(bits: int = 2048) -> Key:
    """Make an RSA key."""
    return rsa.generate_private_key(65537, bits)


def authority(
    name: str, by: Issued | None = None, *, days: tuple[float, float] = (-2, 3650), key: Key = None
) -> Issued:
    """Make an authority; without one above it, it is a root."""
    return _issue(
        name,
        by,
        key or ecdsa(),
        days,
        [
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (_usage(key_cert_sign=True, crl_sign=True), True),
        ],
    )


def server(  # noqa: PLR0913 - keywords, each a thing of its own
    names: Sequence[str],
    by: Issued | None,
    *,
    days: tuple[float, float] = (-1, 89),
    key: Key = None,
    uses: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.SERVER_AUTH,),
    signs: bool = True,
    hashed: Any = None,
    further: Sequence[x509.ExtensionType] = (),
    common_name: str = "the site",
) -> Issued:
    """Issue a server's certificate, valid from and to so many days from now."""
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(digital_signature=signs, key_encipherment=not signs), True),
        *((extension, False) for extension in further),
    ]
    if names:
        extensions.append((x509.SubjectAlternativeName([_general_name(name) for name in names]), False))
    if uses is not None:
        extensions.append((x509.ExtendedKeyUsage(list(uses)), False))
    return _issue(common_name, by, key or ecdsa(), days, extensions, hashed)


def _general_name(name: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(name)) if is_ip_address(name) else x509.DNSName(name)


def _usage(**given: bool) -> x509.KeyUsage:
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{use: given.get(use, False) for use in every})


def _issue(  # noqa: PLR0913, PLR0917 - what a certificate says
    name: str,
    by: Issued | None,
    key: Key,
    days: tuple[float, float],
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    hashed: Any = None,
) -> Issued:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signer = by.key if by else key
    # RFC 5280 section 4.2.1.1 wants both, and OpenSSL's strict checks do so too.
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if by:
        vouching = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(vouching, critical=False)
    by_curve_25519 = "25519" in type(signer).__name__ or "448" in type(signer).__name__
    certificate = builder.sign(signer, None if by_curve_25519 else hashed or hashes.SHA256())
    between = (by.certificate, *by.chain) if by and by.certificate.issuer != by.certificate.subject else ()
    return Issued(certificate, key, between)
