"""Wildcards, which demand a proof by DNS: Route 53's API is moto's, and its records reach the issuer's DNS."""

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.acme.conftest import World
from tests.acme.engine import remove
from tests.acme.host import Host
from tests.acme.issuer import Names
from tests.acme.site import Site
from tests.support.machine import lacks
from tests.support.waiting import wait_until

_SPACE = "{https://route53.amazonaws.com/doc/2013-04-01/}"
_VERSION = "/2013-04-01"
ROLE = {"AccessKeyId": "ASIATHEROLE", "SecretAccessKey": "the-role-s-secret", "SessionToken": "the-role-s-token"}


class Route53:
    """The API as certbot sees it. Its word that a change is known everywhere comes once the DNS server knows it."""

    def __init__(self, gateway: str, names: Names, directory: Path) -> None:
        self._names = names
        self.signed: list[tuple[str, str | None]] = []
        """With which key each question was signed, and with which token of a role."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._api = f"http://127.0.0.1:{port}"
        program = Path(sys.executable).parent / "moto_server"
        if not program.exists():
            lacks("no moto_server")
        with (directory / "moto.log").open("wb") as log:
            self._moto = subprocess.Popen(  # noqa: S603
                [program, "-H", "127.0.0.1", "-p", str(port)],
                stdout=log,
                stderr=log,
                env={**os.environ, "MOTO_PORT": str(port)},
            )
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
        self._server.shutdown()
        self._server.server_close()
        self._moto.terminate()
        self._moto.wait()

    def make_zone(self, name: str) -> None:
        document = (
            f'<CreateHostedZoneRequest xmlns="{_SPACE[1:-1]}"><Name>{name}</Name>'
            f"<CallerReference>{name}</CallerReference></CreateHostedZoneRequest>"
        )
        status, answer = self.ask("POST", f"{_VERSION}/hostedzone", document.encode())
        assert status == 201, answer

    def texts(self) -> dict[str, list[str]]:
        """Return all TXT records of all zones."""
        found: dict[str, list[str]] = {}
        zones = ET.fromstring(self.ask("GET", f"{_VERSION}/hostedzone")[1])  # noqa: S314 - moto's own
        for zone in zones.iter(f"{_SPACE}Id"):
            records = ET.fromstring(self.ask("GET", f"{_VERSION}{zone.text}/rrset")[1])  # noqa: S314
            for record in records.iter(f"{_SPACE}ResourceRecordSet"):
                if record.findtext(f"{_SPACE}Type") == "TXT":
                    name = record.findtext(f"{_SPACE}Name") or ""
                    found[name] = [(value.text or "").strip('"') for value in record.iter(f"{_SPACE}Value")]
        return found

    def tell_everybody(self) -> None:
        for name, values in self.texts().items():
            self._names.set_texts(name, values)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        own = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/route53/aws4_request"}
        # Without a type urllib calls it a form, and moto reads it as one.
        given = {"Content-Type": "text/xml", **(headers or own)}
        asked = urllib.request.Request(f"{self._api}{path}", data=body, headers=given, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - http
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()


@pytest.fixture(scope="module")
def route53(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Route53]:
    made = Route53(world.gateway, world.names, tmp_path_factory.mktemp("route53"))
    try:
        made.make_zone("wild.test")
        yield made
    finally:
        made.close()


def test_a_wildcard_is_proved_by_dns(site: Site, world: World, route53: Route53) -> None:
    keys = {"access_key_id": "AKIATEST", "secret_access_key": "a-secret", "region": "us-east-1"}
    site.wants(
        *("chat.wild.test", "*.wild.test", "wild.test"),
        issuers=[world.asked(world.first)],
        challenge="dns-01",
        route53={**keys, "endpoint": route53.url},
    )
    site.start()
    site.wait_until_well()
    # The wildcard covers it, and issuers refuse to name both.
    assert site.state()["wanted"] == ["*.wild.test", "wild.test"]
    site.assert_trusted(world.first, "chat.wild.test", "any.wild.test", "wild.test")
    assert route53.texts() == {}
    assert re.search("a-secret|AKIATEST", site.log()) is None


def test_a_zone_that_is_not_there_is_named(site: Site, world: World, route53: Route53) -> None:
    site.wants(
        "chat.zoneless.test",
        issuers=[world.asked(world.first)],
        challenge="dns-01",
        route53={"access_key_id": "AKIATEST", "secret_access_key": "a-secret", "endpoint": route53.url},
    )
    site.start()
    site.wait_for_failure("This AWS account has no public hosted zone for the name")


@pytest.fixture
def host(world: World, site: Site) -> Iterator[Host]:
    name = f"ac-host-{site.id}"
    try:
        yield Host(name, world.network, site.address, ROLE)
    finally:
        remove(name)


def test_on_the_network_of_an_instance_its_role_is_enough(
    site: Site, world: World, route53: Route53, host: Host
) -> None:
    before = len(route53.signed)
    site.wants(
        *("chat.wild.test", "*.wild.test"),
        issuers=[world.asked(world.first)],
        challenge="dns-01",
        route53={"endpoint": route53.url},
        proxy={"host": "127.0.0.1", "port": 443},
    )
    site.start(host=host)
    site.wait_until_well()
    site.assert_trusted(world.first, "chat.wild.test", "any.wild.test")
    assert set(route53.signed[before:]) == {(ROLE["AccessKeyId"], ROLE["SessionToken"])}
    assert route53.texts() == {}
    assert re.search("|".join(ROLE.values()), site.log()) is None


def test_without_keys_and_without_a_role_it_says_so(site: Site, world: World, route53: Route53) -> None:
    site.wants(
        "chat.wild.test",
        issuers=[world.asked(world.first)],
        challenge="dns-01",
        route53={"endpoint": route53.url},
    )
    # Where there is no machine's role to ask for.
    site.start(environment={"AWS_EC2_METADATA_DISABLED": "true"})
    site.wait_for_failure("There are no AWS keys: set certificate.lets_encrypt.route53")
