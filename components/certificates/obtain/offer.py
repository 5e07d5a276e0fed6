"""The folder from which the proxy takes the certificate, and whether it did."""

import os
import shutil
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from . import pair
from .pair import Pair
from .settings import Settings

VOLUME = Path("/var/lib/open-webui-edge")
WEBROOT = VOLUME / "webroot"
OFFERED = VOLUME / "offered"
_CHALLENGES = WEBROOT / ".well-known/acme-challenge"
_PATIENCE = 5


def prepare() -> None:
    """Make the folders, and remove what an attempt that was killed left in them."""
    # Nginx's workers, who are nobody here, read the answers to challenges.
    _CHALLENGES.mkdir(parents=True, exist_ok=True)
    for folder in (VOLUME, WEBROOT, _CHALLENGES.parent, _CHALLENGES):
        folder.chmod(0o755)
    for token in _CHALLENGES.iterdir():
        token.unlink()
    OFFERED.mkdir(mode=0o700, exist_ok=True)
    for folder in OFFERED.glob("*.new"):
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)


def offered() -> Pair | None:
    """Return what is offered now."""
    try:
        current = OFFERED / "current"
        return pair.read((current / "certificate.pem").read_bytes(), (current / "private_key.pem").read_bytes())
    except (OSError, pair.UnusableError):
        return None


def offer(new: Pair) -> None:
    """Offer a pair in place of whatever is offered, by one rename; raises OSError, and then nothing has changed."""
    unfinished = OFFERED / f"{new.serial}.new"
    folder = OFFERED / new.serial
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(mode=0o700)
        for name, content in (("certificate.pem", new.certificate), ("private_key.pem", new.private_key)):
            descriptor = os.open(unfinished / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        # Left by an offer that was cut short, or damaged: it is not what is offered, or this would not be asked for.
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    link = OFFERED / "current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(new.serial)
    link.replace(OFFERED / "current")


def forget_others(serial: str) -> None:
    """Remove what was offered before, once this one is served."""
    for folder in OFFERED.iterdir():
        if folder.name != serial and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Served:
    """What the proxy shows to whoever connects."""

    serial: str
    names: tuple[str, ...]
    not_after: datetime


def served(settings: Settings) -> Served:
    """Ask the proxy for its certificate.

    Raises:
        OSError: it does not answer.

    """
    name = next((name for name in settings.names if not name.startswith("*.")), settings.names[0].replace("*", "any"))
    # What it serves is asked, not whether to trust it: a placeholder is an answer too.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((settings.proxy.host, settings.proxy.port), timeout=_PATIENCE) as plain:
        if settings.proxy_protocol:
            plain.sendall(b"PROXY UNKNOWN\r\n")
        with context.wrap_socket(plain, server_hostname=name) as secured:
            der = secured.getpeercert(binary_form=True)
    if der is None:
        raise ConnectionError("it shows no certificate")
    leaf = x509.load_der_x509_certificate(der)
    names: list[str] = []
    with suppress(x509.ExtensionNotFound):
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
    return Served(
        serial=pair.serial_of(leaf),
        names=tuple(name.lower() for name in names),
        not_after=leaf.not_valid_after_utc,
    )
