"""What is kept of the frontend and for whom, and how long browsers may keep what."""

import asyncio
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiohttp import web

from open_webui_edge.benchmarks.waiting import wait_until
from tests.nginx.conftest import SITE, UPSTREAM, StartBackend, Variants, Workshop
from tests.nginx.frontend_file import TAG, FrontendFile
from tests.nginx.nginx_under_test import Answer, NginxUnderTest, settings_of
from tests.support.echo_backend import PATIENCE, EchoBackend, dies

IMMUTABLE = "public, max-age=31536000, immutable"
VARY = "Accept-Encoding, Origin"
FOLDERS = ["/static/", "/assets/", "/audio/", "/pyodide/", "/wasm/", "/sql.js/"]
Publish = Callable[..., tuple[str, FrontendFile]]
# Long enough for a range, and shorter than what Nginx compresses.
HUNDRED = "0123456789" * 10
SOON_STALE = [("Cache-Control", "max-age=1")]


@pytest.fixture
def publish(backend: EchoBackend) -> Publish:
    """Put a file behind Nginx, under a name that no cache has seen."""

    def put(folder: str = "/_app/immutable/", ending: str = ".js", **what: object) -> tuple[str, FrontendFile]:
        path, file = f"{folder}{uuid.uuid4().hex}{ending}", FrontendFile(**what)  # pyright: ignore[reportArgumentType] - the file's own fields
        backend.answers[path] = file
        return path, file

    return put


def in_encoding(nginx: NginxUnderTest, path: str, accepted: str | None = None) -> Answer:
    return nginx.ask(path, headers=[] if accepted is None else [("Accept-Encoding", accepted)])


@pytest.mark.parametrize("type_", ["text/javascript; charset=utf-8", "text/css", "font/woff2", "application/wasm"])
def test_file_with_a_hash_in_its_name_is_kept_for_ever(nginx: NginxUnderTest, publish: Publish, type_: str) -> None:
    path, _ = publish(type_=type_)
    for status in ("MISS", "HIT"):
        answer = nginx.ask(path)
        assert (answer.header("Cache-Control"), answer.header("X-Cache-Status")) == (IMMUTABLE, status)


@pytest.mark.parametrize(
    ("status", "type_"),
    [
        (404, "text/plain"),
        (404, "text/javascript"),
        (200, "text/html; charset=utf-8"),
        (200, "Text/HTML"),
        (500, "x/y"),
    ],
)
def test_missing_file_with_a_hash_is_kept_by_nobody(
    nginx: NginxUnderTest, publish: Publish, status: int, type_: str
) -> None:
    # For a missing file the application answers 404, or its page.
    path, file = publish(status=status, type_=type_)
    for _ in range(2):
        answer = nginx.ask(path)
        assert (answer.status, answer.header("Cache-Control")) == (status, "no-store")
    assert len(file.asked) == 2
    file.status, file.type_ = 200, "text/javascript"
    assert nginx.ask(path).header("Cache-Control") == IMMUTABLE


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(
    ("status", "type_", "said"),
    [(200, "text/css", "no-cache"), (404, "text/css", "no-store"), (200, "text/html", "no-store")],
)
def test_file_without_a_hash_is_asked_for_anew(  # noqa: PLR0913, PLR0917 - a row of a table
    nginx: NginxUnderTest, publish: Publish, folder: str, status: int, type_: str, said: str
) -> None:
    path, _ = publish(folder, ".css", status=status, type_=type_)
    assert nginx.ask(path).header("Cache-Control") == said


@pytest.mark.parametrize(
    ("path", "type_", "own", "said"),
    [
        ("/_app/version.json", "application/json", None, "no-cache"),
        ("/_app/version.json", "text/html", None, "no-store"),
        ("/", "text/html; charset=utf-8", None, "no-cache"),
        ("/", "text/html", "public, max-age=600", "no-cache"),
        ("/c/42", "text/html", None, "no-cache"),
        ("/c/42.js", "text/html", None, "no-cache"),
        ("/api/v1/chats/", "application/json", None, "private, no-cache"),
        ("/api/v1/chats/", "application/json", "max-age=60", "max-age=60"),
        ("/api/config", "application/json", None, "private, no-cache"),
        ("/cache/image.png", "image/png", None, "private, no-cache"),
    ],
)
def test_how_long_a_browser_may_keep_the_rest(  # noqa: PLR0913, PLR0917 - a row of a table
    nginx: NginxUnderTest, backend: EchoBackend, path: str, type_: str, own: str | None, said: str
) -> None:
    backend.answers[path] = FrontendFile(type_=type_, headers=[("Cache-Control", own)] if own else [])
    assert nginx.ask(path, headers=[("Cookie", "token=x")]).header("Cache-Control") == said


def test_version_is_never_kept_here(nginx: NginxUnderTest, backend: EchoBackend) -> None:
    # By it a browser notices a new release.
    file = backend.answers["/_app/version.json"] = FrontendFile(type_="application/json")
    nginx.ask("/_app/version.json")
    assert nginx.ask("/_app/version.json").header("X-Cache-Status") is None
    assert len(file.asked) == 2


ACCEPTED = [
    (None, ""),
    ("", ""),
    ("identity", ""),
    ("*", ""),
    ("deflate", ""),
    ("brotli", ""),
    ("x-gzip", ""),
    ("gzip;q=0", ""),
    ("br;q=0, gzip;q=0.0, zstd;q=0.000", ""),
    ("gzip", "gzip"),
    ("GZIP", "gzip"),
    (" , gzip ,,", "gzip"),
    ("deflate,gzip;q=0.5", "gzip"),
    ("br;q=0,gzip", "gzip"),
    ("gzip;q=1.0, br;q=0.0", "gzip"),
    ("gzip ; q=1", "gzip"),
    ("zstd", "zstd"),
    ("gzip, zstd", "zstd"),
    ("gzip, deflate, br, zstd", "br"),
    ("br", "br"),
    ("br;Q=0.001", "br"),
    ("\tbr\t;\tq=1.000", "br"),
    ("gzip;q=1, identity;q=0.5, br;q=0.9, *;q=0", "br"),
]


@pytest.mark.parametrize("folder", ["/_app/immutable/", "/static/"])
def test_one_copy_is_kept_of_each_encoding_whatever_the_client_writes(
    nginx: NginxUnderTest, publish: Publish, folder: str
) -> None:
    path, file = publish(folder)
    for accepted, encoding in [*ACCEPTED, *reversed(ACCEPTED)]:
        answer = in_encoding(nginx, path, accepted)
        assert (answer.header("Content-Encoding") or "", answer.body) == (encoding, file.body(encoding)), accepted
        assert answer.header("Vary") == VARY
    assert sorted(head.get("accept-encoding", "") for head in file.asked) == ["", "br", "gzip", "zstd"]


def test_what_the_application_says_of_vary_changes_nothing(nginx: NginxUnderTest, publish: Publish) -> None:
    path, file = publish(headers=[("Vary", "Cookie, User-Agent"), ("Vary", "*")])
    for agent in ("one", "another"):
        assert nginx.ask(path, headers=[("User-Agent", agent)]).header("Vary") == VARY
    assert len(file.asked) == 1


def test_cookies_and_tokens_do_not_switch_it_off_and_do_not_reach_the_application(
    nginx: NginxUnderTest, publish: Publish
) -> None:
    path, file = publish()
    nginx.ask(path, headers=[("Cookie", "token=alice"), ("Origin", "https://localhost:8443")])
    for said in ([("Cookie", "token=bob")], [("Authorization", "Bearer x")], [("Cache-Control", "no-cache")]):
        assert nginx.ask(path, headers=said).header("X-Cache-Status") == "HIT"
    (head,) = file.asked
    assert not {"cookie", "authorization", "origin"} & set(head)


def test_query_is_no_way_to_a_second_copy(nginx: NginxUnderTest, publish: Publish) -> None:
    path, file = publish()
    for query in ("", "?", "?v=1", "?v=2&token=x"):
        assert nginx.ask(f"{path}{query}").body == file.body("")
    assert len(file.asked) == 1


RANGES = {
    "its beginning": ([("Range", "bytes=0-4")], 206, HUNDRED[:5], "bytes 0-4/"),
    "its end": ([("Range", "bytes=-5")], 206, "oding", "bytes 110-114/"),
    "from the middle": ([("Range", "bytes=109-")], 206, "coding", "bytes 109-114/"),
    "more than there is": ([("Range", "bytes=109-999")], 206, "coding", "bytes 109-114/"),
    "beyond its end": ([("Range", "bytes=999-")], 416, None, "bytes */"),
    "another unit": ([("Range", "chars=0-4")], 200, HUNDRED, None),
    "if it is the same": ([("Range", "bytes=0-4"), ("If-Range", TAG)], 206, HUNDRED[:5], "bytes 0-4/"),
    "if it were another": ([("Range", "bytes=0-4"), ("If-Range", '"b"')], 200, HUNDRED, None),
}


@pytest.mark.parametrize("cached", [True, False], ids=["kept", "not yet kept"])
@pytest.mark.parametrize(("headers", "status", "begins", "span"), RANGES.values(), ids=RANGES)
def test_part_of_a_file(  # noqa: PLR0913, PLR0917 - a row of a table
    nginx: NginxUnderTest,
    publish: Publish,
    headers: list[tuple[str, str]],
    status: int,
    begins: str | None,
    span: str | None,
    *,
    cached: bool,
) -> None:
    path, file = publish(content=HUNDRED)
    if cached:
        nginx.ask(path)
    answer = nginx.ask(path, headers=headers)
    assert answer.status == status
    assert (answer.header("Content-Range") or "").removesuffix("115") == (span or "")
    if begins is not None:
        assert answer.body.decode() == (begins if status == 206 else f"{HUNDRED} in no encoding")
        assert answer.header("Cache-Control") == IMMUTABLE
    # Nginx requests and caches the whole file, unless the client accepts none of it.
    assert nginx.ask(path).body == file.body("")
    assert len(file.asked) == (2 if status == 416 and not cached else 1)
    assert not [head for head in file.asked if "range" in head]


def test_several_parts_of_a_file(nginx: NginxUnderTest, publish: Publish) -> None:
    path, file = publish(content=HUNDRED, type_="text/css")
    # It takes the whole to cut several parts from: who asks first gets that (RFC 9110 section 14.2 allows it).
    assert nginx.ask(path, headers=[("Range", "bytes=0-1,10-12")]).body == file.body("")
    answer = nginx.ask(path, headers=[("Range", "bytes=0-1,10-12")])
    assert answer.status == 206
    assert (answer.header("Content-Type") or "").startswith("multipart/byteranges; boundary=")
    assert answer.body.count(b"Content-Type: text/css\r\n") == 2
    assert b"Content-Range: bytes 0-1/115\r\n\r\n01\r\n" in answer.body
    assert b"Content-Range: bytes 10-12/115\r\n\r\n012\r\n" in answer.body


def test_parts_come_in_the_encoding_that_was_asked_for(nginx: NginxUnderTest, publish: Publish) -> None:
    path, file = publish()
    for encoding in ("br", "gzip", "", "zstd"):
        answer = nginx.ask(path, headers=[("Accept-Encoding", encoding), ("Range", "bytes=5-")])
        assert (answer.status, answer.header("Content-Encoding") or "") == (206, encoding)
        assert answer.body == file.body(encoding)[5:]


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("If-None-Match", TAG, 304),
        ("If-None-Match", f"W/{TAG}", 304),
        ("If-None-Match", f'"b", {TAG}', 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", '"b"', 200),
        ("If-Modified-Since", "Mon, 02 Nov 2026 10:00:00 GMT", 304),
        ("If-Modified-Since", "Sun, 01 Nov 2026 10:00:00 GMT", 200),
        ("If-Match", '"b"', 412),
    ],
)
@pytest.mark.parametrize("folder", ["/_app/immutable/", "/static/"])
def test_browser_that_has_the_file_gets_no_second_one(  # noqa: PLR0913, PLR0917 - a row of a table
    nginx: NginxUnderTest, publish: Publish, folder: str, name: str, value: str, status: int
) -> None:
    path, file = publish(folder, headers=[("Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT")])
    nginx.ask(path)
    answer = nginx.ask(path, headers=[(name, value)])
    assert answer.status == status
    assert len(file.asked) == 1
    if status == 304:
        assert (answer.body, answer.header("ETag"), answer.header("Vary")) == (b"", TAG, VARY)
        assert answer.header("Cache-Control") == (IMMUTABLE if folder == "/_app/immutable/" else "no-cache")


@pytest.mark.parametrize("cached", [True, False], ids=["kept", "not yet kept"])
def test_head_says_what_get_would(nginx: NginxUnderTest, publish: Publish, *, cached: bool) -> None:
    path, file = publish()
    if cached:
        nginx.ask(path)
    head, get = nginx.ask(path, method="HEAD"), nginx.ask(path)
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "Content-Type", "ETag", "Cache-Control", "Vary"):
        assert head.header(name) == get.header(name)
    assert len(file.asked) == 1


def test_hundred_who_ask_at_once_are_one_at_the_application(
    nginx: NginxUnderTest, publish: Publish, backend: EchoBackend
) -> None:
    release = asyncio.Event()

    async def wait(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response(text="once", headers={"Content-Type": "text/javascript"})

    path, file = publish(instead=wait)
    before = nginx.requests_begun()
    with ThreadPoolExecutor(100) as clients:
        answers = [clients.submit(nginx.ask, path) for _ in range(100)]
        questions = iter(range(1, 1000))
        wait_until(
            lambda: nginx.requests_begun() - before - next(questions) >= 100, what="100 requests", deadline=PATIENCE
        )
        backend.tell(release.set)
        assert {answer.result().body for answer in answers} == {b"once"}
    assert len(file.asked) == 1


def test_what_is_too_old_is_given_out_while_it_is_asked_for_anew(
    nginx: NginxUnderTest, publish: Publish, backend: EchoBackend
) -> None:
    release = asyncio.Event()
    path, file = publish("/static/", content="old", headers=SOON_STALE)
    nginx.ask(path)

    async def new(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response(text="new", headers={"Content-Type": "text/javascript"})

    file.instead = new
    # The application does not answer until this test lets it, and no client waits for it.
    wait_until(lambda: _status_of(nginx, path) == "STALE", what="an answer that is too old", every=0.05)
    for _ in range(3):
        answer = nginx.ask(path)
        assert (answer.body, answer.header("X-Cache-Status")) == (file.body(""), "UPDATING")
    assert len(file.asked) == 2
    backend.tell(release.set)
    wait_until(lambda: nginx.ask(path).body == b"new", what="the new file", every=0.02)


def test_page_in_place_of_a_file_does_not_replace_what_is_kept(nginx: NginxUnderTest, publish: Publish) -> None:
    path, file = publish("/static/", headers=SOON_STALE)
    cached = nginx.ask(path).body
    file.type_, file.tag, file.content = "text/html", '"page"', "a page"

    def asked_again() -> bool:
        assert nginx.ask(path).body == cached
        return len(file.asked) >= 3

    wait_until(asked_again, what="the application asked for it twice more", every=0.05)


def test_application_is_asked_whether_the_file_is_another_before_it_sends_it_again(
    nginx: NginxUnderTest, publish: Publish
) -> None:
    path, file = publish("/static/", headers=SOON_STALE)
    nginx.ask(path)
    wait_until(lambda: _status_of(nginx, path) == "STALE", what="an answer that is too old", every=0.05)
    wait_until(lambda: _status_of(nginx, path) == "HIT", what="the same file again", every=0.02)
    assert file.asked[1]["if-none-match"] == TAG


def test_what_is_kept_is_given_out_while_the_application_is_down(nginx: NginxUnderTest, publish: Publish) -> None:
    path, file = publish("/static/", headers=SOON_STALE)
    cached = nginx.ask(path).body
    file.instead = dies

    def asked_in_vain() -> bool:
        answer = nginx.ask(path)
        assert (answer.status, answer.body) == (200, cached)
        return len(file.asked) >= 3

    wait_until(asked_in_vain, what="the application asked in vain, twice", every=0.05)


def test_new_release_never_gets_the_files_of_the_old_one(
    workshop: Workshop, start_backend: StartBackend, free_port: int
) -> None:
    workshop.names.addresses[UPSTREAM] = workshop.gateway
    backend = start_backend(free_port)
    nginx = workshop.nginx(settings_of(site=SITE, open_webui={"version": "0.12.4"}), port=free_port)
    names = [f"{folder}a.js" for folder in ("/_app/immutable/", *FOLDERS)] + ["/manifest.json"]
    for path in names:
        backend.answers[path] = FrontendFile(content="old")
        nginx.ask(path)
    for path in names:
        backend.answers[path] = FrontendFile(content="new")
        assert nginx.ask(path).body.startswith(b"old")
    nginx.reload(settings_of(site=SITE, open_webui={"version": "0.12.5"}))
    for path in names:
        assert nginx.ask(path).body.startswith(b"new"), path


ANONYMOUS = ["/manifest.json", "/opensearch.xml", "/api/version", "/api/config"]


@pytest.mark.parametrize("path", ANONYMOUS)
def test_what_everybody_asks_first_is_kept_for_a_moment(nginx: NginxUnderTest, backend: EchoBackend, path: str) -> None:
    file = backend.answers[path] = FrontendFile(type_="application/json")
    query = f"?{uuid.uuid4().hex}"

    def cached() -> bool:
        before = len(file.asked)
        statuses = [nginx.ask(path + query, headers=[("Origin", "https://a.b")]).header("X-Cache-Status")] * 2
        return len(file.asked) - before <= 1 and statuses[-1] == "HIT"

    # The moment may be over just between the two.
    wait_until(cached, what="an answer that was kept", every=0.01)
    assert "origin" not in file.asked[0]


def test_configuration_is_at_most_a_second_old(nginx: NginxUnderTest, backend: EchoBackend) -> None:
    # It tells whether sign-up is open.
    made: list[float] = []

    async def numbered(_: web.Request) -> web.StreamResponse:
        made.append(time.monotonic())
        return web.json_response(len(made))

    backend.answers["/api/config"] = numbered
    oldest, hits, until = 0.0, 0, time.monotonic() + 3.2
    while time.monotonic() < until:
        asked_at = time.monotonic()
        answer = nginx.ask("/api/config")
        oldest = max(oldest, asked_at - made[int(answer.body) - 1])
        hits += answer.header("X-Cache-Status") == "HIT"
    assert oldest <= 1.05
    assert hits >= 10


def test_configuration_is_not_given_out_while_the_application_is_down(
    nginx: NginxUnderTest, backend: EchoBackend
) -> None:
    backend.answers["/api/config"] = FrontendFile(type_="application/json")
    assert nginx.ask("/api/config").status == 200
    backend.answers["/api/config"] = dies
    wait_until(lambda: nginx.ask("/api/config").status == 503, what="no old configuration", deadline=3, every=0.05)


def test_cache_can_be_switched_off(variants: Variants, backend: EchoBackend) -> None:
    nginx = variants.of(proxy={"cache": {"enabled": False}})
    for path in ("/_app/immutable/a.js", "/static/a.css", "/api/config"):
        file = backend.answers[path] = FrontendFile(headers=[("Cache-Control", "max-age=60")])
        for _ in range(2):
            assert nginx.ask(path).header("X-Cache-Status") is None
        assert len(file.asked) == 2
    assert nginx.ask("/_app/immutable/a.js").header("Cache-Control") == IMMUTABLE


def _status_of(nginx: NginxUnderTest, path: str) -> str | None:
    return nginx.ask(path).header("X-Cache-Status")
