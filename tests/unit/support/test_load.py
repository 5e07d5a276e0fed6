"""A load that overlooks a lost answer would prove nothing."""

from io import BytesIO

import pytest

from open_webui_edge.benchmarks.http1 import Broken, read_http1

WHOLE = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", (200, False)),
    "empty": (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", (502, False)),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n", (200, False)),
    "announced close": (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 5\r\n\r\nhello", (200, True)),
    "until closed": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", (200, True)),
}


@pytest.mark.parametrize(("answer", "read"), WHOLE.values(), ids=WHOLE)
def test_whole_answer_is_read_to_its_last_byte(answer: bytes, read: tuple[int, bool]) -> None:
    received = BytesIO(answer)
    assert read_http1(received) == read
    assert received.read() == b""


@pytest.mark.parametrize("name", ["length", "empty", "chunked", "announced close"])
def test_answer_cut_short_anywhere_is_broken(name: str) -> None:
    answer, _ = WHOLE[name]
    for length in range(len(answer)):
        with pytest.raises(Broken, match="the connection was closed"):
            read_http1(BytesIO(answer[:length]))
