"""Who is served under which name, and where everybody else is sent."""

import pytest

from tests.nginx.nginx_under_test import NginxUnderTest
from tests.support.echo_backend import EchoBackend, arrived

# What the settings say; the port that the test's Nginx is published at is another.
SITE = "https://localhost:8443"
KNOWN = ["localhost", "LOCALHOST", "localhost:8443", "localhost:1", "localhost."]
ALIASES = ["127.0.0.1", "127.0.0.1:8443", "chat.example.com", "Chat.Example.Com", "[2001:db8::1]", "[2001:db8::1]:8443"]
UNKNOWN = ["evil.example.com", "localhost.evil.example.com", "203.0.113.9", "[2001:db8::2]", "_", "status"]
PATHS = ["/", "/c/42?model=a%20b&x=1", "//evil.example.com/%2e%2e/", "/a;b/%C3%BC?q=https://evil.example.com/"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", [*KNOWN, *ALIASES])
def test_plain_http_leads_to_the_one_name_over_https(nginx: NginxUnderTest, host: str, path: str) -> None:
    answer = nginx.ask(path, scheme="http", host=host)
    assert (answer.status, answer.header("Location")) == (308, f"{SITE}{path}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", ALIASES)
def test_alias_leads_to_the_one_name(nginx: NginxUnderTest, backend: EchoBackend, host: str, path: str) -> None:
    answer = nginx.ask(path, host=host)
    assert (answer.status, answer.header("Location")) == (308, f"{SITE}{path}")
    assert backend.requests == []


@pytest.mark.parametrize("path", ["/api/headers", "/ollama/headers", "/openai/headers"])
@pytest.mark.parametrize("host", ALIASES)
def test_program_is_served_by_an_alias_too(nginx: NginxUnderTest, host: str, path: str) -> None:
    # At a redirect to another host it would drop its key.
    received = arrived(nginx.ask(path, host=host, headers=[("Authorization", "Bearer mine")]).body)
    assert received["authorization"] == ["Bearer mine"]
    # The application knows one name.
    assert received["host"] == received["x-forwarded-host"] == ["localhost:8443"]


@pytest.mark.parametrize("host", ALIASES)
def test_socket_is_served_by_an_alias_too(nginx: NginxUnderTest, host: str) -> None:
    # It is told what is missing.
    assert nginx.ask("/ws/", host=host).status == 400


@pytest.mark.parametrize("host", KNOWN)
def test_the_one_name_is_served_whatever_the_port_beside_it(nginx: NginxUnderTest, host: str) -> None:
    assert nginx.ask("/headers", host=host).status == 200


@pytest.mark.parametrize("path", ["/", "/api/headers", "/ws/", "/.well-known/acme-challenge/x"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", UNKNOWN)
def test_name_that_a_client_invented_is_refused_and_never_repeated(
    nginx: NginxUnderTest, backend: EchoBackend, host: str, scheme: str, path: str
) -> None:
    answer = nginx.ask(path, scheme=scheme, host=host)
    assert answer.status == 421
    assert answer.header("Location") is None
    assert answer.body == b"This server does not serve that name.\n"
    assert backend.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_request_without_a_name_is_refused(nginx: NginxUnderTest, backend: EchoBackend, scheme: str) -> None:
    assert nginx.ask_in_bytes(b"GET / HTTP/1.0\r\n\r\n", scheme=scheme).status == 421
    assert nginx.ask_in_bytes(b"GET / HTTP/1.1\r\n\r\n", scheme=scheme).status == 400
    assert backend.requests == []


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example.com\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: local host\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
        b"GET http://evil.example.com/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["two names", "a blank", "a path", "another name in the request line"],
)
def test_ambiguous_name_is_refused(nginx: NginxUnderTest, backend: EchoBackend, request_head: bytes) -> None:
    assert nginx.ask_in_bytes(request_head).status in {400, 421}
    assert backend.requests == []


def test_redirect_keeps_the_method(nginx: NginxUnderTest) -> None:
    answer = nginx.ask("/api/v1/files/", method="POST", scheme="http", body=b"{}")
    assert (answer.status, answer.header("Location")) == (308, f"{SITE}/api/v1/files/")


def test_path_without_its_last_slash_is_not_sent_to_the_container_s_own_port(nginx: NginxUnderTest) -> None:
    answer = nginx.ask("/ws")
    assert (answer.status, answer.header("Location")) == (301, "/ws/")
