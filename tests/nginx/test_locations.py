"""Who answers which path, of Open WebUI's own and of the settings'."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from tests.nginx.conftest import SITE, UPSTREAM, Workshop
from tests.nginx.nginx_under_test import NginxUnderTest, certificate_for, settings_of
from tests.nginx.test_sockets import HANDSHAKE, echo_of
from tests.support.echo_backend import EchoBackend, arrived

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
MINE = [("Cookie", "token=mine"), ("Authorization", "Bearer mine"), ("X-API-Key", "mine")]

HEALTH = ["/health", "/health/db", "/ready"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", HEALTH)
def test_health_is_asked_with_get_whatever_the_client_asked_with(
    nginx: NginxUnderTest, backend: EchoBackend, path: str, method: str
) -> None:
    answer = nginx.ask(path, method=method)
    assert answer.status == 200
    assert (answer.body == b"") == (method == "HEAD")
    assert backend.requests == [f"GET {path}"]


@pytest.mark.parametrize("path", HEALTH)
def test_health_takes_no_other_method(nginx: NginxUnderTest, backend: EchoBackend, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert nginx.ask(path, method=method).status == 403
    assert backend.requests == []


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/c/42",
        "/api/headers",
        "/api/v1/files/x/content/picture.png",
        "/ollama/api/chat",
        "/openai/v1/models",
        "/oauth/google/callback",
        "/cache/image/generations/x.png",
        "/api/v1/terminals/a/b",
        "/api/v1/audio/realtime",
    ],
)
def test_each_place_passes_each_method_with_its_path_and_the_session(
    nginx: NginxUnderTest, backend: EchoBackend, path: str
) -> None:
    for method in METHODS:
        answer = nginx.ask(f"{path}?q=%2F", method=method, headers=MINE, body=b"{}")
        assert answer.status == 200
        assert (answer.json()["path"], answer.json()["body"]) == (f"{path}?q=%2F", 2)
        received = arrived(answer.body)
        assert (received["cookie"], received["authorization"]) == (["token=mine"], ["Bearer mine"])
    assert backend.requests == [f"{method} {path}" for method in METHODS]


@pytest.mark.parametrize(
    "path",
    [
        "/_app/immutable/chunks/a.js",
        "/_app/version.json",
        "/static/favicon.png",
        "/assets/a.png",
        "/audio/greeting.mp3",
        "/pyodide/pyodide.js",
        "/wasm/a.wasm",
        "/sql.js/sql-wasm.wasm",
    ],
)
def test_files_of_the_frontend_are_asked_for_without_the_session(nginx: NginxUnderTest, path: str) -> None:
    answer = nginx.ask(path, headers=MINE)
    assert answer.status == 200
    assert not {"cookie", "authorization"} & set(arrived(answer.body))


@pytest.mark.parametrize(
    "path",
    [
        "/static/../api/v1/users/",
        "/static/..%2fapi/v1/users/",
        "/static/%2e%2e/api/v1/users/",
        "/static/%2E%2E%2Fapi/v1/users/",
        "/_app/immutable/..%5capi/",
        "/_app/immutable/..\\api/",
        "/static/x%2f..%2fapi/",
        "/x/..",
    ],
)
def test_path_that_climbs_is_refused(nginx: NginxUnderTest, backend: EchoBackend, path: str) -> None:
    assert nginx.ask(path).status == 400
    assert backend.requests == []


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two certificates, and the list of authorities to trust, which has one of them."""
    folder = tmp_path_factory.mktemp("other-service")
    for name in ("known", "unknown"):
        certificate, private_key = certificate_for([f"{name}.test", "192.0.2.1"])
        (folder / f"{name}.pem").write_text(certificate + private_key)
        if name == "known":
            (folder / "bundle.pem").write_text(certificate)
    (folder / "nginx.conf").write_text(
        """
        error_log /dev/stderr; pid /run/nginx.pid; events { }
        http {
            access_log off;
            server { listen 443 ssl; ssl_certificate /given/known.pem; ssl_certificate_key /given/known.pem;
                     location / { return 200 "$ssl_server_name$request_uri"; } }
            server { listen 444 ssl; ssl_certificate /given/unknown.pem; ssl_certificate_key /given/unknown.pem; }
        }
        """
    )
    return folder


@pytest.fixture(scope="module")
def other_service(image: str, shared_workshop: Workshop, certificates: Path) -> Iterator[str]:
    """A service with TLS in the same network, by its names known.test, unknown.test and renamed.test."""
    name = f"other-service-{shared_workshop.network}"
    aliases = [f"--network-alias={alias}.test" for alias in ("known", "unknown", "renamed")]
    network = [f"--network={shared_workshop.network}", *aliases]
    run = ["docker", "run", "--detach", f"--name={name}", *network, f"--volume={certificates}:/given:ro", image]
    subprocess.run([*run, "nginx", "-c", "/given/nginx.conf", "-g", "daemon off;"], check=True, capture_output=True)  # noqa: S603
    yield name
    subprocess.run(["docker", "rm", "--force", "--volumes", name], check=True, capture_output=True)  # noqa: S603, S607


@pytest.fixture(scope="module")
def with_locations(
    shared_workshop: Workshop, shared_backend: EchoBackend, other_service: str, certificates: Path
) -> NginxUnderTest:
    """Nginx with further locations: to the backend that is Open WebUI's too, and to another service."""
    del other_service
    here = shared_workshop.gateway
    other = f"http://{here}:{shared_backend.port}"
    locations: dict[str, dict[str, object]] = {
        "/kept/": {"url": other},
        "/replaced/": {"url": f"{other}/base"},
        "/replaced-too/": {"url": f"{other}/base/"},
        "/dropped/": {"url": f"{other}/"},
        "/exact": {"url": f"{other}/base/headers"},
        "/exact-kept": {"url": other},
        "/credentials/": {"url": other, "credentials": True},
        "/socket/": {"url": other, "websocket": True},
        "/for-others/": {"url": other, "allowed_from": ["203.0.113.0/24", "127.0.0.1"]},
        "/for-us/": {"url": other, "allowed_from": ["203.0.113.0/24", here]},
        "/large/": {"url": other, "max_upload": "2MiB"},
        "/closed/": {},
        "/closed": {},
        "/api/v1/functions/": {},
        # The proxy has locations of its own below these.
        "/api/v1/auths/": {},
        "/api/v1/audio/": {},
        "/health/": {},
        "/static/loader.js": {},
        "/tls/": {"url": "https://known.test/there"},
        "/tls-of-a-stranger/": {"url": "https://unknown.test:444"},
        "/tls-of-another-name/": {"url": "https://renamed.test"},
        "/nowhere/": {"url": "http://no-such-name.test"},
    }
    shared_workshop.names.addresses[UPSTREAM] = here
    return shared_workshop.nginx(
        settings_of(site=SITE, proxy={"locations": locations, "log": {"request_errors": True}}),
        port=shared_backend.port,
        volumes=[f"{certificates}/bundle.pem:{BUNDLE}:ro"],
    )


@pytest.fixture
def further(with_locations: NginxUnderTest, backend: EchoBackend) -> NginxUnderTest:
    del backend
    return with_locations


@pytest.mark.parametrize(
    ("asked", "arrives"),
    [
        ("/kept/a%20b/headers?q=%2F", "/kept/a%20b/headers?q=%2F"),
        ("/replaced/a/headers?q=%2F", "/base/a/headers?q=%2F"),
        ("/replaced/", "/base/"),
        ("/replaced-too/a/headers", "/base/a/headers"),
        ("/dropped/a/headers", "/a/headers"),
        ("/exact?q=1", "/base/headers?q=1"),
        ("/exact-kept?q=1", "/exact-kept?q=1"),
        # Open WebUI's own.
        ("/exact/headers", "/exact/headers"),
        ("/keptheaders", "/keptheaders"),
    ],
)
def test_path_is_replaced_where_the_url_has_one_and_kept_where_it_has_none(
    further: NginxUnderTest, asked: str, arrives: str
) -> None:
    assert further.ask(asked).json()["path"] == arrives


def test_path_without_its_last_slash_leads_to_the_location(further: NginxUnderTest, backend: EchoBackend) -> None:
    answer = further.ask("/kept?q=1")
    assert (answer.status, answer.header("Location")) == (301, "/kept/?q=1")
    assert backend.requests == []


def test_another_service_gets_no_credentials_of_open_webui(further: NginxUnderTest) -> None:
    received = arrived(further.ask("/kept/headers", headers=MINE).body)
    assert not {name.lower() for name, _ in MINE} & set(received)
    received = arrived(further.ask("/credentials/headers", headers=MINE).body)
    assert {name: received[name.lower()] for name, _ in MINE} == {name: [value] for name, value in MINE}


@pytest.mark.parametrize("path", ["/kept/", "/exact", "/credentials/"])
def test_another_service_is_told_who_asks_as_open_webui_is(
    further: NginxUnderTest, shared_workshop: Workshop, path: str
) -> None:
    forged = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Host", "evil.example.com"), ("Remote-User", "admin")]
    received = arrived(further.ask(path, headers=forged).body)
    assert received["x-forwarded-for"] == [shared_workshop.gateway]
    assert received["x-forwarded-host"] == received["host"] == ["localhost:8443"]
    assert "remote-user" not in received


def test_socket_passes_only_where_the_location_says_so(further: NginxUnderTest) -> None:
    assert asyncio.run(echo_of(further, "/socket/here", "how are you?")) == "how are you?"
    answer = further.ask_upgrade("/kept/headers", [("Upgrade", "websocket"), *HANDSHAKE])
    assert answer.status == 200
    assert not {"upgrade", "connection"} & set(arrived(answer.body))


def test_only_the_named_addresses_may_ask(further: NginxUnderTest, backend: EchoBackend) -> None:
    assert further.ask("/for-others/headers").status == 403
    assert further.ask_from_itself("/for-us/headers").status == 403
    assert backend.requests == []
    assert further.ask("/for-us/headers").status == 200
    assert further.ask_from_itself("/for-others/headers").status == 200


def test_address_that_a_client_invented_opens_nothing(further: NginxUnderTest, backend: EchoBackend) -> None:
    assert further.ask("/for-others/headers", headers=[("X-Forwarded-For", "127.0.0.1")]).status == 403
    assert backend.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/closed",
        "/closed?x",
        "/closed/",
        "/closed/a/b",
        "/api/v1/functions/",
        "/api/v1/functions/a",
        "/api/v1/%66unctions/a",
        "//api//v1/./functions/a",
        "/api/v1/auths/signin",
        "/api/v1/auths/",
        "/api/v1/audio/realtime",
        "/health/db",
        "/static/loader.js",
    ],
)
def test_closed_path_is_not_there(further: NginxUnderTest, backend: EchoBackend, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert further.ask(path, method=method).status == 404
    assert backend.requests == []


def test_what_is_beside_a_closed_path_is_open(further: NginxUnderTest) -> None:
    for path in ("/closed-not", "/api/v1/functions", "/health", "/api/v1/tools/", "/static/loader.js.map"):
        assert further.ask(path).status == 200


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [("/kept/upload", 1 << 20, 200), ("/kept/upload", (1 << 20) + 1, 413), ("/large/upload", 2 << 20, 200)],
)
def test_location_takes_as_much_as_it_says(further: NginxUnderTest, path: str, size: int, status: int) -> None:
    assert further.ask(path, method="POST", body=b"x" * size).status == status


def test_tls_of_another_service_is_verified(further: NginxUnderTest) -> None:
    # A new name is resolved first.
    wait_until(lambda: further.ask("/tls/x").status == 200, what="the other service through Nginx", deadline=15)
    assert further.ask("/tls/x?q=1").body == b"known.test/there/x?q=1"
    for path in ("/tls-of-a-stranger/x", "/tls-of-another-name/x"):
        before = len(further.error_log())
        assert further.ask(path).status == 503

        # Not for want of a name: the three are one container's, and were looked up together.
        def refused(before: int = before) -> bool:
            return "upstream SSL certificate" in further.error_log()[before:]

        wait_until(refused, what="the reason in the log")


def test_service_that_is_away_costs_open_webui_nothing(further: NginxUnderTest) -> None:
    assert further.ask("/nowhere/x").status == 503
    assert further.ask("/headers").status == 200
