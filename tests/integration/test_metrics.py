"""A site that is watched: what real traffic becomes in Prometheus, on the status page, and in Grafana's queries.

Marked long: it watches a stack for minutes. Rules, counts and published ports have tests of their own.
"""

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import docker
import docker.errors
import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

from open_webui_edge.benchmarks.browser import chromium
from open_webui_edge.benchmarks.model_server import ModelServer, count_to
from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from tests.integration.conftest import ADMIN_PASSWORD, FIRST_KEY, answered_by
from tests.support.browser import ARTEFACTS
from tests.support.machine import lacks
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop, free_port

pytestmark = pytest.mark.long

DASHBOARD = Path(__file__).parent.parent.parent / "docs/grafana/open-webui-edge.json"
PREFIX = "open_webui_edge"
NOTHING_YET = "nothing counted yet"


class Inbox(ThreadingHTTPServer):
    """What Prometheus takes for an Alertmanager."""

    def __init__(self, address: str) -> None:
        self.alerts: list[dict[str, Any]] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/team/api/v2/alerts":
                    inbox.alerts += json.loads(body)
                self.send_response(HTTPStatus.OK)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
                """Say nothing."""

        super().__init__((address, 0), Handler)


@pytest.fixture(scope="module")
def inbox(bridge_address: str) -> Iterator[Inbox]:
    """A user's Alertmanager, where containers reach it."""
    with Inbox(bridge_address) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Watched:
    """The stack, and its Prometheus as its owner asks it."""

    def __init__(self, stack: StackUnderTest, url: str) -> None:
        self.stack = stack
        self.page_url = url
        self.http = httpx.Client(base_url=url.partition("/consoles/")[0], timeout=30)

    def series(self, query: str) -> list[dict[str, Any]]:
        answer = self.http.get("/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]["result"]

    def value(self, query: str) -> float:
        """Return the one value of a query; 0 where there is no series."""
        actual = self.series(query)
        assert len(actual) <= 1, (query, actual)
        return float(actual[0]["value"][1]) if actual else 0.0

    def wait_for(self, query: str, at_least: float = 1) -> float:
        def reached() -> float | None:
            value = self.value(query)
            return value if value >= at_least else None

        return wait_until(reached, what=f"{query} >= {at_least}", deadline=60, every=0.3) or 0.0


@pytest.fixture(scope="module")
def watched(
    workshop: Workshop, model_server: ModelServer, engine: docker.DockerClient, inbox: Inbox
) -> Iterator[Watched]:
    """A stack with Prometheus, up and running, before anybody came."""
    reference = images.PROMETHEUS.reference(ImageSource.BUILT, None)
    try:
        engine.images.get(reference)
    except docker.errors.ImageNotFound:
        lacks(f"no image {reference}")
    stack = StackUnderTest(
        workshop,
        "it-metrics",
        {
            "open_webui": {"admin": {"email": "admin@example.com"}},
            "models": answered_by(model_server),
            "monitoring": {
                "prometheus": {
                    "enabled": True,
                    "port": free_port(),
                    "interval": "1s",
                    "alertmanagers": [f"http://{inbox.server_address[0]}:{inbox.server_port}/team"],
                }
            },
            "proxy": {"limits": {"max_upload": "1MiB"}},
        },
        secrets={"models.providers[0].api_key": FIRST_KEY, "open_webui.admin.password": ADMIN_PASSWORD},
    )
    with stack.running():
        yield Watched(stack, stack.outputs()["status_page"])


def visit(watched: Watched, model: str) -> None:
    with watched.stack.client() as client:
        client.sign_in("admin@example.com", ADMIN_PASSWORD)
        authorized = {"Authorization": f"Bearer {client.token}"}
        small = {"file": ("notes.txt", b"Nginx reads it from top to bottom.", "text/plain")}
        large = {"file": ("large.bin", b"x" * (3 << 20), "application/octet-stream")}
        # Twice, since a rate is made of two looks.
        for turn in (1, 2):
            assert client.chat_over_sse(count_to(5, every=0.05), model).text
            assert client.chat_over_socket(count_to(5, every=0.05), model).text
            for path in ("/", "/static/favicon.png", "/static/favicon.png", "/manifest.json"):
                assert client.http.get(path).is_success
            assert client.http.get("/ws/").status_code == HTTPStatus.BAD_REQUEST
            upload = client.http.post("/api/v1/files/?process=false", files=small, headers=authorized)
            assert upload.is_success, upload.text
            refused = client.http.post("/api/v1/files/?process=false", files=large, headers=authorized)
            assert refused.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            watched.wait_for(f'sum({PREFIX}_requests_total{{status="413"}})', turn)
            watched.wait_for(f"sum({PREFIX}_socket_seconds_count)", turn)


@pytest.fixture(scope="module")
def visited(watched: Watched, model_server: ModelServer) -> Watched:
    """The same, after people came: chats by socket and by stream, files, and what goes wrong."""
    # Playwright's own loop runs in this thread.
    with ThreadPoolExecutor() as pool:
        pool.submit(visit, watched, model_server.models[0]).result()
    return watched


@pytest.fixture(scope="module")
def page(watched: Watched) -> Iterator[Page]:
    """The owner's browser, at the status page."""
    with sync_playwright() as playwright, chromium(playwright, ca_file=None) as browser:
        opened = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="light")
        opened.goto(watched.page_url)
        yield opened


def refreshed(page: Page) -> Page:
    """Have the page look again now."""
    page.evaluate("refresh()")
    return page


def picture(page: Page, name: str) -> None:
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)


@pytest.mark.alone
def test_page_says_where_nothing_was_counted_yet(watched: Watched, page: Page) -> None:
    watched.wait_for(f"min({PREFIX}:replica_ready)")
    refreshed(page).get_by_text("1 of 1").wait_for()
    assert page.title() == "Status of it-metrics"
    assert page.locator("[data-title='How long streams lasted']").inner_text().endswith(NOTHING_YET)
    picture(page, "status-page-empty")


def test_traffic_is_counted_by_where_it_went_and_how_it_ended(visited: Watched) -> None:
    counted = {
        'location="models",kind="stream",status="200"': 2,
        'location="sockets",kind="socket",status="101"': 2,
        'location="sockets",kind="answer",status="400"': 2,
        'location="files",kind="answer",status="200"': 2,
        'location="files",kind="answer",status="413"': 2,
        'location="sign_in",kind="answer",status="200"': 1,
        'location="frontend",kind="answer",status="200"': 4,
        'location="pages",kind="answer",status="200"': 2,
    }
    for labels, number in counted.items():
        visited.wait_for(f"{PREFIX}_requests_total{{{labels}}}", number)
    assert visited.value(f'{PREFIX}_cache_total{{location="frontend",result="HIT"}}') >= 2
    # The answer took longer than the first of it, and both took a while.
    first = visited.value(f'{PREFIX}_first_byte_seconds_sum{{location="models"}}')
    assert (
        0
        < first
        < visited.value(f"{PREFIX}_stream_seconds_sum")
        + visited.value(f'{PREFIX}_request_seconds_sum{{location="models"}}')
    )
    assert visited.value(f"{PREFIX}_socket_seconds_sum") > 0
    assert visited.value(f"sum({PREFIX}_sent_bytes_total)") > 10_000
    # No user is named, and no path but those that there are.
    labels = {name for series in visited.series(f"{PREFIX}_requests_total") for name in series["metric"]}
    assert labels == {"__name__", "instance", "job", "kind", "location", "status"}


def test_sockets_that_are_open_are_seen(visited: Watched) -> None:
    trust = ssl.create_default_context(cafile=str(visited.stack.ca_file))

    async def look() -> float:
        url = f"{visited.stack.url}/ws/socket.io/?EIO=4&transport=websocket"
        async with aiohttp.ClientSession() as http:
            # Kept here, or they would be closed at once.
            opened = [await http.ws_connect(url, ssl=trust) for _ in range(5)]
            assert len(opened) == 5
            return await asyncio.to_thread(visited.wait_for, f"{PREFIX}:open_answers", 5)

    with ThreadPoolExecutor() as pool:
        assert pool.submit(lambda: asyncio.run(look())).result() >= 5
    wait_until(lambda: visited.value(f"{PREFIX}:open_answers") < 5, what="that they are gone", deadline=30)


def test_containers_and_certificate_are_known(visited: Watched) -> None:
    assert visited.value(f"{PREFIX}:replica_ready") == 1
    assert visited.value(f'{PREFIX}_container_starts_total{{instance="open-webui-1"}}') == 1
    assert 395 < visited.value(f"{PREFIX}:certificate:days") < 398
    for instance in ("nginx", "open-webui-1"):
        limit = visited.value(f'{PREFIX}_container_memory_limit_bytes{{instance="{instance}"}}')
        role = "nginx" if instance == "nginx" else "open-webui"
        assert limit == visited.stack.container(role).attrs["HostConfig"]["Memory"]
        assert 0 < visited.value(f'{PREFIX}:memory:ratio{{instance="{instance}"}}') < 1
    assert {series["metric"]["job"] for series in visited.series("up == 1")} == {"proxy", "replica", "requests"}


def test_every_query_of_the_dashboard_finds_something(visited: Watched) -> None:
    queries = [
        target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel.get("targets", ())
    ]
    assert len(queries) > 30
    for query in queries:
        wait_until(lambda query=query: visited.series(query), what=f"a series for {query}", deadline=30)


@pytest.mark.alone
def test_every_query_of_the_page_finds_something(visited: Watched, page: Page) -> None:
    of_page: list[str] = page.evaluate(
        """() => [...TILES.flatMap((tile) => [tile.query, tile.of].filter(Boolean)),
                  ...CHARTS.flatMap((chart) => chart.lines.map((line) => line[0])),
                  ...CONTAINERS.map((column) => column[1])]"""
    )
    assert len(of_page) > 20
    for query in of_page:
        wait_until(lambda query=query: visited.series(query), what=f"a series for {query}", deadline=30)


@pytest.mark.alone
def test_page_draws_it_all_in_light_and_dark(visited: Watched, page: Page) -> None:
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.get_by_text("1 of 1").wait_for()
    refreshed(page)
    page.wait_for_function("!document.getElementById('charts').textContent.includes('nothing counted yet')")
    assert page.locator("section.chart svg path").count() > 12
    assert page.locator("[data-alert]").evaluate_all("alerts => alerts.map((one) => one.dataset.alert)") == []
    assert page.get_by_text("Nothing is wrong: none of 15 rules finds anything.").is_visible()
    assert page.locator("[data-container='open-webui-1']").inner_text().split("\t")[1] == "ready"
    tile = page.locator("[data-title='Certificate ends in'] b")
    assert tile.inner_text() in {"396 d", "395 d"}
    picture(page, "status-page-light")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 17, 22)"
    picture(page, "status-page-dark")
    page.emulate_media(color_scheme="light")
    # A phone's width, without anything beside the screen.
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 1000})
    assert complaints == []
    assert {url.partition("/api/")[0].partition("/consoles/")[0] for url in asked} == {
        str(visited.http.base_url).rstrip("/")
    }


@pytest.mark.alone
def test_alert_is_on_the_page_and_told_to_the_alertmanager(visited: Watched, page: Page, inbox: Inbox) -> None:
    with visited.stack.client() as client:
        client.sign_in("admin@example.com", ADMIN_PASSWORD)
        for _ in range(8):
            large = {"file": ("large.bin", b"x" * (3 << 20), "application/octet-stream")}
            authorized = {"Authorization": f"Bearer {client.token}"}
            refused = client.http.post("/api/v1/files/?process=false", files=large, headers=authorized)
            assert refused.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    alert = page.locator("[data-alert='ManyTooLarge']")
    wait_until(lambda: refreshed(page) and alert.count() == 1, what="the alert on the page", deadline=60, every=1)
    assert alert.get_attribute("data-state") == "firing"
    assert "raise proxy.limits.max_upload" in alert.inner_text()
    assert page.locator("#verdict").inner_text() == "1 alert"
    picture(page, "status-page-alert")
    reported = wait_until(
        lambda: [one for one in inbox.alerts if one["labels"]["alertname"] == "ManyTooLarge"],
        what="the alert at the Alertmanager",
        deadline=60,
    )
    assert reported[0]["labels"] == {"alertname": "ManyTooLarge", "severity": "warning", "stack": "it-metrics"}
    assert set(reported[0]["annotations"]) == {"summary", "description", "action"}


@pytest.mark.alone
def test_page_shows_who_does_not_answer(visited: Watched, page: Page) -> None:
    counter = visited.stack.container("request-counter")
    counter.stop(timeout=1)
    try:
        # Nginx waits for no reader.
        with visited.stack.client() as client:
            assert client.ready()
        alert = page.locator("[data-alert='NothingCounted']")
        wait_until(lambda: refreshed(page) and alert.count() == 1, what="the alert on the page", deadline=60, every=1)
        assert alert.get_attribute("data-state") == "pending"
        assert "Read what it said (make logs ROLE=request-counter), then: make up." in alert.inner_text()
        assert page.locator("[data-container='request-counter']").inner_text().split("\t")[1] == "does not answer"
    finally:
        counter.start()
    visited.wait_for('up{job="requests"}')
    with visited.stack.client() as client:
        assert client.ready()
    visited.wait_for(f'sum({PREFIX}_requests_total{{location="health"}})')


@pytest.mark.alone
def test_page_says_when_prometheus_is_away_and_comes_back_by_itself(visited: Watched, page: Page) -> None:
    server = visited.stack.container("prometheus")
    before = visited.value(f"max_over_time(count({PREFIX}_requests_total)[5m:1s])")
    server.stop(timeout=20)
    try:
        refreshed(page)
        words = page.get_by_text("Prometheus does not answer")
        words.wait_for()
        assert "What is drawn here is of " in words.inner_text()
        picture(page, "status-page-down")
    finally:
        server.start()
    wait_until(
        lambda: refreshed(page) and not words.is_visible(), what="the page to find it again", deadline=60, every=1
    )
    # What it had counted is kept.
    assert visited.value(f"max_over_time(count({PREFIX}_requests_total)[10m:1s])") >= before > 0


def test_only_the_owner_of_the_host_reads_it(visited: Watched) -> None:
    published = {
        name: visited.stack.container(name).attrs["NetworkSettings"]["Ports"]
        for name in ("prometheus", "request-counter")
    }
    assert {binding["HostIp"] for bindings in published["prometheus"].values() for binding in bindings or ()} == {
        "127.0.0.1"
    }
    assert not any(published["request-counter"].values())
    # A foreign page that the owner looks at learns nothing and changes nothing.
    stranger = visited.http.get("/api/v1/query", params={"query": "up"}, headers={"Origin": "https://evil.example.com"})
    assert not [name for name in stranger.headers if name.lower().startswith("access-control-allow-origin")]
    for path in ("/-/quit", "/-/reload"):
        assert visited.http.post(path).status_code == HTTPStatus.FORBIDDEN, path
    assert visited.http.post("/api/v1/admin/tsdb/snapshot").json()["error"] == "admin APIs disabled"
    # The site itself knows no such place.
    with visited.stack.client() as client:
        for path in ("/metrics", "/consoles/status.html", "/api/v1/query?query=up"):
            assert PREFIX not in client.http.get(path).text


def test_a_second_update_changes_nothing(visited: Watched) -> None:
    assert NO_CHANGE.search(visited.stack.up().succeeded().output)


def test_it_goes_as_it_came_and_nobody_notices(visited: Watched) -> None:
    stack = visited.stack
    ids = {role: stack.container(role).id for role in ("nginx", "open-webui")}
    monitoring = stack.config.pop("monitoring")
    stack.write()
    stack.up().succeeded()
    assert {role: stack.container(role).id for role in ids} == ids
    assert not [name for name in stack.owned("containers") if name.endswith(("request-counter", "prometheus"))]
    assert not [name for name in stack.owned("volumes") if "prometheus" in name]
    assert "status_page" not in stack.outputs()
    stack.config["monitoring"] = monitoring
