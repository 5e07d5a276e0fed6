"""Reads PEM, and explains what a text or file contains instead."""

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
# A chain with its key has a few kilobytes; a larger file is something else.
_MAX_SIZE = 1 << 20
# RFC 7292 section 4: a PFX is a SEQUENCE that begins with the INTEGER 3.
_PKCS12_VERSION = b"\x02\x01\x03"
_READABLE_BY_OTHERS = stat.S_IROTH | stat.S_IWOTH
CERTIFICATE_LABELS = ("CERTIFICATE", "X509 CERTIFICATE")
KEY_LABELS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
# OpenSSL writes them in front of a key, which contains them too.
_IGNORED_LABELS = {"EC PARAMETERS"}
_OTHER_KINDS = {
    "CERTIFICATE REQUEST": "a certificate signing request; send it to a CA, and use the certificate that it issues",
    "NEW CERTIFICATE REQUEST": "a certificate signing request; send it to a CA, and use the certificate that it issues",
    "TRUSTED CERTIFICATE": "a certificate in OpenSSL's trusted format; convert it: openssl x509 -in FILE",
    "PKCS7": "a PKCS#7 bundle; extract the certificates: openssl pkcs7 -print_certs -in FILE",
    "X509 CRL": "a list of revoked certificates",
    "PUBLIC KEY": "a public key, which is in the certificate already",
    "RSA PUBLIC KEY": "a public key, which is in the certificate already",
    "OPENSSH PRIVATE KEY": "a key in OpenSSH's format; convert it in place: ssh-keygen -p -m PKCS8 -f FILE",
    "DH PARAMETERS": "parameters of a key exchange, which Nginx does not need here",
}


class UnusableError(Exception):
    """The content is not usable; the text says what it is."""


@dataclass(frozen=True)
class Block:
    """One PEM block."""

    label: str
    pem: bytes


def read_file(path: Path, *, private: bool) -> bytes:
    """Return the content of a file.

    Raises:
        UnusableError: it cannot be read, or is private and other users can read it.

    """
    try:
        status = path.stat()
        # Reading a pipe or a device may block for ever.
        if stat.S_ISDIR(status.st_mode):
            raise UnusableError("is a folder; write the file in it")
        if not stat.S_ISREG(status.st_mode):
            raise UnusableError("is not a regular file; write the path of one")
        if status.st_size > _MAX_SIZE:
            raise UnusableError("has more than 1 MiB, so it contains something else; write the path of a PEM file")
        if private and status.st_mode & _READABLE_BY_OTHERS:
            raise UnusableError(
                f"is readable for all users of this machine; run: chmod 600 {path} (and use a new key if others may"
                " have read it)",
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise UnusableError(f"does not exist; paths are relative to the project's folder, {Path.cwd()}") from None
    except NotADirectoryError:
        raise UnusableError("contains a part that is not a folder; correct the path") from None
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror}; give the user who runs this read permission") from None


def blocks_in(content: bytes) -> list[Block]:
    """Return all PEM blocks, and ignore the text between them.

    Raises:
        UnusableError: there is none, or one without an end.

    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    blocks = [Block(match[1].decode("ascii"), match[0] + b"\n") for match in _BLOCK.finditer(content)]
    if content.count(b"-----BEGIN ") != len(blocks):
        raise UnusableError("is incomplete: a block in it has no end; copy the whole text")
    if not blocks:
        raise UnusableError(_what_it_is(content))
    return [block for block in blocks if block.label not in _IGNORED_LABELS]


def other_kind(block: Block) -> str:
    """Describe a block that is neither a certificate nor a usable key."""
    return _OTHER_KINDS.get(block.label, f"something else ({block.label})")


def _what_it_is(content: bytes) -> str:
    if not content.strip():
        return "is empty"
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"} or b"\0-\0-" in content:
        return "is written in UTF-16; save it as plain ASCII"
    if content[:1] == b"\x30":
        return _what_der_is(content)
    return "contains no PEM block (-----BEGIN … -----)"


def _what_der_is(content: bytes) -> str:
    if _PKCS12_VERSION in content[:8]:
        return (
            "is a PKCS#12 store; convert it: openssl pkcs12 -in FILE -nokeys -out chain.pem, and openssl pkcs12 -in"
            " FILE -nocerts -out key.pem"
        )
    try:
        x509.load_der_x509_certificate(content)
    except ValueError:
        pass
    else:
        return "is a certificate in DER format; convert it to PEM: openssl x509 -inform der -in FILE -out chain.pem"
    try:
        serialization.load_der_private_key(content, None)
    except TypeError:
        pass  # encrypted, so it is one
    except ValueError:
        return "is a binary file of an unknown format; write the path of a PEM file"
    return "is a private key in DER format; convert it to PEM: openssl pkey -inform der -in FILE -out key.pem"
