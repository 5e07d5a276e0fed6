"""What is promised of the cache, of sockets and of addresses, with a real Open WebUI behind Nginx."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import aiohttp
import httpx
import pytest
import socketio
from socketio.exceptions import ConnectionError as SocketRefusedError

from open_webui_edge.benchmarks.model_server import ModelServer, count_to
from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient
from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from open_webui_edge.settings.proxy import FRONTEND_PATHS
from tests.nginx.application import ADMIN, ADMIN_PASSWORD, PORT, Application
from tests.nginx.conftest import UPSTREAM, Workshop, workshop_in
from tests.nginx.nginx_under_test import Answer, NginxUnderTest, settings_of
from tests.nginx.test_security_headers import SECURITY
from tests.support.machine import image_here

ORIGIN = "https://localhost:8443"
IMMUTABLE = "public, max-age=31536000, immutable"
ENCODINGS = ("", "gzip", "br", "zstd")
PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def house(
    image: str, network_and_gateway: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    """A workshop of this file's own."""
    yield from workshop_in(image, *network_and_gateway, tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module")
def model(house: Workshop) -> Iterator[ModelServer]:
    """A model that counts."""
    with ModelServer(house.gateway) as server:
        yield server


@pytest.fixture(scope="module")
def application(house: Workshop, model: ModelServer) -> Iterator[Application]:
    """Open WebUI with that model."""
    provider = {"OPENAI_API_BASE_URL": model.url, "OPENAI_API_KEY": "model-key", "AUDIT_LOG_LEVEL": "METADATA"}
    yield from running(house, provider)


def running(house: Workshop, environment: dict[str, str]) -> Iterator[Application]:
    image = image_here(images.open_webui(images.OPEN_WEBUI_VERSION).reference(ImageSource.BUILT, None))
    (addresses, *_) = json.loads(_inspected(house.network))
    made = Application(image, house.network, addresses["Subnet"], ORIGIN, environment)
    try:
        made.start()
        made.wait()
        yield made
    finally:
        made.remove()


def _inspected(network: str) -> str:
    words = ["docker", "network", "inspect", "--format={{json .IPAM.Config}}", network]
    return subprocess.run(words, capture_output=True, check=True, text=True).stdout  # noqa: S603


@pytest.fixture(scope="module")
def front(house: Workshop, application: Application) -> NginxUnderTest:
    """Nginx before it; this machine is a proxy that it trusts."""
    house.names.addresses[UPSTREAM] = application.address
    return house.nginx(settings_of(proxy={"trusted_proxies": [f"{house.gateway}/32"]}), port=PORT)


def client_at(nginx: NginxUnderTest) -> OpenWebUIClient:
    return OpenWebUIClient(f"https://localhost:{nginx.https_port}", ca_file=nginx.ca_file)


@pytest.fixture(scope="module")
def admin(front: NginxUnderTest) -> Iterator[OpenWebUIClient]:
    """Who may make users."""
    with client_at(front) as client:
        client.sign_in(ADMIN, ADMIN_PASSWORD)
        yield client


@pytest.fixture(scope="module")
def users(front: NginxUnderTest, admin: OpenWebUIClient) -> Iterator[tuple[OpenWebUIClient, OpenWebUIClient]]:
    """Two users, signed in."""
    with client_at(front) as alice, client_at(front) as bob:
        for name, client in (("alice", alice), ("bob", bob)):
            form = {"name": name, "email": f"{name}@example.com", "password": "invented too", "role": "user"}
            admin.request("POST", "/api/v1/auths/add", {**form, "profile_image_url": PICTURE})
            client.sign_in(form["email"], form["password"])
        yield alice, bob


@pytest.fixture(scope="module")
def one_of_each_kind(application: Application) -> list[str]:
    """For each folder and ending of the frontend, its smallest file."""
    # Two kinds are only there in files of 10 and 20 MB, which the application takes a second to encode.
    smallest: dict[tuple[str, str], tuple[int, str]] = {}
    for path, size in application.frontend().items():
        folder = path.split("/")[1] if path.count("/") > 1 else ""
        kind = (folder, PurePosixPath(path).suffix)
        smallest[kind] = min(smallest.get(kind, (size, path)), (size, path))
    # Folders without a location of their own are pages to Nginx.
    assert len(smallest) > 30
    return [path for size, path in smallest.values() if size < 4 << 20]


def in_encoding(encoding: str) -> list[tuple[str, str]]:
    return [("Accept-Encoding", encoding)] if encoding else []


def expected_of(path: str, answer: Answer) -> str | None:
    """Return the Cache-Control that an answer should have."""
    page = (answer.header("Content-Type") or "").startswith("text/html")
    if path.startswith("/_app/immutable/"):
        return IMMUTABLE
    if path == "/_app/version.json":
        return "no-cache"
    if path.startswith(FRONTEND_PATHS):
        return "no-store" if page else "no-cache"
    if path == "/manifest.json":
        return "private, no-cache"
    if path == "/opensearch.xml":
        return "private, no-cache"
    return "no-cache" if page else None


def test_a_large_body_is_taken_of_users_alone(
    front: NginxUnderTest, admin: OpenWebUIClient, users: tuple[OpenWebUIClient, OpenWebUIClient]
) -> None:
    alice, _ = users
    waiting = {"name": "eve", "email": "eve@example.com", "password": "invented too", "role": "pending"}
    token_of_eve = admin.request("POST", "/api/v1/auths/add", {**waiting, "profile_image_url": PICTURE})["token"]
    everything: dict[str, object] = admin.request("GET", "/api/v1/auths/admin/config")
    restricted = {"ENABLE_API_KEYS_ENDPOINT_RESTRICTIONS": True, "API_KEYS_ALLOWED_ENDPOINTS": "/api/v1/chats/new"}
    admin.request("POST", "/api/v1/auths/admin/config", {**everything, "ENABLE_API_KEYS": True, **restricted})
    key = admin.request("POST", "/api/v1/auths/api_key")["api_key"]
    chat = {"title": "x" * (2 << 20), "models": [], "history": {"messages": {}, "currentId": None}}
    body = json.dumps({"chat": chat}).encode()

    def status_for(*headers: tuple[str, str]) -> int:
        given = [("Content-Type", "application/json"), *headers]
        return front.ask("/api/v1/chats/new", method="POST", headers=given, body=body).status

    assert status_for() == 401
    assert status_for(("Authorization", f"Bearer {token_of_eve}")) == 401
    assert status_for(("Authorization", "Bearer sk-unknown")) == 401
    assert status_for(("Authorization", f"Bearer {alice.token}")) == 200
    assert status_for(("Cookie", f"token={alice.token}")) == 200
    # The application refuses this key the question, and not what it is for.
    assert status_for(("Authorization", f"Bearer {key}")) == 200
    assert status_for(("X-API-Key", key)) == 200


def test_every_kind_of_file_is_what_the_application_has_in_every_encoding(
    front: NginxUnderTest, application: Application, one_of_each_kind: list[str]
) -> None:
    through: list[tuple[str, Answer]] = []
    direct: list[Answer] = []
    for path in one_of_each_kind:
        for encoding in ENCODINGS:
            answer = front.ask(path, headers=in_encoding(encoding))
            assert (answer.status, answer.header("Content-Encoding") or "") in {(200, encoding), (200, "")}, path
            assert answer.header("Cache-Control") == expected_of(path, answer), path
            assert answer.header("Vary") == "Accept-Encoding, Origin"
            through.append((path, answer))
            direct.append(application.ask(path, in_encoding(encoding)))
    decoded = application.digests([answer for _, answer in through] + direct)
    for (path, answer), mine, own in zip(through, decoded, decoded[len(through) :], strict=False):
        assert mine == own, (path, answer.header("Content-Encoding"))
    assert {answer.header("Content-Encoding") or "" for _, answer in through} == set(ENCODINGS)


def test_files_of_the_frontend_are_kept(front: NginxUnderTest, one_of_each_kind: list[str]) -> None:
    hashed = [path for path in one_of_each_kind if path.startswith("/_app/immutable/")]
    assert len(hashed) >= 5
    for path in hashed:
        for encoding in ENCODINGS:
            front.ask(path, headers=in_encoding(encoding))
            signed_in = front.ask(path, headers=[*in_encoding(encoding), ("Cookie", "token=x; theme=dark")])
            assert signed_in.header("X-Cache-Status") == "HIT", path
            tag = signed_in.header("ETag") or ""
            again = front.ask(path, headers=[*in_encoding(encoding), ("If-None-Match", tag)])
            assert (again.status, again.body) == (304, b"")
            part = front.ask(path, headers=[*in_encoding(encoding), ("Range", "bytes=0-9"), ("If-Range", tag)])
            # A tag of what was compressed on its way is a weak one, and no reason to send a part.
            assert (part.status, part.body[:10]) in {(206, signed_in.body[:10]), (200, signed_in.body[:10])}


def test_range_of_a_picture(front: NginxUnderTest) -> None:
    whole = front.ask("/static/favicon.png").body
    part = front.ask("/static/favicon.png", headers=[("Range", "bytes=10-19")])
    assert (part.status, part.body) == (206, whole[10:20])


@pytest.mark.parametrize("ending", ["js", "css", "json", "woff2", "mjs"])
def test_missing_chunk_is_kept_by_nobody(front: NginxUnderTest, application: Application, ending: str) -> None:
    path = f"/_app/immutable/chunks/gone.{ending}"
    own = application.ask(path)
    for _ in range(2):
        answer = front.ask(path)
        assert (answer.status, answer.header("Cache-Control")) == (own.status, "no-store")
        assert answer.header("X-Cache-Status") == "MISS"


@pytest.mark.parametrize("path", ["/", "/c/42", "/auth", "/index.html"])
def test_page_is_asked_for_anew(front: NginxUnderTest, path: str) -> None:
    answer = front.ask(path)
    assert (answer.header("Cache-Control"), answer.header("X-Cache-Status")) == ("no-cache", None)


def test_uploaded_file_is_its_owner_s_alone(
    front: NginxUnderTest, users: tuple[OpenWebUIClient, OpenWebUIClient]
) -> None:
    alice, bob = users
    upload = alice.http.post(
        "/api/v1/files/?process=false",
        files={"file": ("style.css", b"body { color: red }", "text/css")},
        headers={"Authorization": f"Bearer {alice.token}"},
    )
    assert upload.status_code == 200, upload.text
    identity = upload.json()["id"]
    for path in (f"/api/v1/files/{identity}/content", f"/api/v1/files/{identity}/content/style.css"):
        for _ in range(2):
            own = _as(front, path, alice)
            assert (own.status, own.body) == (200, b"body { color: red }")
            assert own.header("X-Cache-Status") is None
            assert "public" not in (own.header("Cache-Control") or "")
        for other in (_as(front, path, bob), front.ask(path)):
            assert other.status in {401, 403, 404}
            assert b"color" not in other.body


def test_picture_of_a_user_is_for_who_is_signed_in(
    front: NginxUnderTest, users: tuple[OpenWebUIClient, OpenWebUIClient]
) -> None:
    alice, bob = users
    path = f"/api/v1/users/{alice.user()['id']}/profile/image"
    for client in (alice, bob, alice):
        answer = _as(front, path, client)
        assert (answer.status, answer.header("Content-Type")) == (200, "image/png")
        assert answer.header("X-Cache-Status") is None
    assert front.ask(path).status in {401, 403}


def test_configuration_of_a_user_is_not_that_of_a_stranger(
    front: NginxUnderTest, users: tuple[OpenWebUIClient, OpenWebUIClient]
) -> None:
    alice, _ = users
    for _ in range(2):
        mine, anybody_s = _as(front, "/api/config", alice).json(), front.ask("/api/config").json()
        assert set(anybody_s) < set(mine)


def _as(nginx: NginxUnderTest, path: str, client: OpenWebUIClient) -> Answer:
    # As an <img> in a page asks: by cookie.
    return nginx.ask(path, headers=[("Cookie", f"token={client.token}")])


def test_each_header_comes_once(front: NginxUnderTest, admin: OpenWebUIClient) -> None:
    for path in ("/", "/api/config", "/static/favicon.png", "/manifest.json", "/health", "/ready", "/api/v1/nothing"):
        answer = _as(front, path, admin)
        names = [name.lower() for name, _ in answer.headers if name.lower() != "set-cookie"]
        assert sorted(names) == sorted(set(names)), path
        assert {name: answer.header(name) for name in SECURITY} == SECURITY
        assert answer.header("Server") == "nginx"
        assert "x-process-time" not in names


@pytest.mark.parametrize("way", ["chat_over_socket", "chat_over_sse"])
def test_answer_of_a_model_arrives(front: NginxUnderTest, admin: OpenWebUIClient, model: ModelServer, way: str) -> None:
    del front
    answer = getattr(admin, way)(count_to(5), model.models[0])
    assert answer.text.split() == ["1", "2", "3", "4", "5"]


async def joins_over(nginx: NginxUnderTest, transport: str, token: str, origin: str = ORIGIN) -> Any:
    """Connect as a browser does, say who one is, and return what comes back."""
    connector = aiohttp.TCPConnector(ssl=nginx.trust())
    async with aiohttp.ClientSession(connector=connector) as http:
        client = socketio.AsyncClient(http_session=http, reconnection=False, handle_sigint=False)
        await client.connect(
            f"https://localhost:{nginx.https_port}",
            headers={"Origin": origin},
            auth={"token": token},
            transports=[transport],
            socketio_path="/ws/socket.io",
        )
        try:
            assert client.transport() == transport
            return await client.call("user-join", {"auth": {"token": token}})
        finally:
            # A polite end of polling waits for the question under way, which lasts until the next ping.
            await client.eio.disconnect(abort=True)


def test_socket_takes_the_site_s_own_page_and_no_other(
    front: NginxUnderTest, users: tuple[OpenWebUIClient, OpenWebUIClient]
) -> None:
    alice, _ = users
    token = alice.token or ""
    assert asyncio.run(joins_over(front, "websocket", token))["name"] == "alice"
    with pytest.raises(SocketRefusedError):
        asyncio.run(joins_over(front, "websocket", token, "https://evil.example.com"))


@pytest.fixture(scope="module")
def few_anonymous(house: Workshop, application: Application) -> NginxUnderTest:
    """Nginx with room for one anonymous socket."""
    house.names.addresses[UPSTREAM] = application.address
    return house.nginx(settings_of(proxy={"limits": {"anonymous_sockets_per_client": 1}}), port=PORT)


async def sockets_beside_an_anonymous_one(nginx: NginxUnderTest, *clients: dict[str, str]) -> list[int]:
    """Open sockets by handshakes with these headers while there is an anonymous one; return their statuses."""
    url, site = f"https://localhost:{nginx.https_port}/ws/socket.io/?EIO=4&transport=websocket", {"Origin": ORIGIN}
    connector = aiohttp.TCPConnector(ssl=nginx.trust())
    async with aiohttp.ClientSession(connector=connector) as http, http.ws_connect(url, headers=site):
        statuses: list[int] = []
        for headers in clients:
            try:
                async with http.ws_connect(url, headers={**site, **headers}) as opened:
                    assert (await opened.receive_str()).startswith('0{"sid"')
                    statuses.append(101)
            except aiohttp.WSServerHandshakeError as refused:
                statuses.append(refused.status)
        return statuses


def test_handshake_tells_who_is_signed_in(
    few_anonymous: NginxUnderTest, admin: OpenWebUIClient, users: tuple[OpenWebUIClient, OpenWebUIClient]
) -> None:
    alice, _ = users
    form = {"name": "carol", "email": "carol@example.com", "password": "invented too", "role": "pending"}
    pending = admin.request("POST", "/api/v1/auths/add", {**form, "profile_image_url": PICTURE})["token"]
    cookie, token = {"Cookie": f"theme=dark; token={alice.token}"}, {"Authorization": f"Bearer {alice.token}"}
    anonymous = ({}, {"Cookie": "token=invented"}, {"Cookie": f"token={alice.token}x"}, {"Cookie": f"token={pending}"})
    statuses = asyncio.run(sockets_beside_an_anonymous_one(few_anonymous, cookie, token, *anonymous))
    assert statuses == [101, 101, 429, 429, 429, 429]


@pytest.fixture
def without_websockets(house: Workshop) -> Iterator[Application]:
    """Another Open WebUI, which takes none."""
    yield from running(house, {"ENABLE_WEBSOCKET_SUPPORT": "false"})


# It takes an Open WebUI of its own, for one question.
@pytest.mark.long
def test_where_no_websocket_passes_the_browser_polls(house: Workshop, without_websockets: Application) -> None:
    name = "open-webui-without-websockets"
    house.names.addresses[name] = without_websockets.address
    nginx = house.nginx(settings_of(proxy={"websocket": {"enabled": False}}), port=PORT, upstream=name)
    with client_at(nginx) as client:
        token = client.sign_in(ADMIN, ADMIN_PASSWORD)
        assert asyncio.run(joins_over(nginx, "polling", token))["name"] == "Admin"
        with pytest.raises(SocketRefusedError):
            asyncio.run(joins_over(nginx, "websocket", token))


@pytest.mark.parametrize(
    ("claimed", "true"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.8", "198.51.100.8"),
        ("6.6.6.6, 2001:db8::7", "2001:db8::7"),
    ],
)
def test_address_that_a_client_claims_does_not_reach_the_audit_log(
    front: NginxUnderTest, application: Application, claimed: str, true: str
) -> None:
    # The last one is the proxy's own word; what stands before it a client may have written.
    body = json.dumps({"email": f"{true}@example.com", "password": "wrong"}).encode()
    said = [("X-Forwarded-For", claimed), ("Content-Type", "application/json"), ("User-Agent", f"from {true}")]
    assert front.ask("/api/v1/auths/signin", method="POST", headers=said, body=body).status == 400

    def noted() -> list[str]:
        return [entry["source_ip"] for entry in application.audit_log() if entry["user_agent"] == f"from {true}"]

    assert wait_until(noted, what="an entry of the audit log", deadline=10) == [true]


def test_forged_address_of_a_stranger_does_not_reach_the_audit_log(
    house: Workshop, front: NginxUnderTest, application: Application
) -> None:
    del front
    nginx = house.nginx(settings_of(), port=PORT)
    forged = {"X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6.6.6.6", "Forwarded": "for=6.6.6.6", "User-Agent": "forger"}
    with httpx.Client(verify=nginx.trust(), headers=forged) as client:
        url = f"https://localhost:{nginx.https_port}/api/v1/auths/signin"
        assert client.post(url, json={"email": "x@example.com", "password": "wrong"}).status_code == 400

    def noted() -> list[str]:
        return [entry["source_ip"] for entry in application.audit_log() if entry["user_agent"] == "forger"]

    assert wait_until(noted, what="an entry of the audit log", deadline=10) == [house.gateway]
