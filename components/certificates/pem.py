"""What a text or a file that should hold PEM really holds, said to whoever gave it."""

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
# A chain with its key has some kilobytes; whatever is larger is something else.
_LARGEST = 1 << 20
# RFC 7292 section 4: a PFX is a SEQUENCE that begins with the INTEGER 3.
_PKCS12_VERSION = b"\x02\x01\x03"
_READABLE_BY_OTHERS = stat.S_IROTH | stat.S_IWOTH
CERTIFICATE_LABELS = ("CERTIFICATE", "X509 CERTIFICATE")
KEY_LABELS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
# OpenSSL writes them in front of a key, which says the same.
_IGNORED_LABELS = {"EC PARAMETERS"}
_OTHER_KINDS = {
    "CERTIFICATE REQUEST": "a request for a certificate; give it to an authority, and write what that sends back",
    "NEW CERTIFICATE REQUEST": "a request for a certificate; give it to an authority, and write what that sends back",
    "TRUSTED CERTIFICATE": "a certificate with OpenSSL's own notes on trust; write it anew: openssl x509 -in FILE",
    "PKCS7": "a PKCS#7 collection; take the certificates out: openssl pkcs7 -print_certs -in FILE",
    "X509 CRL": "a list of revoked certificates",
    "PUBLIC KEY": "a public key, which is in the certificate already",
    "RSA PUBLIC KEY": "a public key, which is in the certificate already",
    "OPENSSH PRIVATE KEY": "a key in OpenSSH's own form; write it anew, in place: ssh-keygen -p -m PKCS8 -f FILE",
    "DH PARAMETERS": "parameters of a key exchange, which nothing here needs",
}


class UnusableError(Exception):
    """What was given is not what it should be; the text says what it is."""


@dataclass(frozen=True)
class Block:
    """One thing in PEM form."""

    label: str
    pem: bytes


def read_file(path: Path, *, private: bool) -> bytes:
    """Return what a file holds.

    Raises:
        UnusableError: it cannot be read, or is private and others can read it.

    """
    try:
        found = path.stat()
        # Whoever reads a pipe or a device may wait for ever.
        if stat.S_ISDIR(found.st_mode):
            raise UnusableError("is a folder; write the file in it")
        if not stat.S_ISREG(found.st_mode):
            raise UnusableError("is no ordinary file; write the path of one")
        if found.st_size > _LARGEST:
            raise UnusableError("has more than 1 MiB, so it holds something else; write the path of a PEM file")
        if private and found.st_mode & _READABLE_BY_OTHERS:
            raise UnusableError(
                f"can be read by everybody on this machine; run: chmod 600 {path} (and take a new key where that"
                " matters)",
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise UnusableError(f"is not there; paths are relative to the project's folder, {Path.cwd()}") from None
    except NotADirectoryError:
        raise UnusableError("leads through something that is no folder; correct the path") from None
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror}; let who runs this read it") from None


def blocks_in(content: bytes) -> list[Block]:
    """Return everything in PEM form, whatever stands between.

    Raises:
        UnusableError: there is nothing, or a beginning without its end.

    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    found = [Block(match[1].decode("ascii"), match[0] + b"\n") for match in _BLOCK.finditer(content)]
    if not found:
        raise UnusableError(_what_it_is(content))
    if content.count(b"-----BEGIN ") != len(found):
        raise UnusableError("was cut: something in it begins and does not end; copy the whole of it")
    return [block for block in found if block.label not in _IGNORED_LABELS]


def other_kind(block: Block) -> str:
    """Say what a block is that is neither a certificate nor a usable key."""
    return _OTHER_KINDS.get(block.label, f"something else ({block.label})")


def _what_it_is(content: bytes) -> str:
    if not content.strip():
        return "is empty"
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"} or b"\0-\0-" in content:
        return "is written in UTF-16; save it as plain ASCII"
    if b"-----BEGIN " in content:
        return "was cut: something in it begins and does not end; copy the whole of it"
    if content[:1] == b"\x30":
        return _what_der_is(content)
    return "holds nothing in PEM form (-----BEGIN … -----)"


def _what_der_is(content: bytes) -> str:
    if _PKCS12_VERSION in content[:8]:
        return (
            "is a PKCS#12 store; take it apart: openssl pkcs12 -in FILE -nokeys -out chain.pem, and openssl pkcs12 -in"
            " FILE -nocerts -out key.pem"
        )
    try:
        x509.load_der_x509_certificate(content)
    except ValueError:
        pass
    else:
        return "is a certificate in DER form; write it as PEM: openssl x509 -inform der -in FILE -out chain.pem"
    try:
        serialization.load_der_private_key(content, None)
    except TypeError:
        pass  # encrypted, so it is one
    except ValueError:
        return "is binary and holds nothing that is known; write the path of a PEM file"
    return "is a private key in DER form; write it as PEM: openssl pkey -inform der -in FILE -out key.pem"
