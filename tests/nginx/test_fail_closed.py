"""Without a yes of the authenticator no request reaches Open WebUI, or any service behind the same proxy."""

import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from open_webui_edge.diagnostics.inside.deployment import Authenticator
from open_webui_edge.diagnostics.inside.proxy import ask_authenticator, judge_authenticator
from tests.nginx.conftest import SITE, UPSTREAM, Workshop, workshop_in
from tests.nginx.nginx_under_test import Answer, NginxUnderTest, settings_of
from tests.nginx.silent_authenticator import ADMITS, FAULTS, SilentAuthenticator, says
from tests.support.echo_backend import EchoBackend

HANDSHAKE = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]
PATHS = ["/", "/api/v1/chats/", "/static/logo.png", "/_app/immutable/a.js", "/api/config", "/cache/a", "/oauth/x/login"]
SOCKETS = ["/ws/socket.io/", "/api/v1/audio/realtime", "/api/v1/terminals/a/b"]
OF_SETTINGS = "/wiki/page"
UNKNOWN = "no-such-service-of-this-network"


@dataclass
class Guarded:
    """Nginx that asks an authenticator, and all that is behind it."""

    nginx: NginxUnderTest
    proxied: list[EchoBackend]

    def ask_everything(self) -> dict[str, Answer]:
        """Ask with every method, for every kind of place: "method path" -> answer."""
        asked = [(method, path) for path in (PATHS[1], OF_SETTINGS) for method in METHODS]
        asked += [("GET", path) for path in PATHS if ("GET", path) not in asked]
        with ThreadPoolExecutor(max_workers=24) as pool:
            answers = {
                f"{method} {path}": pool.submit(
                    self.nginx.ask, path, method=method, body=b"{}" if method in {"POST", "PUT"} else None
                )
                for method, path in asked
            }
            answers |= {f"socket {path}": pool.submit(self.nginx.ask_upgrade, path, HANDSHAKE) for path in SOCKETS}
            return {what: answer.result() for what, answer in answers.items()}

    def arrived(self) -> list[str]:
        """Return what came through, of all requests since the last time."""
        requests = [request for one in self.proxied for request in one.requests]
        for one in self.proxied:
            one.forget()
        return requests


@pytest.fixture(scope="module")
def bench(
    image: str, network_and_gateway: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    yield from workshop_in(image, *network_and_gateway, tmp_path_factory.mktemp("guarded"))


@pytest.fixture(scope="module")
def proxied(bench: Workshop) -> Iterator[list[EchoBackend]]:
    """Two replicas, and the service of a location from the settings."""
    bench.names.addresses[UPSTREAM] = bench.gateway
    with EchoBackend(bench.gateway) as first, EchoBackend(bench.gateway) as second, EchoBackend(bench.gateway) as wiki:
        yield [first, second, wiki]


@pytest.fixture(scope="module")
def authenticator(bench: Workshop) -> Iterator[SilentAuthenticator]:
    with SilentAuthenticator(bench.gateway) as made:
        yield made


def guard(bench: Workshop, proxied: list[EchoBackend], replicas: int, url: str) -> Guarded:
    first, second, wiki = proxied
    settings = settings_of(
        site=SITE,
        proxy={
            "authentication": {"mode": "external", "external": {"url": url, "timeout": "3s"}},
            "locations": {"/wiki/": {"url": f"http://{wiki.address}:{wiki.port}", "credentials": True}},
        },
    )
    further = [second.port] if replicas == 2 else []
    return Guarded(bench.nginx(settings, port=first.port, further_ports=further), proxied)


@pytest.fixture(scope="module", params=[1, 2], ids=["1 replica", "2 replicas"])
def replicas(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def guarded(bench: Workshop, proxied: list[EchoBackend], authenticator: SilentAuthenticator, replicas: int) -> Guarded:
    return guard(bench, proxied, replicas, f"http://{authenticator.address}:{authenticator.port}/check")


@pytest.fixture(scope="module")
def led_astray(bench: Workshop, proxied: list[EchoBackend], replicas: int) -> Guarded:
    """One whose authenticator has a name that leads nowhere."""
    return guard(bench, proxied, replicas, f"http://{UNKNOWN}:9091/check")


@pytest.fixture
def answering(authenticator: SilentAuthenticator) -> Iterator[SilentAuthenticator]:
    yield authenticator
    authenticator.become(ADMITS)


def test_with_a_yes_of_the_authenticator_everything_passes(guarded: Guarded, answering: SilentAuthenticator) -> None:
    guarded.arrived()
    answers = guarded.ask_everything()
    assert {answer.status for answer in answers.values()} == {200, 101}
    assert len(guarded.arrived()) == len(answers)
    assert answering.asked == len(answers)


def test_with_its_yes_a_large_body_passes_and_nobody_else_is_asked(
    guarded: Guarded, answering: SilentAuthenticator
) -> None:
    guarded.arrived()
    answer = guarded.nginx.ask("/api/v1/files/upload", method="POST", body=b"x" * (3 << 20))
    assert (answer.status, answer.json()) == (200, {"bytes": 3 << 20})
    assert answering.asked == 1
    assert [one.questions for one in guarded.proxied] == [[], [], []]


@pytest.mark.parametrize("fault", FAULTS)
def test_no_request_passes_without_a_yes_of_the_authenticator(
    guarded: Guarded, answering: SilentAuthenticator, fault: str
) -> None:
    does, status = FAULTS[fault]
    guarded.arrived()
    answering.become(does)
    answers = guarded.ask_everything()
    assert guarded.arrived() == []
    assert {what: answer.status for what, answer in answers.items()} == dict.fromkeys(answers, status)
    if status == 503:
        assert_named(answers)


def test_no_request_passes_while_the_authenticator_has_no_address(led_astray: Guarded) -> None:
    led_astray.arrived()
    answers = led_astray.ask_everything()
    assert led_astray.arrived() == []
    assert {what: answer.status for what, answer in answers.items()} == dict.fromkeys(answers, 503)
    assert_named(answers)


def assert_named(answers: dict[str, Answer]) -> None:
    """It is the authenticator that is away, and not Open WebUI."""
    for what, answer in answers.items():
        assert answer.header("Retry-After") == "5", what
        assert answer.header("Cache-Control") == "no-store", what
        if not what.startswith("HEAD"):
            assert b"authenticator" in answer.body, what


def test_head_of_an_answer_is_enough_of_a_yes(guarded: Guarded, answering: SilentAuthenticator) -> None:
    # Its status says everything; Nginx reads no body.
    answering.become(says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"))
    guarded.arrived()
    assert guarded.nginx.ask(PATHS[1]).status == 200
    assert guarded.arrived() == [f"GET {PATHS[1]}"]


def test_page_for_a_person_names_the_authenticator(guarded: Guarded, answering: SilentAuthenticator) -> None:
    answering.become(None)
    page = guarded.nginx.ask("/", headers=[("Accept", "text/html")])
    assert (page.status, page.header("Content-Type")) == (503, "text/html")
    assert b'http-equiv="refresh"' in page.body
    assert b"<h1>No authenticator</h1>" in page.body


@pytest.mark.parametrize(("fault", "said"), [("refused", "502"), ("hangs", "504"), ("302", "302"), ("401", "401")])
def test_log_says_what_the_authenticator_answered(
    guarded: Guarded, answering: SilentAuthenticator, fault: str, said: str
) -> None:
    answering.become(FAULTS[fault][0])
    line = guarded.nginx.line_about(guarded.nginx.ask(PATHS[1]))
    assert (line["authenticator"], line["upstream"]) == (said, "")


# Curl takes a head that was cut for a whole one, which Nginx does not.
@pytest.mark.parametrize("fault", ["refused", "reset", "empty", "no HTTP", "401", "403", "302", "500", "hangs"])
def test_doctor_sees_of_the_authenticator_what_nginx_sees(
    guarded: Guarded, answering: SilentAuthenticator, fault: str
) -> None:
    does, status = FAULTS[fault]
    answering.become(does)
    asked = Authenticator(f"http://{answering.address}:{answering.port}/check", guarded.nginx.settings.site.url, 1)
    said = guarded.nginx.run_inside(f"{shlex.join(ask_authenticator(asked))} || true")
    received = judge_authenticator(asked, int(said), "its words")
    assert received.is_trouble == (status == 503)
