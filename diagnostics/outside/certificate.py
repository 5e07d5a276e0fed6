"""Who does the site say that it is, and would a browser believe it?"""

import socket
import ssl
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtensionOID, NameOID
from OpenSSL import SSL

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import http_client
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

_SMALLEST_RSA = 2048
PUBLIC: Mapping[str, tuple[str, ...]] = {
    "let's encrypt": ("letsencrypt.org",),
    "google trust": ("pki.goog",),
    "amazon": ("amazon.com", "amazontrust.com", "awstrust.com", "amazonaws.com"),
    "zerossl": ("sectigo.com",),
    "sectigo": ("sectigo.com", "comodoca.com"),
    "digicert": ("digicert.com", "www.digicert.com"),
    "globalsign": ("globalsign.com",),
    "buypass": ("buypass.com",),
    **dict.fromkeys(("ssl.com", "entrust", "godaddy"), ()),
}
"""A word in the name of an issuer that browsers know -> what a CAA record calls it, where that is known."""
_PLAIN_HTTP_FIX = (
    "In Nginx write `listen 443 ssl;` with ssl_certificate and ssl_certificate_key in the server of this name; Caddy "
    "does so by itself for a site that is named without http://."
)
_RELOAD = "; then reload the proxy (`nginx -s reload`): it reads certificates only then"


@dataclass(frozen=True)
class Served:
    """What a handshake showed."""

    chain: tuple[x509.Certificate, ...]
    """As it was sent, the site's own first."""
    version: str
    stapled: bytes
    """An OCSP answer that came along, in DER."""
    distrust: str
    """Why this machine would not believe the chain, whatever the names; "" where it would."""

    @property
    def leaf(self) -> x509.Certificate:
        """The site's own certificate."""
        return self.chain[0]


def served(subject: Subject) -> Served:
    """Return what the site shows; raises OSError where there was no handshake."""
    return subject.once("served", lambda: _served(subject))


def issuer_of(subject: Subject) -> str:
    """Return who issued the site's certificate, in words; "" without TLS."""
    return "" if subject.scheme == "http" else _name(served(subject).leaf.issuer)


def _served(subject: Subject) -> Served:
    stapled: list[bytes] = []
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)

    def keep(_: SSL.Connection, answer: bytes, __: object) -> bool:
        stapled.append(answer)
        return True

    context.set_ocsp_client_callback(keep)
    with http_client.connect(subject, subject.port) as plain:
        # pyOpenSSL takes a socket that waits by itself.
        plain.settimeout(None)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(http_client.SECONDS), 0))
        connected = SSL.Connection(context, plain)
        if not http_client.is_address(subject.name):
            connected.set_tlsext_host_name(subject.name.encode("idna"))
        connected.request_ocsp()
        connected.set_connect_state()
        try:
            connected.do_handshake()
        except (SSL.Error, OSError) as fault:
            raise OSError(_in_words(fault)) from fault
        certificates = connected.get_peer_cert_chain(as_cryptography=True) or []
        version = connected.get_protocol_version_name()
    return Served(tuple(certificates), version, stapled[0] if stapled else b"", _distrust(subject))


def _in_words(fault: Exception) -> str:
    if isinstance(fault, SSL.WantReadError):
        return "nothing came within the time"
    details = fault.args[0] if fault.args else ""
    if isinstance(fault, SSL.SysCallError):
        return str(fault.args[-1])
    if isinstance(details, list) and details:
        return str(details[0][-1])
    return str(fault) or type(fault).__name__


def _distrust(subject: Subject) -> str:
    context = http_client.verified_context(subject)
    context.check_hostname = False
    try:
        with http_client.connection(subject, context=context):
            return ""
    except ssl.SSLCertVerificationError as fault:
        return fault.verify_message
    except OSError as fault:
        return http_client.reason(fault)


def _handshake(subject: Subject) -> Iterator[Finding]:
    if subject.scheme == "http" and http_client.is_loopback(subject):
        yield Hop.PROXY.note("tls.none", "Plain HTTP, to this machine itself.")
        return
    if subject.scheme == "http":
        yield Hop.PROXY.warning(
            "tls.none",
            f"{subject.url} is plain HTTP.",
            "Passwords and chats are unencrypted, and browsers give such a page no microphone and no clipboard.",
            "Set certificate.mode and call it by https://. " + _PLAIN_HTTP_FIX
            if subject.of_a_stack
            else f"Give it a certificate. {_PLAIN_HTTP_FIX}",
            setting="certificate.mode",
            explains=("cookies.*", "oauth.scheme"),
        )
        return
    try:
        shown = served(subject)
    except OSError as fault:
        yield _no_handshake(subject, str(fault))
        return
    if shown.chain:
        yield Hop.PROXY.ok("tls.handshake", f"{shown.version} with a certificate from {_name(shown.leaf.issuer)}.")
    else:
        seen = "The handshake shows no certificate."
        yield Hop.PROXY.failure("tls.handshake", seen, "No browser goes on.", _PLAIN_HTTP_FIX)


def _no_handshake(subject: Subject, words: str) -> Finding:
    if http_client.plain_status(subject, f"http://{subject.authority}"):
        return Hop.PROXY.failure(
            "tls.plain",
            f"Port {subject.port} speaks plain HTTP, not TLS.",
            "A browser that is sent to https:// shows ERR_SSL_PROTOCOL_ERROR.",
            _PLAIN_HTTP_FIX + " Or it is the proxy's plain port that was published: publish the one with TLS.",
            setting="site.listen.https_port",
        )
    return Hop.PROXY.failure(
        "tls.handshake",
        f"There is no TLS handshake for {subject.name}: {words}.",
        "No browser gets past this.",
        f"Give the proxy a certificate for {subject.name} (site.domain, site.aliases; in Nginx a server with this "
        "server_name, ssl_certificate and ssl_certificate_key); the proxy's error log says what it misses.",
        setting="site.domain",
    )


def _certificate(subject: Subject) -> Iterator[Finding]:
    if subject.scheme == "http":
        yield Hop.PROXY.ok("tls.certificate", "Without TLS there is none.")
        return
    shown = served(subject)
    findings = [
        *_dates(subject, shown),
        *_names(subject, shown.leaf),
        *_trust(subject, shown),
        *_strength(shown.leaf),
        *_expected_one(subject, shown.leaf),
        *_transparency(shown),
        *_stapling(shown),
    ]
    yield from findings
    if not any(finding.is_trouble for finding in findings):
        left = _days(shown.leaf.not_valid_after_utc - datetime.now(UTC))
        yield Hop.PROXY.ok(
            "tls.certificate",
            f"For {', '.join(_subjects(shown.leaf))}, from {_name(shown.leaf.issuer)}, {left} days left, "
            f"{_key(shown.leaf)}.",
        )


def _dates(subject: Subject, shown: Served) -> Iterator[Finding]:
    now = datetime.now(UTC)
    leaf = shown.leaf
    for certificate in shown.chain:
        mine = certificate is leaf
        whose = "certificate" if mine else f"CA {_name(certificate.subject)} in its chain"
        if certificate.not_valid_after_utc < now:
            since = certificate.not_valid_after_utc.date()
            yield Hop.PROXY.failure(
                "tls.expired",
                f"The {whose} ran out on {since}, {_days(now - certificate.not_valid_after_utc)} days ago.",
                "Browsers show a warning instead of the site, and programs refuse to connect.",
                _renewal(subject) if mine else f"Install the chain that the issuer gives out now{_RELOAD}.",
                setting="certificate.mode",
                explains=("tls.untrusted", "tls.days", "tls.incomplete"),
            )
            return
        if certificate.not_valid_before_utc > now:
            yield Hop.PROXY.failure(
                "tls.early",
                f"The {whose} is only valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on.",
                "Browsers show a warning instead of the site.",
                "Set the clock of the machine that made it, and make it again; or the clock here is wrong.",
                explains=("tls.untrusted", "tls.incomplete"),
            )
            return
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    least = min(timedelta(days=subject.expectations.days_left), lifetime / 4)
    left = leaf.not_valid_after_utc - now
    if left < least:
        yield Hop.PROXY.warning(
            "tls.days",
            f"The certificate has {_days(left)} days left, and should have been renewed by now.",
            "Then browsers show a warning instead of the site.",
            _renewal(subject),
            setting="certificate.mode",
        )


def _renewal(subject: Subject) -> str:
    if subject.of_a_stack:
        return (
            "`make certificate` says how the last renewal went, `make certificate-dry-run` practises one; "
            "with certificate.mode: provided bring a new one, with self-signed `make up` makes it."
        )
    return (
        "Renew it (`certbot renew`, or what made it)"
        + _RELOAD
        + ". certbot does it with `--deploy-hook`. Caddy renews "
        "by itself where it is reached on ports 80 and 443; its log says why it could not."
    )


def _names(subject: Subject, leaf: x509.Certificate) -> Iterator[Finding]:
    subjects = _subjects(leaf)
    names = (subject.name, *subject.expectations.names)
    missing = [name for name in dict.fromkeys(names) if not _covers(subjects, name)]
    if missing:
        listed = ", ".join(missing)
        yield Hop.PROXY.failure(
            "tls.name",
            f"The certificate is for {', '.join(subjects) or 'no name'}, not for {listed}.",
            "Browsers show a warning instead of the site.",
            f"Get one that names {listed}: in the stack file site.domain and site.aliases are its names."
            if subject.of_a_stack
            else f"Get one that names {listed} (certbot: `-d {missing[0]}`), and have the server block of that name "
            "use it: in Nginx server_name and ssl_certificate; without a match the first server's is shown.",
            setting="site.aliases",
        )


def _covers(subjects: Sequence[str], name: str) -> bool:
    if http_client.is_address(name):
        return name in subjects
    _, _, parent = name.lower().partition(".")
    return any(each.lower() in {name.lower(), f"*.{parent}"} for each in subjects)


def _trust(subject: Subject, shown: Served) -> Iterator[Finding]:
    issuer = _name(shown.leaf.issuer)
    if not shown.distrust:
        if subject.trust and subject.of_a_stack:
            yield Hop.PROXY.note(
                "tls.own-authority",
                f"It is signed by the stack's own CA, {issuer}.",
                "Browsers believe it once that is installed: `make trust-ca` on this machine.",
            )
    elif _signed_itself(shown.leaf):
        yield Hop.PROXY.failure(
            "tls.self-signed",
            "The certificate is self-signed.",
            "Browsers show a warning before the site, and programs refuse to connect.",
            "Get one from an issuer that browsers know: certificate.mode: lets-encrypt, or certbot or Caddy; for a "
            "machine without a public name install it on each device that uses the site.",
            setting="certificate.mode",
            value="lets-encrypt",
            explains=("tls.untrusted",),
        )
    elif _is_incomplete(subject, shown):
        yield Hop.PROXY.failure(
            "tls.incomplete",
            f"Only the site's own certificate is sent, without the one of {issuer} that signed it.",
            "Some browsers find that by themselves; phones, Python, curl and every app that calls the API refuse.",
            "Put the chain into certificate.provided.certificate: the site's certificate first, then the one that "
            "signed it."
            if subject.of_a_stack
            else "Serve the whole chain: in Nginx `ssl_certificate …/fullchain.pem;` (not cert.pem); by hand, the "
            f"site's certificate first, then the one that signed it{_RELOAD}.",
            setting="certificate.provided.certificate",
            explains=("tls.untrusted",),
        )
    else:
        yield Hop.PROXY.failure(
            "tls.untrusted",
            f"This machine does not trust the CA {_name(shown.chain[-1].issuer)} ({shown.distrust}).",
            "Browsers that do not know it either show a warning instead of the site.",
            "Install the CA certificate on each device (`make trust-ca` for a stack's own; here: `--ca FILE`), "
            "or get a certificate from an issuer that browsers know: certificate.mode: lets-encrypt.",
            setting="certificate.mode",
            value="lets-encrypt",
        )


def _is_incomplete(subject: Subject, shown: Served) -> bool:
    if len(shown.chain) > 1 or "expired" in shown.distrust:
        return False
    trusted = x509.load_pem_x509_certificates(subject.trust.encode()) if subject.trust else []
    if any(one.subject == shown.leaf.issuer for one in trusted):
        return False  # a CA of that name signed nothing here: it has a new key, or this is an old certificate
    issuer = _name(shown.leaf.issuer).lower()
    names_its_issuer = _extension(shown.leaf, ExtensionOID.AUTHORITY_INFORMATION_ACCESS) is not None
    return bool(trusted) or names_its_issuer or any(word in issuer for word in PUBLIC)


def _chain(subject: Subject) -> Iterator[Finding]:
    if subject.scheme == "http":
        yield Hop.PROXY.ok("tls.chain", "Without TLS there is none.")
        return
    chain = served(subject).chain
    sorted_chain = _in_order(chain)
    extra = [certificate for certificate in chain if certificate not in sorted_chain]
    sent = [_name(certificate.subject) for certificate in chain]
    if sorted_chain != [certificate for certificate in chain if certificate in sorted_chain]:
        yield Hop.PROXY.warning(
            "tls.order",
            f"The chain is sent in the wrong order: {' - '.join(sent)}.",
            "Browsers sort it; older programs, Java and some phones do not, and refuse to connect.",
            "Write the file in this order, each followed by the one that signed it: "
            f"{' - '.join(_name(certificate.subject) for certificate in sorted_chain)}"
            + (" (certificate.provided.certificate)." if subject.of_a_stack else f"{_RELOAD} (ssl_certificate).")
            + " An issuer's fullchain.pem is in order.",
            setting="certificate.provided.certificate",
        )
    elif extra:
        needless = ", ".join(_name(certificate.subject) for certificate in extra)
        yield Hop.PROXY.note("tls.chain", f"The chain contains unrelated certificates: {needless}.")
    else:
        yield Hop.PROXY.ok("tls.chain", f"In order: {' - '.join(sent)}.")


def _in_order(chain: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the first certificate and its issuers, each after the one that it signed."""
    chain_in_order = [chain[0]]
    while not _signed_itself(chain_in_order[-1]):
        above = next((one for one in chain if one not in chain_in_order and _signed(chain_in_order[-1], one)), None)
        if above is None:
            break
        chain_in_order.append(above)
    return chain_in_order


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except Exception:  # noqa: BLE001  # not so, for whichever of many reasons
        return False
    return True


def _signed_itself(certificate: x509.Certificate) -> bool:
    return certificate.issuer == certificate.subject and _signed(certificate, certificate)


def _strength(leaf: x509.Certificate) -> Iterator[Finding]:
    key = leaf.public_key()
    weak = isinstance(key, rsa.RSAPublicKey) and key.key_size < _SMALLEST_RSA
    old = isinstance(leaf.signature_hash_algorithm, hashes.SHA1 | hashes.MD5)
    if weak or old:
        yield Hop.PROXY.failure(
            "tls.weak",
            f"The certificate has {_key(leaf)}" + (", signed with SHA-1 or MD5." if old else "."),
            "Browsers refuse such certificates.",
            "Make a new key (ECDSA P-256, or RSA with 2048 bits or more) and get a certificate for it.",
            setting="certificate.mode",
        )


def _expected_one(subject: Subject, leaf: x509.Certificate) -> Iterator[Finding]:
    pem = subject.expectations.certificate_pem
    if pem is None:
        return
    installed = x509.load_pem_x509_certificates(pem.encode())[0]
    if installed.fingerprint(hashes.SHA256()) == leaf.fingerprint(hashes.SHA256()):
        return
    same_key = installed.public_key() == leaf.public_key()
    yield Hop.PROXY.warning(
        "tls.served",
        f"The certificate that is served (until {leaf.not_valid_after_utc.date()}) is not the one that was installed "
        f"last (until {installed.not_valid_after_utc.date()})"
        + (", though it has the same key." if same_key else ", and its key is another."),
        "What was renewed is of no use until it is served.",
        "Run `make up`, which installs it and reloads Nginx; if it stays so, another proxy is in front.",
        setting="certificate.mode",
    )


def _transparency(shown: Served) -> Iterator[Finding]:
    public = not shown.distrust and any(word in _name(shown.leaf.issuer).lower() for word in PUBLIC)
    if public and _extension(shown.leaf, ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS) is None:
        yield Hop.PROXY.warning(
            "tls.transparency",
            "The certificate carries no proof that it was logged (Certificate Transparency).",
            "Chrome and Safari refuse certificates of public issuers without it.",
            "Get a new one from the issuer; those of today carry it.",
        )


def _stapling(shown: Served) -> Iterator[Finding]:
    must = _extension(shown.leaf, ExtensionOID.TLS_FEATURE) is not None
    if not shown.stapled:
        if must:
            yield Hop.PROXY.failure(
                "tls.staple",
                "The certificate demands that an OCSP answer comes along, and none does.",
                "Firefox refuses to connect.",
                "Switch `ssl_stapling on;` on in Nginx, with a resolver, or get a certificate without Must-Staple.",
            )
        return
    try:
        answer = ocsp.load_der_ocsp_response(shown.stapled)
        status = answer.certificate_status
        over = answer.next_update_utc is not None and answer.next_update_utc < datetime.now(UTC)
    except ValueError as fault:
        yield Hop.PROXY.unknown("tls.staple", f"The OCSP answer that came along cannot be read: {fault}.")
        return
    if status is ocsp.OCSPCertStatus.REVOKED:
        yield Hop.PROXY.failure(
            "tls.revoked",
            "The issuer says that the certificate was revoked.",
            "Browsers refuse it.",
            "Get a new one with a new key, and find out who had the old one revoked.",
            setting="certificate.mode",
        )
    elif over:
        yield Hop.PROXY.warning(
            "tls.staple",
            "The OCSP answer that comes along is out of date.",
            "Browsers that look at it refuse to connect.",
            "See that the proxy reaches the issuer's OCSP server (Nginx: resolver), and reload it.",
        )


def _extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> x509.ExtensionType | None:
    try:
        return certificate.extensions.get_extension_for_oid(oid).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def _subjects(certificate: x509.Certificate) -> list[str]:
    values = _extension(certificate, ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    if not isinstance(values, x509.SubjectAlternativeName):
        return []
    return [
        *values.get_values_for_type(x509.DNSName),
        *(str(address) for address in values.get_values_for_type(x509.IPAddress)),
    ]


def _name(name: x509.Name) -> str:
    values = (name.get_attributes_for_oid(oid) for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME))
    words = " ".join(dict.fromkeys(str(value[0].value) for value in values if value))
    return words or name.rfc4514_string() or "an unnamed issuer"


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"an RSA key of {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"an ECDSA key ({key.curve.name})"
    return "an Ed25519 key" if isinstance(key, ed25519.Ed25519PublicKey) else f"a {type(key).__name__}"


def _days(span: timedelta) -> int:
    return int(span / timedelta(days=1))


QUESTIONS = (
    Question("tls.handshake", Hop.PROXY, "TLS handshake", ("port.open",), _handshake),
    Question("tls.certificate", Hop.PROXY, "certificate", ("tls.handshake",), _certificate),
    Question("tls.chain", Hop.PROXY, "certificate chain", ("tls.handshake",), _chain),
)
