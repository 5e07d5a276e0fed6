"""A running deployment, asked as a browser would ask it: by name, over TLS, at the address where the proxy listens."""

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

from bootstrap.problem import ProblemError

SECONDS_TO_BE_READY = 180
_SECONDS_BETWEEN = 0.5
# The PROXY protocol's specification, section 2.1.
PROXY_UNKNOWN = b"PROXY UNKNOWN\r\n"
"""What stands in front of a connection where nothing is known of the client."""


@dataclass(frozen=True)
class FrontDoor:
    """Where the proxy is, and who vouches for it."""

    url: str
    address: str | None
    """Where to connect to, when that is known better than by the name in the URL, which need not resolve here."""
    ca_certificate: str | None
    proxy_protocol: bool = False
    """Whether whoever connects says first who the client is; this one says that nothing is known (PROXY UNKNOWN)."""
    unverified: bool = False
    """Whether to ask it all the same where this machine does not trust its certificate."""

    def distrusted(self) -> str:
        """Say why this machine does not trust its certificate; "" where it does, or nobody answers."""
        try:
            self.get("/health")
        except ssl.SSLCertVerificationError as fault:
            return fault.verify_message
        except OSError:
            pass
        return ""

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of one request.

        Raises:
            OSError: nobody answered, or not with a certificate that this deployment's CA (or this machine) trusts.

        """
        parts = urlsplit(self.url)
        context = ssl.create_default_context(cadata=self.ca_certificate)
        if self.unverified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        name = parts.hostname or ""
        connection = _ConnectionTo(
            self.address or name, name, parts.port or 443, context, PROXY_UNKNOWN if self.proxy_protocol else b""
        )
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except http.client.HTTPException as fault:
            raise OSError(f"an answer that is no HTTP ({fault!r})") from fault
        finally:
            connection.close()

    def wait_until_ready(
        self, deadline: float = SECONDS_TO_BE_READY, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Wait until the application answers that it is ready.

        Raises:
            ProblemError: it did not in time; the message has the last answer.

        """
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
                message = (
                    f"{self.url}/ready did not say that Open WebUI is ready within {deadline:g} s (last: {last}); "
                    "`make status` and `make logs` (STACK=…) show more."
                )
                raise ProblemError(message)
            time.sleep(_SECONDS_BETWEEN)

    def has_no_account_yet(self) -> bool:
        """Tell whether the first visitor will be asked to create the administrator."""
        try:
            status, body = self.get("/api/config")
            return status == http.client.OK and bool(json.loads(body).get("onboarding"))
        except (OSError, ValueError, AttributeError):
            return False


def listening_address(containers: list[dict[str, Any]], url: str) -> str | None:
    """Find, in what the engine says of the stack's containers, the address that serves the URL's port."""
    port = urlsplit(url).port or 443
    for container in containers:
        for bindings in (container.get("NetworkSettings", {}).get("Ports") or {}).values():
            for binding in bindings or ():
                if binding.get("HostPort") == str(port):
                    address = binding.get("HostIp") or "0.0.0.0"  # noqa: S104  # compared, not bound
                    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104  # compared, not bound
    return None


def write_ca(certificate: str, folder: Path, stack: str) -> Path:
    """Keep the CA's certificate where the person can hand it to browsers; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{stack}-ca.pem"
    file.write_text(certificate, encoding="utf-8")
    return file


def left_to_do(outputs: Mapping[str, Any]) -> list[str]:
    """Return what a person has to enter elsewhere before the site is found by its names."""
    lines: list[str] = []
    if records := outputs.get("dns_records"):
        lines.append("Where your domain is kept, these records lead to it (at the top of a zone, an ALIAS):")
        lines += [f"  {record['name']}  {record['type']}  {record['value']}" for record in records]
    if servers := outputs.get("name_servers"):
        lines.append(f"Your domain's registrar must know the name servers of its zone: {', '.join(servers)}")
    return lines


def status_page(outputs: Mapping[str, Any], *, here: bool) -> list[str]:
    """Return where the status page is; `here` says whether this machine runs the containers, and so reaches it."""
    page = outputs.get("status_page")
    if not isinstance(page, str):
        return []
    port = urlsplit(page).port
    if here:
        return [f"Its status page, for this machine alone, is {page}"]
    return [
        f"Its status page, for the container host alone, is {page}",
        f"(ssh with -L {port}:127.0.0.1:{port} brings it here: docs/operations.md)",
    ]


def next_thing(*, stack: str, url: str, admin: str | None, no_account_yet: bool, has_models: bool) -> list[str]:
    """Return what to do after the first start."""
    lines = []
    if admin:
        lines.append(f"Sign in at {url} as {admin}.")
        lines.append(
            "The password is the one in the stack file, or a generated one: "
            f'`pulumi stack output admin_password --show-secrets --stack {stack}` (first: eval "$(make -s env)").'
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


class _ConnectionTo(http.client.HTTPSConnection):
    """A connection to an address that speaks to a name."""

    def __init__(self, address: str, name: str, port: int, context: ssl.SSLContext, preamble: bytes) -> None:
        super().__init__(name, port, timeout=10, context=context)
        self._address = address
        self._preamble = preamble
        self._tls = context

    def connect(self) -> None:
        """Connect to the address, and prove the name."""
        plain = socket.create_connection((self._address, self.port), self.timeout)
        plain.sendall(self._preamble)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
