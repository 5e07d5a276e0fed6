"""A user's own certificate is checked before any change: each fault has its own message."""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from open_webui_edge.components.certificates.provided import Reading, read_provided
from open_webui_edge.settings.certificate import ProvidedSettings
from tests.support.certificates import Issued, authority, ecdsa, key_pem, pem, rsa_key, server

NAMES = ("chat.example.com", "www.example.com")
PASSPHRASE = "hunter22"
CHAIN, KEY = "chain.pem", "key.pem"
WARN_BEFORE = timedelta(days=14)
Bytes = str | bytes


@cache
def root() -> Issued:
    return authority("Test root")


@cache
def intermediate() -> Issued:
    return authority("Test issuing", root())


@cache
def good() -> Issued:
    return server(NAMES, intermediate())


@cache
def another_key() -> Any:
    return ecdsa()


def site(**how: Any) -> Issued:
    """Return a certificate for the site that differs in something."""
    return server(how.pop("names", NAMES), how.pop("by", intermediate()), **how)


def day(days: float) -> str:
    """Return what stands for the day that many days from a test's own now: a run may last past midnight."""
    return f"<day {days:+}>"


def with_days_of(expected: str, said: str, began: datetime) -> str:
    """Return what was said with the signs of `day` for those days that are expected."""
    for days in re.findall(r"<day ([^>]+)>", expected):
        for now in (began, datetime.now(UTC)):
            said = said.replace(f"{now + timedelta(days=float(days)):%Y-%m-%d}", f"<day {days}>")
    return said


@dataclass(frozen=True)
class Given:
    """Two files, and what the settings say beside them."""

    chain: Bytes | None
    key: Bytes | None
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    mode: int = 0o600
    """Of the key's file."""

    @classmethod
    def of(cls, issued: Issued) -> "Given":
        return cls(issued.chain_pem, issued.key_pem)


def read(given: Given, folder: Path) -> Reading:
    for name, content in ((CHAIN, given.chain), (KEY, given.key)):
        if content is not None:
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
            (folder / name).chmod(given.mode if name == KEY else 0o644)
    settings: dict[str, Any] = {
        "certificate_file": CHAIN,
        "private_key_file": KEY,
        **{name: text for name, text in given.settings.items() if text},
    }
    for name in ("certificate", "private_key"):
        if name in settings:
            del settings[f"{name}_file"]
    with contextlib.chdir(folder):
        return read_provided(ProvidedSettings.model_validate_json(json.dumps(settings)), NAMES, warn_before=WARN_BEFORE)


def request_(key: Any = None) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(key or ecdsa(), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def public_key() -> str:
    return (
        good()
        .certificate.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def openssh_key() -> bytes:
    return ecdsa().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def der_key(passphrase: str | None = None) -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    return good().key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, encryption)


def store() -> bytes:
    return pkcs12.serialize_key_and_certificates(
        b"site", good().key, good().certificate, None, serialization.BestAvailableEncryption(b"hunter22")
    )


def signed_with_sha_1() -> str:
    """Have OpenSSL's own tool sign: the library refuses to."""
    with TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "request.pem").write_text(request_(good().key))
        (here / "authority.pem").write_text(intermediate().pem + intermediate().key_pem)
        (here / "names").write_text(f"subjectAltName={','.join(f'DNS:{name}' for name in NAMES)}")
        ended = subprocess.run(  # noqa: S603 - our own words
            [
                *("openssl", "x509", "-req", "-sha1", "-days", "9", "-in", here / "request.pem"),
                *("-CA", here / "authority.pem", "-CAkey", here / "authority.pem", "-extfile", here / "names"),
            ],
            capture_output=True,
            check=True,
            text=True,
        )
    return ended.stdout


def changed(text: str) -> str:
    """Return PEM of which a piece in the middle is gone."""
    lines = text.splitlines()
    return "\n".join([*lines[:3], *lines[5:]]) + "\n"


def by_another_of_that_name() -> Given:
    impostor = authority("Test issuing", root())
    return Given(good().pem + impostor.pem, good().key_pem)


def without_end(text: str) -> str:
    return text[: text.rindex("-----END")]


BEGINNINGS = {
    "C": 'certificate.provided.certificate_file: "chain.pem" ',
    "K": 'certificate.provided.private_key_file: "key.pem" ',
    "C=": "certificate.provided.certificate_file: ",
    "S=": "certificate.provided.private_key: ",
    "P": "certificate.provided.passphrase: ",
}
"""How a message begins; the cases have a sign for it."""
ISSUED_FOR = "get one issued for all names of site.domain, site.aliases and certificate.additional_names"

REFUSED: dict[str, tuple[Callable[[], Given], list[str]]] = {
    "the key of another certificate": (
        lambda: Given(good().chain_pem, key_pem(another_key())),
        ['K: is not the key of the certificate for "the site"; write that certificate\'s key'],
    ),
    "a name that is not covered": (
        lambda: Given.of(site(names=["chat.example.com", "192.0.2.1"])),
        [f"C: does not cover www.example.com, but chat.example.com, 192.0.2.1; {ISSUED_FOR}"],
    ),
    "a wildcard of the domain below": (
        lambda: Given.of(site(names=["*.chat.example.com"])),
        [
            f"C: does not cover chat.example.com, www.example.com, but *.chat.example.com; {ISSUED_FOR}",
        ],
    ),
    "a common name alone": (
        lambda: Given.of(site(names=[], common_name="chat.example.com")),
        [
            ("C: has no subject alternative names, which browsers require; get one issued with them"),
        ],
    ),
    "not yet valid": (
        lambda: Given.of(site(days=(2.5, 30))),
        [f"C: is not valid before {day(2.5)} ??:?? UTC, and this machine's clock says {day(0)} ??:?? UTC"],
    ),
    "expired": (
        lambda: Given.of(site(days=(-90, -1))),
        [f"C: expired on {day(-1)} ??:?? UTC; provide its successor"],
    ),
    "an authority that has expired": (
        lambda: Given.of(site(by=authority("Test issuing", root(), days=(-20, -1)))),
        [
            (
                f'C: contains the CA "Test issuing" (number 2), whose certificate expired on {day(-1)} ??:?? UTC; use'
                " its successor"
            ),
        ],
    ),
    "an authority that is not valid yet": (
        lambda: Given.of(site(by=authority("Test issuing", root(), days=(1, 9)))),
        [
            (f'C: contains the CA "Test issuing" (number 2), whose certificate is not valid before {day(1)} ??:?? UTC'),
        ],
    ),
    "the chain the other way round": (
        lambda: Given(intermediate().pem + good().pem, good().key_pem),
        [
            (
                'C: is in the wrong order: the certificate that the key belongs to, "the site", is number 2; put it'
                " first, and after each certificate the CA that signed it"
            ),
        ],
    ),
    "two authorities the other way round": (
        lambda: Given(good().pem + root().pem + intermediate().pem, good().key_pem),
        [
            (
                'C: is in the wrong order: "the site" (number 1) was signed by "Test issuing", which is number 3; put'
                " that one directly after it"
            ),
        ],
    ),
    "an authority that is missing in between": (
        lambda: Given(good().pem + root().pem, good().key_pem),
        [
            (
                'C: has a gap: "the site" (number 1) was signed by "Test issuing", but the next one is "Test root";'
                ' insert the missing certificate, or remove "Test root" if it does not belong here'
            ),
        ],
    ),
    "another site's certificate in the chain": (
        lambda: Given(good().pem + server(["blog.example.com"], root(), common_name="blog").pem, good().key_pem),
        [
            ('C: contains "blog" (number 2), which did not sign "the site" and is not a CA; remove it'),
        ],
    ),
    "something behind the root": (
        lambda: Given(good().chain_pem + root().pem + authority("Another root").pem, good().key_pem),
        [
            (
                'C: continues after the root CA "Test root", which must be the last; remove "Another root" and what'
                " follows"
            ),
        ],
    ),
    "an authority of the same name": (
        by_another_of_that_name,
        [
            (
                'C: contains at number 2 a CA named "Test issuing" that did not sign "the site": another CA of that'
                " name did; use the CA certificate from your issuer"
            ),
        ],
    ),
    "an authority that is none": (
        lambda: Given.of(site(by=server(["issuer.example.com"], root(), common_name="no authority"))),
        [
            ('C: contains "no authority" (number 2), which signed the one before it but is not a CA'),
        ],
    ),
    "the same certificate twice": (
        lambda: Given(good().pem + good().chain_pem, good().key_pem),
        ['C: contains the certificate of "the site" twice; remove one of them'],
    ),
    "an encrypted key without a passphrase": (
        lambda: Given(good().chain_pem, key_pem(good().key, PASSPHRASE)),
        [
            (
                "K: is encrypted; add certificate.provided.passphrase: pulumi config set --path --secret"
                " 'open-webui-edge:certificate.provided.passphrase'"
            ),
        ],
    ),
    "an encrypted key of the older kind without a passphrase": (
        lambda: Given(good().chain_pem, key_pem(good().key, PASSPHRASE, traditional=True)),
        [
            (
                "K: is encrypted; add certificate.provided.passphrase: pulumi config set --path --secret"
                " 'open-webui-edge:certificate.provided.passphrase'"
            ),
        ],
    ),
    "a wrong passphrase": (
        lambda: Given(good().chain_pem, key_pem(good().key, PASSPHRASE), {"passphrase": "correct-horse"}),
        ["P: does not decrypt the private key; write the passphrase that encrypted it"],
    ),
    "a passphrase for a key that has none": (
        lambda: Given(good().chain_pem, good().key_pem, {"passphrase": PASSPHRASE}),
        ["P: is set, but the private key is not encrypted; remove the setting"],
    ),
    "an RSA key that is too short": (
        lambda: Given.of(site(key=rsa_key(1024))),
        ["C: has an RSA key of 1024 bits, which browsers refuse; use one of 2048 or more"],
    ),
    "a DSA key": (
        lambda: Given.of(site(key=dsa.generate_private_key(2048))),
        ["C: has a DSA key, which browsers refuse; use ECDSA (P-256), or RSA of 2048 bits or more"],
    ),
    "an Ed25519 key": (
        lambda: Given.of(site(key=ed25519.Ed25519PrivateKey.generate())),
        ["C: has an Ed25519 key, which browsers refuse; use ECDSA (P-256), or RSA of 2048 bits or more"],
    ),
    "an Ed448 key": (
        lambda: Given.of(site(key=ed448.Ed448PrivateKey.generate())),
        ["C: has an Ed448 key, which browsers refuse; use ECDSA (P-256), or RSA of 2048 bits or more"],
    ),
    "a curve that not every browser knows": (
        lambda: Given.of(site(key=ec.generate_private_key(ec.SECP521R1()))),
        ["C: has an ECDSA key on secp521r1, which not every browser supports; use P-256 or P-384"],
    ),
    "a certificate for clients": (
        lambda: Given.of(site(uses=[ExtendedKeyUsageOID.CLIENT_AUTH])),
        [
            ("C: is not for servers (its extended key usage lacks serverAuth); get one issued for a web server"),
        ],
    ),
    "a certificate that may not sign": (
        lambda: Given.of(site(signs=False)),
        [
            ("C: may not sign (its key usage lacks digitalSignature), which TLS requires; get another one issued"),
        ],
    ),
    "a certificate that must be stapled": (
        lambda: Given.of(site(further=[x509.TLSFeature([x509.TLSFeatureType.status_request])])),
        [
            ("C: requires OCSP stapling (must-staple), which the proxy does not support; get one issued without"),
        ],
    ),
    "an authority's certificate": (
        lambda: Given(root().pem, root().key_pem),
        [
            (
                'C: is a CA certificate ("Test root"), which browsers refuse for a server; get a certificate issued'
                " for the site"
            ),
            ("C: may not sign (its key usage lacks digitalSignature), which TLS requires; get another one issued"),
            ("C: has no subject alternative names, which browsers require; get one issued with them"),
        ],
    ),
    "a signature with SHA-1": (
        lambda: Given(signed_with_sha_1() + intermediate().pem, good().key_pem),
        ["C: is signed with MD5 or SHA-1, which browsers refuse; get a new one issued"],
    ),
    "a PKCS#12 store": (
        lambda: Given(store(), good().key_pem),
        [
            (
                "C: is a PKCS#12 store; convert it: openssl pkcs12 -in FILE -nokeys -out chain.pem, and openssl pkcs12"
                " -in FILE -nocerts -out key.pem"
            ),
        ],
    ),
    "a certificate in DER form": (
        lambda: Given(good().certificate.public_bytes(serialization.Encoding.DER), good().key_pem),
        [
            ("C: is a certificate in DER format; convert it to PEM: openssl x509 -inform der -in FILE -out chain.pem"),
        ],
    ),
    "a key in DER form": (
        lambda: Given(good().chain_pem, der_key()),
        ["K: is a private key in DER format; convert it to PEM: openssl pkey -inform der -in FILE -out key.pem"],
    ),
    "an encrypted key in DER form": (
        lambda: Given(good().chain_pem, der_key(PASSPHRASE)),
        ["K: is a private key in DER format; convert it to PEM: openssl pkey -inform der -in FILE -out key.pem"],
    ),
    "something binary": (
        lambda: Given(good().chain_pem, b"\x30\x03\x01\x01\xff"),
        ["K: is a binary file of an unknown format; write the path of a PEM file"],
    ),
    "a request for a certificate": (
        lambda: Given(request_(), good().key_pem),
        [
            ("C: contains a certificate signing request; send it to a CA, and use the certificate that it issues"),
        ],
    ),
    "a PKCS#7 collection": (
        lambda: Given(pkcs7.serialize_certificates([good().certificate], serialization.Encoding.PEM), good().key_pem),
        [
            ("C: contains a PKCS#7 bundle; extract the certificates: openssl pkcs7 -print_certs -in FILE"),
        ],
    ),
    "a public key for the private one": (
        lambda: Given(good().chain_pem, public_key()),
        ["K: contains a public key, which is in the certificate already"],
    ),
    "a key in OpenSSH's form": (
        lambda: Given(good().chain_pem, openssh_key()),
        [
            ("K: contains a key in OpenSSH's format; convert it in place: ssh-keygen -p -m PKCS8 -f FILE"),
        ],
    ),
    "the key in the certificate's file": (
        lambda: Given(good().key_pem + good().chain_pem, good().key_pem),
        [
            "C: contains a private key, which belongs in private_key or private_key_file; remove it here",
        ],
    ),
    "the certificate in the key's file": (
        lambda: Given(good().chain_pem, good().chain_pem),
        [
            (
                "K: contains a certificate, but no private key; the certificate belongs in certificate or"
                " certificate_file"
            ),
        ],
    ),
    "two keys": (
        lambda: Given(good().chain_pem, good().key_pem + key_pem(another_key())),
        ["K: contains 2 private keys; keep only the certificate's"],
    ),
    "a certificate that lost a piece": (
        lambda: Given(changed(good().pem) + intermediate().pem, good().key_pem),
        [
            "C: is damaged: certificate 1 in it cannot be read; copy the whole text",
        ],
    ),
    "a key that lost a piece": (
        lambda: Given(good().chain_pem, changed(key_pem(rsa_key()))),
        ["K: is damaged; copy the whole text"],
    ),
    "a chain without its end": (
        lambda: Given(without_end(good().chain_pem), good().key_pem),
        ["C: is incomplete: a block in it has no end; copy the whole text"],
    ),
    "a key without its end": (
        lambda: Given(good().chain_pem, without_end(good().key_pem)),
        ["K: is incomplete: a block in it has no end; copy the whole text"],
    ),
    "a file that Windows wrote": (
        lambda: Given(good().chain_pem.encode("utf-16"), good().key_pem),
        ["C: is written in UTF-16; save it as plain ASCII"],
    ),
    "an empty file": (lambda: Given("\n", good().key_pem), ["C: is empty"]),
    "some text": (
        lambda: Given("see the wiki\n", good().key_pem),
        ["C: contains no PEM block (-----BEGIN … -----)"],
    ),
    "a file that is too large": (
        lambda: Given("x" * (1 << 21), good().key_pem),
        ["C: has more than 1 MiB, so it contains something else; write the path of a PEM file"],
    ),
    "a key that everybody can read": (
        lambda: Given(good().chain_pem, good().key_pem, mode=0o644),
        [
            (
                "K: is readable for all users of this machine; run: chmod 600 key.pem (and use a new key if"
                " others may have read it)"
            ),
        ],
    ),
    "files that are not there": (
        lambda: Given(None, None),
        [
            "C: does not exist; paths are relative to the project's folder, HERE",
            "K: does not exist; paths are relative to the project's folder, HERE",
        ],
    ),
    "a folder": (
        lambda: Given(good().chain_pem, good().key_pem, {"certificate_file": "."}),
        ['C=: "." is a folder; write the file in it'],
    ),
    "a path through a file": (
        lambda: Given(good().chain_pem, good().key_pem, {"certificate_file": "key.pem/chain.pem"}),
        ['C=: "key.pem/chain.pem" contains a part that is not a folder; correct the path'],
    ),
    "a device": (
        lambda: Given(good().chain_pem, good().key_pem, {"certificate_file": "/dev/zero"}),
        ['C=: "/dev/zero" is not a regular file; write the path of one'],
    ),
    "text in the settings that is no key": (
        lambda: Given(good().chain_pem, None, {"private_key": PASSPHRASE}),
        ["S=: contains no PEM block (-----BEGIN … -----)"],
    ),
    "everything at once": (
        lambda: Given(
            site(names=["chat.example.com"], days=(-9, -1), uses=[ExtendedKeyUsageOID.CLIENT_AUTH]).chain_pem,
            key_pem(another_key()),
            mode=0o600,
        ),
        [
            f"C: expired on {day(-1)} ??:?? UTC; provide its successor",
            ("C: is not for servers (its extended key usage lacks serverAuth); get one issued for a web server"),
            f"C: does not cover www.example.com, but chat.example.com; {ISSUED_FOR}",
            'K: is not the key of the certificate for "the site"; write that certificate\'s key',
        ],
    ),
}


def written_out(line: str, folder: Path) -> str:
    where, _, words = line.partition(": ")
    return f"{BEGINNINGS[where]}{words.replace('HERE', str(folder))}"


@pytest.mark.parametrize("case", REFUSED)
def test_each_fault_is_named(case: str, tmp_path: Path) -> None:
    make, expected = REFUSED[case]
    began = datetime.now(UTC)
    reading = read(make(), tmp_path)
    assert reading.certificate is None
    said = [re.sub(r"\d\d:\d\d UTC", "??:?? UTC", str(fault)) for fault in reading.faults]
    assert [with_days_of("".join(expected), line, began) for line in said] == [
        written_out(line, tmp_path) for line in expected
    ]


def test_each_case_has_its_own_words() -> None:
    said = ["\n".join(expected) for _, expected in REFUSED.values()]
    # A key is encrypted in two ways, and DER in two, which users need not know.
    assert len(set(said)) == len(said) - 2


def test_no_secret_is_in_a_message() -> None:
    assert not any(PASSPHRASE in line or "correct-horse" in line for _, lines in REFUSED.values() for line in lines)


def in_the_older_form() -> Given:
    issued = site(key=rsa_key())
    return Given(issued.chain_pem, key_pem(issued.key, traditional=True))


ACCEPTED: dict[str, Callable[[], Given]] = {
    "a chain without its root": lambda: Given.of(good()),
    "a chain with its root": lambda: Given(good().chain_pem + root().pem, good().key_pem),
    "signed by a root": lambda: Given.of(site(by=root())),
    "signed by itself": lambda: Given.of(site(by=None)),
    "an RSA key": lambda: Given.of(site(key=rsa_key())),
    "an RSA key in the older form": in_the_older_form,
    "P-384": lambda: Given.of(site(key=ec.generate_private_key(ec.SECP384R1()))),
    "a wildcard": lambda: Given.of(site(names=["*.example.com"])),
    "names in capitals": lambda: Given.of(site(names=["CHAT.example.com", "www.EXAMPLE.com"])),
    "for everything": lambda: Given.of(site(uses=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])),
    "for nothing in particular": lambda: Given.of(site(uses=None)),
    "an encrypted key": lambda: Given(
        good().chain_pem, key_pem(good().key, PASSPHRASE), {"passphrase": PASSPHRASE}
    ),
    "an encrypted key of the older kind": lambda: Given(
        good().chain_pem, key_pem(good().key, PASSPHRASE, traditional=True), {"passphrase": PASSPHRASE}
    ),
    "text around it": lambda: Given(
        "Bag Attributes\n    friendlyName: site\n" + good().chain_pem, "a key:\n" + good().key_pem
    ),
    "key and chain in one file": lambda: Given(good().chain_pem, good().chain_pem + good().key_pem),
    "lines that end as on Windows": lambda: Given(
        good().chain_pem.replace("\n", "\r\n"), b"\xef\xbb\xbf" + good().key_pem.replace("\n", "\r\n").encode()
    ),
    "parameters in front of the key": lambda: Given(
        good().chain_pem, "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        + key_pem(good().key, traditional=True)
    ),
    "a key that a group can read": lambda: Given(good().chain_pem, good().key_pem, mode=0o640),
    "in the settings": lambda: Given(None, None, {"certificate": good().chain_pem, "private_key": good().key_pem}),
}  # fmt: skip


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_browsers_take_is_taken(case: str, tmp_path: Path) -> None:
    reading = read(ACCEPTED[case](), tmp_path)
    assert reading.faults == ()
    ready = reading.certificate
    assert ready is not None
    chain = x509.load_pem_x509_certificates(ready.certificate_pem.encode())
    # Whatever it was encrypted with: Nginx is not asked for a passphrase.
    key = serialization.load_pem_private_key(ready.private_key_pem.encode(), None)
    assert key.public_key() == chain[0].public_key()
    assert ready.rsa == ("RSA" in case)
    assert PASSPHRASE not in repr(reading)
    assert "PRIVATE" not in repr(reading)


def test_an_end_that_is_near_is_a_warning(tmp_path: Path) -> None:
    began = datetime.now(UTC)
    reading = read(Given.of(site(days=(-80, 13.5))), tmp_path)
    assert reading.certificate is not None
    (warning,) = reading.warnings
    expected = f"certificate.provided: expires on {day(13.5)} ??:?? UTC, in 13 days; provide its successor"
    assert with_days_of(expected, re.sub(r"\d\d:\d\d", "??:??", warning), began) == expected
    assert read(Given.of(site(days=(-80, 14.5))), tmp_path).warnings == ()


def test_an_authority_that_ends_first_is_what_counts(tmp_path: Path) -> None:
    reading = read(Given.of(site(by=authority("Test issuing", root(), days=(-9, 2.5)))), tmp_path)
    assert len(reading.warnings) == 1
    assert "in 2 days" in reading.warnings[0]


def test_a_certificate_without_its_authority_is_a_warning(tmp_path: Path) -> None:
    reading = read(Given(good().pem, good().key_pem), tmp_path)
    assert reading.certificate is not None
    assert reading.warnings == (
        (
            'certificate.provided: contains no CA: browsers must know "Test issuing" already. Unless that is a root'
            " CA, put its certificate after the site's"
        ),
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without read permission")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Given.of(good())
    read(given, tmp_path)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    settings = ProvidedSettings(certificate_file=CHAIN, private_key_file=KEY)
    os.seteuid(65534)
    try:
        reading = read_provided(settings, NAMES, warn_before=WARN_BEFORE)
    finally:
        os.seteuid(0)
    assert [str(fault) for fault in reading.faults] == [
        f"{BEGINNINGS['K']}cannot be read: Permission denied; give the user who runs this read permission",
    ]


def test_the_pem_of_certificates_is_written_anew(tmp_path: Path) -> None:
    reading = read(Given("a comment with $variables\n" + good().chain_pem, good().key_pem), tmp_path)
    assert reading.certificate is not None
    assert reading.certificate.certificate_pem == pem(good().certificate, intermediate().certificate)
