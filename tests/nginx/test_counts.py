"""What is written of each request for the counts, and what Nginx tells Prometheus of itself."""

import asyncio
import uuid
from collections.abc import Iterator

import aiohttp
import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.components.reverse_proxy.rendering import METRICS_PORT
from open_webui_edge.runtime.nginx.scripts import METRICS
from open_webui_edge.runtime.open_webui.request_counter import LINE, LOCATIONS
from tests.nginx.conftest import Variants, Workshop
from tests.nginx.frontend_file import FrontendFile
from tests.nginx.nginx_under_test import PATIENCE, NginxUnderTest, settings_of
from tests.nginx.test_log import HOSTILE
from tests.support.echo_backend import EchoBackend

LOG = f"{METRICS}/requests.log"
COUNTED = {"prometheus": {"enabled": True}}


@pytest.fixture
def counted(variants: Variants) -> Iterator[NginxUnderTest]:
    """Nginx that writes for the counts; a test fails if Nginx logs an alert."""
    nginx = variants.of(monitoring=COUNTED, proxy={"locations": {"/docs/": {}, "/robots.txt": {}, "/a(b)*+'!~/": {}}})
    before = len(nginx.said_so_far())
    yield nginx
    nginx.assert_nothing_serious_in(nginx.said_so_far()[before:])


def lines(nginx: NginxUnderTest) -> list[dict[str, str]]:
    """Read what was written; every line is one that counts, or this fails."""
    received: list[dict[str, str]] = []
    for line in nginx.run_inside(f"cat {LOG}").splitlines():
        match = LINE.fullmatch(line)
        assert match is not None, line
        received.append(match.groupdict())
    return received


def after(nginx: NginxUnderTest, before: int, number: int = 1, *, location: str | None = None) -> list[dict[str, str]]:
    """Wait for that many lines more, about one place where it is named; Nginx keeps them for a second."""

    def written() -> list[dict[str, str]] | None:
        received = [line for line in lines(nginx)[before:] if location in {None, line["location"]}]
        return received if len(received) >= number else None

    return wait_until(written, what=f"{number} lines", deadline=PATIENCE, every=0.1) or []


def figures(nginx: NginxUnderTest) -> dict[str, float]:
    text = nginx.run_inside(f"curl --silent --fail http://127.0.0.1:{METRICS_PORT}/metrics")
    pairs = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name.removeprefix("open_webui_edge_"): float(value) for name, value in pairs}


def test_place_of_a_request_is_one_of_few_words(counted: NginxUnderTest, backend: EchoBackend) -> None:
    del backend
    places = {
        "/": "pages",
        f"/c/{uuid.uuid4()}": "pages",
        "/api/v1/users/": "api",
        "/api/chat/completions": "models",
        "/api/v1/chat/completions": "models",
        "/openai/models": "models",
        "/ollama/api/tags": "models",
        f"/api/v1/files/{uuid.uuid4()}/content": "files",
        "/cache/image/generations/x.png": "files",
        "/api/v1/auths/": "sign_in",
        "/oauth/google/login": "oauth",
        "/static/favicon.png": "frontend",
        "/_app/immutable/chunks/x.js": "frontend",
        "/_app/version.json": "frontend",
        "/ready": "health",
        "/readyness": "pages",
        "/ws/": "sockets",
        "/api/v1/terminals/a/api/terminals/b": "other_sockets",
        "/docs/": "extra",
        "/docs/deep/page": "extra",
        "/robots.txt": "extra",
        "/robots.txt.old": "pages",
        "/a(b)*+'!~/c": "extra",
        "/ab/c": "pages",
    }
    before = len(lines(counted))
    for path in places:
        counted.ask(path)
    received = after(counted, before, len(places))
    # Nginx has several workers, each of which writes when it likes.
    assert sorted(line["location"] for line in received) == sorted(places.values())
    assert set(places.values()) == set(LOCATIONS)
    assert {line["kind"] for line in received} == {"answer"}


def test_line_has_nothing_of_a_client_s_whatever_that_sends(counted: NginxUnderTest) -> None:
    before = len(lines(counted))
    for scheme in ("https", "http"):
        for request in HOSTILE.values():
            with counted.connection(scheme=scheme) as connected:
                connected.sendall(request + b"\r\nConnection: close\r\n\r\n")
                while connected.recv(1 << 16):
                    pass
    received = after(counted, before, 2 * len(HOSTILE))
    assert {line["protocol"] for line in received} <= {"HTTP/1.0", "HTTP/1.1", "OTHER"}
    assert {line["location"] for line in received} <= {"pages", "api", "sockets"}


def test_stream_and_socket_are_counted_as_such_and_a_socket_by_how_long_it_lasted(
    counted: NginxUnderTest, backend: EchoBackend
) -> None:
    del backend
    before = len(lines(counted))
    counted.ask("/openai/silent?begin=1&seconds=0.05")
    asyncio.run(sockets(counted, 1))
    received = {line["kind"]: line for line in after(counted, before, 2)}
    assert received["socket"]["status"] == "101"
    assert received["socket"]["location"] == "sockets"
    assert float(received["socket"]["seconds"]) > 0
    assert received["stream"]["location"] == "models"
    assert 0 <= float(received["stream"]["first_byte"]) <= float(received["stream"]["seconds"])


async def sockets(nginx: NginxUnderTest, number: int) -> dict[str, float]:
    """Open sockets, and return what Nginx says of itself while they are open."""
    url = f"https://127.0.0.1:{nginx.https_port}/ws/"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        opened = [
            await http.ws_connect(url, ssl=nginx.trust(), server_hostname=nginx.domain, headers={"Host": nginx.domain})
            for _ in range(number)
        ]
        said = await asyncio.to_thread(figures, nginx)
        for websocket in opened:
            await websocket.close()
    return said


def test_sockets_are_among_what_nginx_is_writing(counted: NginxUnderTest, backend: EchoBackend) -> None:
    del backend
    # Itself asking is one.
    wait_until(
        lambda: figures(counted)['connections{state="writing"}'] == 1, what="nothing else", deadline=PATIENCE, every=0.1
    )
    assert asyncio.run(sockets(counted, 7))['connections{state="writing"}'] == 1 + 7


def test_what_the_cache_did_is_counted_for_each_file(counted: NginxUnderTest, backend: EchoBackend) -> None:
    path = f"/static/{uuid.uuid4().hex}.css"
    backend.answers[path] = FrontendFile()
    before = len(lines(counted))
    for _ in range(3):
        assert counted.ask(path).status == 200
    received = after(counted, before, 3, location="frontend")
    assert sorted(line["cache"] for line in received) == ["HIT", "HIT", "MISS"]
    # A file from the cache has no upstream time.
    assert sorted(line["first_byte"] == "-" for line in received) == [False, True, True]


def test_counts_need_no_log_of_requests(variants: Variants) -> None:
    nginx = variants.of(monitoring=COUNTED, proxy={"log": {"requests": "off"}})
    before = len(lines(nginx))
    for path in ("/", "/static/x.css", "/api/status/404"):
        nginx.ask(path)
    assert sorted(line["location"] for line in after(nginx, before, 3)) == ["api", "frontend", "pages"]
    assert nginx.access_log() == ""


def test_nginx_says_how_its_container_is(counted: NginxUnderTest) -> None:
    # The scripts beside it look each ten seconds.
    said = wait_until(
        lambda: (received := figures(counted)).get("container_memory_bytes") and received,
        what="what the scripts know",
        deadline=30,
        every=0.2,
    )
    assert isinstance(said, dict)
    assert said["certificate_days_left"] >= 0
    assert said["container_memory_bytes"] > 1 << 20
    assert said["container_start_time_seconds"] > 1_700_000_000
    # Without certbot there are no metrics of renewals.
    assert "renewal_failing" not in said


def test_log_is_emptied_when_it_is_long_and_goes_on(workshop: Workshop, shared_backend: EchoBackend) -> None:
    workshop.names.addresses["open-webui"] = workshop.gateway
    nginx = workshop.nginx(settings_of(monitoring=COUNTED), port=shared_backend.port)
    nginx.ask("/")
    after(nginx, 0)
    # As if it had written that much: more than 16 MiB.
    nginx.run_inside(f"yes 'pages answer 200 0.001 - - - 1 1 HTTP/1.1' | head -c 17000000 >> {LOG}")
    wait_until(
        lambda: int(nginx.run_inside(f"stat --format=%s {LOG}")) < 1 << 20, what="an empty file", deadline=30, every=0.2
    )
    nginx.ask("/api/headers")
    assert [line["location"] for line in after(nginx, 0)] == ["api"]
    # No hole at the beginning: Nginx writes at the end, wherever that is by now.
    assert nginx.run_inside(f"head -c 4 {LOG}") == "api "
    nginx.reload(settings_of(monitoring=COUNTED, proxy={"log": {"files": True}}))


def test_without_the_setting_nothing_is_written_or_said(variants: Variants) -> None:
    nginx = variants.of(proxy={"limits": {"max_upload": "1MiB"}})
    nginx.ask("/")
    assert nginx.run_inside(f"ls {METRICS} | grep requests || echo none").strip() == "none"
    assert nginx.run_inside(f"curl --silent http://127.0.0.1:{METRICS_PORT}/ || echo none").strip() == "none"
