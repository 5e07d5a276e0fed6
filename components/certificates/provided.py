"""Reads a certificate of the user's own, and reports everything that browsers would refuse at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, PublicKeyAlgorithmOID

from open_webui_edge.components.certificates.pem import (
    CERTIFICATE_LABELS,
    KEY_LABELS,
    UnusableError,
    blocks_in,
    other_kind,
    read_file,
)
from open_webui_edge.settings.certificate import ProvidedSettings
from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.values import is_ip_address

_RSA_BITS = (2048, 8192)
_CURVES = (ec.SECP256R1, ec.SECP384R1)
_REFUSED_KEYS = {
    dsa.DSAPublicKey: "a DSA key",
    ed25519.Ed25519PublicKey: "an Ed25519 key",
    ed448.Ed448PublicKey: "an Ed448 key",
}
_WEAK_HASHES = {"md5", "sha1"}
_SETTING = "certificate.provided"
_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


@dataclass(frozen=True)
class ProvidedCertificate:
    """The certificate and key for the proxy."""

    certificate_pem: str
    """The whole chain, the site's certificate first."""
    private_key_pem: str = field(repr=False)
    """Without a passphrase."""
    rsa: bool
    """Whether the key is RSA; else it is ECDSA."""


@dataclass(frozen=True)
class Reading:
    """The result of reading a certificate."""

    certificate: ProvidedCertificate | None
    """None if there are faults."""
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """The certificate or the key: the name of its setting, and the text or the file."""

    name: str
    text: str | None = field(repr=False)
    file: str | None

    def content(self) -> bytes:
        if self.file is None:
            return (self.text or "").encode()
        return read_file(Path(self.file), private=self.name == "private_key")

    def fault(self, problem: object) -> Fault:
        if self.file is None:
            return Fault(f"{_SETTING}.{self.name}", str(problem))
        return Fault(f"{_SETTING}.{self.name}_file", f'"{self.file}" {problem}')


class _PassphraseError(UnusableError):
    """The passphrase does not fit the key."""


def read_provided(provided: ProvidedSettings, names: Sequence[str], *, warn_before: timedelta) -> Reading:
    """Read the certificate and its key; relative paths start at the current folder, which is the project's.

    Args:
        provided: the settings.
        names: the names that the certificate must cover.
        warn_before: time before expiry from which on there is a warning.

    """
    now = datetime.now(UTC)
    secret = None if provided.private_key is None else provided.private_key.get_secret_value()
    passphrase = None if provided.passphrase is None else provided.passphrase.get_secret_value()
    chain_source = _Source("certificate", provided.certificate, provided.certificate_file)
    key_source = _Source("private_key", secret, provided.private_key_file)
    faults: list[Fault] = []
    warnings: list[str] = []
    chain, key = [], None
    try:
        chain = _certificates_in(chain_source.content())
    except UnusableError as error:
        faults.append(chain_source.fault(error))
    try:
        key = _key_in(key_source.content(), passphrase)
    except _PassphraseError as error:
        faults.append(Fault(f"{_SETTING}.passphrase", str(error)))
    except UnusableError as error:
        faults.append(key_source.fault(error))

    own = None if key is None else _belonging_to(key, chain)
    if chain:
        faults += map(chain_source.fault, _faults_of_order(chain, own))
        faults += map(chain_source.fault, _faults_of_chain(chain, now))
        faults += map(chain_source.fault, _faults_of_leaf(own or chain[0], names, now))
        warnings += [f"{_SETTING}: {warning}" for warning in _warnings(chain, now, warn_before)]
    # A weak key is reported with the certificate, if it belongs to it.
    if key is not None and own is None:
        if weak := _weakness(key.public_key()):
            faults.append(key_source.fault(f"is {weak}"))
        if chain:
            problem = f"is not the key of the certificate for {_name(chain[0])}; write that certificate's key"
            faults.append(key_source.fault(problem))
    if faults or key is None:
        return Reading(None, tuple(faults), tuple(warnings))
    return Reading(_ready(chain, key), (), tuple(warnings))


def _ready(chain: Sequence[x509.Certificate], key: PrivateKeyTypes) -> ProvidedCertificate:
    return ProvidedCertificate(
        certificate_pem="".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in chain),
        private_key_pem=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        rsa=isinstance(key, rsa.RSAPrivateKey),
    )


def _certificates_in(content: bytes) -> list[x509.Certificate]:
    blocks = blocks_in(content)
    for block in blocks:
        if block.label in KEY_LABELS:
            raise UnusableError(
                "contains a private key, which belongs in private_key or private_key_file; remove it here"
            )
        if block.label not in CERTIFICATE_LABELS:
            raise UnusableError(f"contains {other_kind(block)}")
    certificates: list[x509.Certificate] = []
    for place, block in enumerate(blocks, 1):
        try:
            certificate = x509.load_pem_x509_certificate(block.pem)
            # Parsed on access only.
            _ = certificate.extensions, certificate.public_key()
        except UnsupportedAlgorithm:
            raise UnusableError(f"has a key of a type that no browser supports (certificate {place})") from None
        except ValueError:
            words = f"is damaged: certificate {place} in it cannot be read; copy the whole text"
            raise UnusableError(words) from None
        certificates.append(certificate)
    return certificates


def _key_in(content: bytes, passphrase: str | None) -> PrivateKeyTypes:
    blocks = blocks_in(content)
    keys = [block for block in blocks if block.label in KEY_LABELS]
    if not keys:
        if any(block.label in CERTIFICATE_LABELS for block in blocks):
            raise UnusableError(
                "contains a certificate, but no private key; the certificate belongs in certificate or certificate_file"
            )
        raise UnusableError(f"contains {other_kind(blocks[0])}")
    if len(keys) > 1:
        raise UnusableError(f"contains {len(keys)} private keys; keep only the certificate's")
    # The older format states it in a header (RFC 1421).
    encrypted = keys[0].label == "ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in keys[0].pem
    if encrypted and passphrase is None:
        raise UnusableError(
            f"is encrypted; add {_SETTING}.passphrase: pulumi config set --path --secret"
            f" 'open-webui-edge:{_SETTING}.passphrase'"
        )
    if passphrase is not None and not encrypted:
        raise _PassphraseError("is set, but the private key is not encrypted; remove the setting")
    try:
        return serialization.load_pem_private_key(keys[0].pem, None if passphrase is None else passphrase.encode())
    except UnsupportedAlgorithm:
        raise UnusableError("is a key of a type that no browser supports; use ECDSA or RSA") from None
    except (ValueError, TypeError):
        if encrypted:
            words = "does not decrypt the private key; write the passphrase that encrypted it"
            raise _PassphraseError(words) from None
        raise UnusableError("is damaged; copy the whole text") from None


def _belonging_to(key: PrivateKeyTypes, chain: Sequence[x509.Certificate]) -> x509.Certificate | None:
    own = _public_bytes(key.public_key())  # pyright: ignore[reportArgumentType] - those that no certificate has are compared as well
    return next((one for one in chain if _public_bytes(one.public_key()) == own), None)


def _public_bytes(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _name(certificate: x509.Certificate) -> str:
    return _name_text(certificate.subject)


def _name_text(name: x509.Name) -> str:
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(kind):
            text = str(attribute.value)
            return f'"{text}"' if text.isprintable() else repr(text)
    return name.rfc4514_string() or "(no name)"


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _issued(by: x509.Certificate, certificate: x509.Certificate) -> bool:
    if _is_weakly_signed(certificate):
        # The library no longer verifies weak signatures; `_faults_of_chain` reports them.
        return certificate.issuer == by.subject
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _faults_of_order(chain: Sequence[x509.Certificate], own: x509.Certificate | None) -> Iterator[str]:
    for place, one in enumerate(chain):
        if one in chain[:place]:
            yield f"contains the certificate of {_name(one)} twice; remove one of them"
            return
    if own is not None and own is not chain[0]:
        yield (
            f"is in the wrong order: the certificate that the key belongs to, {_name(own)}, is number"
            f" {chain.index(own) + 1}; put it first, and after each certificate the CA that signed it"
        )
        return
    for place, (one, following) in enumerate(pairwise(chain), 1):
        if _issued(following, one):
            continue
        elsewhere = [number for number, other in enumerate(chain, 1) if other is not one and _issued(other, one)]
        yield _broken(chain, place, elsewhere)
        return


def _broken(chain: Sequence[x509.Certificate], place: int, elsewhere: Sequence[int]) -> str:
    one, following = chain[place - 1], chain[place]
    if elsewhere:
        return (
            f"is in the wrong order: {_name(one)} (number {place}) was signed by {_name_text(one.issuer)}, which is"
            f" number {elsewhere[0]}; put that one directly after it"
        )
    if one.issuer == one.subject:
        return (
            f"continues after the root CA {_name(one)}, which must be the last; remove {_name(following)} and what"
            " follows"
        )
    if one.issuer == following.subject:
        return (
            f"contains at number {place + 1} a CA named {_name(following)} that did not sign {_name(one)}: another CA"
            " of that name did; use the CA certificate from your issuer"
        )
    if not _is_ca(following):
        return (
            f"contains {_name(following)} (number {place + 1}), which did not sign {_name(one)} and is not a CA; remove"
            " it"
        )
    return (
        f"has a gap: {_name(one)} (number {place}) was signed by {_name_text(one.issuer)}, but the next"
        f" one is {_name(following)}; insert the missing certificate, or remove {_name(following)} if it does not"
        " belong here"
    )


def _faults_of_chain(chain: Sequence[x509.Certificate], now: datetime) -> Iterator[str]:
    for place, one in enumerate(chain[1:], 2):
        what = f"contains the CA {_name(one)} (number {place}),"
        if _is_ca(one) and now >= one.not_valid_after_utc:
            yield f"{what} whose certificate expired on {_day(one.not_valid_after_utc)}; use its successor"
        elif _is_ca(one) and now < one.not_valid_before_utc:
            yield f"{what} whose certificate is not valid before {_day(one.not_valid_before_utc)}"
        elif not _is_ca(one) and _issued(one, chain[place - 2]):
            yield f"contains {_name(one)} (number {place}), which signed the one before it but is not a CA"
    for place, one in enumerate(chain, 1):
        # Clients do not verify a root's own signature.
        if _is_weakly_signed(one) and one.issuer != one.subject:
            which = "" if place == 1 else f" (number {place}, {_name(one)})"
            yield f"is signed with MD5 or SHA-1{which}, which browsers refuse; get a new one issued"


def _faults_of_leaf(leaf: x509.Certificate, names: Sequence[str], now: datetime) -> Iterator[str]:
    if _is_ca(leaf):
        yield (
            f"is a CA certificate ({_name(leaf)}), which browsers refuse for a server; get a certificate issued for the"
            " site"
        )
    weak = _weakness(leaf.public_key())
    if leaf.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS:
        weak = "an RSA-PSS key, which browsers refuse; use an ordinary RSA key, or ECDSA"
    if weak:
        yield f"has {weak}"
    if now < leaf.not_valid_before_utc:
        yield f"is not valid before {_day(leaf.not_valid_before_utc)}, and this machine's clock says {_day(now)}"
    if now >= leaf.not_valid_after_utc:
        yield f"expired on {_day(leaf.not_valid_after_utc)}; provide its successor"
    yield from _faults_of_use(leaf)
    yield from _faults_of_names(leaf, names)


def _faults_of_use(leaf: x509.Certificate) -> Iterator[str]:
    extended = _extension(leaf, x509.ExtendedKeyUsage)
    servers = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if extended is not None and not servers & set(extended):
        yield "is not for servers (its extended key usage lacks serverAuth); get one issued for a web server"
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        yield "may not sign (its key usage lacks digitalSignature), which TLS requires; get another one issued"
    feature = _extension(leaf, x509.TLSFeature)
    if feature is not None and x509.TLSFeatureType.status_request in feature:
        yield "requires OCSP stapling (must-staple), which the proxy does not support; get one issued without"


def _faults_of_names(leaf: x509.Certificate, names: Sequence[str]) -> Iterator[str]:
    alternative = _extension(leaf, x509.SubjectAlternativeName)
    if alternative is None:
        yield "has no subject alternative names, which browsers require; get one issued with them"
        return
    covered = [name.lower() for name in alternative.get_values_for_type(x509.DNSName)]
    addresses = {str(address) for address in alternative.get_values_for_type(x509.IPAddress)}
    missing = [
        name
        for name in names
        if (str(ip_address(name)) not in addresses if is_ip_address(name) else not _covers(covered, name))
    ]
    if missing:
        known = ", ".join([*covered, *sorted(addresses)]) or "nothing"
        yield (
            f"does not cover {', '.join(missing)}, but {known}; get one issued for all names of site.domain,"
            " site.aliases and certificate.additional_names"
        )


def _covers(patterns: Sequence[str], name: str) -> bool:
    # RFC 9525 section 6.3: a * matches exactly the first label.
    return name in patterns or f"*.{name.partition('.')[2]}" in patterns


def _weakness(key: object) -> str:
    """Return why browsers refuse a key; "" if they accept it."""
    allowed = "; use ECDSA (P-256), or RSA of 2048 bits or more"
    match key:
        case rsa.RSAPublicKey():
            low, high = _RSA_BITS
            if key.key_size < low:
                return f"an RSA key of {key.key_size} bits, which browsers refuse; use one of {low} or more"
            return f"an RSA key of {key.key_size} bits, which browsers refuse{allowed}" if key.key_size > high else ""
        case ec.EllipticCurvePublicKey():
            if isinstance(key.curve, _CURVES):
                return ""
            return f"an ECDSA key on {key.curve.name}, which not every browser supports; use P-256 or P-384"
        case _:
            kind = next(
                (kind for type_, kind in _REFUSED_KEYS.items() if isinstance(key, type_)), "a key of another type"
            )
            return f"{kind}, which browsers refuse{allowed}"


def _is_weakly_signed(certificate: x509.Certificate) -> bool:
    algorithm = certificate.signature_hash_algorithm
    return algorithm is not None and algorithm.name in _WEAK_HASHES


def _is_ca(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _warnings(chain: Sequence[x509.Certificate], now: datetime, warn_before: timedelta) -> Iterator[str]:
    end = min(one.not_valid_after_utc for one in chain)
    if now < end <= now + warn_before:
        yield f"expires on {_day(end)}, in {_days(end - now)}; provide its successor"
    if len(chain) == 1 and chain[0].issuer != chain[0].subject:
        yield (
            f"contains no CA: browsers must know {_name_text(chain[0].issuer)} already. Unless that is a root CA, put"
            " its certificate after the site's"
        )


def _days(span: timedelta) -> str:
    return "less than a day" if span.days < 1 else "1 day" if span.days == 1 else f"{span.days} days"
