"""Behind a load balancer of AWS: its health check, the client addresses it passes, and forged ones."""

import asyncio
import http.client
import socket
import ssl
import struct
from collections.abc import Callable
from itertools import count
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from open_webui_edge.components.reverse_proxy.rendering import HEALTH_OF_LOAD_BALANCER
from tests.nginx.conftest import UPSTREAM, Workshop
from tests.nginx.nginx_under_test import Answer, DockerError, NginxUnderTest, settings_of
from tests.nginx.test_proxy_protocol import version_1, version_2
from tests.support.echo_backend import EchoBackend, arrived

DOMAIN, ALIAS = "chat.example.com", "www.chat.example.com"
URL = f"https://{DOMAIN}"
CLIENT, CLIENT_ON_IPV6 = "198.51.100.7", "2001:db8:2::7"
NUMBERS = count()
Preamble = Callable[[str], bytes]


def proxied(kind: str, workshop: Workshop, certificate: dict[str, Any]) -> dict[str, Any]:
    """Return settings; the test's published connections come from the load balancer."""
    return {
        "platform": {
            "kind": "aws-vm",
            "aws": {
                "region": "eu-central-1",
                "instance": {"ssh_from": ["203.0.113.7/32"]},
                "load_balancer": {"kind": kind},
            },
        },
        "site": {"domain": DOMAIN, "aliases": [ALIAS]},
        "dns": {"provider": "route53", "zone": "example.com"},
        "certificate": certificate,
        "open_webui": {"admin": {"email": "admin@example.com"}},
        "proxy": {"trusted_proxies": [f"{workshop.gateway}/32"]},
    }


def started(workshop: Workshop, backend: EchoBackend, kind: str, certificate: dict[str, Any]) -> NginxUnderTest:
    workshop.names.addresses[UPSTREAM] = workshop.gateway
    settings = settings_of(**proxied(kind, workshop, certificate))
    challenged = [DOMAIN, ALIAS] if certificate["mode"] == "lets-encrypt" else []
    return workshop.nginx(settings, port=backend.port, acme_challenges=challenged)


@pytest.fixture(scope="module")
def application_balanced(shared_workshop: Workshop, shared_backend: EchoBackend) -> NginxUnderTest:
    return started(shared_workshop, shared_backend, "alb", {"mode": "acm"})


@pytest.fixture(scope="module")
def network_balanced(shared_workshop: Workshop, shared_backend: EchoBackend) -> NginxUnderTest:
    mode = {"mode": "lets-encrypt", "lets_encrypt": {"email": "admin@example.com"}}
    return started(shared_workshop, shared_backend, "nlb", mode)


@pytest.fixture
def alb(application_balanced: NginxUnderTest, backend: EchoBackend) -> NginxUnderTest:
    """Nginx behind one that answers browsers itself and says in headers who they are."""
    del backend
    return application_balanced


@pytest.fixture
def nlb(network_balanced: NginxUnderTest, backend: EchoBackend) -> NginxUnderTest:
    """Nginx behind one that passes TCP through, and says before all else who it is from."""
    del backend
    return network_balanced


def passed_on(client: str = CLIENT, proto: str = "https", *, said: str = "") -> list[tuple[str, str]]:
    """Return what such a load balancer adds to a client's headers, of which it keeps the address that it `said`."""
    return [
        ("X-Forwarded-For", f"{said}, {client}" if said else client),
        ("X-Forwarded-Proto", proto),
        ("X-Forwarded-Port", "443" if proto == "https" else "80"),
        ("X-Amzn-Trace-Id", "Root=1-67891233-abcdef012345678912345678"),
    ]


# ---- its health check


ANY_HOST = ["10.20.1.5", "10.20.1.5:443", "evil.example.com", "localhost", "[2001:db8::9]", "_", "status"]


@pytest.mark.parametrize("host", ANY_HOST)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_load_balancer_is_told_that_all_is_well_whatever_the_host(
    alb: NginxUnderTest, backend: EchoBackend, method: str, host: str
) -> None:
    answer = alb.ask(HEALTH_OF_LOAD_BALANCER, method=method, host=host)
    assert (answer.status, answer.body, answer.header("Server")) == (200, b"", "nginx")
    assert backend.requests == []


@pytest.mark.parametrize("line", [b"HTTP/1.0\r\n\r\n", b"HTTP/1.1\r\nHost: 10.20.1.5\r\nConnection: close\r\n\r\n"])
def test_it_asks_without_a_name_in_tls_and_perhaps_without_a_host(alb: NginxUnderTest, line: bytes) -> None:
    context = ssl.create_default_context()
    # Like an ALB, which does not verify the certificate.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", alb.https_port), timeout=10) as plain,
        context.wrap_socket(plain) as encrypted,
    ):
        encrypted.sendall(b"GET " + HEALTH_OF_LOAD_BALANCER.encode() + b" " + line)
        answer = alb.answer_from(encrypted)
    assert (answer.status, answer.body) == (200, b"")


def test_its_questions_are_not_in_the_log(alb: NginxUnderTest) -> None:
    alb.ask(HEALTH_OF_LOAD_BALANCER, host="10.20.1.5")
    marker = alb.ask("/api/headers", headers=passed_on())
    alb.line_about(marker)
    assert HEALTH_OF_LOAD_BALANCER not in alb.access_log()


def unknown(answer: Answer) -> bool:
    return (answer.status, answer.body) == (421, b"This server does not serve that name.\n")


@pytest.mark.parametrize(
    "headers",
    [
        passed_on(),
        passed_on(CLIENT_ON_IPV6),
        passed_on(said="10.20.1.5"),
        passed_on(said="10.20.1.5, 10.20.1.6"),
        passed_on(proto="http"),
    ],
    ids=["IPv4", "IPv6", "claiming to be it", "claiming twice", "over http"],
)
def test_whoever_comes_through_it_gets_what_unknown_hosts_get(
    alb: NginxUnderTest, headers: list[tuple[str, str]]
) -> None:
    assert unknown(alb.ask(HEALTH_OF_LOAD_BALANCER, host="10.20.1.5", headers=headers))
    assert unknown(alb.ask("/", host="10.20.1.5", headers=headers))


@pytest.mark.parametrize("headers", [[], [("X-Forwarded-For", "10.20.1.5")]], ids=["plain", "claiming to be it"])
def test_a_stranger_gets_what_unknown_hosts_get(alb: NginxUnderTest, headers: list[tuple[str, str]]) -> None:
    answer = alb.ask_from_itself(HEALTH_OF_LOAD_BALANCER, host="10.20.1.5", headers=headers)
    assert unknown(answer)
    assert alb.ask_from_itself("/x", host="10.20.1.5", headers=headers) == answer


def test_under_the_site_s_name_the_path_is_the_application_s(alb: NginxUnderTest, backend: EchoBackend) -> None:
    alb.ask(HEALTH_OF_LOAD_BALANCER, headers=passed_on())
    assert backend.requests == [f"GET {HEALTH_OF_LOAD_BALANCER}"]


def test_without_a_load_balancer_there_is_no_such_path(nginx: NginxUnderTest) -> None:
    assert unknown(nginx.ask(HEALTH_OF_LOAD_BALANCER, host="10.20.1.5"))
    assert unknown(nginx.ask_from_itself(HEALTH_OF_LOAD_BALANCER, host="10.20.1.5"))


# ---- who a client is, and how it came


@pytest.mark.parametrize("said", ["", "6.6.6.6", "6.6.6.6, 10.20.1.9", "10.20.1.9", "::1", "127.0.0.1", "<script>"])
@pytest.mark.parametrize("client", [CLIENT, CLIENT_ON_IPV6])
def test_a_client_cannot_invent_its_address(alb: NginxUnderTest, client: str, said: str) -> None:
    answer = alb.ask("/api/headers", headers=[*passed_on(client, said=said), ("X-Real-IP", "6.6.6.6")])
    received = arrived(answer.body)
    assert (received["x-forwarded-for"], received["x-real-ip"]) == ([client], [client])
    assert alb.line_about(answer)["client"] == client


def test_a_stranger_beside_the_load_balancer_is_believed_nothing(alb: NginxUnderTest) -> None:
    received = arrived(alb.ask_from_itself("/api/headers", headers=passed_on()).body)
    assert (received["x-forwarded-for"], received["x-real-ip"]) == (["127.0.0.1"], ["127.0.0.1"])


@pytest.mark.parametrize("path", ["/oauth/oidc/login", "/oauth/oidc/login/callback", "/api/headers", "/ws/headers"])
def test_scheme_and_host_are_the_browser_s_for_what_leads_back_to_it(
    alb: NginxUnderTest, backend: EchoBackend, path: str
) -> None:
    alb.ask(path, headers=[*passed_on(), ("X-Forwarded-Host", "evil.example.com")])
    if path.startswith("/ws/"):
        # Without Upgrade it ends at Nginx.
        assert backend.requests == []
        return
    (head,) = backend.heads
    shown = {name: head.get(name) for name in ("Host", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port")}
    assert shown == {
        "Host": DOMAIN,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": DOMAIN,
        "X-Forwarded-Port": "443",
    }


def test_the_trace_of_a_request_goes_on(alb: NginxUnderTest) -> None:
    received = arrived(alb.ask("/api/headers", headers=passed_on()).body)
    assert received["x-amzn-trace-id"] == ["Root=1-67891233-abcdef012345678912345678"]


def test_who_somebody_is_cannot_be_said_in_its_name(alb: NginxUnderTest) -> None:
    said = [("X-Amzn-Oidc-Identity", "admin"), ("X-Amzn-Oidc-Data", "e30"), ("X-Amzn-Oidc-Accesstoken", "a")]
    received = arrived(alb.ask("/api/headers", headers=[*passed_on(), *said]).body)
    assert not {name.lower() for name, _ in said} & set(received)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_plain_http_is_redirected_by_301_like_the_load_balancer_does(
    alb: NginxUnderTest, backend: EchoBackend, scheme: str
) -> None:
    answer = alb.ask("/c/42?q=1", scheme=scheme, headers=passed_on(proto="http"))
    assert (answer.status, answer.header("Location")) == (301, f"{URL}/c/42?q=1")
    assert backend.requests == []


@pytest.mark.parametrize("proto", ["http", "https"])
def test_another_name_of_the_site_is_redirected_by_301(alb: NginxUnderTest, backend: EchoBackend, proto: str) -> None:
    answer = alb.ask("/c/42?q=1", host=ALIAS, headers=passed_on(proto=proto))
    assert (answer.status, answer.header("Location")) == (301, f"{URL}/c/42?q=1")
    assert backend.requests == []


def test_http3_is_not_offered_behind_it(alb: NginxUnderTest) -> None:
    assert alb.ask("/", headers=passed_on()).header("Alt-Svc") is None
    assert "quic" not in alb.configuration


# ---- its cookies


STICKY = [
    ["AWSALB=a+b/c=="],
    ["AWSALB=a; AWSALBCORS=b"],
    ["AWSALBTG=a; AWSALBTGCORS=b"],
    ["AWSALB=a", "AWSALBCORS=b"],
    ["AWSALB=a;AWSALBCORS=b;"],
]
STRANGERS = [
    ["AWSALB=a; token=secret"],
    ["token=secret; AWSALB=a; AWSALBCORS=b"],
    ["AWSALB=a", "token=secret"],
    ["AWSALB=a;token=secret"],
    ["AWSALBX=a"],
    ["xAWSALB=a"],
    ["AWSALB"],
]


@pytest.fixture
def answering(backend: EchoBackend) -> EchoBackend:
    """A backend whose answers to anybody may be kept."""

    async def version(request: web.Request) -> web.Response:
        del request
        return web.json_response({"version": "1"})

    backend.answers["/api/version"] = version
    return backend


@pytest.mark.parametrize("lines", STICKY, ids="+".join)
def test_what_is_for_anybody_is_kept_although_every_browser_has_its_cookies(
    alb: NginxUnderTest, answering: EchoBackend, lines: list[str]
) -> None:
    headers = [*passed_on(), *(("Cookie", line) for line in lines)]
    path = f"/api/version?n={next(NUMBERS)}"
    answers = [alb.ask(path, headers=headers) for _ in range(2)]
    assert [answer.header("X-Cache-Status") for answer in answers] == ["MISS", "HIT"]
    (head,) = answering.heads
    assert "Cookie" not in head


@pytest.mark.parametrize("lines", STRANGERS, ids="+".join)
def test_what_is_somebody_s_is_not_kept(alb: NginxUnderTest, answering: EchoBackend, lines: list[str]) -> None:
    headers = [*passed_on(), *(("Cookie", line) for line in lines)]
    path = f"/api/version?n={next(NUMBERS)}"
    answers = [alb.ask(path, headers=headers) for _ in range(2)]
    assert [answer.header("X-Cache-Status") for answer in answers] == ["BYPASS", "BYPASS"]
    assert [head["Cookie"] for head in answering.heads] == ["; ".join(lines)] * 2


def test_a_session_reaches_the_application_whole(alb: NginxUnderTest) -> None:
    cookie = "token=secret; AWSALB=a; AWSALBCORS=b"
    received = arrived(alb.ask("/api/headers", headers=[*passed_on(), ("Cookie", cookie)]).body)
    assert received["cookie"] == [cookie]


def test_files_are_asked_for_and_kept_without_any_cookie(alb: NginxUnderTest, backend: EchoBackend) -> None:
    path = f"/_app/immutable/{next(NUMBERS)}/text?type=text/javascript&size=9"
    asked = [alb.ask(path, headers=[*passed_on(), ("Cookie", "token=secret; AWSALB=a")]) for _ in range(2)]
    assert asked[-1].header("X-Cache-Status") == "HIT"
    (head,) = backend.heads
    assert "Cookie" not in head


# ---- what it lets through


def test_a_websocket_passes_through_it(alb: NginxUnderTest) -> None:
    async def echo() -> str:
        headers = {"Host": DOMAIN, "Cookie": "AWSALB=a; token=secret", **dict(passed_on())}
        url = f"https://127.0.0.1:{alb.https_port}/ws/socket.io/?EIO=4&transport=websocket"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, ssl=alb.trust(), server_hostname=DOMAIN, headers=headers) as websocket,
        ):
            await websocket.send_str("how are you?")
            return await websocket.receive_str()

    assert asyncio.run(echo()) == "how are you?"


def test_headers_as_large_as_it_lets_through_are_taken(alb: NginxUnderTest) -> None:
    # 16 KiB a line, 64 KiB in all (AWS's manual, Quotas for your Application Load Balancers).
    large = [(f"X-Large-{number}", "x" * (15 << 10)) for number in range(4)]
    answer = alb.ask(f"/api/{'p' * (15 << 10)}/headers", headers=[*passed_on(), *large])
    assert answer.status == 200
    assert len(arrived(answer.body)["x-large-3"][0]) == 15 << 10


def test_an_idle_connection_outlasts_the_load_balancer_s_patience(alb: NginxUnderTest) -> None:
    # Its own is 3600 s here: what the longest answer may take.
    assert "keepalive_timeout 3660s;" in alb.configuration


# ---- PROXY protocol


def with_further_fields(client: str) -> bytes:
    """Return a preamble as comes over an endpoint service: a field of AWS's own behind the addresses."""
    field = b"\xea\0\x17\x01vpce-08d2bf15fac5001c9"
    plain = version_2(client)
    (length,) = struct.unpack("!H", plain[14:16])
    return plain[:14] + struct.pack("!H", length + len(field)) + plain[16:] + field


SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
OF_ITS_OWN = {
    # As its health checks come: the preamble names no client (AWS's manual, Proxy protocol).
    "LOCAL": SIGNATURE + struct.pack("!2BH", 0x20, 0x00, 0),
    "LOCAL with addresses": SIGNATURE + struct.pack("!2BH", 0x20, 0x11, 12) + b"\0" * 12,
    "no family": SIGNATURE + struct.pack("!2BH", 0x21, 0x00, 0),
    "UNKNOWN": b"PROXY UNKNOWN\r\n",
}


@pytest.mark.parametrize("client", [CLIENT, CLIENT_ON_IPV6])
@pytest.mark.parametrize("version", [version_1, version_2, with_further_fields])
def test_a_client_has_the_address_that_its_connection_came_with(
    nlb: NginxUnderTest, version: Preamble, client: str
) -> None:
    forged = [("X-Forwarded-For", "6.6.6.6"), ("X-Real-IP", "6.6.6.6"), ("X-Forwarded-Proto", "http")]
    answer = nlb.ask("/api/headers", preamble=version(client), headers=forged)
    received = arrived(answer.body)
    assert (received["x-forwarded-for"], received["x-real-ip"]) == ([client], [client])
    assert (received["x-forwarded-proto"], received["host"]) == (["https"], [DOMAIN])
    assert nlb.line_about(answer)["client"] == client


@pytest.mark.parametrize("client", [CLIENT, CLIENT_ON_IPV6])
@pytest.mark.parametrize("version", [version_1, version_2, with_further_fields])
def test_plain_http_behind_it_is_redirected_by_301(
    nlb: NginxUnderTest, backend: EchoBackend, version: Preamble, client: str
) -> None:
    answer = nlb.ask("/c/42?q=1", scheme="http", preamble=version(client))
    assert (answer.status, answer.header("Location")) == (301, f"{URL}/c/42?q=1")
    assert backend.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("preamble", OF_ITS_OWN.values(), ids=OF_ITS_OWN)
def test_its_own_connections_are_told_that_all_is_well(nlb: NginxUnderTest, preamble: bytes, scheme: str) -> None:
    answer = nlb.ask(HEALTH_OF_LOAD_BALANCER, scheme=scheme, host="10.20.1.5", preamble=preamble)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("client", [CLIENT, CLIENT_ON_IPV6])
def test_whoever_comes_over_tcp_gets_what_unknown_hosts_get(nlb: NginxUnderTest, client: str, scheme: str) -> None:
    preamble = version_2(client)
    assert unknown(nlb.ask(HEALTH_OF_LOAD_BALANCER, scheme=scheme, host="10.20.1.5", preamble=preamble))


@pytest.mark.parametrize("claimed", ["10.20.1.5", CLIENT, CLIENT_ON_IPV6])
def test_a_stranger_s_preamble_says_nothing(nlb: NginxUnderTest, claimed: str) -> None:
    as_claimed = ("--haproxy-clientip", claimed)
    received = arrived(nlb.ask_from_itself("/api/headers", *as_claimed).body)
    assert (received["x-forwarded-for"], received["x-real-ip"]) == (["127.0.0.1"], ["127.0.0.1"])
    assert unknown(nlb.ask_from_itself(HEALTH_OF_LOAD_BALANCER, *as_claimed, host="10.20.1.5"))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_without_a_preamble_gets_no_answer(nlb: NginxUnderTest, backend: EchoBackend, scheme: str) -> None:
    with pytest.raises(DockerError):
        nlb.ask_from_itself("/api/headers", scheme=scheme)
    with pytest.raises((OSError, http.client.HTTPException)):
        nlb.ask("/api/headers", scheme=scheme)
    assert backend.requests == []


def test_the_proxy_s_own_health_check_needs_no_preamble(nlb: NginxUnderTest, alb: NginxUnderTest) -> None:
    for nginx in (nlb, alb):
        well, words = nginx.health()
        assert well, words
        assert DOMAIN in words


@pytest.mark.parametrize("client", [CLIENT, CLIENT_ON_IPV6])
def test_an_issuer_s_questions_reach_their_answers_through_it(
    nlb: NginxUnderTest, backend: EchoBackend, client: str
) -> None:
    for host in (DOMAIN, ALIAS):
        asked = nlb.ask(
            "/.well-known/acme-challenge/no-such-token", scheme="http", host=host, preamble=version_2(client)
        )
        # Not a redirect: a token that was there would be served.
        assert asked.status == 404
    assert backend.requests == []
