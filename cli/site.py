"""A client of a running deployment, as a browser: by name, over TLS, at the address where the proxy listens."""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli import containers

READY_TIMEOUT = 180
_POLL_INTERVAL = 0.5
_TIMEOUT = 10
# The PROXY protocol's specification, section 2.1.
_PROXY_UNKNOWN = b"PROXY UNKNOWN\r\n"
"""Header of the PROXY protocol for a client whose address is unknown."""


@dataclass(frozen=True)
class SiteClient:
    """A client of one site: its address, its CA, and whether to verify the certificate."""

    url: str
    address: str | None
    """Address to connect to, since the name in the URL may not resolve here; None to resolve it."""
    ca_certificate: str | None
    proxy_protocol: bool = False
    """Whether the proxy expects a PROXY protocol header; this client sends PROXY UNKNOWN."""
    unverified: bool = False
    """Whether to connect even if this machine does not trust its certificate."""

    @property
    def _host_and_port(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 443

    def connect(self) -> ssl.SSLSocket:
        """Open a TLS connection as a client of the URL's name; raises OSError if that fails."""
        host, port = self._host_and_port
        context = ssl.create_default_context(cadata=self.ca_certificate)
        if self.unverified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection((self.address or host, port), _TIMEOUT)
        if self.proxy_protocol:
            plain.sendall(_PROXY_UNKNOWN)
        return context.wrap_socket(plain, server_hostname=host)

    def verify_error(self) -> str:
        """Return why this machine does not trust its certificate; "" if it does, or if nothing answers."""
        try:
            self.get("/health")
        except OSError as fault:
            return fault.verify_message if isinstance(fault, ssl.SSLCertVerificationError) else ""
        return ""

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of one request; raises OSError without a response or a trusted certificate."""
        connection = http.client.HTTPSConnection(*self._host_and_port)
        connection.sock = self.connect()
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except http.client.HTTPException as fault:
            raise OSError(f"a response that is not HTTP ({fault!r})") from fault
        finally:
            connection.close()

    def wait_until_ready(self, deadline: float = READY_TIMEOUT, now: Callable[[], float] = time.monotonic) -> None:
        """Wait until the application is ready; at the deadline, raises ProblemError with the last response."""
        end = now() + deadline
        while True:
            try:
                status, body = self.get("/ready")
                if status == http.client.OK and _says_ready(body):
                    return
                last = f"{status} {' '.join(body.split())[:200]}"
            except ssl.SSLCertVerificationError as fault:
                message = f"{self.url} answers with a certificate that is not trusted here: {fault.verify_message}."
                raise ProblemError(message) from None
            except OSError as fault:
                last = str(fault)
            if now() > end:
                raise ProblemError(
                    f"{self.url}/ready did not say that Open WebUI is ready within {deadline:g} s (last: {last}); "
                    "`make status` and `make logs` (STACK=…) show more."
                )
            time.sleep(_POLL_INTERVAL)

    def has_no_account_yet(self) -> bool:
        """Return whether the first visitor will be asked to create the administrator."""
        try:
            status, body = self.get("/api/config")
            return status == http.client.OK and bool(json.loads(body).get("onboarding"))
        except (OSError, ValueError, AttributeError):
            return False


def listening_address(listed: list[dict[str, Any]], url: str) -> str | None:
    """Return the host address that publishes the URL's port, from the stack's inspected containers."""
    port = str(urlsplit(url).port or 443)
    all_ports = (one for container in listed for one in containers.publications(container))
    return next((containers.reachable_address(address) for _, address, outside in all_ports if outside == port), None)


def write_ca(certificate: str, folder: Path, stack: str) -> Path:
    """Write the CA's certificate to a file that the user can import into browsers; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{stack}-ca.pem"
    file.write_text(certificate, encoding="utf-8")
    return file


def pending_dns(outputs: Mapping[str, Any]) -> list[str]:
    """Return the DNS records and name servers that the user has to enter elsewhere before the names resolve."""
    lines: list[str] = []
    if records := outputs.get("dns_records"):
        lines.append("Create these records at your DNS provider (at the top of a zone, an ALIAS):")
        lines += [f"  {record['name']}  {record['type']}  {record['value']}" for record in records]
    if servers := outputs.get("name_servers"):
        lines.append(f"Your domain's registrar must know the name servers of its zone: {', '.join(servers)}")
    return lines


def status_page(outputs: Mapping[str, Any], *, here: bool) -> list[str]:
    """Return where the status page is; `here` says whether this machine runs the containers and so reaches it."""
    page = outputs.get("status_page")
    if not isinstance(page, str):
        return []
    port = urlsplit(page).port
    if here:
        return [f"Its status page, reachable from this machine only, is {page}"]
    return [
        f"Its status page, reachable from the container host only, is {page}",
        f"(forward it with ssh -L {port}:127.0.0.1:{port}: docs/operations.md)",
    ]


def next_steps(*, stack: str, url: str, admin: str | None, no_account_yet: bool, has_models: bool) -> list[str]:
    """Return the next steps after the first start."""
    lines = []
    if admin:
        lines.append(f"Sign in at {url} as {admin}.")
        lines.append(
            "The password is the one in the stack file, or a generated one: "
            f"`pulumi stack output admin_password --show-secrets --stack {stack}`"
            f' (first: eval "$(make -s env STACK={stack})").'
        )
    elif no_account_yet:
        lines.append(f"Open {url} and create the first account: it becomes the administrator.")
    else:
        lines.append(f"Open {url} and sign in.")
    if not has_models:
        lines.append(
            "Then add a model provider: models.providers in the stack file, or Admin Panel, Settings, Connections."
        )
    return lines


def _says_ready(body: str) -> bool:
    try:
        return json.loads(body).get("status") is True
    except (ValueError, AttributeError):
        return False
