"""One site: certbot's container as a deployment runs it, and an Nginx that serves what it offers."""

import json
import secrets
import socket
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.components.certificates import certbot
from open_webui_edge.runtime.certbot.key_pair import serial_of
from open_webui_edge.runtime.contract import CONFIG_DIR
from open_webui_edge.settings.images import CERTBOT, NGINX, ImageSource
from tests.acme.engine import address_of, bring, docker, inside, log_of, remove
from tests.acme.host import Host
from tests.acme.issuer import Issuer, Names

TIMING = {
    "shortest_check": 3,
    "checks_per_lifetime": 1e9,
    "rehearsals": [1, 2],
    "attempts": [2, 4],
    "served_within": 5,
    "look_again": 1,
}
"""As in a deployment, in a hurry."""
OFFERED = f"{certbot.CERTIFICATES}/offered"
_NGINX = f"""
events {{}}
http {{
  server {{ listen 80; location /.well-known/acme-challenge/ {{ root {certbot.CERTIFICATES}/webroot; }} }}
  server {{ listen 443 ssl; ssl_certificate /etc/site/certificate.pem; ssl_certificate_key /etc/site/private_key.pem; }}
}}
"""
# Takes up what is offered, as the proxy's watcher does; the file `hold` keeps it from that.
_WATCH = f"""
nginx -c /etc/site/nginx.conf &
until [ -s /run/nginx.pid ]; do sleep 0.05; done
while sleep 0.2; do
  now=$(readlink {OFFERED}/current || true)
  [ "$now" = "$last" ] || [ -e /etc/site/hold ] && continue
  cp {OFFERED}/$now/*.pem /etc/site/ && nginx -c /etc/site/nginx.conf -s reload && last=$now
done
"""


@dataclass
class Site:
    """What a test has for itself."""

    network: str
    placeholder: tuple[str, str]
    """Certificate and key that Nginx begins with."""
    names_server: Names
    id: str = field(default_factory=lambda: secrets.token_hex(3))
    volume_options: Sequence[str] = ()
    """How the engine makes the volume with account and certificate."""
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        self.certbot, self.nginx = f"ac-certbot-{self.id}", f"ac-nginx-{self.id}"
        self.volumes = {
            certbot.CERTIFICATES: f"ac-certificates-{self.id}",
            certbot.HOME: f"ac-letsencrypt-{self.id}",
            CONFIG_DIR: f"ac-given-{self.id}",
        }

    def __enter__(self) -> Self:
        """Start Nginx with its placeholder."""
        if self.volume_options:
            docker("volume", "create", *self.volume_options, self.volumes[certbot.HOME])
        self.start_nginx()
        return self

    def start_nginx(self) -> None:
        docker(
            *(
                "create",
                f"--name={self.nginx}",
                f"--network={self.network}",
                "--network-alias=nginx",
                "--entrypoint=sh",
            ),
            *(f"--volume={self.volumes[certbot.CERTIFICATES]}:{certbot.CERTIFICATES}:ro",),
            *(NGINX.reference(ImageSource.BUILT, None), "-c", _WATCH),
        )
        certificate, key = self.placeholder
        bring(
            self.nginx,
            {
                "/etc/site/nginx.conf": _NGINX,
                "/etc/site/certificate.pem": certificate,
                "/etc/site/private_key.pem": key,
            },
        )
        docker("start", self.nginx)
        self.address = address_of(self.nginx)
        wait_until(self.served, what="Nginx to serve its placeholder", ignoring=(OSError,))

    def __exit__(self, *_: object) -> None:
        remove(self.certbot, self.nginx)
        docker("volume", "rm", "--force", *self.volumes.values())

    def wants(self, *names: str, issuers: Sequence[Mapping[str, Any]], **further: Any) -> None:
        """Say what certificate it wants, and lead the names here."""
        self.settings = {"names": list(names), "challenge": "http-01", "issuers": list(issuers), "timing": TIMING}
        self.settings.update(further)
        for name in names:
            self.names_server.lead_nowhere(name)
            self.names_server.lead(name, self.address)

    def start(self, *, environment: Mapping[str, str] | None = None, host: Host | None = None) -> None:
        """Run certbot's container as the component does, in a new container; on the network of a host if any."""
        self._create(environment or {}, self.network if host is None else f"container:{host.container}")
        docker("start", self.certbot)

    def start_with_clock(self, shift: str, tools: Issuer) -> None:
        """Run certbot's container with another time of day; `tools` runs in an image that has the library for that."""
        _, library = inside(tools.container, "sh", "-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1")
        variables = {"LD_PRELOAD": "/opt/libfaketimeMT.so.1", "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        self._create(variables, self.network)
        copied = subprocess.run(  # noqa: S603
            ["docker", "cp", "--follow-link", f"{tools.container}:{library.strip()}", "-"],  # noqa: S607
            capture_output=True,
            check=True,
        )
        docker("cp", "-", f"{self.certbot}:/opt", given=copied.stdout)
        docker("start", self.certbot)

    def _create(self, environment: Mapping[str, str], network: str) -> None:
        remove(self.certbot)
        docker(
            *("create", f"--name={self.certbot}", f"--network={network}", "--entrypoint=/bin/sh"),
            *("--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=256m", "--memory-swap=256m", "--init"),
            *(f"--volume={name}:{path}" for path, name in self.volumes.items()),
            *(f"--tmpfs={path}:{options}" for path, options in certbot.TMPFS.items()),
            *(f"--env={key}={value}" for key, value in environment.items()),
            *(CERTBOT.reference(ImageSource.BUILT, None), "-c", certbot.RUN),
        )
        bring(self.certbot, {**certbot.program(), f"{CONFIG_DIR}/settings.json": json.dumps(self.settings)})

    def health(self) -> tuple[bool, str]:
        """Run the health check; return whether it is well, and what it says."""
        code, words = inside(self.certbot, "sh", "-c", f"{certbot.RUN} health")
        return code == 0, words.strip()

    def state(self) -> dict[str, Any]:
        """Return what `make certificate` would show."""
        code, words = inside(self.nginx, "cat", f"{certbot.CERTIFICATES}/state.json")
        assert code == 0, words
        return json.loads(words)

    def log(self) -> str:
        return log_of(self.certbot)

    def assert_ordered(self, issuer: Issuer, count: int, *, since: int) -> None:
        """Assert how many orders there were; a run of certbot that refused nonces ended was repeated, order and all."""
        repeated = self.log().count("refused a nonce repeatedly")
        assert since + count <= issuer.orders() <= since + count + repeated

    def wait_until_well(self, *, deadline: float = 40) -> None:
        """Wait until the certificate that it wants is served."""
        self._wait(lambda: self.health()[0], "a certificate", deadline)

    def wait_for_failure(self, words: str, *, deadline: float = 40) -> dict[str, Any]:
        """Wait until the state names a failure whose error or hint holds these words; return the attempt."""

        def failed() -> dict[str, Any] | None:
            last = self.state()["last_attempt"]
            return last if last and last["error"] and words in f"{last['error']} {last['hint']}" else None

        return self._wait(failed, f"a failure that says {words!r}", deadline)

    def wait_until_served(self, other_than: str, *, deadline: float = 40) -> x509.Certificate:
        """Wait until another certificate is served than the one with a serial number; return it."""

        def other() -> x509.Certificate | None:
            served = self.served()
            return served if serial_of(served) != other_than else None

        return self._wait(other, f"another certificate than {other_than}", deadline)

    def _wait(self, condition: Any, what: str, deadline: float) -> Any:
        try:
            return wait_until(condition, what=what, deadline=deadline, every=0.4, ignoring=(AssertionError, ValueError))
        except TimeoutError as late:
            raise AssertionError(f"{late}\n{self.health()}\n{self.log()}") from None

    def served(self) -> x509.Certificate:
        """Return the certificate that a client gets."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(_connected(self.address), server_hostname=self.settings.get("names", ["any"])[0]) as s:
            return x509.load_der_x509_certificate(s.getpeercert(binary_form=True) or b"")

    def assert_trusted(self, issuer: Issuer, *names: str) -> None:
        """Connect as a client that trusts the issuer's root, by each of the names."""
        context = ssl.create_default_context(cadata=issuer.root().public_bytes(Encoding.PEM).decode())
        for name in names:
            # A worker of before the reload may still take a connection.
            wait_until(
                lambda name=name: context.wrap_socket(_connected(self.address), server_hostname=name).close() or True,
                what=f"a certificate for {name} that {issuer.name} vouches for",
                deadline=5,
                ignoring=(ssl.SSLCertVerificationError,),
            )

    def offered(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Return the pair that is offered."""
        code, words = inside(self.certbot, "sh", "-c", f"cat {OFFERED}/current/*.pem")
        assert code == 0, words
        key = load_pem_private_key(words[words.index("-----BEGIN PRIVATE KEY") :].encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificates(words.encode())[0], key

    def in_certbot(self, script: str) -> str:
        """Run a shell script in certbot's container; it must succeed."""
        return _script(self.certbot, script)

    def in_nginx(self, script: str) -> str:
        """Run a command in Nginx's container."""
        return _script(self.nginx, script)

    def forget_all_but_what_is_kept(self) -> None:
        """Remove everything but the volume that a deployment keeps, and start a new Nginx."""
        remove(self.certbot, self.nginx)
        docker("volume", "rm", self.volumes[certbot.CERTIFICATES], self.volumes[CONFIG_DIR])
        self.start_nginx()
        for name in self.settings["names"]:
            self.names_server.lead_nowhere(name)
            self.names_server.lead(name, self.address)


def _script(container: str, script: str) -> str:
    code, words = inside(container, "sh", "-c", script)
    assert code == 0, words
    return words.strip()


def _connected(address: str) -> socket.socket:
    return socket.create_connection((address, 443), timeout=5)
