"""Route 53's API for certbot, whose records reach the issuers' DNS."""

import re
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from open_webui_edge.benchmarks.waiting import wait_until
from tests.acme.issuer import Names

_SPACE = "{https://route53.amazonaws.com/doc/2013-04-01/}"
_VERSION = "/2013-04-01"


class Route53:
    """The API as certbot sees it. Its word that a change is known everywhere comes once the DNS server knows it."""

    def __init__(self, gateway: str, names: Names, api: str) -> None:
        """Answer at an address of this machine with what moto says at a URL; `names` is the issuers' DNS server."""
        self._names, self._api = names, api
        self.signed: list[tuple[str, str | None]] = []
        """With which key each question was signed, and with which token of a role."""
        route53 = self

        class Forward(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
                if "/change/" in self.path:
                    route53.tell_everybody()
                key = re.search(r"Credential=(\w+)/", self.headers["Authorization"])
                route53.signed.append((key[1] if key else "", self.headers["X-Amz-Security-Token"]))
                status, answer = route53.ask(self.command, self.path, body, dict(self.headers))
                self.send_response(status)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = _forward  # noqa: N815 - the base class's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
                """Say nothing."""

        self._server = ThreadingHTTPServer((gateway, 0), Forward)
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://{gateway}:{self._server.server_address[1]}"
        wait_until(lambda: self.ask("GET", f"{_VERSION}/hostedzone")[0] == 200, what="moto", ignoring=(OSError,))

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def make_zone(self, name: str) -> None:
        """Have a zone of a name."""
        document = (
            f'<CreateHostedZoneRequest xmlns="{_SPACE[1:-1]}"><Name>{name}</Name>'
            f"<CallerReference>{name}</CallerReference></CreateHostedZoneRequest>"
        )
        status, answer = self.ask("POST", f"{_VERSION}/hostedzone", document.encode())
        assert status == 201, answer

    def texts(self) -> dict[str, list[str]]:
        """Return all TXT records of all zones."""
        texts: dict[str, list[str]] = {}
        zones = ET.fromstring(self.ask("GET", f"{_VERSION}/hostedzone")[1])  # noqa: S314 - moto's own
        for zone in zones.iter(f"{_SPACE}Id"):
            records = ET.fromstring(self.ask("GET", f"{_VERSION}{zone.text}/rrset")[1])  # noqa: S314
            for record in records.iter(f"{_SPACE}ResourceRecordSet"):
                if record.findtext(f"{_SPACE}Type") == "TXT":
                    name = record.findtext(f"{_SPACE}Name") or ""
                    texts[name] = [(value.text or "").strip('"') for value in record.iter(f"{_SPACE}Value")]
        return texts

    def tell_everybody(self) -> None:
        """Have the DNS server know all records."""
        for name, values in self.texts().items():
            self._names.set_texts(name, values)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Ask moto; return status and body."""
        own = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/route53/aws4_request"}
        # Without a type urllib calls it a form, and moto reads it as one.
        given = {"Content-Type": "text/xml", **(headers or own)}
        asked = urllib.request.Request(f"{self._api}{path}", data=body, headers=given, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - http
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()
