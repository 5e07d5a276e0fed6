"""Publishes the certificate in the volume from which the proxy installs it, and checks that the proxy serves it."""

import shutil
import socket
import ssl
from pathlib import Path

from cryptography import x509

from . import key_pair
from .key_pair import CertificateAndKey
from .settings import Settings
from .state import write

VOLUME = Path("/var/lib/open-webui-edge")
WEBROOT = VOLUME / "webroot"
PUBLISHED = VOLUME / "offered"
_CHALLENGES = WEBROOT / ".well-known/acme-challenge"
_HANDSHAKE_TIMEOUT = 5


def prepare() -> None:
    """Create the folders, and remove leftovers of an interrupted attempt."""
    # Nginx's workers, which run as another user, read the answers to challenges.
    _CHALLENGES.mkdir(parents=True, exist_ok=True)
    for folder in (VOLUME, WEBROOT, _CHALLENGES.parent, _CHALLENGES):
        folder.chmod(0o755)
    for token in _CHALLENGES.iterdir():
        token.unlink()
    PUBLISHED.mkdir(mode=0o700, exist_ok=True)
    for folder in PUBLISHED.glob("*.new"):
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)


def published() -> CertificateAndKey | None:
    """Return the published certificate; None if there is none."""
    try:
        current = PUBLISHED / "current"
        return key_pair.read((current / "certificate.pem").read_bytes(), (current / "private_key.pem").read_bytes())
    except (OSError, key_pair.UnusableError):
        return None


def publish(new: CertificateAndKey) -> None:
    """Replace the published certificate atomically; raises OSError, and then nothing has changed."""
    unfinished = PUBLISHED / f"{new.serial}.new"
    folder = PUBLISHED / new.serial
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(mode=0o700)
        for name, content in (("certificate.pem", new.certificate), ("private_key.pem", new.private_key)):
            write(unfinished / name, content, 0o600)
        # Left by an interrupted call: a folder that is published would not be published again.
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    link = PUBLISHED / "current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(new.serial)
    link.replace(PUBLISHED / "current")


def prune(serial: str) -> None:
    """Remove all published certificates but the one with this serial."""
    for folder in PUBLISHED.iterdir():
        if folder.name != serial and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


def served(settings: Settings) -> x509.Certificate:
    """Return the certificate that the proxy serves.

    Raises:
        OSError: the proxy does not answer.

    """
    name = next((name for name in settings.names if not name.startswith("*.")), settings.names[0].replace("*", "any"))
    # No verification: a placeholder that no CA signed is a valid result.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((settings.proxy.host, settings.proxy.port), timeout=_HANDSHAKE_TIMEOUT) as plain:
        if settings.proxy_protocol:
            plain.sendall(b"PROXY UNKNOWN\r\n")
        with context.wrap_socket(plain, server_hostname=name) as secured:
            der = secured.getpeercert(binary_form=True)
    if der is None:
        raise ConnectionError("it serves no certificate")
    return x509.load_der_x509_certificate(der)
