"""A real Nginx in a container, with the configuration that the settings render to."""

import http.client
import io
import json
import re
import secrets
import socket
import ssl
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.x509.oid import NameOID

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.components.reverse_proxy.rendering import render_configuration
from open_webui_edge.runtime.nginx.scripts import (
    CACHE,
    CAPABILITIES,
    CERTIFICATES,
    DIRECTORY,
    HEALTH,
    INSTALL,
    METRICS,
    PORTS,
    PORTS_FOR_IPV6,
    START,
    TMPFS,
)
from open_webui_edge.settings.reading import PROJECT, read_settings
from open_webui_edge.settings.stack import StackSettings
from open_webui_edge.settings.values import is_ip_address

PATIENCE = 10.0
"""Seconds without a byte after which a client gives up."""

_HTTP, _HTTPS = PORTS
_SHELL = ("/bin/sh", "-c")
_WORDS = 300
"""Characters of a command that are quoted when it fails."""
_SERIOUS = re.compile(r"\[(?:alert|crit|emerg)\]")


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return the values of a header, in the order in which they came."""
        return [value for received, value in self.headers if received.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """Return the value of a header that comes once at most."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} comes {len(values)} times: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        """Read the body, which says that it is JSON."""
        assert (self.header("Content-Type") or "").startswith("application/json"), self
        return json.loads(self.body)


def settings_of(**topics: object) -> StackSettings:
    """Read settings as a stack file says them: site={…}, proxy={…}."""
    config = {f"{PROJECT}:{topic}": json.dumps(value) for topic, value in topics.items()}
    return read_settings(config, secret_keys=(), source="a test")


@dataclass
class NginxUnderTest:
    """One Nginx. It runs as in a deployment: without rights, its root filesystem read-only, by the same scripts."""

    image: str
    network: str
    directory: Path
    """Where the test keeps what it knows: the certificate that clients trust."""
    settings: StackSettings
    upstreams: Sequence[str]
    resolver: str
    replicas: int = 1
    readiness: str | None = None
    """host:port of the sidecar that knows the replicas, instead of the resolver."""
    ipv6: bool = False
    """Whether its network has IPv6, and it listens there too."""
    volumes: Sequence[str] = ()
    """Files of this machine that it sees, as the engine writes them: path:path:ro."""
    rsa: bool = False
    """Whether its certificate's key is RSA."""
    certificate_source: str = "own"
    warn_before: int = 0
    """Seconds that a certificate has left when its end is warned of."""
    certificates: str | None = None
    """The volume in which certificates are offered; its own, and empty, if none is named."""
    acme_challenges: Sequence[str] = ()
    storage: str | None = None
    """The volume for its configuration, if that is not one of its own."""
    name: str = field(default_factory=lambda: f"nginx-under-test-{secrets.token_hex(4)}")
    configuration: str = ""
    generation: str = ""
    announced: list[str] = field(default_factory=list[str])
    """Patterns of [alert], [crit] and [emerg] lines that a test expects."""

    def __post_init__(self) -> None:
        """Make a certificate for the names of the site."""
        self.domain = self.settings.site.domain
        self.certificate, self._private_key = certificate_for(self.settings.site.hosts, rsa=self.rsa)
        self.ca_file = self.directory / f"{self.name}.pem"
        self.ca_file.write_text(self.certificate)
        self._follower: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, and wait until it serves."""
        self.create()
        self._install(self.settings)

    def create(self) -> None:
        """Run it without a configuration."""
        offered = CERTIFICATES if self.certificates is None else f"{self.certificates}:{CERTIFICATES}:ro"
        storage = DIRECTORY if self.storage is None else f"{self.storage}:{DIRECTORY}"
        scratch = {**TMPFS, CACHE: "mode=0755"}
        options = [
            *(f"--name={self.name}", f"--network={self.network}", "--restart=unless-stopped"),
            *(f"--memory={self.settings.proxy.memory}", f"--memory-swap={self.settings.proxy.memory}"),
            *("--security-opt=no-new-privileges", "--read-only", "--cap-drop=ALL"),
            *(f"--cap-add={capability}" for capability in CAPABILITIES),
            *(f"--tmpfs={path}:{how}" for path, how in scratch.items()),
            *(f"--volume={volume}" for volume in (storage, offered, METRICS, *self.volumes)),
            *(f"--publish=127.0.0.1::{port}" for port in (_HTTP, _HTTPS, f"{_HTTPS}/udp")),
            *(["--env=EDGE_PAUSE=0.2"] if self.certificate_source == "offered" else []),
            # In a deployment a minute after its last start.
            "--env=EDGE_RESTART_AFTER=0",
            f"--entrypoint={_SHELL[0]}",
        ]
        _docker("run", "--detach", *options, self.image, *_SHELL[1:], START)
        self._find()

    def _find(self) -> None:
        if self._follower is not None:
            # What it follows has ended; the next begins at the beginning.
            self._follower.wait(PATIENCE)
        self._followed = self.directory / f"{self.name}.log"
        with self._followed.open("wb") as into:
            # To ask the engine for the whole log around each test would take longer than most tests.
            self._follower = subprocess.Popen(  # noqa: S603
                ["docker", "logs", "--follow", self.name],  # noqa: S607
                stdout=subprocess.DEVNULL,
                stderr=into,
            )
        published = json.loads(_docker("inspect", "--format={{json .NetworkSettings.Ports}}", self.name))
        self.http_port = int(published[f"{_HTTP}/tcp"][0]["HostPort"])
        self.https_port = int(published[f"{_HTTPS}/tcp"][0]["HostPort"])
        self.quic_port = int(published[f"{_HTTPS}/udp"][0]["HostPort"])
        (attached,) = json.loads(_docker("inspect", "--format={{json .NetworkSettings.Networks}}", self.name)).values()
        self.ipv6_address, self.ipv6_gateway = attached["GlobalIPv6Address"], attached["IPv6Gateway"]

    def requests_begun(self) -> int:
        """Return how many requests have arrived so far, this question among them."""
        _, _, counts, *_ = self.ask_inside("/connections").splitlines()
        return int(counts.split()[2])

    def reload(self, settings: StackSettings) -> None:
        """Replace the configuration."""
        self._install(settings)

    def restart(self, *, kill: bool = False) -> None:
        """End it, gently or not, and start it again; its ports change."""
        if kill:
            _docker("kill", self.name)
            _docker("start", self.name)
        else:
            _docker("restart", self.name)
        self._find()
        self.wait_until_served()

    def wait_until_restarted(self, shell: str) -> None:
        """Run a script in its container, and wait until that has started again by itself; its ports change."""
        before = _docker("inspect", "--format={{.State.StartedAt}}", self.name)
        self.run_inside(shell)

        def restarted() -> bool:
            said = "{{.State.Running}} {{.State.StartedAt}}"
            now = _docker("inspect", f"--format={said}", self.name)
            return now.startswith("true") and before not in now

        wait_until(restarted, what="another start of the container", deadline=PATIENCE, every=0.1)
        self._find()
        self.wait_until_served()

    def workers(self) -> list[int]:
        """Return the process ids of its workers, in the container."""
        return sorted(
            map(int, self.run_inside("grep -l '^nginx: worker' /proc/[0-9]*/cmdline | cut -d / -f 3").split())
        )

    def run_inside(self, shell: str) -> str:
        """Run a script in its container, as root without rights over files; raises DockerError if it fails."""
        return _docker("exec", self.name, *_SHELL, shell)

    def health(self) -> tuple[bool, str]:
        """Ask as the engine does: whether it is healthy, and what is said of it."""
        words = ["docker", "exec", self.name, *_SHELL, HEALTH]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
        return ended.returncode == 0, (ended.stdout + ended.stderr).strip()

    def remove(self) -> None:
        """End it, and what it wrote."""
        subprocess.run(["docker", "rm", "--force", "--volumes", self.name], capture_output=True, check=False)  # noqa: S603, S607
        if self._follower is not None:
            # What it follows is gone.
            self._follower.wait(PATIENCE)

    def access_log(self) -> str:
        """Return what it wrote about requests."""
        return self.access_log_bytes().decode(errors="replace")

    def access_log_bytes(self) -> bytes:
        """Return the same, byte for byte."""
        return self._log().stdout

    def line_about(self, answer: Answer) -> dict[str, Any]:
        """Return what the access log says about a request, in JSON; it is written after the answer."""
        identity = answer.header("X-Request-ID")
        assert identity is not None

        def received() -> dict[str, Any]:
            lines = (json.loads(line) for line in self.access_log().splitlines() if identity in line)
            return next(lines, {})

        return wait_until(received, what="a line in the access log", deadline=PATIENCE, every=0.02)

    def error_log(self) -> str:
        """Return what it wrote about itself."""
        return self._log().stderr.decode(errors="replace")

    def said_so_far(self) -> str:
        """Return the same, perhaps without the last few moments, and at once."""
        return self._followed.read_text(errors="replace")

    def assert_nothing_serious_in(self, error_log: str) -> None:
        """Fail on lines that an operator would be woken up by, unless the test announced them."""
        serious = [
            line
            for line in error_log.splitlines()
            if _SERIOUS.search(line) and not any(re.search(pattern, line) for pattern in self.announced)
        ]
        assert not serious, "\n".join(serious)

    def trust(self, *protocols: str) -> ssl.SSLContext:
        """Return what a client needs to talk TLS to it, offering `protocols` (ALPN)."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.set_alpn_protocols(list(protocols) or ["http/1.1"])
        return context

    @contextmanager
    def connection(  # noqa: PLR0913 - keywords, each a part of a connection
        self,
        *,
        scheme: str = "https",
        port: int | None = None,
        address: str | None = None,
        preamble: bytes = b"",
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        patience: float = PATIENCE,
        server_name: str | None = None,
    ) -> Iterator[socket.socket]:
        """Connect, with TLS for https, to the scheme's port if no other is named.

        To `address` the connection goes without the engine's publishing. A `preamble` is sent before everything else,
        TLS too.
        """
        if port is None:
            published = (self.http_port, self.https_port) if address is None else _ports_at(address)
            port = published[scheme == "https"]
        with socket.create_connection((address or "127.0.0.1", port), timeout=patience) as plain:
            plain.sendall(preamble)
            if scheme == "http":
                yield plain
            else:
                # It has one certificate for all names.
                context = context or self.trust()
                with context.wrap_socket(
                    plain, server_hostname=server_name or self.domain, session=session
                ) as encrypted:
                    yield encrypted

    @contextmanager
    def exchange(
        self,
        *,
        scheme: str = "https",
        address: str | None = None,
        preamble: bytes = b"",
        patience: float = PATIENCE,
    ) -> Iterator[http.client.HTTPConnection]:
        """Connect, for one request or several by hand; nothing is sent again by itself."""
        with self.connection(scheme=scheme, address=address, preamble=preamble, patience=patience) as connected:
            client = http.client.HTTPConnection("127.0.0.1")
            client.auto_open = 0
            client.sock = connected
            yield client

    def ask(  # noqa: PLR0913 - keywords, each a part of a request
        self,
        path: str,
        *,
        method: str = "GET",
        scheme: str = "https",
        host: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        address: str | None = None,
        preamble: bytes = b"",
    ) -> Answer:
        """Ask once over a new connection."""
        with self.exchange(scheme=scheme, address=address, preamble=preamble) as client:
            send_head(client, method, path, [("Host", host or self.domain), *headers], length=body)
            client.send(body or b"")
            return answer_of(client.getresponse())

    @contextmanager
    def client(self, protocol: str) -> Iterator[httpx.Client]:
        """Make a client that speaks h2 or http/1.1; a request needs the extension sni_hostname."""
        with httpx.Client(
            base_url=f"https://127.0.0.1:{self.https_port}",
            headers={"Host": self.domain},
            verify=self.trust(protocol),
            http1=protocol == "http/1.1",
            http2=protocol == "h2",
            timeout=PATIENCE,
        ) as client:
            yield client

    def ask_in_bytes(
        self,
        request: bytes,
        *,
        scheme: str = "https",
        port: int | None = None,
        context: ssl.SSLContext | None = None,
    ) -> Answer:
        """Send exactly these bytes, and read one answer."""
        with self.connection(scheme=scheme, port=port, context=context) as connected:
            connected.sendall(request)
            return self.answer_from(connected)

    @staticmethod
    def answer_from(connected: socket.socket) -> Answer:
        """Read one answer to a request that was sent by hand."""
        response = http.client.HTTPResponse(connected)
        response.begin()
        return answer_of(response)

    def ask_upgrade(self, path: str, headers: Sequence[tuple[str, str]]) -> Answer:
        """Ask for another protocol, and read the head of the answer; what would follow is hung up on."""
        with self.exchange() as client:
            send_head(client, "GET", path, [("Host", self.domain), *headers])
            response = client.getresponse()
            body = b"" if response.status == http.HTTPStatus.SWITCHING_PROTOCOLS else response.read()
            return Answer(response.status, response.getheaders(), body)

    def ask_from_itself(
        self,
        path: str,
        *options: str,
        scheme: str = "https",
        host: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """Ask from within its container: the client's address is 127.0.0.1, which no published connection has.

        `options` are curl's. Of the answer's head the status is read. Raises DockerError where there is no answer.
        """
        said = [f"--header={name}: {value}" for name, value in [("Host", host or self.domain), *headers]]
        written = _docker(
            *("exec", self.name, "curl", "--silent", "--show-error", "--insecure", "--max-time", f"{PATIENCE:g}"),
            *("--write-out", "\n%{http_code}", *said, *options, f"{scheme}://127.0.0.1{path}"),
        )
        body, _, status = written.rpartition("\n")
        return Answer(int(status), [], body.encode())

    def ask_inside(self, path: str) -> str:
        """Ask the server that is there for the container alone; raises DockerError unless the answer is a good one."""
        return _docker("exec", self.name, "curl", "--silent", "--fail", f"http://127.0.0.1:8081{path}")

    def ask_decoded(self, path: str, encoding: str) -> str:
        """Ask from inside the container, whose curl knows more encodings than this machine, and decode the answer."""
        url = ["--connect-to", f"{self.domain}:443:127.0.0.1:443", f"https://{self.domain}{path}"]
        # It decodes what it is told that it asked for; the last header replaces what it would ask for.
        words = ["--silent", "--fail", "--insecure", "--compressed", "--header", f"Accept-Encoding: {encoding}", *url]
        return _docker("exec", self.name, "curl", *words)

    def test(self, configuration: str) -> str:
        """Have Nginx test another configuration than the one it runs with, and return what it says to it."""
        shell = f"cat > /run/nginx/nginx.conf; cd {DIRECTORY}/current; cp -R tls generation.conf /run/nginx;"
        return _docker(
            *("exec", "--interactive", self.name, "/bin/sh", "-c", f"{shell} nginx -t -c /run/nginx/nginx.conf 2>&1"),
            given=configuration.encode(),
        )

    def test_all(self, configurations: Sequence[str]) -> dict[int, str]:
        """Have Nginx test many, two at a time, and return what it says to those that it does not take in silence."""
        each = 'nginx -t -q -c "$PWD/$1" > "$1.said" 2>&1 || echo "and ends with $?" >> "$1.said"'
        shell = f"""
            rm -rf /run/nginx/all && mkdir /run/nginx/all && cd /run/nginx/all && tar -x
            cp -R {DIRECTORY}/current/tls {DIRECTORY}/current/generation.conf .
            cp tls/certificate.pem tls/client_authorities.pem
            ls | grep nginx.conf | xargs -P 2 -I NAME sh -c '{each}' - NAME
            for said in *.said; do [ ! -s $said ] || {{ echo "== $said"; cat $said; }}; done
            rm -rf /run/nginx/all
        """
        files = {f"{number}.nginx.conf": text for number, text in enumerate(configurations)}
        said = _docker("exec", "--interactive", self.name, "/bin/sh", "-e", "-c", shell, given=_archive(files))
        sections = (section.partition("\n") for section in said.split("== ")[1:])
        return {int(name.partition(".")[0]): words for name, _, words in sections}

    def _install(self, settings: StackSettings) -> None:
        self.configuration = render_configuration(
            settings,
            stack="test",
            upstreams=self.upstreams,
            resolver=self.resolver,
            replicas=self.replicas,
            readiness=self.readiness,
            ipv6=self.ipv6,
            rsa_certificate=self.rsa,
            acme_challenges=self.acme_challenges,
        )
        files = {
            "nginx.conf": self.configuration,
            "certificate_source": self.certificate_source,
            "warn_before": str(self.warn_before),
            "tls/certificate.pem": self.certificate,
            "tls/private_key.pem": self._private_key,
        }
        if settings.proxy.authentication.client_certificates is not None:
            files["tls/client_authorities.pem"] = settings.proxy.authentication.client_certificates.authorities
        archive = _archive({f"candidate/{name}": text for name, text in files.items()})
        _docker("cp", "-", f"{self.name}:{DIRECTORY}", given=archive)
        try:
            self.installed = self.run_inside(INSTALL)
        except DockerError as error:
            raise AssertionError(f"{error}\n{self.error_log()}") from None
        self.generation = self.installed.split()[-1]

    def wait_until_served(self) -> None:
        """Wait until it answers with what is in force."""

        def served() -> bool:
            in_force = self.run_inside(f"readlink {DIRECTORY}/current").strip()
            return self.ask_inside("/generation").strip() == in_force.removeprefix("generations/")

        try:
            wait_until(served, what="Nginx with what was installed", every=0.05, ignoring=(DockerError,))
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.error_log()}") from None

    def _log(self) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["docker", "logs", self.name], capture_output=True, check=False)  # noqa: S603, S607


def send_head(
    client: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Sequence[tuple[str, str]],
    *,
    length: bytes | int | None = None,
) -> None:
    """Send these headers and no others, but the length of a body."""
    client.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        client.putheader(name, value)
    if length is not None:
        client.putheader("Content-Length", str(length if isinstance(length, int) else len(length)))
    client.endheaders()


def answer_of(response: http.client.HTTPResponse) -> Answer:
    """Read an answer to its end."""
    return Answer(response.status, response.getheaders(), response.read())


def _archive(files: Mapping[str, str]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o600
            tar.addfile(entry, io.BytesIO(text.encode()))
    return archive.getvalue()


class DockerError(Exception):
    """The engine refused, in its own words."""


def _docker(*arguments: str, given: bytes | None = None) -> str:
    ended = subprocess.run(["docker", *arguments], input=given, capture_output=True, check=False)  # noqa: S603, S607
    if ended.returncode != 0:
        raise DockerError(f"docker {' '.join(arguments)[:_WORDS]}: {(ended.stderr + ended.stdout).decode().strip()}")
    return ended.stdout.decode()


def _ports_at(address: str) -> tuple[int, int]:
    return PORTS_FOR_IPV6 if ":" in address else PORTS


@contextmanager
def network(*, ipv6: bool = False) -> Iterator[tuple[str, str]]:
    """Make a network, and hand out its name and this machine's IPv4 address in it."""
    name = f"nginx-under-test-{secrets.token_hex(4)}"
    # RFC 4193: a prefix of one's own is drawn by lot.
    prefix = f"fd{secrets.token_hex(1)}:{secrets.token_hex(2)}:{secrets.token_hex(2)}::/64"
    _docker("network", "create", *(["--ipv6", f"--subnet={prefix}"] if ipv6 else []), name)
    try:
        families = json.loads(_docker("network", "inspect", "--format={{json .IPAM.Config}}", name))
        # Engines list the two families in no fixed order.
        (gateway,) = (family["Gateway"] for family in families if ":" not in family["Subnet"])
        yield name, gateway
    finally:
        _docker("network", "rm", name)


def certificate_for(hosts: Sequence[str], *, rsa: bool = False) -> tuple[str, str]:
    """Make a certificate that vouches for itself, and its key."""
    key = generate_private_key(65537, 2048) if rsa else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Nginx under test")])
    names = [
        x509.IPAddress(ip_address(host)) if is_ip_address(host) else x509.DNSName(host)
        for host in hosts
    ]  # fmt: skip
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()
