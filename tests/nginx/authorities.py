"""Authorities that vouch for clients, and what a client needs to show that one does."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


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

    def shown_by(self, context: ssl.SSLContext, directory: Path) -> ssl.SSLContext:
        """Let a client show it."""
        file = directory / f"{self.certificate.serial_number}.pem"
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = [one.public_bytes(serialization.Encoding.PEM) for one in (self.certificate, *self.chain)]
        file.write_bytes(b"".join([private, *chain]))
        context.load_cert_chain(file)
        return context


def issue(name: str, by: Issued | None = None, *, authority: bool = False, ended: bool = False) -> Issued:
    """Issue a certificate; without an issuer it vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=-1 if ended else 1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign((by.key if by else key), hashes.SHA256())
    )
    between = (by.certificate, *by.chain) if by and by.certificate.issuer != by.certificate.subject else ()
    return Issued(certificate, key, between)
