"""Authorities that vouch for clients, and what a client needs to show that one does."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from open_webui_edge.settings.values import is_ip_address


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, and the certificates between it and its root."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> str:
        """The certificate, as settings take it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def private_key_pem(self) -> str:
        """Its key, without a passphrase."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def shown_by(self, context: ssl.SSLContext, directory: Path) -> ssl.SSLContext:
        """Let a client show it."""
        file = directory / f"{self.certificate.serial_number}.pem"
        chain = [one.public_bytes(serialization.Encoding.PEM) for one in (self.certificate, *self.chain)]
        file.write_bytes(b"".join([self.private_key_pem.encode(), *chain]))
        context.load_cert_chain(file)
        return context


def issue(  # noqa: PLR0913 - keywords, each a part of a certificate
    name: str,
    by: Issued | None = None,
    *,
    authority: bool = False,
    ended: bool = False,
    hosts: Sequence[str] = (),
    lasts: timedelta = timedelta(days=1),
) -> Issued:
    """Issue a certificate for a client, or for a server with `hosts`; without an issuer it vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + (timedelta(days=-1) if ended else lasts))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if hosts:
        names = [x509.IPAddress(ip_address(host)) if is_ip_address(host) else x509.DNSName(host) for host in hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign((by.key if by else key), hashes.SHA256())
    between = (by.certificate, *by.chain) if by and by.certificate.issuer != by.certificate.subject else ()
    return Issued(certificate, key, between)
