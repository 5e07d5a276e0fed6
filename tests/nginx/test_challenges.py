"""What an issuer of certificates asks over plain HTTP to learn whose the names are (RFC 8555 section 8.3)."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.nginx.conftest import SITE, UPSTREAM, Workshop, workshop_in
from tests.nginx.nginx_under_test import NginxUnderTest, settings_of
from tests.nginx.offers import Offers
from tests.support.echo_backend import EchoBackend

NAMES = ["localhost", "127.0.0.1", "chat.example.com", "2001:db8::1"]
# In the certificate, but served by another server.
ELSEWHERE = "mail.example.com"
TOKEN = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
LONG = "-_aZ09" * 20
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
PLACE = "/.well-known/acme-challenge/"
HOSTS = ["localhost", "127.0.0.1", "chat.example.com", "[2001:db8::1]", ELSEWHERE]
AUTHENTICATOR = {"mode": "external", "external": {"url": "http://nobody.example.com:9091/verify"}}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "maintenance": {"maintenance": True},
    "behind an authenticator": {"authentication": AUTHENTICATOR},
    "behind proxies": {"trusted_proxies": ["10.0.0.0/8"]},
    "behind proxies, in maintenance": {"trusted_proxies": ["10.0.0.0/8"], "maintenance": True},
}


@pytest.fixture(scope="module")
def issuer(
    image: str, network_and_gateway: tuple[str, str], offers: Offers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    """Where files are that prove something."""
    for token in (TOKEN, LONG, "x.html", "..hidden"):
        offers.answer(token, ANSWER)
    offers.run("echo secret > webroot/secret; mkdir -m 0755 webroot/.well-known/acme-challenge/folder")
    yield from workshop_in(image, *network_and_gateway, tmp_path_factory.mktemp("challenges"))


@pytest.fixture(scope="module")
def challenged(issuer: Workshop, shared_backend: EchoBackend, offers: Offers) -> dict[str, NginxUnderTest]:
    issuer.names.addresses[UPSTREAM] = issuer.gateway
    return {
        name: issuer.nginx(
            settings_of(site=SITE, proxy=proxy),
            port=shared_backend.port,
            offers=offers,
            acme_challenges=[*NAMES, ELSEWHERE],
        )
        for name, proxy in VARIANTS.items()
    }


@pytest.fixture(params=VARIANTS)
def asked(request: pytest.FixtureRequest, challenged: dict[str, NginxUnderTest]) -> NginxUnderTest:
    return challenged[request.param]


@pytest.fixture
def plain(challenged: dict[str, NginxUnderTest]) -> NginxUnderTest:
    return challenged["plain"]


@pytest.mark.parametrize("host", HOSTS)
def test_a_token_is_answered_for_every_name_before_anything_else(
    asked: NginxUnderTest, backend: EchoBackend, host: str
) -> None:
    for token in (TOKEN, LONG):
        answer = asked.ask(PLACE + token, scheme="http", host=host)
        assert (answer.status, answer.body.decode()) == (200, ANSWER)
        assert answer.header("Content-Type") == "text/plain"
        assert answer.header("Cache-Control") == "no-store"
        for name in ("X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "X-Request-ID"):
            assert answer.header(name), name
    head = asked.ask(PLACE + TOKEN, scheme="http", host=host, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert asked.ask(f"{PLACE}unknown", scheme="http", host=host).status == 404
    assert backend.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "",
        "unknown",
        "x.html",
        "..hidden",
        "folder/",
        "a%20b",
        "a%00b",
        "%C3%BC",
        f"{TOKEN}/",
        f"{TOKEN}.txt",
        f"{TOKEN}%0A",
        f"{TOKEN}=",
        f"{TOKEN}/{TOKEN}",
    ],
)
def test_whatever_is_no_token_is_not_there(asked: NginxUnderTest, backend: EchoBackend, path: str) -> None:
    answer = asked.ask(PLACE + path, scheme="http")
    assert answer.status in {400, 404}, answer
    assert ANSWER.encode() not in answer.body
    assert backend.requests == []


@pytest.mark.parametrize(
    "path", ["../../secret", "..%2f..%2fsecret", "%2e%2e/%2e%2e/secret", f"{TOKEN}/../../../secret", "..\\secret"]
)
def test_no_path_leads_out(plain: NginxUnderTest, path: str) -> None:
    answer = plain.ask(PLACE + path, scheme="http")
    assert answer.status in {308, 400, 404}
    assert b"secret\n" not in answer.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_but_asking_is_possible(asked: NginxUnderTest, backend: EchoBackend, method: str) -> None:
    assert asked.ask(PLACE + TOKEN, scheme="http", method=method, body=b"x").status == 405
    assert asked.ask(f"{PLACE}x.html", scheme="http", method=method, body=b"x").status == 404
    assert backend.requests == []


def test_over_https_it_is_the_same(plain: NginxUnderTest, backend: EchoBackend) -> None:
    for host in ("localhost", "chat.example.com"):
        assert plain.ask(PLACE + TOKEN, host=host).body.decode() == ANSWER
        assert plain.ask(f"{PLACE}unknown", host=host).status == 404
    assert backend.requests == []


def test_a_name_that_is_only_in_the_certificate_is_served_nothing_else(plain: NginxUnderTest) -> None:
    assert plain.ask("/", scheme="http", host=ELSEWHERE).status == 421
    assert plain.ask(PLACE + TOKEN, host=ELSEWHERE).status == 421
    assert plain.ask(PLACE + TOKEN, scheme="http", host="evil.example.com").status == 421


@pytest.mark.parametrize(
    "path", ["/", "/c/1", "/.well-known/", "/.well-known/security.txt", "/.well-known/acme-challenge"]
)
def test_everything_else_goes_to_https_as_before(asked: NginxUnderTest, path: str) -> None:
    answer = asked.ask(path, scheme="http")
    assert (answer.status, answer.header("Location")) == (308, f"https://localhost:8443{path}")


def test_a_new_token_is_there_at_once_and_a_removed_one_gone(plain: NginxUnderTest, offers: Offers) -> None:
    for text in ("first", "second"):
        assert plain.ask(f"{PLACE}fresh", scheme="http").status == 404
        offers.answer("fresh", text)
        assert plain.ask(f"{PLACE}fresh", scheme="http").body.decode() == text
        offers.run("rm webroot/.well-known/acme-challenge/fresh")
    assert plain.ask(f"{PLACE}fresh", scheme="http").status == 404


def test_where_nobody_proves_anything_the_path_is_like_any_other(nginx: NginxUnderTest) -> None:
    assert nginx.ask(PLACE + TOKEN, scheme="http").status == 308
