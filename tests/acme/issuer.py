"""Pebble, the ACME authors' own server, and the DNS server whose word it takes."""

import json
import re
import ssl
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.settings.images import ACME_TOOLS
from tests.acme.engine import address_of, bring, docker, log_of

KEY_ID, HMAC_KEY = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
NINETY_DAYS = {"default": {"description": "ninety days", "validityPeriod": 7776000}}
BRIEF = {"brief": {"description": "twenty seconds", "validityPeriod": 20}}


@dataclass
class Issuer:
    """One ACME server, which believes nothing that it has not seen."""

    name: str
    """Also its host name in the network."""
    container: str
    network: str
    authority_pem: str
    """Who vouches for its directory."""
    account_key: bool = False
    """Whether it takes only accounts that are bound to one of its own."""
    profiles: Mapping[str, Any] = field(default_factory=lambda: NINETY_DAYS)
    """A client that selects no profile gets any of several."""

    published: tuple[str, int] | None = None
    """Address and port of this machine by which containers of other networks reach it."""
    http_port: int = 80
    """Where it asks for challenges."""

    @property
    def directory(self) -> str:
        host, port = self.published or (self.name, 14000)
        return f"https://{host}:{port}/dir"

    def start(self, certificate_pem: str, private_key_pem: str, dns: str) -> None:
        """Run it and wait until it answers."""
        configuration = {
            "listenAddress": "0.0.0.0:14000",
            "managementListenAddress": "0.0.0.0:15000",
            "certificate": "/etc/pebble/certificate.pem",
            "privateKey": "/etc/pebble/private_key.pem",
            "httpPort": self.http_port,
            "tlsPort": 443,
            "externalAccountBindingRequired": self.account_key,
            "externalAccountMACKeys": {KEY_ID: HMAC_KEY},
            "domainBlocklist": ["blocked.example.test"],
            "retryAfter": {"authz": 1, "order": 1},
            "keyAlgorithm": "ecdsa",
            "profiles": dict(self.profiles),
        }
        docker(
            *("create", f"--name={self.container}", f"--network={self.network}", f"--network-alias={self.name}"),
            *(() if self.published is None else [f"--publish={self.published[0]}:{self.published[1]}:14000"]),
            # It validates each time, and at once; of nonces it rejects as many as it likes.
            *("--env=PEBBLE_VA_ALWAYS_VALID=0", "--env=PEBBLE_VA_NOSLEEP=1", "--env=PEBBLE_AUTHZREUSE=0", ACME_TOOLS),
            *("pebble", "-strict", "-config", "/etc/pebble/pebble.json", "-dnsserver", f"{dns}:8053"),
        )
        bring(
            self.container,
            {
                "/etc/pebble/pebble.json": json.dumps({"pebble": configuration}),
                "/etc/pebble/certificate.pem": certificate_pem,
                "/etc/pebble/private_key.pem": private_key_pem,
            },
        )
        docker("start", self.container)
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        wait_until(
            lambda: self._ask(14000, "/dir"), what=f"{self.name} to answer", ignoring=(OSError, ssl.SSLError, KeyError)
        )

    def root(self) -> x509.Certificate:
        """Return the root of what it issues."""
        return x509.load_pem_x509_certificate(self._ask(15000, "/roots/0"))

    def log(self) -> str:
        return log_of(self.container)

    def accounts(self) -> int:
        """Return how many accounts it has made."""
        return len(re.findall(r"There are now (\d+) accounts in memory", self.log()))

    def orders(self) -> int:
        """Return how many orders it took."""
        return len(re.findall(r"Added order", self.log()))

    def issued(self) -> int:
        """Return how many certificates it has issued."""
        return len(re.findall(r"Issued certificate serial", self.log()))

    def advise_to_renew_now(self, certificate: x509.Certificate) -> None:
        """Advise clients to renew a certificate now (ARI)."""
        window = {"suggestedWindow": {"start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"}}
        pem = certificate.public_bytes(Encoding.PEM).decode()
        document = {"certificate": pem, "ariResponse": json.dumps(window)}
        self._ask(15000, "/set-renewal-info/", json.dumps(document).encode())

    def go_away(self) -> None:
        """Be unreachable."""
        docker("network", "disconnect", self.network, self.container)

    def come_back(self) -> None:
        """Be reachable again, with all that it knew."""
        docker("network", "connect", f"--alias={self.name}", self.network, self.container)
        self.wait_until_it_answers()

    def _ask(self, port: int, path: str, document: bytes | None = None) -> bytes:
        # The address is no name that its certificate holds.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.authority_pem)
        url = f"https://{address_of(self.container)}:{port}{path}"
        with urllib.request.urlopen(url, data=document, timeout=5, context=context) as answer:
            return answer.read()


@dataclass
class Names:
    """The DNS server: it knows what it was told, and nothing else."""

    container: str
    network: str
    address: str = ""

    def start(self) -> None:
        docker(
            *("run", "--detach", f"--name={self.container}", f"--network={self.network}", ACME_TOOLS),
            *("pebble-challtestsrv", "-dnsserver", ":8053", "-management", ":8055", "-defaultIPv4", ""),
            *("-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""),
        )
        self.address = address_of(self.container)
        wait_until(lambda: self._tell("clear-a", host="nobody.test") or True, what="DNS", ignoring=(OSError,))

    def lead(self, name: str, address: str) -> None:
        """Make a name lead to an address."""
        self._tell("add-a", host=name, addresses=[address])

    def lead_nowhere(self, name: str) -> None:
        self._tell("clear-a", host=name)

    def set_texts(self, name: str, values: Sequence[str]) -> None:
        """Replace the TXT records of a name."""
        host = f"{name.rstrip('.')}."
        self._tell("clear-txt", host=host)
        for value in values:
            self._tell("set-txt", host=host, value=value)

    def _tell(self, what: str, **document: Any) -> None:
        url = f"http://{self.address}:8055/{what}"
        urllib.request.urlopen(url, data=json.dumps(document).encode(), timeout=5).close()
