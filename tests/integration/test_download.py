"""A file is fetched over connections that break, stall or are slow."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from open_webui_edge.bootstrap import download

_CONTENT = bytes(range(256)) * 4096


class _Handler(BaseHTTPRequestHandler):
    """The first folder of the path says what happens."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Web)
        web, way = self.server, self.path.strip("/")
        web.ranges.append(self.headers.get("Range"))
        is_first = len(web.ranges) == 1
        if way == "missing":
            self.send_error(404)
            return
        start = 0
        if self.headers.get("Range") and way != "from-the-beginning":
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(_CONTENT) - start))
        self.end_headers()
        rest = _CONTENT[start:]
        if way == "slow":
            for piece in range(0, len(rest), len(rest) // 12):
                self.wfile.write(rest[piece : piece + len(rest) // 12])
                self.wfile.flush()
                web.over.wait(0.25)
        elif way in {"breaks", "from-the-beginning", "always-breaks"} and (is_first or way == "always-breaks"):
            self.wfile.write(rest[: len(rest) // 2])
        elif way == "stalls" and is_first:
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
            web.over.wait(60)
        else:
            self.wfile.write(rest)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
        del format, args


@dataclass
class Web(ThreadingHTTPServer):
    """What serves, and what it was asked."""

    ranges: list[str | None] = field(default_factory=list[str | None])
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.daemon_threads = True

    def address(self, way: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{way}"


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("way", "ranges"),
    [
        ("whole", [None]),
        # Longer in all than anything may be silent.
        ("slow", [None]),
        ("breaks", [None, f"bytes={len(_CONTENT) // 2}-"]),
        ("stalls", [None, f"bytes={len(_CONTENT) // 2}-"]),
        ("from-the-beginning", [None, f"bytes={len(_CONTENT) // 2}-"]),
    ],
)
def test_a_file_arrives_whole(web: Web, tmp_path: Path, way: str, ranges: list[str | None]) -> None:
    said: list[str] = []
    download.fetch(web.address(way), tmp_path / "file", said.append, timeout=2)
    assert (tmp_path / "file").read_bytes() == _CONTENT
    assert web.ranges == ranges
    assert said[-1] == "1.0 of 1.0 MB"


@pytest.mark.parametrize(
    ("way", "words", "tries"),
    [
        ("missing", "answers 404 Not Found", 1),
        ("always-breaks", r"always-breaks: the connection ended with 0\.3 MB to come$", 2),
    ],
)
def test_a_file_that_cannot_be_had_is_said_in_the_servers_words(
    web: Web, tmp_path: Path, way: str, words: str, tries: int
) -> None:
    with pytest.raises(download.DownloadError, match=words):
        download.fetch(web.address(way), tmp_path / "file", lambda _: None, timeout=2)
    assert len(web.ranges) == tries


def test_where_nothing_listens_it_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(download.DownloadError, match=r"^http://127\.0\.0\.1:1/x: .*Connection refused"):
        download.fetch("http://127.0.0.1:1/x", tmp_path / "file", lambda _: None)
