"""Three replicas with PostgreSQL and Redis: shared, rolled, killed, hung, and never two versions on one database.

Every run tests what replicas share, keep and hide. Tests that wait for a replica or update all three are marked long:
unit tests check the rules by which they wait and roll.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import aiohttp
import docker
import pytest
import socketio

from open_webui_edge.benchmarks.model_server import ModelServer, count_to
from open_webui_edge.benchmarks.open_webui_client import Answer, OpenWebUIClient
from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.runtime import delivery
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from tests.integration.conftest import ADMIN_PASSWORD, FIRST_KEY, answered_by
from tests.support.browser import OpenWebUIPage, open_webui_page
from tests.support.load import Http1, Http2, Load
from tests.support.machine import lacks
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop

REPLICAS = ("open-webui", "open-webui-2", "open-webui-3")


@pytest.fixture(scope="module")
def three(workshop: Workshop, model_server: ModelServer, engine: docker.DockerClient) -> Iterator[StackUnderTest]:
    """A stack with three replicas and their backing services, up and running."""
    for image in (images.POSTGRES, images.REDIS):
        if not engine.images.list(name=(name := image.reference(ImageSource.BUILT, None))):
            lacks(f"no image {name}")
    stack = StackUnderTest(
        workshop,
        "rp-three",
        {
            "open_webui": {"admin": {"email": "admin@example.com"}, "replicas": 1, "drain": "1m"},
            "data": {"postgres": {"mode": "container"}, "redis": {"mode": "container"}},
            "models": answered_by(model_server),
        },
        secrets={"models.providers[0].api_key": FIRST_KEY, "open_webui.admin.password": ADMIN_PASSWORD},
    )
    with stack.running():
        stack.wait_until_ready()
        # From one to three: that costs no request either, and the first goes on as it is.
        first = stack.container("open-webui").id
        stack.config["open_webui"]["replicas"] = 3
        stack.write()
        with Load(stack.url, stack.ca_file, Http1(connections=2, every=0.05), Http2(every=0.05)) as load:
            stack.up().succeeded()
        assert load.failures == [], str(load)
        assert stack.container("open-webui").id == first
        yield stack


@pytest.fixture
def token(three: StackUnderTest) -> str:
    with three.client() as client:
        return client.sign_in("admin@example.com", ADMIN_PASSWORD)


@dataclass(frozen=True)
class Event:
    """What an engine says has happened to a container."""

    at: float
    """Seconds, by the engine's clock."""
    action: str
    container: str


@contextmanager
def events_of(stack: StackUnderTest) -> Iterator[list[Event]]:
    """Collect what happens to the stack's containers while the block runs."""
    seen: list[Event] = []
    stream: Any = stack.engine.events(decode=True, filters={"type": "container", "label": f"stack={stack.name}"})

    def collect() -> None:
        for event in stream:
            name = event["Actor"]["Attributes"]["name"].removeprefix(f"edge-{stack.name}-")
            seen.append(Event(event["timeNano"] / 1e9, event["Action"], name))

    reader = threading.Thread(target=collect, daemon=True)
    reader.start()
    try:
        yield seen
    finally:
        stream.close()
        reader.join(10)


def at(events: list[Event], container: str, action: str) -> float:
    """Return when something first happened to a container."""
    return next(event.at for event in events if event.container == container and event.action.startswith(action))


def address_of(stack: StackUnderTest, role: str) -> str:
    (network,) = stack.container(role).attrs["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def straight_to(stack: StackUnderTest, role: str, token: str) -> OpenWebUIClient:
    """Return a user in front of one replica, past the proxy: which replica it is, is beyond doubt."""
    return OpenWebUIClient(f"http://{address_of(stack, role)}:8080", token=token)


def said_by(stack: StackUnderTest, role: str) -> str:
    return stack.container(role).logs().decode(errors="replace")


@pytest.mark.long
def test_an_update_that_changes_nothing_says_so(three: StackUnderTest) -> None:
    assert NO_CHANGE.search(three.up().succeeded().output)
    assert sorted(three.outputs()["containers"]["open-webui"]) == [f"edge-{three.name}-{role}" for role in REPLICAS]


def test_requests_are_shared_by_all_replicas(three: StackUnderTest) -> None:
    # Not a path whose answer the proxy keeps.
    with Load(three.url, three.ca_file, Http1(path="/api/changelog")) as load:
        for role in REPLICAS:
            wait_until(lambda role=role: "GET /api/changelog" in said_by(three, role), what=f"a request at {role}")
    assert load.failures == [], str(load)


def test_a_chat_is_seen_live_by_a_socket_on_another_replica(
    three: StackUnderTest, model_server: ModelServer, token: str
) -> None:
    prompt = count_to(10, every=0.1)
    with straight_to(three, "open-webui", token) as asking, ThreadPoolExecutor() as pool:
        listening = threading.Event()
        stop = threading.Event()
        seen = pool.submit(_listen, straight_to(three, "open-webui-2", token), listening, stop)
        try:
            assert listening.wait(30)
            answer = asking.chat_over_socket(prompt, model_server.models[0])
            model = model_server.completion(prompt)
            wait_until(lambda: len(seen_so_far) >= len(model.tokens), what="what the other socket sees")
        finally:
            stop.set()
        deltas = seen.result(30)
    assert "".join(text for _, text in deltas) == answer.text
    assert deltas[0][0] < model.tokens[-1].at, "it came only when all was written"


seen_so_far: list[tuple[float, str]] = []


def _listen(client: OpenWebUIClient, listening: threading.Event, stop: threading.Event) -> list[tuple[float, str]]:
    """Sit at another replica as a second tab of the same user, and return when which piece of an answer came."""
    import asyncio  # noqa: PLC0415 - only here

    seen_so_far.clear()

    async def sit() -> None:
        async with aiohttp.ClientSession() as http:
            socket = socketio.AsyncClient(http_session=http, reconnection=False, handle_sigint=False)

            async def keep(event: dict[str, Any]) -> None:
                data = event["data"]
                if data["type"] == "response:completion" and data["data"].get("type") == "response.output_text.delta":
                    seen_so_far.append((time.monotonic(), data["data"]["delta"]))

            socket.on("events", keep)
            await socket.connect(
                client.url, auth={"token": client.token}, transports=["websocket"], socketio_path="/ws/socket.io"
            )
            await socket.call("user-join", {"auth": {"token": client.token}})
            listening.set()
            await asyncio.to_thread(stop.wait)
            await socket.disconnect()

    asyncio.run(sit())
    return list(seen_so_far)


@pytest.mark.alone
@pytest.mark.long
def test_a_person_sees_in_a_second_browser_what_another_replica_writes(
    three: StackUnderTest, model_server: ModelServer
) -> None:
    # Long enough for a second page to be there before it ends, on a busy machine too.
    whole = " ".join(str(number) for number in range(1, 61))
    with open_webui_page(three.url, ca_file=three.ca_file) as asking:
        browser = asking.page.context.browser
        assert browser is not None
        watching = OpenWebUIPage(browser.new_page(), three.url)
        for page in (asking.page, watching.page):
            # What is new in this release: shown once, over everything.
            news = page.get_by_role("button", name="Okay, Let's Go!")
            page.add_locator_handler(news, lambda button: button.click())
        asking.sign_in("admin@example.com", ADMIN_PASSWORD)
        watching.sign_in("admin@example.com", ADMIN_PASSWORD)
        # Nginx gives a new socket to the replica with the fewest connections: not the one that has the first.
        assert max(_sockets_at(three, role) for role in REPLICAS) == 1, "both sockets are at one replica"
        asking.choose_model(model_server.models[0])
        asking.send(count_to(60, every=0.4))
        asking.page.wait_for_url("**/c/*")
        watching.open(asking.page.url)
        seen = watching.watch_answer(whole)
        watching.screenshot("replicas-second-browser")
        assert asking.watch_answer(whole)[-1] == whole
    assert len([text for text in seen if text != whole]) >= 2, seen


def _sockets_at(stack: StackUnderTest, role: str) -> int:
    """Return how many WebSockets a replica has: connections of the proxy that outlive its idle ones."""
    proxy = address_of(stack, "nginx")

    def connections() -> int:
        # Address and port in hexadecimal, the address backwards; 01 is ESTABLISHED (proc(5)).
        lines = [line.split() for line in stack.read(role, "cat", "/proc/net/tcp").splitlines()[1:]]
        peer = "".join(f"{int(part):02X}" for part in reversed(proxy.split(".")))
        return sum(
            local.endswith(f":{8080:04X}") and remote.startswith(peer) and state == "01"
            for _, local, remote, state, *_ in lines
        )

    # Others close after four seconds without a request.
    counts = [connections()]

    def settled() -> bool:
        counts.append(connections())
        return len(counts) > 12 and len(set(counts[-12:])) == 1

    wait_until(settled, what="idle connections to be closed", every=0.5)
    return counts[-1]


@pytest.mark.long
def test_a_changed_setting_rolls_without_a_lost_request_or_a_cut_answer(
    three: StackUnderTest, model_server: ModelServer, token: str
) -> None:
    prompts = {"chat_over_socket": count_to(21, every=0.4), "chat_over_sse": count_to(22, every=0.4)}

    def ask(way: str) -> Answer:
        with straight_to(three, "open-webui", token) as client:
            return getattr(client, way)(prompts[way], model_server.models[0])

    three.config["open_webui"]["environment"] = {"WEBUI_NAME": "Rolled"}
    three.write()
    with (
        events_of(three) as events,
        Load(three.url, three.ca_file, Http1(connections=2, every=0.05), Http2(every=0.05)) as load,
        ThreadPoolExecutor() as pool,
    ):
        update = pool.submit(three.up)
        # The last moment: it has been told to end, and the proxy does not know yet.
        wait_until(lambda: any(event.action == "kill" for event in events), what="the first to end", deadline=180)
        answers = {way: pool.submit(ask, way) for way in prompts}
        update.result().succeeded()
        asked = load.requests
        wait_until(lambda: load.requests > asked + 100, what="requests after the update")
    assert load.failures == [], str(load)
    assert load.requests > 500
    clock = time.time() - time.monotonic()
    for way, prompt in prompts.items():
        sent = model_server.completion(prompt).tokens
        assert answers[way].result(1).text == "".join(token.text for token in sent), way
        assert sent[0].at + clock > at(events, "open-webui", "kill"), f"{way}: it was not yet told to end"
    # One at a time: each was healthy before the next one was told to end.
    for role, following in pairwise(REPLICAS):
        assert at(events, role, "health_status: healthy") < at(events, following, "kill")
    with three.client() as client:
        assert client.request("GET", "/api/config")["name"].startswith("Rolled")


def test_a_killed_replica_costs_no_request_and_is_used_again(three: StackUnderTest) -> None:
    killed = three.container("open-webui-2")
    with Load(
        three.url, three.ca_file, Http1(connections=3, every=0.05, path="/api/changelog"), Http2(every=0.1)
    ) as load:
        killed.kill()
        asked = load.requests
        wait_until(lambda: load.requests > asked + 300, what="requests without it")
        killed.start()
        came_back = time.time()
        wait_until(
            lambda: "GET /api/changelog" in killed.logs(since=int(came_back)).decode(errors="replace"),
            what="a request to the one that is back",
            deadline=90,
            every=0.5,
        )
    # Of an answer the client may have the head already, which no proxy can take back; that is one of those under way.
    begun = [failure for failure in load.failures if "the connection was closed after 0 of" in failure.reason]
    assert len(begun) <= 1, str(load)
    assert load.failures == begun, str(load)


@pytest.mark.long
def test_a_replica_that_hangs_gets_no_new_requests_after_10_seconds(three: StackUnderTest) -> None:
    hung = three.container("open-webui-3")
    number = three.read("open-webui-3", "cat", "/run/open-webui-edge/inside/process")
    took: list[float] = []
    three.read("open-webui-3", "sh", "-c", f"kill -STOP {number}")
    try:
        began = time.monotonic()
        wait_until(
            lambda: "open-webui-3 is out" in said_by(three, "readiness").rpartition("is in")[2],
            what="its being noticed",
            deadline=10,
        )
        noticed = time.monotonic() - began
        wait_until(lambda: time.monotonic() - began > 10, what="ten seconds", deadline=11)
        before = _unread(three, "open-webui-3")
        for _ in range(60):
            asked = time.monotonic()
            with three.client() as client:
                assert client.request("GET", "/api/changelog")
            took.append(time.monotonic() - asked)
        # What the proxy sends there waits unread.
        assert _unread(three, "open-webui-3") - before == 0
    finally:
        three.read("open-webui-3", "sh", "-c", f"kill -CONT {number}")
    assert noticed < 8, "the proxy asks each second, and needs the rest of the ten to have asked"
    assert max(took) < 5
    again = time.time()
    wait_until(
        lambda: _asks("/api/changelog", three, hung.name, again), what="a request to the one that goes on", deadline=30
    )


def _asks(path: str, stack: StackUnderTest, container: str | None, since: float) -> bool:
    with stack.client() as client:
        client.request("GET", path)
    logs = stack.engine.containers.get(container or "").logs(since=int(since)).decode(errors="replace")
    return f"GET {path}" in logs


def _unread(stack: StackUnderTest, role: str) -> int:
    """Count connections from the proxy that hold bytes which the application has not read."""
    proxy = "".join(f"{int(part):02X}" for part in reversed(address_of(stack, "nginx").split(".")))
    lines = stack.read(role, "cat", "/proc/net/tcp").splitlines()[1:]
    rows = [line.split() for line in lines]
    return sum(
        1 for row in rows if row[1].endswith(":1F90") and row[2].startswith(proxy) and row[4].split(":")[1] != "0" * 8
    )


@pytest.mark.long
def test_neither_the_proxy_nor_who_asks_for_it_must_be_there_first(three: StackUnderTest) -> None:
    with Load(three.url, three.ca_file, Http1(connections=2, every=0.02)) as load:
        three.container("readiness").restart()
        asked = load.requests
        wait_until(lambda: load.requests > asked + 100, what="requests after the restart")
    assert load.failures == [], str(load)
    three.container("nginx").restart()
    three.wait_until_ready()


def test_backing_services_removed_by_hand_come_back_with_their_data(three: StackUnderTest, token: str) -> None:
    with three.client() as client:
        client.token = token
        remaining = client.create_chat("kept")
    for role in ("postgres", "redis"):
        three.container(role).remove(force=True)
    three.up().succeeded()
    three.wait_until_ready()
    with three.client() as client:
        client.token = token
        assert remaining in {chat["id"] for chat in client.chats()}


def test_signing_out_ends_the_session_on_every_replica(three: StackUnderTest) -> None:
    with three.client() as client:
        token = client.sign_in("admin@example.com", ADMIN_PASSWORD)
    with straight_to(three, "open-webui", token) as first:
        first.request("POST", "/api/v1/auths/signout")
    for role in REPLICAS:
        with straight_to(three, role, token) as client:
            assert client.http.get("/api/v1/auths/", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_no_secret_is_where_others_can_read_it(three: StackUnderTest) -> None:
    secrets = {FIRST_KEY, ADMIN_PASSWORD} | {
        three.read(role, "cat", "/run/open-webui-edge/password") for role in ("postgres", "redis")
    }
    assert len(secrets) == 4
    for name in three.owned("containers"):
        container = three.engine.containers.get(name)
        shown = repr(container.attrs) + container.logs().decode(errors="replace")
        if container.status == "running":
            shown += repr(container.top(ps_args="axww -o pid,args")["Processes"])
        assert not [secret for secret in secrets if secret in shown], name
    for role in (*REPLICAS, "postgres", "redis"):
        readable = "find -L /run/open-webui-edge -type f ( -perm -o=r -o -perm -g=r ) -not -path */__pycache__/*"
        assert three.read(role, *readable.split()).split() == [], role


def test_a_database_of_another_major_version_is_left_alone(engine: docker.DockerClient) -> None:
    script = delivery.program("services/postgres.sh")
    prepare = "mkdir -p /var/lib/postgresql/17/docker && echo 17 > /var/lib/postgresql/17/docker/PG_VERSION"
    container = engine.containers.create(
        images.POSTGRES.reference(ImageSource.BUILT, None),
        entrypoint=["/bin/sh", "-eu", "-c"],
        command=[f"{prepare}\nEDGE_MAJOR=18 EDGE_SHARED_BUFFERS=64\n{script}"],
        network_mode="none",
    )
    try:
        container.start()
        assert container.wait(timeout=30)["StatusCode"] == 1
        assert "the volume holds the data of PostgreSQL 17; this is PostgreSQL 18" in container.logs().decode()
    finally:
        container.remove(force=True, v=True)


@pytest.mark.long
def test_another_version_never_meets_the_old_one(three: StackUnderTest) -> None:
    name = images.open_webui("0.12.4").reference(ImageSource.BUILT, None)
    repository, _, tag = name.rpartition(":")
    newer = tag.replace("0.12.4", "0.12.99")
    made = three.engine.containers.create(name, labels={"app": "open-webui-edge", "stack": three.name})
    made.commit(repository, newer)
    made.remove()
    # One replica fewer at the same time: what is not wanted any more would otherwise go last, and meet the new version.
    three.config["open_webui"] |= {"version": "0.12.99", "replicas": 2}
    three.write()
    try:
        with events_of(three) as events:
            three.up().succeeded()
        ended = [at(events, role, "destroy") for role in REPLICAS]
        started = [at(events, role, "start") for role in REPLICAS[:2]]
        assert max(ended) < min(started)
        assert started == sorted(started)
        assert at(events, "open-webui", "health_status: healthy") < started[1]
        three.wait_until_ready()
    finally:
        three.config["open_webui"] = {**three.config["open_webui"], "version": "0.12.4", "replicas": 3}
        three.write()
        three.remove()
        three.engine.images.remove(f"{repository}:{newer}")
