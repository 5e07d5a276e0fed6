"""HTTP/3, where the settings ask for it, and HSTS, where they ask for that."""

import ssl

import pytest

from tests.nginx.conftest import SITE, NginxWith, Workshop
from tests.nginx.http3 import ask_over_http3
from tests.nginx.nginx_under_test import NginxUnderTest
from tests.nginx.test_tls import only
from tests.support.echo_backend import EchoBackend, arrived

HSTS = {"enabled": True, "max_age": "730d", "include_subdomains": True, "preload": True}


@pytest.fixture(scope="module")
def eager(nginx_with: NginxWith) -> NginxUnderTest:
    """Nginx with all that a new browser can do."""
    return nginx_with(site=SITE, proxy={"http3": True, "tls_profile": "modern", "headers": {"hsts": HSTS}})


@pytest.fixture
def modern(eager: NginxUnderTest, backend: EchoBackend) -> NginxUnderTest:
    del backend
    return eager


def test_request_over_http_3_is_answered_as_any_other(modern: NginxUnderTest, shared_workshop: Workshop) -> None:
    answer = ask_over_http3(modern, "/api/headers?q=%2F")
    assert answer.status == 200
    assert answer.json()["path"] == "/api/headers?q=%2F"
    received = arrived(answer.body)
    assert received["x-forwarded-proto"] == ["https"]
    assert received["x-forwarded-for"] == [shared_workshop.gateway]
    assert received["host"] == ["localhost:8443"]
    names = [name for name, _ in answer.headers]
    assert sorted(names) == sorted(set(names))


def test_upload_over_http_3_arrives(modern: NginxUnderTest) -> None:
    assert ask_over_http3(modern, "/api/upload", method="POST", body=b"x" * 300_000).json() == {"bytes": 300_000}


@pytest.mark.parametrize("authority", ["evil.example.com", "localhost.evil.example.com", "_", "203.0.113.9"])
def test_invented_name_is_refused_over_http_3_too(modern: NginxUnderTest, backend: EchoBackend, authority: str) -> None:
    answer = ask_over_http3(modern, "/api/headers", authority=authority)
    assert (answer.status, answer.header("location")) == (421, None)
    assert backend.requests == []


def test_alias_leads_to_the_one_name_over_http_3_too(modern: NginxUnderTest, backend: EchoBackend) -> None:
    answer = ask_over_http3(modern, "/c/42?x=1", authority="chat.example.com")
    assert (answer.status, answer.header("location")) == (308, "https://localhost:8443/c/42?x=1")
    assert backend.requests == []


def test_two_names_in_one_request_are_refused_over_http_3_too(modern: NginxUnderTest, backend: EchoBackend) -> None:
    assert ask_over_http3(modern, "/api/headers", headers=[("host", "evil.example.com")]).status == 400
    assert backend.requests == []


def test_forged_headers_are_overwritten_over_http_3_too(modern: NginxUnderTest, shared_workshop: Workshop) -> None:
    forged = [("x-forwarded-for", "6.6.6.6"), ("x-real-ip", "6.6.6.6"), ("x-user-email", "admin@example.com")]
    received = arrived(ask_over_http3(modern, "/api/headers", headers=forged).body)
    assert (received["x-forwarded-for"], received["x-real-ip"]) == (
        [shared_workshop.gateway],
        [shared_workshop.gateway],
    )
    assert "x-user-email" not in received


def test_socket_path_over_http_3_is_refused_with_400(modern: NginxUnderTest, backend: EchoBackend) -> None:
    assert ask_over_http3(modern, "/ws/", headers=[("upgrade", "websocket")]).status == 400
    assert backend.requests == []


@pytest.mark.parametrize("path", ["/headers", "/api/status/500", "/static/status/404"])
def test_browser_learns_of_http_3_at_the_published_port(modern: NginxUnderTest, path: str) -> None:
    assert modern.ask(path).header("Alt-Svc") == 'h3=":8443"; ma=86400'


def test_browser_forgets_http_3_where_it_is_off(nginx: NginxUnderTest) -> None:
    assert nginx.ask("/headers").header("Alt-Svc") == "clear"
    assert "quic" not in nginx.configuration


@pytest.mark.parametrize("path", ["/headers", "/api/status/500", "/static/status/404", "/ws/"])
def test_hsts_comes_once_on_every_answer_over_https(modern: NginxUnderTest, path: str) -> None:
    said = f"max-age={730 * 86400}; includeSubDomains; preload"
    assert modern.ask(path).header("Strict-Transport-Security") == said
    assert ask_over_http3(modern, path).header("strict-transport-security") == said


@pytest.mark.parametrize("host", ["localhost", "chat.example.com", "evil.example.com"])
def test_hsts_never_comes_over_plain_http(modern: NginxUnderTest, host: str) -> None:
    answer = modern.ask("/", scheme="http", host=host)
    assert answer.status in {308, 421}
    assert answer.header("Strict-Transport-Security") is None


def test_hsts_is_off_with_a_certificate_that_browsers_do_not_trust(nginx: NginxUnderTest) -> None:
    assert nginx.ask("/headers").header("Strict-Transport-Security") is None


def test_modern_profile_refuses_tls_1_2(modern: NginxUnderTest) -> None:
    with (
        pytest.raises(ssl.SSLError, match="alert protocol version"),
        modern.connection(context=only(modern, "TLSv1.2")),
    ):
        pass
    with modern.connection(context=only(modern, "TLSv1.3")) as connected:
        assert isinstance(connected, ssl.SSLSocket)
        assert connected.version() == "TLSv1.3"
