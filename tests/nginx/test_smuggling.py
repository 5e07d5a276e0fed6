"""Requests that two servers would read in two ways: refused, or passed on so that there is one way left."""

import http.client
import socket

import h2.config
import h2.connection
import h2.events
import pytest

from tests.nginx.nginx_under_test import NginxUnderTest
from tests.support.echo_backend import EchoBackend, arrived

# Whatever is read as a second request asks for this.
SECOND = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"0\r\n\r\n"


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST /api/headers HTTP/1.1", b"Host: localhost", *headers, b"", b""]) + body


REFUSED: dict[str, bytes] = {
    "length and chunks": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=CHUNKED + SECOND),
    "chunks and length": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CHUNKED + SECOND),
    "two codings": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=CHUNKED + SECOND),
    "chunked twice": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=CHUNKED + SECOND),
    "a list of codings": post(b"Transfer-Encoding: identity, chunked", body=CHUNKED + SECOND),
    "chunked, chunked": post(b"Transfer-Encoding: chunked, chunked", body=CHUNKED + SECOND),
    "another coding": post(b"Transfer-Encoding: xchunked", body=CHUNKED + SECOND),
    "a coding in quotes": post(b'Transfer-Encoding: "chunked"', body=CHUNKED + SECOND),
    "no coding": post(b"Transfer-Encoding:", body=CHUNKED + SECOND),
    "a vertical tab before the coding": post(b"Transfer-Encoding: \x0bchunked", body=CHUNKED + SECOND),
    "a tab before the coding": post(b"Transfer-Encoding:\tchunked", body=CHUNKED + SECOND),
    "a tab behind the coding": post(b"Transfer-Encoding: chunked\t", body=CHUNKED + SECOND),
    "a blank before the colon": post(b"Transfer-Encoding : chunked", b"Content-Length: 5", body=CHUNKED + SECOND),
    "a tab before the colon": post(b"Transfer-Encoding\t: chunked", body=CHUNKED + SECOND),
    "a control character in a name": post(b"Transfer-Encoding\x01: chunked", body=CHUNKED + SECOND),
    "a return in a value": post(b"X: y\rTransfer-Encoding: chunked", body=CHUNKED + SECOND),
    "a null in a value": post(b"X: y\x00z", b"Content-Length: 0", body=SECOND),
    "a null in a name": post(b"X\x00: y", b"Content-Length: 0", body=SECOND),
    "a folded header": post(b"X: y", b" Content-Length: 5", body=SECOND),
    "a folded coding": post(b"Transfer-Encoding:", b" chunked", body=CHUNKED + SECOND),
    "a header without a colon": post(b"Content-Length", body=SECOND),
    "a header without a name": post(b": 5", body=SECOND),
    "two lengths": post(b"Content-Length: 5", b"Content-Length: 0", body=SECOND),
    "one length twice": post(b"Content-Length: 0", b"Content-Length: 0", body=SECOND),
    "a list of lengths": post(b"Content-Length: 0, 0", body=SECOND),
    "a negative length": post(b"Content-Length: -1", body=SECOND),
    "a length with a plus sign": post(b"Content-Length: +0", body=SECOND),
    "a length in hexadecimal": post(b"Content-Length: 0x0", body=SECOND),
    "a length with a blank in it": post(b"Content-Length: 0 0", body=SECOND),
    "a length beyond all numbers": post(b"Content-Length: 18446744073709551616", body=SECOND),
    "a chunk of no size": post(b"Transfer-Encoding: chunked", body=b"\r\n\r\n" + SECOND),
    "a chunk of negative size": post(b"Transfer-Encoding: chunked", body=b"-1\r\n\r\n" + SECOND),
    "a chunk with a plus sign": post(b"Transfer-Encoding: chunked", body=b"+0\r\n\r\n" + SECOND),
    "a chunk in 0x": post(b"Transfer-Encoding: chunked", body=b"0x0\r\n\r\n" + SECOND),
    "a chunk beyond all numbers": post(b"Transfer-Encoding: chunked", body=b"10000000000000000\r\n" + SECOND),
    "a chunk longer than it says": post(b"Transfer-Encoding: chunked", body=b"1\r\nxyz\r\n0\r\n\r\n" + SECOND),
    "chunks in HTTP/1.0": post(b"Transfer-Encoding: chunked", body=CHUNKED + SECOND).replace(b"1.1", b"1.0", 1),
    "an unknown version": b"GET /api/headers HTTP/2.0\r\nHost: localhost\r\n\r\n" + SECOND,
    "a blank in the path": b"GET /api/ headers HTTP/1.1\r\nHost: localhost\r\n\r\n" + SECOND,
    "a null in the path": b"GET /api/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n" + SECOND,
    "a raw null in the path": b"GET /api/\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n" + SECOND,
    "a tab in the path": b"GET /api/\theaders HTTP/1.1\r\nHost: localhost\r\n\r\n" + SECOND,
    "a path without a slash": b"GET api/headers HTTP/1.1\r\nHost: localhost\r\n\r\n" + SECOND,
    "a method in lower case": b"get /api/headers HTTP/1.1\r\nHost: localhost\r\n\r\n" + SECOND,
    "no method": b" /api/headers HTTP/1.1\r\nHost: localhost\r\n\r\n" + SECOND,
    "a head before the first": b"X: y\r\nGET /api/headers HTTP/1.1\r\nHost: localhost\r\n\r\n" + SECOND,
    "a line of 40 KiB": b"GET /api/headers HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n" + SECOND,
    "a path of 40 KiB": b"GET /api/" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n" + SECOND,
    "a head of 200 KiB": post(*(b"X-%d: %s" % (number, b"x" * 20_000) for number in range(10)), body=SECOND),
}
READ_ONE_WAY: dict[str, tuple[bytes, int]] = {
    "chunked in another case": (post(b"Transfer-Encoding: CHUNKED", body=b"2\r\nab\r\n0\r\n\r\n"), 2),
    "blanks around the coding": (post(b"Transfer-Encoding:   chunked  ", body=b"2\r\nab\r\n0\r\n\r\n"), 2),
    "an extension of a chunk": (post(b"Transfer-Encoding: chunked", body=b'2;a=b;c="d"\r\nab\r\n0\r\n\r\n'), 2),
    "an extension of the last chunk": (post(b"Transfer-Encoding: chunked", body=b"2\r\nab\r\n0;a=b\r\n\r\n"), 2),
    "a trailer": (post(b"Transfer-Encoding: chunked", body=b"2\r\nab\r\n0\r\nContent-Length: 9\r\n\r\n"), 2),
    "lines that end without a return": (
        post(b"Content-Length: 2", b"X: y", body=b"ab").replace(b"\r\n", b"\n"),
        2,
    ),
    "a length with zeros before it": (post(b"Content-Length: 002", body=b"ab"), 2),
    "a body of GET": (post(b"Content-Length: 2", body=b"ab").replace(b"POST", b"GET"), 2),
    "a request in absolute form": (
        post(b"Content-Length: 2", body=b"ab").replace(b"/api", b"http://localhost/api", 1),
        2,
    ),
    "an underscore in a name": (post(b"Content_Length: 99", b"Content-Length: 2", body=b"ab"), 2),
    "a name that is no word": (post(b"X-(Y): 1", b"Content-Length: 2", body=b"ab"), 2),
}


def answers_to(nginx: NginxUnderTest, request: bytes) -> list[int]:
    """Send these bytes, and return the status of each answer until Nginx hangs up."""
    with nginx.connection() as connected:
        connected.sendall(request)
        received = b""
        while piece := _received(connected):
            received += piece
    return [int(head[:3]) for head in received.split(b"HTTP/1.1 ")[1:]]


def _received(connected: socket.socket) -> bytes:
    try:
        return connected.recv(1 << 16)
    except ConnectionResetError:
        # It hung up with some of the request unread.
        return b""


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_request_that_can_be_read_in_two_ways_is_refused(
    nginx: NginxUnderTest, backend: EchoBackend, request_: bytes
) -> None:
    (status,) = answers_to(nginx, request_)
    assert status in {400, 413, 414, 501, 505}
    # Its head may have been good and only its body not: the application then gets no whole request.
    assert backend.requests in ([], ["POST /api/headers"])
    assert backend.answered == []


@pytest.mark.parametrize(("request_", "length"), READ_ONE_WAY.values(), ids=READ_ONE_WAY)
def test_odd_request_is_passed_on_as_one_that_can_be_read_in_one_way(
    nginx: NginxUnderTest, backend: EchoBackend, request_: bytes, length: int
) -> None:
    answer = nginx.ask_in_bytes(request_)
    assert (answer.status, answer.json()["body"]) == (200, length)
    headers = arrived(answer.body)
    assert [headers.get("content-length"), headers.get("transfer-encoding")] in (
        [[str(length)], None],
        [[f"00{length}"], None],
        [None, ["chunked"]],
    )
    assert headers["host"] == ["localhost:8443"]
    assert not {"content_length", "x-(y)", "content-length "} & set(headers)
    assert len(backend.requests) == 1


def test_request_behind_a_good_one_is_its_own(nginx: NginxUnderTest, backend: EchoBackend) -> None:
    first = post(b"Content-Length: 2", body=b"ab")
    last = b"GET /api/headers?last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert answers_to(nginx, first + SECOND + last) == [200, 200, 200]
    assert backend.requests == ["POST /api/headers", "GET /smuggled", "GET /api/headers"]


IN_HTTP_2: dict[str, list[tuple[bytes, bytes]]] = {
    "lines in a value": [(b"x", b"y\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost")],
    "a line in a value": [(b"x", b"y\nTransfer-Encoding: chunked")],
    "a line in a name": [(b"x: y\r\ntransfer-encoding", b"chunked")],
    "a null in a value": [(b"x", b"y\x00z")],
    "a name in upper case": [(b"X", b"y")],
    "a blank in a name": [(b"x y", b"z")],
    "a colon in a name": [(b"x:y", b"z")],
    "a line in the path": [(b":path", b"/api/headers HTTP/1.1\r\nHost: localhost\r\n\r\nGET /smuggled")],
    "a blank in the path": [(b":path", b"/api/headers HTTP/1.1")],
    "a path without a slash": [(b":path", b"api/headers")],
    "no path": [(b":path", b"")],
    "a line in the method": [(b":method", b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\nGET")],
    "a method in lower case": [(b":method", b"get")],
    "two paths": [(b":path", b"/api/headers"), (b":path", b"/smuggled")],
    "another name than its authority": [(b"host", b"evil.example.com")],
    "a path in the authority": [(b":authority", b"localhost/smuggled")],
    "two lengths": [(b"content-length", b"5"), (b"content-length", b"0")],
}
NOT_OF_HTTP_2 = {
    "a coding": (b"transfer-encoding", b"chunked"),
    "a connection": (b"connection", b"keep-alive, x-own"),
    "an upgrade": (b"upgrade", b"websocket"),
}


def ask_in_http_2(nginx: NginxUnderTest, headers: list[tuple[bytes, bytes]]) -> int | None:
    """Send these headers unchecked, and return the status; None where the stream or the connection is ended."""
    said = {name for name, _ in headers}
    usual = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/api/headers")]
    head = [pair for pair in usual if pair[0] not in said] + sorted(
        headers, key=lambda pair: not pair[0].startswith(b":")
    )
    unchecked = h2.config.H2Configuration(
        header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    client = h2.connection.H2Connection(unchecked)
    with nginx.connection(context=nginx.trust("h2")) as connected:
        client.initiate_connection()
        client.send_headers(1, head, end_stream=True)
        connected.sendall(client.data_to_send())
        while piece := _received(connected):
            for event in client.receive_data(piece):
                if isinstance(event, h2.events.ResponseReceived):
                    return int(dict(event.headers)[b":status"])
                if isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                    return None
    return None


@pytest.mark.parametrize("headers", IN_HTTP_2.values(), ids=IN_HTTP_2)
def test_http_2_request_that_http_1_would_read_otherwise_is_refused(
    nginx: NginxUnderTest, backend: EchoBackend, headers: list[tuple[bytes, bytes]]
) -> None:
    assert ask_in_http_2(nginx, headers) in {None, 400, 421}
    assert backend.requests == []


@pytest.mark.parametrize("header", NOT_OF_HTTP_2.values(), ids=NOT_OF_HTTP_2)
def test_what_has_no_meaning_in_http_2_is_never_passed_on(
    nginx: NginxUnderTest, backend: EchoBackend, header: tuple[bytes, bytes]
) -> None:
    status = ask_in_http_2(nginx, [header])
    assert status in {None, 200, 400}
    for head in backend.heads:
        assert head.get("Transfer-Encoding") in {None, "chunked"}
        assert not {"Connection", "Upgrade"} & set(head)
    assert "GET /smuggled" not in backend.requests


@pytest.mark.parametrize(
    "name", ["X_Forwarded_For", "Remote_User", "X-User(Email)", "X-User-Email\x7f", "X-User-Émail", "X User"]
)
def test_header_with_a_malformed_name_is_never_passed_on(
    nginx: NginxUnderTest, backend: EchoBackend, name: str
) -> None:
    head = f"GET /api/headers HTTP/1.1\r\nHost: localhost\r\n{name}: admin\r\nConnection: close\r\n\r\n"
    assert answers_to(nginx, head.encode()) in ([200], [400])
    for result in backend.heads:
        assert "admin" not in result.values()


def test_answer_of_a_trace_is_never_the_request(nginx: NginxUnderTest, backend: EchoBackend) -> None:
    request = b"TRACE /api/headers HTTP/1.1\r\nHost: localhost\r\nCookie: token=alice\r\n\r\n"
    with nginx.connection() as connected:
        connected.sendall(request)
        response = http.client.HTTPResponse(connected)
        response.begin()
        assert response.status == 405
        assert b"alice" not in response.read()
    assert backend.requests == []
