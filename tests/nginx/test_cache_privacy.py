"""A user's response is never served to another user, whatever the path and headers."""

import json
import posixpath
import uuid
from urllib.parse import unquote

import pytest
from aiohttp import web

from open_webui_edge.settings.proxy import FRONTEND_PATHS
from tests.nginx.conftest import SITE, Variants
from tests.nginx.frontend_file import FrontendFile
from tests.nginx.nginx_under_test import Answer, NginxUnderTest
from tests.support.echo_backend import EchoBackend

ALICE, BOB = "token=alice", "token=bob"
# As tempting to a cache as an answer can be.
TEMPTING = {"Cache-Control": "public, max-age=3600", "ETag": '"same"', "Expires": "Wed, 01 Jan 2098 00:00:00 GMT"}
MAY_BE_KEPT = ("/_app/immutable/", *FRONTEND_PATHS)
ASKED_FIRST = ("/manifest.json", "/opensearch.xml", "/api/version", "/api/config")


@pytest.fixture
def mirror(backend: EchoBackend) -> EchoBackend:
    """A backend that answers every path with who asked for it, and would have it kept."""

    async def who(request: web.Request) -> web.StreamResponse:
        said = {
            "user": request.headers.get("Cookie") or request.headers.get("Authorization") or "nobody",
            "path": request.raw_path,
        }
        return web.json_response(said, headers=TEMPTING)

    backend.otherwise = who
    return backend


def ask_as(nginx: NginxUnderTest, path: str, *cookie: str) -> Answer:
    return nginx.ask(path, headers=[("Cookie", value) for value in cookie])


PRIVATE = [
    "/api/v1/files/7f3a/content/picture.png",
    "/api/v1/files/7f3a/content/style.css",
    "/api/v1/users/7f3a/profile/image",
    "/api/v1/auths/",
    "/api/models",
    "/cache/image/generations/picture.png",
    "/cache/functions/app.js",
    "/ollama/api/tags",
    "/openai/models",
    "/oauth/google/login",
    "/c/7f3a",
    "/app.js",
    "/favicon.png",
    *ASKED_FIRST,
]


@pytest.mark.parametrize("path", PRIVATE)
def test_answer_for_one_user_is_never_given_to_another(nginx: NginxUnderTest, mirror: EchoBackend, path: str) -> None:
    path = f"{path}?{uuid.uuid4().hex}"
    for cookie in (ALICE, ALICE, BOB, "theme=dark", ALICE):
        answer = ask_as(nginx, path, cookie)
        assert answer.json()["user"] == cookie
        assert answer.header("X-Cache-Status") in {None, "BYPASS"}
    assert len(mirror.requests) == 5
    assert ask_as(nginx, path).json()["user"] == "nobody"


@pytest.mark.parametrize("path", PRIVATE)
@pytest.mark.parametrize(("name", "value"), [("Authorization", "Bearer alice"), ("x-api-key", "sk-alice")])
def test_answer_to_a_token_is_never_given_to_who_has_none(
    nginx: NginxUnderTest, mirror: EchoBackend, path: str, name: str, value: str
) -> None:
    path = f"{path}?{uuid.uuid4().hex}"
    for _ in range(2):
        assert nginx.ask(path, headers=[(name, value)]).header("X-Cache-Status") in {None, "BYPASS"}
    assert ask_as(nginx, path).json()["user"] == "nobody"
    assert len(mirror.requests) == 3


@pytest.mark.parametrize("path", ASKED_FIRST)
def test_who_is_signed_in_does_not_get_the_answer_for_anybody(
    nginx: NginxUnderTest, mirror: EchoBackend, path: str
) -> None:
    del mirror
    path = f"{path}?{uuid.uuid4().hex}"
    for cookie in ("", ALICE, "", BOB):
        assert ask_as(nginx, path, *([cookie] if cookie else [])).json()["user"] == (cookie or "nobody")


@pytest.mark.parametrize("folder", [*MAY_BE_KEPT, *ASKED_FIRST])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Set-Cookie", "token=alice"),
        ("Cache-Control", "private, max-age=60"),
        ("Cache-Control", "no-store"),
        ("Cache-Control", "no-cache"),
        ("Cache-Control", "max-age=0"),
    ],
    ids=["sets a cookie", "private", "no-store", "no-cache", "max-age=0"],
)
def test_what_the_application_says_is_somebody_s_is_not_kept(
    nginx: NginxUnderTest, backend: EchoBackend, folder: str, name: str, value: str
) -> None:
    path = f"{folder}{uuid.uuid4().hex}.js" if folder.endswith("/") else folder
    file = backend.answers[path] = FrontendFile(headers=[(name, value)])
    query = f"?{uuid.uuid4().hex}"
    for _ in range(2):
        assert nginx.ask(path + query).header("X-Cache-Status") == "MISS"
    assert len(file.asked) == 2


@pytest.mark.parametrize("folder", MAY_BE_KEPT)
def test_answer_to_a_token_is_not_kept_even_of_the_frontend(
    nginx: NginxUnderTest, backend: EchoBackend, folder: str
) -> None:
    path = f"{folder}{uuid.uuid4().hex}.js"
    file = backend.answers[path] = FrontendFile()
    for _ in range(2):
        assert nginx.ask(path, headers=[("Authorization", "Bearer x")]).header("X-Cache-Status") == "MISS"
    assert [head for head in file.asked if "authorization" in head] == []
    assert [nginx.ask(path).header("X-Cache-Status") for _ in range(2)] == ["MISS", "HIT"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/static/a.css", "/api/config"])
def test_only_get_and_head_are_kept(nginx: NginxUnderTest, mirror: EchoBackend, path: str, method: str) -> None:
    path = f"{path}?{uuid.uuid4().hex}"
    before = len(mirror.requests)
    for _ in range(2):
        assert nginx.ask(path, method=method).status == 200
    assert len(mirror.requests) - before == 2


DECEIVING = [
    # A private path that looks like a file.
    "/api/v1/auths/a.css",
    "/api/v1/auths/;a.css",
    "/api/v1/auths;a.css",
    "/api/v1/auths/%0aa.css",
    "/api/v1/auths/%23a.css",
    "/api/v1/auths/%3fa.css",
    "/api/v1/auths%2fa.css",
    "/api/v1/auths%5ca.css",
    "/api/v1/auths/static/a.css",
    "/api/v1/auths//static//a.css",
    "/cache/a.css",
    "/cache/%2e/a.css",
    "/api/config/a.css",
    "/api/config;a.css",
    "/api/config%2fa.css",
    "/api/config%3fa.css",
    "/manifest.json/a.css",
    "/API/config",
    "/STATIC/a.css",
    # A private path below the frontend's, in what may be read as one.
    "/static/../api/v1/auths/",
    "/static/..%2fapi/v1/auths/",
    "/static/%2e%2e/api/v1/auths/",
    "/static/%2e%2e%2fapi%2fv1%2fauths%2f",
    "/static/%252e%252e%252fapi/v1/auths/",
    "/static%2f..%2fapi%2fv1%2fauths/",
    "/static/..%5capi/v1/auths/",
    "/static/..\\api\\v1\\auths/",
    "/static/%5c..%5capi/v1/auths/",
    "/static/..;/api/v1/auths/",
    "/static/.../api/v1/auths/",
    "/static//api/v1/auths/",
    "//static/api/v1/auths/",
    "/static/./api/v1/auths/",
    "/static/%00/../api/v1/auths/",
    "/_app/immutable/..%2f..%2fapi/v1/auths/",
    "/_app/immutable/../version.json",
    "/_app/immutable;/../../api/v1/auths/",
    "/_app/immutable/%c0%ae%c0%ae/api/v1/auths/",
    # The frontend's path, reached through a private one.
    "/api/v1/auths/..%2f..%2f..%2fstatic/a.css",
    "/api/v1/auths/../../../static/a.css",
    "/api/v1/auths/%2e%2e/%2e%2e/%2e%2e/static/a.css",
    "/%73tatic/a.css",
    "/static%2fa.css",
    "/api%2fconfig",
    "/%61pi/config",
]


@pytest.mark.parametrize("path", DECEIVING)
def test_private_answer_is_not_kept_under_a_deceiving_path(
    nginx: NginxUnderTest, mirror: EchoBackend, path: str
) -> None:
    del mirror
    for cookie in (ALICE, ALICE, BOB, None):
        answer = ask_as(nginx, path, *([cookie] if cookie else []))
        if answer.status == 400:
            continue
        said = answer.json()
        # Either it says who asked just now, or it was asked for without saying who that was.
        assert said["user"] in {cookie or "nobody", "nobody"}
        if answer.header("X-Cache-Status") not in {None, "BYPASS"}:
            # What may be kept is, as the application reads its path too, a file of the frontend.
            read = posixpath.normpath(unquote(said["path"].partition("?")[0]).replace("\\", "/"))
            assert read.startswith(MAY_BE_KEPT) or read in ASKED_FIRST


def test_what_climbs_is_refused_however_it_is_written(nginx: NginxUnderTest, mirror: EchoBackend) -> None:
    separators, dots = ("/", "\\", "%2f", "%2F", "%5c", "%5C"), ("..", "%2e%2e", "%2E.", ".%2e")
    paths = [f"/static/a{one}{up}{other}b" for one in separators for up in dots for other in separators]
    paths += [f"/api/v1/files{one}{up}{end}" for one in separators for up in dots for end in ("", "?a=b")]
    for path in paths:
        assert nginx.ask(path).status == 400, path
    assert mirror.requests == []


@pytest.mark.parametrize("path", ["/api/a..b", "/api/..a/b", "/api/.../b", "/api/a?file=../../b", "/c/%252e%252e/b"])
def test_dots_that_do_not_climb_pass(nginx: NginxUnderTest, mirror: EchoBackend, path: str) -> None:
    del mirror
    assert nginx.ask(path).json()["path"] == path


def test_host_that_a_client_invents_changes_nothing_that_is_kept(variants: Variants) -> None:
    nginx = variants.of()
    path = f"/static/{uuid.uuid4().hex}/headers"
    poisoned = [("X-Forwarded-Host", "evil.example.com"), ("X-Forwarded-Proto", "http"), ("X-Original-URL", "/evil")]
    first = nginx.ask(path, headers=poisoned, host=f"{SITE['domain']}:666")
    assert "evil" not in first.body.decode()
    assert "666" not in first.body.decode()
    assert json.loads(first.body)["path"] == path
