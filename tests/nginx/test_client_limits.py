"""What one client may cost the others: tries to sign in, connections, and requests that never end."""

import socket
from contextlib import ExitStack
from http import HTTPStatus

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from tests.nginx.conftest import Variants
from tests.nginx.nginx_under_test import Answer, NginxUnderTest, answer_of, send_head
from tests.support.echo_backend import EchoBackend

# One a second: long enough to be noticed, short enough to wait for.
SIGN_IN = {"per_minute": 60, "burst": 1}
PATHS = ["/api/v1/auths/signin", "/api/v1/auths/signup", "/api/v1/auths/ldap"]
MANY = 200


@pytest.fixture
def limited(variants: Variants) -> NginxUnderTest:
    """Nginx with low limits behind a trusted proxy, which is this machine: clients are who it says they are."""
    proxy = {
        "trusted_proxies": [f"{variants.workshop.gateway}/32"],
        "limits": {"sign_in": SIGN_IN, "connections_per_client": 10},
    }
    return variants.of(proxy=proxy)


def sign_in(nginx: NginxUnderTest, client: str, path: str = PATHS[0]) -> Answer:
    return nginx.ask(path, method="POST", headers=[("X-Forwarded-For", client)], body=b"{}")


def exhaust(nginx: NginxUnderTest, client: str, path: str = PATHS[0]) -> Answer:
    """Try until it is too much, and return that answer."""
    for _ in range(20):
        answer = sign_in(nginx, client, path)
        if answer.status != HTTPStatus.OK:
            return answer
    raise AssertionError("20 tries were not too many")


@pytest.mark.parametrize("path", PATHS)
def test_too_many_tries_to_sign_in_are_refused_in_json_and_then_allowed_again(
    limited: NginxUnderTest, backend: EchoBackend, path: str
) -> None:
    client = f"203.0.113.{PATHS.index(path) + 1}"
    refused = exhaust(limited, client, path)
    before = len(backend.requests)
    assert (refused.status, refused.header("Retry-After")) == (429, "1")
    assert "Too many requests" in refused.json()["detail"]
    assert refused.header("Cache-Control") == "no-store"
    assert len(backend.requests) == before
    wait_until(lambda: sign_in(limited, client, path).status == 200, what="another try", deadline=5, every=0.2)


def test_tries_at_all_ways_to_sign_in_count_together(limited: NginxUnderTest) -> None:
    exhaust(limited, "203.0.113.20", PATHS[0])
    assert [sign_in(limited, "203.0.113.20", path).status for path in PATHS[1:]] == [429, 429]


def test_path_written_otherwise_is_no_way_round(limited: NginxUnderTest) -> None:
    exhaust(limited, "203.0.113.21")
    for path in ("/api/v1/auths/%73ignin", "//api//v1/auths/signin", "/api/v1/./auths/signin", f"{PATHS[0]}?a=b"):
        assert sign_in(limited, "203.0.113.21", path).status == 429, path


def test_who_tries_too_often_may_do_everything_else(limited: NginxUnderTest) -> None:
    exhaust(limited, "203.0.113.22")
    for path in ("/", "/api/headers", "/api/v1/auths/headers", "/static/headers"):
        assert limited.ask(path, headers=[("X-Forwarded-For", "203.0.113.22")]).status == 200


ONE_CLIENT = [
    ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
    ("2001:db8:1:2::1", "2001:DB8:1:2:0:0:0:9"),
    ("2001:db8::1", "2001:db8:0:0:1::"),
    ("2001:0:0:1:0:0:0:5", "2001:0:0:1:2:3:4:5"),
    ("2001:db8:0:1::1", "2001:db8:0:1:2:3:4:5"),
]
OTHER_CLIENTS = [
    ("203.0.113.30", "203.0.113.31"),
    ("2001:db8:1:3::1", "2001:db8:1:4::1"),
    ("2001:db8:5::1", "2001:db8:5:1::1"),
    ("2001:0:0:2:3:4:5:6", "2001:0:0:3:3:4:5:6"),
    ("2001:db8:6::", "2001:db8:6:6:6:6:6:6"),
]


@pytest.mark.parametrize(("one", "other"), ONE_CLIENT)
def test_addresses_of_one_64_network_are_one_client(limited: NginxUnderTest, one: str, other: str) -> None:
    exhaust(limited, one)
    assert sign_in(limited, other).status == 429


@pytest.mark.parametrize(("one", "other"), OTHER_CLIENTS)
def test_each_client_behind_a_proxy_has_its_own_tries(limited: NginxUnderTest, one: str, other: str) -> None:
    exhaust(limited, one)
    assert sign_in(limited, other).status == 200


def test_address_that_a_client_invents_gives_it_no_new_tries(limited: NginxUnderTest, variants: Variants) -> None:
    exhaust(limited, "203.0.113.40")
    # The proxy in front adds the true one behind it.
    assert sign_in(limited, "203.0.113.99, 203.0.113.40").status == 429
    nobody_in_front = variants.of(proxy={"limits": {"sign_in": SIGN_IN}})
    assert 429 in {sign_in(nobody_in_front, f"203.0.113.{number}").status for number in range(50, 70)}


def test_too_many_requests_at_once_are_refused_and_later_allowed(limited: NginxUnderTest, backend: EchoBackend) -> None:
    mine, other = [("X-Forwarded-For", "203.0.113.60")], [("X-Forwarded-For", "203.0.113.61")]
    with ExitStack() as open_requests:
        for _ in range(9):
            client = open_requests.enter_context(limited.exchange())
            send_head(client, "GET", "/api/slow", [("Host", limited.domain), *mine])
        # A WebSocket counts as well.
        websocket = open_requests.enter_context(limited.exchange())
        handshake = [("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]
        upgrade = [("Upgrade", "websocket"), ("Connection", "Upgrade"), *handshake]
        send_head(websocket, "GET", "/ws/", [("Host", limited.domain), *mine, *upgrade])
        assert websocket.getresponse().status == 101
        # With the question whose socket it is.
        wait_until(lambda: len(backend.requests) == 11, what="ten requests at the application", every=0.02)

        refused = limited.ask("/api/headers", headers=mine)
        assert (refused.status, refused.header("Retry-After")) == (429, "1")
        assert "Too many requests" in refused.json()["detail"]
        page = limited.ask("/", headers=[*mine, ("Accept", "text/html")])
        assert (page.status, page.header("Content-Type")) == (429, "text/html")
        assert limited.ask("/api/headers", headers=other).status == 200
    wait_until(lambda: limited.ask("/api/headers", headers=mine).status == 200, what="an answer again", every=0.05)


def test_streams_of_one_http_2_connection_are_as_many_requests(limited: NginxUnderTest, backend: EchoBackend) -> None:
    mine = [("X-Forwarded-For", "203.0.113.70")]
    with ExitStack() as open_requests:
        for _ in range(10):
            client = open_requests.enter_context(limited.exchange())
            send_head(client, "GET", "/api/slow", [("Host", limited.domain), *mine])
        wait_until(lambda: len(backend.requests) == 10, what="ten requests at the application", every=0.02)
        with limited.client("h2") as client:
            extensions = {"sni_hostname": limited.domain}
            assert client.get("/api/headers", headers=mine, extensions=extensions).status_code == 429
            assert client.get("/api/headers", extensions=extensions).status_code == 200


def test_own_429_of_the_application_passes_as_it_is(limited: NginxUnderTest, backend: EchoBackend) -> None:
    del backend
    answer = limited.ask("/api/status/429", headers=[("X-Forwarded-For", "203.0.113.80")])
    assert (answer.status, answer.body) == (429, b"the backend's own words")


def test_requests_that_never_end_block_nobody(nginx: NginxUnderTest) -> None:
    with ExitStack() as half_open:
        for number in range(MANY):
            if number % 2:
                connected = half_open.enter_context(nginx.connection())
                connected.sendall(b"GET /api/headers HTTP/1.1\r\nHost: localhost\r\nX-Half")
            else:
                # Not even TLS.
                half_open.enter_context(socket.create_connection(("127.0.0.1", nginx.https_port)))
        with nginx.exchange() as client:
            for _ in range(3):
                send_head(client, "GET", "/api/headers", [("Host", nginx.domain)])
                assert answer_of(client.getresponse()).status == 200
        active = int(nginx.ask_inside("/connections").splitlines()[0].split()[-1])
        assert active > MANY
