"""Who may send a large body: Nginx asks the application before a byte of it is read."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus

import h2.config
import h2.connection
import h2.events
import httpx
import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from tests.nginx.conftest import Variants
from tests.nginx.http3 import ask_over_http3
from tests.nginx.nginx_under_test import NginxUnderTest, answer_of, send_head
from tests.support.echo_backend import EchoBackend

MEBIBYTE = 1 << 20
PATHS = [
    "/api/chat/completions",
    "/api/v1/files/",
    "/api/v1/files/upload",
    "/api/v1/audio/transcriptions",
    "/api/v1/chats/import",
    "/api/v1/terminals/x/upload",
    "/ollama/models/upload",
    "/ollama/api/chat",
    "/openai/chat/completions",
]
STRANGER, USER, RESTRICTED = "stranger", "user", "restricted"


KNOWN = {"": 401, STRANGER: 401, USER: 200, RESTRICTED: 403}


@pytest.fixture
def backend(backend: EchoBackend) -> EchoBackend:
    backend.status_of |= KNOWN
    return backend


def ask_of_unknown_length(nginx: NginxUnderTest, protocol: str, size: int, **headers: str) -> httpx.Response:
    """Send a body whose length the head does not say."""

    def pieces() -> Iterator[bytes]:
        for _ in range(size >> 16):
            yield b"x" * (1 << 16)
        yield b"x" * (size % (1 << 16))

    with nginx.client(protocol) as client:
        return client.post("/api/upload", content=pieces(), headers=headers, extensions={"sni_hostname": nginx.domain})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [MEBIBYTE, 2 * MEBIBYTE])
def test_anonymous_large_body_is_refused_before_it_is_read(
    nginx: NginxUnderTest, backend: EchoBackend, path: str, size: int
) -> None:
    with nginx.exchange() as client:
        # Not a byte of the body is sent.
        send_head(client, "POST", path, [("Host", nginx.domain), ("Cookie", f"token={STRANGER}")], length=size)
        answer = answer_of(client.getresponse())
    assert answer.status == HTTPStatus.UNAUTHORIZED
    assert "Not authenticated" in answer.json()["detail"]
    assert len(backend.questions) == 1
    assert backend.requests == []


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_anonymous_body_of_unknown_length_is_refused_once_it_is_large(
    nginx: NginxUnderTest, backend: EchoBackend, protocol: str
) -> None:
    response = ask_of_unknown_length(nginx, protocol, MEBIBYTE + 1)
    assert response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert backend.requests == []


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_anonymous_small_body_of_unknown_length_arrives_whole(
    nginx: NginxUnderTest, backend: EchoBackend, protocol: str
) -> None:
    response = ask_of_unknown_length(nginx, protocol, MEBIBYTE)
    assert response.json() == {"bytes": MEBIBYTE}
    # Nginx has read it first, and says how long it is.
    assert backend.heads[0]["Content-Length"] == str(MEBIBYTE)


def test_anonymous_large_body_over_http3_is_refused(variants: Variants, backend: EchoBackend) -> None:
    nginx = variants.of(proxy={"http3": True})
    backend.status_of |= KNOWN
    large, small = b"x" * (MEBIBYTE + 1), b"x" * 100
    length = [("content-length", str(len(large)))]
    assert ask_over_http3(nginx, "/api/upload", method="POST", headers=length, body=large).status == 401
    assert ask_over_http3(nginx, "/api/upload", method="POST", body=large).status == 413
    assert backend.requests == []
    assert ask_over_http3(nginx, "/api/upload", method="POST", body=small).json() == {"bytes": 100}
    assert len(backend.questions) == 3


@pytest.mark.parametrize(
    "header",
    [("Cookie", f"token={USER}"), ("Authorization", f"Bearer {USER}"), ("X-API-Key", USER)],
    ids=lambda header: header[0],
)
def test_user_is_known_by_each_credential_and_asked_for_each_time(
    nginx: NginxUnderTest, backend: EchoBackend, header: tuple[str, str]
) -> None:
    for number in (1, 2):
        answer = nginx.ask("/api/upload", method="POST", headers=[header], body=b"x" * MEBIBYTE)
        assert answer.json() == {"bytes": MEBIBYTE}
        assert len(backend.questions) == number
    question = backend.questions[0]
    assert question[header[0]] == header[1]
    # It has no body, and nothing that a client says of itself but its credentials.
    assert {"Content-Length", "Transfer-Encoding"} & set(question) == set()
    assert set(question) <= {
        *("Host", "Cookie", "Authorization", "X-API-Key", "X-Forwarded-For", "X-Forwarded-Proto", "X-Request-ID"),
    }


def test_header_for_api_keys_of_the_stack_s_own_is_a_credential(variants: Variants, backend: EchoBackend) -> None:
    nginx = variants.of(open_webui={"environment": {"CUSTOM_API_KEY_HEADER": "X-Our-Key"}})
    backend.status_of |= KNOWN
    answer = nginx.ask("/api/upload", method="POST", headers=[("X-Our-Key", USER)], body=b"x" * MEBIBYTE)
    # The stand-in does not know that header.
    assert answer.status == HTTPStatus.UNAUTHORIZED
    assert backend.questions[0]["X-Our-Key"] == USER


def test_good_key_that_may_not_be_used_for_the_question_is_not_refused(
    nginx: NginxUnderTest, backend: EchoBackend
) -> None:
    answer = nginx.ask(
        "/api/upload", method="POST", headers=[("Authorization", f"Bearer {RESTRICTED}")], body=b"x" * MEBIBYTE
    )
    assert answer.json() == {"bytes": MEBIBYTE}
    assert len(backend.questions) == 1


def test_a_user_s_upload_reaches_the_application_while_it_is_sent(nginx: NginxUnderTest, backend: EchoBackend) -> None:
    with nginx.exchange() as client:
        head = [("Host", nginx.domain), ("Cookie", f"token={USER}")]
        send_head(client, "POST", "/api/v1/files/upload", head, length=2 * MEBIBYTE)
        client.send(b"x" * MEBIBYTE)
        backend.wait_for_upload_of(MEBIBYTE)
        client.send(b"x" * MEBIBYTE)
        assert answer_of(client.getresponse()).json() == {"bytes": 2 * MEBIBYTE}


def window_of(nginx: NginxUnderTest, token: str) -> int:
    """Begin an upload over HTTP/2, send nothing of it, and return what Nginx lets the client send."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    head = [(":method", "POST"), (":scheme", "https"), (":authority", nginx.domain), (":path", "/api/v1/files/upload")]
    with nginx.connection(context=nginx.trust("h2")) as connected:
        client.initiate_connection()
        client.send_headers(1, [*head, ("content-length", str(2 * MEBIBYTE)), ("x-api-key", token)])
        connected.sendall(client.data_to_send())
        while received := connected.recv(1 << 16):
            events = client.receive_data(received)
            answered = any(isinstance(event, h2.events.ResponseReceived) for event in events)
            # Of the stream, not of the connection, whose window is as large as can be from the beginning.
            if answered or any(isinstance(event, h2.events.WindowUpdated) and event.stream_id for event in events):
                return client._get_stream_by_id(1).outbound_flow_control_window  # noqa: SLF001
    raise AssertionError("the connection ended")


def test_window_of_an_upload_over_http2_is_large_once_it_is_known_who_sends(
    nginx: NginxUnderTest, backend: EchoBackend
) -> None:
    assert window_of(nginx, STRANGER) == 64 << 10
    assert window_of(nginx, USER) >= 2 << 20
    assert len(backend.requests) <= 1


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_nobody_is_asked_about_for_a_small_body(nginx: NginxUnderTest, backend: EchoBackend, method: str) -> None:
    body = None if method == "GET" else b"{}"
    assert nginx.ask("/api/headers", method=method, body=body).status == HTTPStatus.OK
    with nginx.client("h2") as client:
        response = client.get("/api/headers", extensions={"sni_hostname": nginx.domain})
    assert response.status_code == HTTPStatus.OK
    assert backend.questions == []


def test_the_page_s_own_bodies_are_not_streamed_to_the_application(nginx: NginxUnderTest, backend: EchoBackend) -> None:
    with nginx.exchange() as client:
        send_head(client, "POST", "/upload", [("Host", nginx.domain)], length=1000)
        client.send(b"x" * 500)
        # What comes next over another connection is served first.
        assert nginx.ask("/headers").status == HTTPStatus.OK
        assert backend.requests == ["GET /headers"]
        client.send(b"x" * 500)
        assert answer_of(client.getresponse()).status == HTTPStatus.OK


def test_a_question_without_an_answer_says_that_the_application_is_away(
    variants: Variants, backend: EchoBackend
) -> None:
    nginx = variants.of()
    backend.status_of |= KNOWN
    backend.status_of[USER] = 500
    answer = nginx.ask("/api/upload", method="POST", headers=[("X-API-Key", USER)], body=b"x" * MEBIBYTE)
    assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert json.loads(answer.body)["detail"]
    assert backend.requests == []


def test_bodies_of_one_address_are_bounded(variants: Variants, backend: EchoBackend) -> None:
    nginx = variants.of(proxy={"limits": {"bodies_per_client": 2}})
    backend.status_of |= KNOWN
    head = [("Host", nginx.domain), ("X-API-Key", USER)]
    with ExitStack() as opened:
        for number in (1, 2):
            client = opened.enter_context(nginx.exchange())
            send_head(client, "POST", "/api/upload", head, length=2 * MEBIBYTE)
            wait_until(lambda number=number: len(backend.requests) == number, what="a body under way", every=0.02)
        third = nginx.ask("/api/upload", method="POST", headers=head[1:], body=b"x" * MEBIBYTE)
        assert third.status == HTTPStatus.TOO_MANY_REQUESTS
        # Small ones pass.
        assert nginx.ask("/api/upload", method="POST", body=b"x").status == HTTPStatus.OK
