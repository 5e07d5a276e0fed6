"""What is written about a request: enough to find it again, nothing that opens a door, and always one line of JSON."""

import json
import re
import uuid
from typing import Any

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from tests.nginx.conftest import Variants
from tests.nginx.frontend_file import FrontendFile
from tests.nginx.nginx_under_test import PATIENCE, NginxUnderTest
from tests.support.echo_backend import EchoBackend, arrived

SECRET = "hunter22"
FIELDS = {
    "time", "request_id", "client", "host", "method", "path", "protocol", "tls", "status", "bytes", "seconds",
    "upstream", "upstream_status", "upstream_connect", "upstream_header", "upstream_response", "cache", "upgrade",
}  # fmt: skip


def lines_of(nginx: NginxUnderTest) -> list[dict[str, Any]]:
    """Read the log of requests; every line of it is JSON in UTF-8, or this fails."""
    return [json.loads(line) for line in nginx.access_log_bytes().decode().splitlines()]


def line_with(nginx: NginxUnderTest, name: str, value: object) -> dict[str, Any]:
    """Wait for the line about one request; what is answered is not written yet."""

    def received() -> dict[str, Any] | None:
        return next((line for line in lines_of(nginx) if line[name] == value), None)

    return wait_until(received, what=f"a line with {name} {value}", deadline=PATIENCE, every=0.02) or {}


HOSTILE = {
    "a quote in the path": b'GET /api/"quoted" HTTP/1.1\r\nHost: localhost',
    "a quote in the path, encoded": b"GET /api/%22,%22status%22:%22000 HTTP/1.1\r\nHost: localhost",
    "a backslash": b"GET /api/a\\u0000\\ HTTP/1.1\r\nHost: localhost",
    "a backslash, encoded": b"GET /api/%5c%5C%22 HTTP/1.1\r\nHost: localhost",
    "lines, encoded": b'GET /api/%0a%0d{"status":"200"} HTTP/1.1\r\nHost: localhost',
    "control characters, encoded": b"GET /api/%01%02%1b%5b31m%7f HTTP/1.1\r\nHost: localhost",
    "no UTF-8, encoded": b"GET /api/%ff%fe%c0%af%ed%a0%80 HTTP/1.1\r\nHost: localhost",
    "no UTF-8": b"GET /api/\xff\xfe\xc0\xaf\xed\xa0\x80 HTTP/1.1\r\nHost: localhost",
    "half a character": b"GET /api/\xe2\x82 HTTP/1.1\r\nHost: localhost",
    "half a character, encoded": b"GET /api/%e2%82 HTTP/1.1\r\nHost: localhost",
    "UTF-8": "GET /api/ü€😀 HTTP/1.1\r\nHost: localhost".encode(),
    "UTF-8, encoded": b"GET /api/%c3%bc%f0%9f%98%80 HTTP/1.1\r\nHost: localhost",
    "a quote in the name": b'GET / HTTP/1.1\r\nHost: local"host',
    "no UTF-8 in the name": b"GET / HTTP/1.1\r\nHost: local\xffhost",
    "UTF-8 in the name": "GET / HTTP/1.1\r\nHost: löcalhost".encode(),
    "a backslash in the name": b"GET / HTTP/1.1\r\nHost: local\\host",
    "a quote in the method": b'G"ET / HTTP/1.1\r\nHost: localhost',
    "no UTF-8 in the method": b"G\xffET / HTTP/1.1\r\nHost: localhost",
    "a long method": b"X" * 300 + b" / HTTP/1.1\r\nHost: localhost",
    "a strange version": b'GET / HTTP/1."\xff\r\nHost: localhost',
    "an upgrade with a quote": b'GET /ws/ HTTP/1.1\r\nHost: localhost\r\nUpgrade: "\xff',
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "an identity with a quote": b'GET / HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: "},{"\xff',
    "an address with a quote": b'GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: "\xff',
}


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_every_line_is_json_whatever_a_client_sends(variants: Variants, scheme: str) -> None:
    # Also where its headers about addresses and identities count.
    nginx = variants.of(proxy={"trusted_proxies": [f"{variants.workshop.gateway}/32"]})
    before = len(lines_of(nginx))
    for request in HOSTILE.values():
        with nginx.connection(scheme=scheme) as connected:
            connected.sendall(request + b"\r\nConnection: close\r\n\r\n")
            while connected.recv(1 << 16):
                pass
    wait_until(
        lambda: len(lines_of(nginx)) - before == len(HOSTILE), what="a line for each", deadline=PATIENCE, every=0.05
    )
    for line in lines_of(nginx)[before:]:
        assert set(line) == FIELDS
        assert line["path"].isascii()
        assert 400 <= int(line["status"]) <= 599 or int(line["status"]) in {101, 200, 308}


LONG = {
    "path": b"GET /api/" + b"a" * 30_000 + b" HTTP/1.1\r\nHost: localhost",
    "path of quotes": b"GET /api/" + b'"' * 30_000 + b" HTTP/1.1\r\nHost: localhost",
    "path, encoded": b"GET /api/" + b"%01" * 10_000 + b" HTTP/1.1\r\nHost: localhost",
    "path, no UTF-8": b"GET /api/" + b"\xff" * 30_000 + b" HTTP/1.1\r\nHost: localhost",
    "query": b"GET /api/headers?" + b"a" * 30_000 + b" HTTP/1.1\r\nHost: localhost",
    "name": b"GET / HTTP/1.1\r\nHost: " + b"a" * 30_000,
    "method": b"X" * 30_000 + b" / HTTP/1.1\r\nHost: localhost",
    "version": b"GET / HTTP/1." + b"1" * 30_000 + b"\r\nHost: localhost",
    "identity": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: " + b"a" * 30_000,
    "upgrade": b"GET /ws/ HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket" + b"," * 30_000,
}
SHORT_LINE = 4096
"""Bytes: each field that a client writes is cut, and a quote is written as four characters in text."""


@pytest.mark.parametrize("requests", ["json", "text"])
def test_long_fields_are_cut_so_that_they_do_not_wipe_the_log(variants: Variants, requests: str) -> None:
    log = {"requests": requests}
    nginx = variants.of(proxy={"trusted_proxies": [f"{variants.workshop.gateway}/32"], "log": log})
    before = len(nginx.access_log_bytes().splitlines())
    for request in LONG.values():
        with nginx.connection() as connected:
            connected.sendall(request + b"\r\nConnection: close\r\n\r\n")
            while connected.recv(1 << 16):
                pass
    said = lambda: nginx.access_log_bytes().splitlines()[before:]  # noqa: E731
    wait_until(lambda: len(said()) == len(LONG), what="a line for each", deadline=PATIENCE, every=0.05)
    assert max(map(len, said())) <= SHORT_LINE
    if requests == "json":
        paths = [json.loads(line)["path"] for line in said()]
        assert paths[0] == "/api/" + "a" * 507 + "..."
        assert paths[4] == "/api/headers"


def test_line_says_what_happened_to_a_request(nginx: NginxUnderTest, backend: EchoBackend) -> None:
    answer = nginx.ask("/api/%68eaders/headers?q=1", method="POST", body=b"{}", headers=[("Referer", "https://a/")])
    line = line_with(nginx, "request_id", answer.header("X-Request-ID"))
    reported = {name: line[name] for name in ("host", "method", "path", "protocol", "tls", "status", "upstream_status")}
    assert reported == {
        "host": "localhost",
        "method": "POST",
        "path": "/api/headers/headers",
        "protocol": "HTTP/1.1",
        "tls": "TLSv1.3",
        "status": "200",
        "upstream_status": "200",
    }
    assert (line["bytes"], line["cache"], line["upgrade"]) == (len(answer.body), "", "")
    assert line["upstream"].endswith(f":{backend.port}")
    assert 0 <= line["seconds"] < PATIENCE
    for name in ("upstream_connect", "upstream_header", "upstream_response"):
        assert re.fullmatch(r"\d+\.\d{3}", line[name]), name
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", line["time"])


def test_file_of_the_frontend_has_a_line_only_when_it_went_wrong(nginx: NginxUnderTest, backend: EchoBackend) -> None:
    name = uuid.uuid4().hex
    backend.answers[f"/static/{name}.css"] = FrontendFile()
    for _ in range(2):
        assert nginx.ask(f"/static/{name}.css").status == 200
    # The log is written in the order of requests: what is not there before this line never comes.
    line_with(nginx, "request_id", nginx.ask(f"/static/status/404?{name}").header("X-Request-ID"))
    assert name not in nginx.access_log()


def test_line_says_what_the_cache_did(variants: Variants, backend: EchoBackend) -> None:
    nginx = variants.of(proxy={"log": {"files": True}})
    path = f"/static/{uuid.uuid4().hex}.css"
    backend.answers[path] = FrontendFile()
    for cache, asked in (("MISS", True), ("HIT", False)):
        line = line_with(nginx, "request_id", nginx.ask(path).header("X-Request-ID"))
        assert (line["cache"], bool(line["upstream_response"])) == (cache, asked)


def test_line_says_that_nobody_answered(nginx: NginxUnderTest) -> None:
    line = line_with(nginx, "request_id", nginx.ask("/api/die").header("X-Request-ID"))
    # Over a connection that was kept, Nginx tries a second time.
    assert line["status"] == "503"
    assert set(line["upstream_status"].split(", ")) == {"502"}


@pytest.mark.parametrize("path", ["/api/headers", "/static/status/404", "/headers"])
def test_identity_of_a_request_is_the_same_everywhere(nginx: NginxUnderTest, path: str) -> None:
    answer = nginx.ask(path, headers=[("X-Request-ID", "0" * 32)])
    identity = answer.header("X-Request-ID") or ""
    assert re.fullmatch(r"[0-9a-f]{32}", identity)
    # No proxy in front is trusted here.
    assert identity != "0" * 32
    assert line_with(nginx, "request_id", identity)["status"] == str(answer.status)
    if not path.startswith("/static/"):
        assert arrived(answer.body)["x-request-id"] == [identity]


@pytest.mark.parametrize(
    ("given", "cached"),
    [
        ("0af7651916cd43dd8448eb211c80319c", True),
        ("Root=1-67891233-abcdef012345678912345678", False),
        ("a.b_c-D9", True),
        ("short", False),
        ("x" * 128, True),
        ("x" * 129, False),
        ('a"quoted"identity', False),
        ("an identity", False),
    ],
)
def test_identity_of_a_request_is_taken_from_a_trusted_proxy(variants: Variants, given: str, *, cached: bool) -> None:
    nginx = variants.of(proxy={"trusted_proxies": [f"{variants.workshop.gateway}/32"]})
    answer = nginx.ask("/api/headers", headers=[("X-Request-ID", given)])
    identity = answer.header("X-Request-ID") or ""
    assert (identity == given) == cached
    assert arrived(answer.body)["x-request-id"] == [identity]
    assert line_with(nginx, "request_id", identity)["path"] == "/api/headers"


def test_identity_of_a_request_is_not_taken_from_who_is_not_that_proxy(variants: Variants) -> None:
    nginx = variants.of(proxy={"trusted_proxies": ["203.0.113.0/24"]})
    for claimed in ([], [("X-Forwarded-For", "203.0.113.1")]):
        answer = nginx.ask("/api/headers", headers=[("X-Request-ID", "0" * 32), *claimed])
        assert answer.header("X-Request-ID") != "0" * 32
        assert arrived(answer.body)["x-request-id"] == [answer.header("X-Request-ID")]


def secrets_told_to(nginx: NginxUnderTest, backend: EchoBackend) -> None:
    """Ask in all the ways that have Nginx complain, with a secret wherever a client may have one."""
    headers = [
        ("Authorization", f"Bearer {SECRET}"),
        ("Cookie", f"token={SECRET}"),
        ("Referer", f"https://localhost:8443/?code={SECRET}"),
        ("X-API-Key", SECRET),
    ]
    query = f"?token={SECRET}&code={SECRET}"
    backend.answers["/static/breaks"] = FrontendFile(headers=[("Content-Encoding", "br")])
    for path in ("/api/headers", "/api/die", "/die", "/oauth/google/callback/die", "/static/die", "/ws/", "/a/../b"):
        nginx.ask(f"{path}{query}", headers=headers)
    nginx.ask(f"/{query}", headers=headers, host="evil.example.com")
    nginx.ask(f"/{query}", headers=headers, host="chat.example.com")
    nginx.ask(f"/{query}", headers=headers, scheme="http")
    for _ in range(30):
        nginx.ask(f"/api/v1/auths/signin{query}", method="POST", headers=headers, body=b"{}")
    for head in (
        f"POST /api/x{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999",
        f"POST /x{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\nReferer: https://a/{query}",
        f"GET /x{query} HTTP/1.1\r\nHost: localhost\r\nCookie: token={SECRET}{'x' * 140_000}",
        f"GET /x{query}{'x' * 140_000} HTTP/1.1\r\nHost: localhost",
        f"GET /x{query} HTTP/1.1\r\nHost: localhost\r\nBad Name: {SECRET}",
        f"GET /x{query} HTTP/1.1\r\nHost: localhost\r\nCookie: token={SECRET}\x00",
        f"GET /x{query} HTTP/1.1\r\nHost: local host",
        f"GET /x{query} {SECRET} HTTP/1.1\r\nHost: localhost",
    ):
        assert nginx.ask_in_bytes(f"{head}\r\n\r\n".encode()).status >= 400


@pytest.mark.parametrize(
    ("requests", "level"), [("json", "warn"), ("json", "info"), ("text", "notice"), ("off", "info")]
)
def test_no_secret_of_a_client_is_written_anywhere(
    variants: Variants, backend: EchoBackend, requests: str, level: str
) -> None:
    nginx = variants.of(proxy={"log": {"requests": requests, "level": level}, "limits": {"max_upload": "1MiB"}})
    secrets_told_to(nginx, backend)
    # Whatever Nginx said before this line is there once the line is.
    last = f"/{uuid.uuid4().hex}"
    nginx.ask(last)
    if requests != "off":
        wait_until(lambda: last in nginx.access_log(), what="the last line", deadline=PATIENCE, every=0.02)
    assert SECRET not in nginx.access_log()
    assert SECRET not in nginx.error_log()


def test_text_is_for_people(variants: Variants) -> None:
    nginx = variants.of(proxy={"log": {"requests": "text", "level": "notice"}, "limits": {"max_upload": "1MiB"}})
    path = f"/api/{uuid.uuid4().hex}%22/headers"
    identity = nginx.ask(path + "?q=1").header("X-Request-ID")
    written = (
        rf'^\S+ \[\S+\] "GET {path.replace("%22", "~")} HTTP/1\.1" 200 \d+ [\d.]+ .* host="localhost" id={identity}$'
    )
    pattern = re.compile(written.replace("~", r"\\x22"), re.MULTILINE)
    wait_until(lambda: pattern.search(nginx.access_log()), what="its line", deadline=PATIENCE, every=0.02)


def test_off_writes_nothing_about_requests(variants: Variants) -> None:
    nginx = variants.of(proxy={"log": {"requests": "off", "level": "info"}, "limits": {"max_upload": "1MiB"}})
    for path in ("/api/headers", "/ws/", "/api/die"):
        nginx.ask(path)
    assert nginx.access_log() == ""


def test_level_says_what_nginx_writes_about_itself(variants: Variants) -> None:
    loud = variants.of(proxy={"log": {"requests": "text", "level": "notice"}, "limits": {"max_upload": "1MiB"}})
    quiet = variants.of(proxy={"log": {"requests": "json", "level": "warn"}, "limits": {"max_upload": "1MiB"}})
    # Not what is said of the certificate beside it.
    of_nginx = re.compile(r"\[notice\] \d+#")
    assert of_nginx.search(loud.error_log())
    assert not of_nginx.search(quiet.error_log())
