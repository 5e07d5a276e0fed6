"""While the application is away: Nginx is there, says so, and finds it by itself."""

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from tests.nginx.conftest import SITE, UPSTREAM, StartBackend, Workshop
from tests.nginx.nginx_under_test import NginxUnderTest, settings_of

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture(params=["no such name", "port closed"])
def lonely(request: pytest.FixtureRequest, workshop: Workshop, free_port: int) -> NginxUnderTest:
    """Nginx before an application that was never there."""
    if request.param == "port closed":
        workshop.names.addresses[UPSTREAM] = workshop.gateway
    return workshop.nginx(settings_of(site=SITE), port=free_port)


def test_nginx_starts_alone_says_so_and_finds_the_application_when_it_comes(
    lonely: NginxUnderTest, workshop: Workshop, start_backend: StartBackend, free_port: int
) -> None:
    for path in ("/", "/c/42", "/oauth/google/callback?code=hunter22", "/static/a.png"):
        page = lonely.ask(path, headers=[("Accept", BROWSER)])
        assert page.status == 503
        assert page.header("Content-Type") == "text/html"
        assert b'<meta http-equiv="refresh"' in page.body
        _comes_back(page.header("Retry-After"), page.header("Cache-Control"))

    for path, accept in (
        ("/api/config", BROWSER),
        ("/api/config", "application/json"),
        ("/ollama/api/tags", "*/*"),
        ("/openai/models.json", "*/*"),
        ("/manifest.json", "application/json, text/plain, */*"),
    ):
        answer = lonely.ask(path, headers=[("Accept", accept)])
        assert answer.status == 503
        assert "does not answer" in answer.json()["detail"]
        _comes_back(answer.header("Retry-After"), answer.header("Cache-Control"))

    socket = lonely.ask_upgrade("/ws/socket.io/", [("Upgrade", "websocket"), ("Connection", "Upgrade")])
    assert socket.status == 503
    assert lonely.ask("/api/x", method="POST", body=b"{}").status == 503
    # Error lines quote the request, but not one with an authorization code.
    assert "hunter22" not in lonely.error_log() + lonely.access_log()

    start_backend(free_port)
    workshop.names.addresses[UPSTREAM] = workshop.gateway
    wait_until(lambda: lonely.ask("/headers").status == 200, what="the application through Nginx", deadline=15)


def test_application_that_comes_back_elsewhere_is_found_by_its_name(
    workshop: Workshop, start_backend: StartBackend
) -> None:
    workshop.names.addresses[UPSTREAM] = "127.0.0.1"
    backend = start_backend(0)
    nginx = workshop.nginx(settings_of(site=SITE), port=backend.port)
    assert nginx.ask("/headers").status == 503
    workshop.names.addresses[UPSTREAM] = workshop.gateway
    wait_until(lambda: nginx.ask("/headers").status == 200, what="the new address", deadline=15)


def _comes_back(retry_after: str | None, cache_control: str | None) -> None:
    assert retry_after == "5"
    assert cache_control == "no-store"
