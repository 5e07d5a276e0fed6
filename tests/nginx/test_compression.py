"""What is compressed on its way, by gzip or brotli, and that a stream never is."""

import asyncio
import threading
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from aiohttp import web

from tests.nginx.conftest import Variants
from tests.nginx.frontend_file import FrontendFile
from tests.nginx.nginx_under_test import NginxUnderTest
from tests.support.echo_backend import PATIENCE, EchoBackend

STREAMS = [
    "text/event-stream",
    "text/event-stream; charset=utf-8",
    "application/x-ndjson",
    "text/plain",
    "application/octet-stream",
    "application/jsonl",
]
TEXTS = ["application/json", "text/html", "text/css", "text/javascript", "image/svg+xml", "application/manifest+json"]
ALL = "gzip, deflate, br, zstd"


@pytest.fixture(params=["official image", "built image"])
def compressing(request: pytest.FixtureRequest, variants: Variants) -> NginxUnderTest:
    """Nginx with gzip alone, and with brotli beside it where its image has the module."""
    return variants.of(images={"source": "built"} if request.param == "built image" else {})


@pytest.fixture
def with_brotli(variants: Variants) -> NginxUnderTest:
    """The latter."""
    return variants.of(images={"source": "built"})


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
@pytest.mark.parametrize("type_", STREAMS)
def test_stream_is_neither_compressed_nor_held_back(
    compressing: NginxUnderTest, backend: EchoBackend, type_: str, protocol: str
) -> None:
    # The second event is not sent before the first has arrived.
    headers = {"Accept-Encoding": ALL}
    with (
        compressing.client(protocol) as client,
        client.stream(
            "GET",
            "/api/stream",
            params={"type": type_},
            headers=headers,
            extensions={"sni_hostname": compressing.domain},
        ) as response,
    ):
        lines = response.iter_lines()
        assert next(lines) == 'data: {"event": 1}'
        backend.acknowledge()
        assert next(lines) == 'data: {"event": 2}'
        assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize("type_", TEXTS)
@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        (ALL, "br"),
        ("br", "br"),
        ("gzip, br;q=0", "gzip"),
        ("gzip", "gzip"),
        ("zstd", None),
        ("gzip;q=0, br;q=0", None),
        ("identity", None),
        ("", None),
    ],
)
def test_text_that_the_application_left_alone_is_compressed(
    with_brotli: NginxUnderTest, type_: str, accepted: str, encoding: str | None
) -> None:
    path = f"/api/text?type={quote(type_)}&size=5000"
    answer = with_brotli.ask(path, headers=[("Accept-Encoding", accepted)])
    assert answer.header("Content-Encoding") == encoding
    assert (len(answer.body) < 5000) == (encoding is not None)
    assert answer.header("Vary") == "Accept-Encoding, Origin"


@pytest.mark.parametrize("encoding", ["br", "gzip"])
def test_what_is_compressed_on_its_way_is_the_same_once_it_is_decoded(
    with_brotli: NginxUnderTest, encoding: str
) -> None:
    path = "/api/text?type=application/json&size=300000"
    assert with_brotli.ask(path, headers=[("Accept-Encoding", encoding)]).header("Content-Encoding") == encoding
    assert with_brotli.ask_decoded(path, encoding) == "x" * 300_000


@pytest.mark.parametrize(
    ("type_", "size", "own"),
    [
        ("application/json", 500, ""),
        ("image/png", 5000, ""),
        ("font/woff2", 5000, ""),
        ("application/json", 5000, "br"),
        ("application/json", 5000, "gzip"),
        ("application/json", 5000, "zstd"),
    ],
)
def test_what_gains_nothing_is_left_alone(compressing: NginxUnderTest, type_: str, size: int, own: str) -> None:
    path = f"/api/text?type={type_}&size={size}" + (f"&encoding={own}" if own else "")
    answer = compressing.ask(path, headers=[("Accept-Encoding", ALL)])
    assert (answer.header("Content-Encoding") or "", answer.body) == (own, b"x" * size)


def test_who_comes_through_another_proxy_is_served_likewise(compressing: NginxUnderTest) -> None:
    headers = [("Via", "1.1 another"), ("Accept-Encoding", "gzip")]
    assert compressing.ask("/api/text?type=text/css&size=5000", headers=headers).header("Content-Encoding") == "gzip"


def test_file_that_is_kept_without_an_encoding_is_compressed_for_each_client(
    with_brotli: NginxUnderTest, backend: EchoBackend
) -> None:
    async def plain(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 5000, headers={"Content-Type": "image/svg+xml"})

    file = backend.answers["/assets/kept-plain.svg"] = FrontendFile(instead=plain)
    for _ in range(2):
        for encoding in ("br", "gzip"):
            answer = with_brotli.ask("/assets/kept-plain.svg", headers=[("Accept-Encoding", encoding)])
            assert answer.header("Content-Encoding") == encoding
    assert len(file.asked) == 2


def test_client_that_leaves_in_the_middle_of_a_stream_is_gone_for_the_application_too(
    compressing: NginxUnderTest, backend: EchoBackend
) -> None:
    gone = threading.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: 1\n\n")
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        return answer

    for protocol in ("http/1.1", "h2"):
        backend.answers["/api/endless"] = endless
        gone.clear()
        with compressing.client(protocol) as client:
            extensions = {"sni_hostname": compressing.domain}
            with client.stream("POST", "/api/endless", extensions=extensions) as response:
                assert next(response.iter_lines()) == "data: 1"
                assert not gone.is_set()
        assert gone.wait(PATIENCE)


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
@pytest.mark.parametrize("path", ["/api/v1/files/upload", "/ollama/models/upload"])
def test_upload_s_progress_is_the_application_s(
    compressing: NginxUnderTest, backend: EchoBackend, path: str, protocol: str
) -> None:
    def pieces() -> Iterator[bytes]:
        for number in range(1, 4):
            yield b"x" * 50_000
            # The next is not sent before this one has arrived.
            backend.wait_for_upload_of(number * 50_000)

    with compressing.client(protocol) as client:
        answer = client.post(path, content=pieces(), extensions={"sni_hostname": compressing.domain})
    assert answer.json() == {"bytes": 150_000}
