"""What the proxy does in a real deployment: sockets, streams, files that are kept and files that never are.

Tests that stop the application or update the stack are marked long: tests/nginx does both without Open WebUI.
"""

import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient
from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.engine.engine import Engine
from tests.support.stack import StackUnderTest, free_port

BROWSER = {"Accept": "text/html,application/xhtml+xml", "Accept-Encoding": "gzip"}


@pytest.fixture
def visitor(chat: StackUnderTest) -> Iterator[httpx.Client]:
    """A visitor without an account."""
    with chat.client() as client:
        yield client.http


def chunk_of(visitor: httpx.Client) -> str:
    """Return the path of a file with a hash in its name, as the page names it."""
    result = re.search(r"/_app/immutable/chunks/[^\"']+\.js", visitor.get("/", headers=BROWSER).text)
    assert result is not None
    return result[0]


def test_socket_without_upgrade_is_told_what_is_missing(visitor: httpx.Client) -> None:
    answer = visitor.get("/ws/socket.io/?EIO=4&transport=polling")
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert "Upgrade: websocket" in answer.json()["detail"]


def test_file_of_the_frontend_is_kept_once_for_each_encoding(visitor: httpx.Client) -> None:
    path = chunk_of(visitor)
    bodies: dict[str, bytes] = {}
    for encoding in ("br", "zstd", "gzip", "identity"):
        for _ in range(2):
            answer = visitor.get(path, headers={"Accept-Encoding": encoding, "Cookie": "token=a-user's"})
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert answer.headers.get("Content-Encoding", "identity") in {encoding, "identity"}
            bodies[encoding] = answer.content
        again = visitor.get(path, headers={"Accept-Encoding": encoding})
        assert again.headers["X-Cache-Status"] == "HIT"
    # The client reads gzip by itself; the two others it hands out as they came.
    assert bodies["gzip"] == bodies["identity"]
    assert len({bodies["br"], bodies["zstd"], bodies["identity"]}) == 3, "two encodings hold the same"


@pytest.mark.parametrize(
    ("path", "cache_control"),
    [
        ("/", "no-cache"),
        ("/c/some-chat", "no-cache"),
        ("/_app/version.json", "no-cache"),
        ("/static/favicon.png", "no-cache"),
        ("/_app/immutable/chunks/of-an-earlier-release.js", "no-store"),
        ("/_app/immutable/assets/of-an-earlier-release.css", "no-store"),
        ("/api/config", "private, no-cache"),
    ],
)
def test_browser_keeps_no_longer_than_is_safe(visitor: httpx.Client, path: str, cache_control: str) -> None:
    assert visitor.get(path, headers=BROWSER).headers["Cache-Control"] == cache_control


def test_a_private_file_is_never_kept(chat: StackUnderTest, admin: OpenWebUIClient, visitor: httpx.Client) -> None:
    upload = admin.http.post(
        "/api/v1/files/?process=false",
        files={"file": ("picture.png", b"\x89PNG private", "image/png")},
        headers={"Authorization": f"Bearer {admin.token}"},
    )
    assert upload.status_code == HTTPStatus.OK, upload.text
    path = f"/api/v1/files/{upload.json()['id']}/content/picture.png"
    # By token, and by the cookie that a browser has.
    for credentials in ({"Authorization": f"Bearer {admin.token}"}, {"Cookie": f"token={admin.token}"}):
        for _ in range(2):
            mine = httpx.get(f"{chat.url}{path}", headers=credentials, verify=admin._trust)  # noqa: SLF001 - the same CA
            assert (mine.status_code, b"private" in mine.content) == (HTTPStatus.OK, True), mine.text
            assert "X-Cache-Status" not in mine.headers
    stranger = visitor.get(path)
    assert stranger.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    assert b"private" not in stranger.content


@pytest.mark.long
def test_what_is_kept_is_given_out_while_the_application_is_down(chat: StackUnderTest, visitor: httpx.Client) -> None:
    path = chunk_of(visitor)
    whole = visitor.get(path).content
    visitor.get("/static/favicon.png")
    application = chat.container("open-webui")
    application.stop(timeout=60)
    try:
        for remaining in (path, "/static/favicon.png"):
            assert visitor.get(remaining).status_code == HTTPStatus.OK, remaining
        assert visitor.get(path).content == whole
        page = visitor.get("/", headers=BROWSER)
        assert page.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert '<meta http-equiv="refresh"' in page.text
        assert visitor.get("/api/config").json()["detail"].startswith("This service does not answer")
    finally:
        application.start()
    chat.wait_until_ready()


def test_each_security_header_comes_once_on_every_answer(visitor: httpx.Client) -> None:
    for path in ("/", "/api/config", "/ws/", "/nowhere", "/api/v1/users/", "/static/none.png", "/_app/version.json"):
        headers = visitor.get(path, headers={"Accept-Encoding": "gzip"}).headers
        for name in (
            "Content-Security-Policy",
            "Permissions-Policy",
            "Referrer-Policy",
            "X-Content-Type-Options",
            "X-Frame-Options",
            "X-Request-ID",
            "Vary",
        ):
            assert len(headers.get_list(name)) == 1, (path, name)
        assert headers["Server"] == "nginx"


def test_metrics_are_for_the_host_alone_and_outlive_a_killed_proxy(side: StackUnderTest) -> None:
    port = free_port()
    side.config["proxy"] = {"metrics": {"enabled": True, "port": port}}
    side.write()
    side.up().succeeded()
    side.wait_until_ready()

    def up() -> bool:
        return "nginx_up 1" in httpx.get(f"http://127.0.0.1:{port}/metrics").text

    wait_until(up, what="numbers of the proxy", ignoring=(httpx.TransportError,))
    assert "nginx_http_requests_total" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    # Another container of the stack finds neither the exporter nor what it reads.
    for address in (
        *("nginx-metrics:9113", "edge-it-side-nginx-metrics:9113", "exporter:9113", "edge-it-side-nginx-exporter:9113"),
        *("nginx:8081", "nginx:9113"),
    ):
        asked = side.container("open-webui").exec_run(["curl", "--silent", "--max-time", "2", f"http://{address}/"])
        assert asked.exit_code != 0, address
    # What a killed Nginx leaves does not keep the next from starting.
    proxy = side.container("nginx")
    proxy.kill()
    proxy.start()
    side.wait_until_ready()
    wait_until(up, what="numbers of the proxy")

    del side.config["proxy"]
    side.write()
    side.up().succeeded()
    side.wait_until_ready()
    assert not [name for name in side.owned("containers") if name.endswith(("metrics", "exporter"))]
    assert not [name for name in side.owned("networks") if "metrics" in name]


@pytest.mark.long
def test_ipv6_is_published_only_where_the_engine_shows_who_comes(chat: StackUnderTest) -> None:
    shown = Engine(None).shows_ipv6_clients()
    chat.config["site"]["listen"]["address"] = "0.0.0.0"
    chat.write()
    try:
        output = chat.up().succeeded().output
        chat.wait_until_ready()
        why = (
            "Nothing is published on ::: behind this Docker engine every IPv6 client has the gateway's address. Docker"
            " 27 and later preserve the client's; site.listen.ipv6: false hides this message."
        )
        assert (why in " ".join(output.split())) is not shown, output
        ports = chat.container("nginx").attrs["NetworkSettings"]["Ports"]
        bindings = {binding["HostIp"] for published in ports.values() for binding in published or ()}
        assert bindings == {"0.0.0.0", *(["::"] if shown else [])}
        assert _listens_on_ipv6(chat.https_port) is shown
    finally:
        del chat.config["site"]["listen"]["address"]
        chat.write()
    # Who listens on loopback alone is told nothing.
    assert "Nothing is published" not in chat.up().succeeded().output
    assert _listens_on_ipv6(chat.https_port) is shown


def _listens_on_ipv6(port: int) -> bool:
    """Whether anybody on this machine does; 0A is LISTEN (proc(5))."""
    table = Path("/proc/net/tcp6")
    lines = table.read_text().splitlines()[1:] if table.exists() else []
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)
