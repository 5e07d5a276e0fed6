"""Whose word about a client counts: that of proxies which the settings name, and only what they say."""

import pytest

from tests.nginx.conftest import SITE, NginxWith, Workshop
from tests.nginx.nginx_under_test import NginxUnderTest
from tests.support.echo_backend import EchoBackend, arrived

CLIENT = "198.51.100.7"
HSTS = {"enabled": True, "max_age": "365d"}


@pytest.fixture(scope="module")
def trusting_proxies(nginx_with: NginxWith, shared_workshop: Workshop) -> NginxUnderTest:
    """Nginx that trusts the address from which the test's published connections come, and not its own."""
    return nginx_with(
        site=SITE,
        open_webui={"environment": {"WEBUI_AUTH_TRUSTED_EMAIL_HEADER": "X-Our-Email"}},
        proxy={
            "trusted_proxies": [shared_workshop.gateway, "10.0.0.0/8", "2001:db8:1::/48"],
            "identity_headers_from": ["127.0.0.1"],
            "headers": {"hsts": HSTS},
        },
    )


@pytest.fixture
def proxied(trusting_proxies: NginxUnderTest, backend: EchoBackend) -> NginxUnderTest:
    del backend
    return trusting_proxies


FORWARDED: dict[str, tuple[list[str], str | None]] = {
    "one address": ([CLIENT], CLIENT),
    "an invented one before it": ([f"6.6.6.6, {CLIENT}"], CLIENT),
    "proxies behind it": ([f"6.6.6.6, {CLIENT}, 10.1.2.3, 10.4.5.6"], CLIENT),
    "several lines": (["6.6.6.6", CLIENT, "10.1.2.3"], CLIENT),
    "an invented trusted one before it": ([f"10.6.6.6, {CLIENT}"], CLIENT),
    "blanks and none": ([f"  6.6.6.6 ,,{CLIENT} "], CLIENT),
    "IPv6": (["6.6.6.6, 2001:db8:2::7"], "2001:db8:2::7"),
    "IPv6 with a port": (["6.6.6.6, [2001:db8:2::7]:443"], "2001:db8:2::7"),
    "IPv4 with a port": ([f"6.6.6.6, {CLIENT}:443"], CLIENT),
    "a proxy with IPv6 behind it": ([f"{CLIENT}, 2001:db8:1::9"], CLIENT),
    "only proxies": (["10.1.2.3, 10.4.5.6"], "10.1.2.3"),
    # None: the proxy itself is all that is known.
    "no header": ([], None),
    "nothing in it": ([""], None),
    "garbage": (["<script>"], None),
    "garbage behind an invented one": (["6.6.6.6, unknown"], None),
    "an address out of range": (["6.6.6.6, 1.2.3.456"], None),
    "a name": (["localhost"], None),
}


@pytest.mark.parametrize(("lines", "client"), FORWARDED.values(), ids=FORWARDED)
def test_client_is_the_last_address_that_no_trusted_proxy_has(
    proxied: NginxUnderTest, shared_workshop: Workshop, lines: list[str], client: str | None
) -> None:
    answer = proxied.ask("/api/headers", headers=[("X-Forwarded-For", line) for line in lines])
    received = arrived(answer.body)
    client = client or shared_workshop.gateway
    assert (received["x-forwarded-for"], received["x-real-ip"]) == ([client], [client])
    assert proxied.line_about(answer)["client"] == client


def test_stranger_s_word_about_its_address_does_not_count(proxied: NginxUnderTest) -> None:
    said = [("X-Forwarded-For", CLIENT), ("X-Real-IP", CLIENT), ("X-Forwarded-Proto", "https")]
    received = arrived(proxied.ask_from_itself("/api/headers", headers=said).body)
    assert (received["x-forwarded-for"], received["x-real-ip"]) == (["127.0.0.1"], ["127.0.0.1"])


def test_nothing_else_that_a_trusted_proxy_says_is_believed(proxied: NginxUnderTest) -> None:
    said = [
        ("X-Forwarded-For", CLIENT),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Forwarded-Host", "evil.example.com"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-Prefix", "/evil"),
        ("Forwarded", "for=6.6.6.6;host=evil.example.com;proto=http"),
        ("CF-Connecting-IP", "6.6.6.6"),
        ("True-Client-IP", "6.6.6.6"),
    ]
    received = arrived(proxied.ask("/api/headers", headers=said).body)
    assert {name.lower(): received.get(name.lower()) for name, _ in said} == {
        "x-forwarded-for": [CLIENT],
        "x-forwarded-proto": ["https"],
        "x-real-ip": [CLIENT],
        "x-forwarded-host": ["localhost:8443"],
        "x-forwarded-port": ["8443"],
        "x-forwarded-prefix": None,
        "forwarded": None,
        "cf-connecting-ip": None,
        "true-client-ip": None,
    }


PROTOS = {
    "http to 80": ("http", ["http"], 308),
    "https to 80": ("http", ["https"], 200),
    "https in capitals to 80": ("http", ["HTTPS"], 200),
    "nothing to 80": ("http", [], 308),
    "garbage to 80": ("http", ["javascript:"], 308),
    "two words to 80": ("http", ["https, http"], 308),
    "two lines to 80": ("http", ["http", "https"], 308),
    "http to 443": ("https", ["http"], 308),
    "https to 443": ("https", ["https"], 200),
    "nothing to 443": ("https", [], 200),
    "garbage to 443": ("https", ["javascript:"], 200),
}


@pytest.mark.parametrize(("scheme", "lines", "status"), PROTOS.values(), ids=PROTOS)
def test_trusted_proxy_says_by_which_scheme_a_client_came(
    proxied: NginxUnderTest, backend: EchoBackend, scheme: str, lines: list[str], status: int
) -> None:
    answer = proxied.ask("/headers?q=1", scheme=scheme, headers=[("X-Forwarded-Proto", line) for line in lines])
    assert answer.status == status
    if status == 308:
        assert answer.header("Location") == "https://localhost:8443/headers?q=1"
        assert backend.requests == []
    else:
        assert arrived(answer.body)["x-forwarded-proto"] == ["https"]


@pytest.mark.parametrize(("scheme", "lines", "status"), PROTOS.values(), ids=PROTOS)
def test_hsts_comes_wherever_a_client_has_https_and_nowhere_else(
    proxied: NginxUnderTest, scheme: str, lines: list[str], status: int
) -> None:
    answer = proxied.ask("/headers", scheme=scheme, headers=[("X-Forwarded-Proto", line) for line in lines])
    said = f"max-age={365 * 86400}" if status == 200 else None
    assert answer.header("Strict-Transport-Security") == said


def test_stranger_cannot_pass_plain_http_off_as_https(proxied: NginxUnderTest, backend: EchoBackend) -> None:
    answer = proxied.ask_from_itself("/headers", scheme="http", headers=[("X-Forwarded-Proto", "https")])
    assert answer.status == 308
    assert proxied.ask_from_itself("/headers", headers=[("X-Forwarded-Proto", "http")]).status == 200
    assert backend.requests == ["GET /headers"]


@pytest.mark.parametrize("proto", ["http", "https"])
def test_names_are_refused_and_redirected_behind_a_proxy_too(
    proxied: NginxUnderTest, backend: EchoBackend, proto: str
) -> None:
    said = [("X-Forwarded-Proto", proto)]
    for scheme in ("http", "https"):
        assert proxied.ask("/x", scheme=scheme, host="evil.example.com", headers=said).status == 421
        alias = proxied.ask("/x?q=1", scheme=scheme, host="chat.example.com", headers=said)
        assert (alias.status, alias.header("Location")) == (308, "https://localhost:8443/x?q=1")
    assert backend.requests == []


@pytest.mark.parametrize("path", ["/ws/", "/api/v1/audio/realtime"])
def test_socket_passes_from_a_proxy_that_took_the_tls_off(proxied: NginxUnderTest, path: str) -> None:
    head = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with proxied.connection(scheme="http") as connected:
        connected.sendall(head.encode())
        assert connected.recv(1 << 16).startswith(b"HTTP/1.1 101 ")


def test_request_id_is_taken_from_a_trusted_proxy_only_and_only_if_it_can_be_one(proxied: NginxUnderTest) -> None:
    given = "trace-0123456789"
    answer = proxied.ask("/api/headers", headers=[("X-Request-ID", given)])
    assert (answer.header("X-Request-ID"), arrived(answer.body)["x-request-id"]) == (given, [given])
    for other in ("short", 'a"b' * 5, "x" * 129):
        assert proxied.ask("/api/headers", headers=[("X-Request-ID", other)]).header("X-Request-ID") != other
    stranger = proxied.ask_from_itself("/api/headers", headers=[("X-Request-ID", given)])
    assert arrived(stranger.body)["x-request-id"] != [given]


IDENTITY = ("X-Our-Email", "admin@example.com")


def test_identity_comes_from_the_addresses_that_the_settings_name_for_it(proxied: NginxUnderTest) -> None:
    assert arrived(proxied.ask_from_itself("/api/headers", headers=[IDENTITY]).body)["x-our-email"] == [IDENTITY[1]]


@pytest.mark.parametrize("claims", [[], [("X-Forwarded-For", "127.0.0.1")]], ids=["plain", "claiming their address"])
@pytest.mark.parametrize("location", ["/", "/api/", "/oauth/", "/api/v1/terminals/", "/static/"])
def test_identity_from_a_trusted_proxy_is_cleared_like_anybody_s(
    proxied: NginxUnderTest, location: str, claims: list[tuple[str, str]]
) -> None:
    received = arrived(proxied.ask(f"{location}headers", headers=[IDENTITY, *claims]).body)
    assert "x-our-email" not in received


def test_headers_of_identity_that_nobody_uses_are_cleared_for_those_addresses_too(proxied: NginxUnderTest) -> None:
    received = arrived(proxied.ask_from_itself("/api/headers", headers=[("Remote-User", "admin")]).body)
    assert "remote-user" not in received
