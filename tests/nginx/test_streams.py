"""Answers that arrive piece by piece, and requests that do."""

import json

import httpx
import pytest

from tests.nginx.nginx_under_test import NginxUnderTest, answer_of, send_head
from tests.support.echo_backend import EchoBackend

STREAMS = ["text/event-stream", "text/event-stream; charset=utf-8", "application/x-ndjson", "text/plain"]
FIRST, SECOND = 'data: {"event": 1}', 'data: {"event": 2}'


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
@pytest.mark.parametrize("type_", STREAMS)
@pytest.mark.parametrize("path", ["/api/chat/completions/stream", "/ollama/stream", "/openai/stream", "/stream"])
def test_stream_arrives_event_by_event(
    nginx: NginxUnderTest, backend: EchoBackend, path: str, type_: str, protocol: str
) -> None:
    # The second event is not sent before the first has arrived: what is held back anywhere ends in a time-out.
    with (
        nginx.client(protocol) as client,
        client.stream("GET", path, params={"type": type_}, extensions={"sni_hostname": nginx.domain}) as response,
    ):
        lines = response.iter_lines()
        assert next(lines) == FIRST
        backend.acknowledge()
        assert next(lines) == SECOND
        assert response.http_version == ("HTTP/2" if protocol == "h2" else "HTTP/1.1")
        assert response.headers.get("Content-Encoding") is None


@pytest.mark.parametrize(
    ("query", "header"),
    [
        ("type=text/event-stream", "no"),
        ("type=application/x-ndjson", "no"),
        ("type=text/plain&accel=no", "no"),
        ("type=text/plain", None),
        ("type=text/event-stream&accel=yes", None),
    ],
)
def test_a_proxy_in_front_is_told_not_to_buffer_either(
    nginx: NginxUnderTest, backend: EchoBackend, query: str, header: str | None
) -> None:
    backend.acknowledge()
    assert nginx.ask(f"/api/stream?{query}").header("X-Accel-Buffering") == header


@pytest.mark.parametrize("path", ["/api/slow", "/openai/slow", "/slow", "/cache/slow"])
def test_client_that_leaves_is_gone_for_the_application_too(
    nginx: NginxUnderTest, backend: EchoBackend, path: str
) -> None:
    with nginx.exchange() as client:
        send_head(client, "GET", path, [("Host", nginx.domain)])
        backend.wait_for("asked")
    backend.wait_for("gone")


def test_client_that_leaves_over_http_2_is_gone_for_the_application_too(
    nginx: NginxUnderTest, backend: EchoBackend
) -> None:
    with nginx.client("h2") as client, pytest.raises(httpx.ReadTimeout):
        client.get("/api/slow", extensions={"sni_hostname": nginx.domain, "timeout": {"read": 0.3}})
    backend.wait_for("gone")


@pytest.mark.parametrize("path", ["/api/v1/files/upload", "/api/chat/completions/upload", "/ollama/models/upload"])
def test_upload_reaches_the_application_while_it_is_sent(
    nginx: NginxUnderTest, backend: EchoBackend, path: str
) -> None:
    with nginx.exchange() as client:
        send_head(client, "POST", path, [("Host", nginx.domain)], length=200_000)
        client.send(b"x" * 100_000)
        backend.wait_for_upload_of(100_000)
        client.send(b"x" * 100_000)
        assert answer_of(client.getresponse()).json() == {"bytes": 200_000}


def test_upload_of_unknown_length_reaches_the_application_while_it_is_sent(
    nginx: NginxUnderTest, backend: EchoBackend
) -> None:
    with nginx.exchange() as client:
        send_head(client, "POST", "/api/v1/files/upload", [("Host", nginx.domain), ("Transfer-Encoding", "chunked")])
        client.send(b"5\r\nhello\r\n")
        backend.wait_for_upload_of(5)
        client.send(b"6\r\n world\r\n0\r\n\r\n")
        assert answer_of(client.getresponse()).json() == {"bytes": 11}


def test_page_s_request_reaches_the_application_only_when_it_is_whole(
    nginx: NginxUnderTest, backend: EchoBackend
) -> None:
    with nginx.exchange() as client:
        send_head(client, "POST", "/oauth/upload", [("Host", nginx.domain)], length=10)
        client.send(b"hello")
        # Whatever came after it is answered first.
        assert nginx.ask("/headers").status == 200
        assert backend.requests == ["GET /headers"]
        client.send(b"world")
        assert answer_of(client.getresponse()).json() == {"bytes": 10}


MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/api/v1/files/upload", MEBIBYTE + 500, 200),
        ("/api/v1/files/upload", 2 * MEBIBYTE, 200),
        ("/api/v1/files/upload", 2 * MEBIBYTE + 1, 413),
        ("/ollama/models/upload", 2 * MEBIBYTE + 1, 413),
        ("/ollama/upload", 32 * MEBIBYTE, 200),
        ("/ollama/upload", 32 * MEBIBYTE + 1, 413),
        ("/openai/upload", 100 << 30, 413),
        ("/api/v1/auths/signin", MEBIBYTE + 1, 413),
        ("/upload", MEBIBYTE, 200),
        ("/upload", MEBIBYTE + 1, 413),
        ("/static/upload", MEBIBYTE + 1, 413),
    ],
)
def test_more_than_the_settings_allow_is_refused_in_json(
    nginx: NginxUnderTest, backend: EchoBackend, path: str, size: int, status: int
) -> None:
    # The largest file is 1 MiB here, and the form around it has another.
    with nginx.exchange() as client:
        send_head(client, "POST", path, [("Host", nginx.domain), ("Accept", "application/json")], length=size)
        if status == 200:
            client.send(b"x" * size)
        answer = answer_of(client.getresponse())
    assert answer.status == status
    if status == 413:
        limits = "a file may have 1MiB, another request to the API 32MiB, and any other request 1MiB."
        assert answer.json() == {"detail": f"This is more than the site accepts: {limits}"}
        assert answer.header("Cache-Control") == "no-store"
        assert backend.requests == []


def test_too_much_of_unknown_length_is_refused_in_json(nginx: NginxUnderTest) -> None:
    with nginx.exchange() as client:
        send_head(client, "POST", "/api/v1/files/upload", [("Host", nginx.domain), ("Transfer-Encoding", "chunked")])
        half = b"%x\r\n%s\r\n" % (MEBIBYTE, b"x" * MEBIBYTE)
        client.send(half + half)
        client.send(b"1\r\nx\r\n")
        answer = answer_of(client.getresponse())
    assert answer.status == 413
    assert "1MiB" in answer.json()["detail"]


def test_cookies_of_an_identity_provider_fit(nginx: NginxUnderTest) -> None:
    token = "x" * 30_000
    received = json.loads(nginx.ask("/api/headers", headers=[("Cookie", f"oauth_id_token={token}")]).body)
    assert ["Cookie", f"oauth_id_token={token}"] in received["headers"]
    assert nginx.ask(f"/api/text?type=text/plain&size=1&header=Set-Cookie:t={'x' * 15_000}").status == 200
