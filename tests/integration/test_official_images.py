"""The path of everybody with internet: images laid out like the official ones, pulled, from `make up` to `make down`.

The other tests run images built here, which have what they need. The official ones lack a shell, a Python at its usual
place or a module of Nginx, bring users, entry points, volumes and environment of their own, and are indexes of several
platforms, which an engine's image store shows otherwise than what it loaded.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx
import pytest
import yaml

from open_webui_edge.benchmarks.model_server import ModelServer, count_to
from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient
from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.bootstrap import console
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ACME_TOOLS, OPEN_WEBUI_VERSION, Image, ImageSource
from tests.acme.issuer import Issuer, Names
from tests.integration.conftest import FIRST_KEY, answered_by
from tests.integration.test_lets_encrypt import acme_world
from tests.integration.test_make import Checkout, settings
from tests.support.certificates import pem
from tests.support.machine import lacks, pulumi_environment
from tests.support.official_images import folder, provide
from tests.support.registry import Registry, registry_in
from tests.support.stack import NO_CHANGE, StackUnderTest, free_port

pytestmark = pytest.mark.long

EARLIER = "0.11.4"
ALL = (
    *(images.NGINX, images.NGINX_METRICS, images.PROMETHEUS, images.CERTBOT, images.POSTGRES, images.REDIS),
    *(images.RESTIC, images.open_webui(OPEN_WEBUI_VERSION), images.open_webui(EARLIER)),
)
# The official image computes embeddings itself, which takes gigabytes that no package index has.
NO_EMBEDDINGS = {"RAG_EMBEDDING_ENGINE": "openai", "OFFLINE_MODE": "true"}
OFFICIAL_MODULES = {
    f"{name}_module"
    for name in [
        "http_addition",
        "http_auth_request",
        "http_dav",
        "http_flv",
        "http_gunzip",
        "http_gzip_static",
        "http_mp4",
        "http_random_index",
        "http_realip",
        "http_secure_link",
        "http_slice",
        "http_ssl",
        "http_stub_status",
        "http_sub",
        "http_v2",
        "http_v3",
        "mail_ssl",
        "stream_realip",
        "stream_ssl",
        "stream_ssl_preread",
    ]
}
"""What nginx.org's package is built with."""
ADMIN, PASSWORD = "admin@example.com", "correct horse battery"
NAME = "chat.example.test"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that has all of them, by their official paths."""
    with registry_in(folder() / "registry", tmp_path_factory.mktemp("registry") / "log") as registry:
        try:
            with console.step("images like the official ones") as step:
                provide(registry, ALL, step)
        except ProblemError as problem:
            lacks(f"no way to build images like the official ones ({problem})")
        yield registry


@pytest.fixture(scope="module")
def engine_without(bare_engine: docker.DockerClient, registry: Registry) -> Iterator[docker.DockerClient]:
    """An engine that has none of them; what a stack runs it has pulled."""
    yield bare_engine
    for image in bare_engine.images.list():
        for name in [*image.attrs["RepoTags"], *image.attrs["RepoDigests"]]:
            if name.startswith(registry.address):
                with suppress(docker.errors.ImageNotFound):  # the digest goes with the last tag
                    # By force: a stack whose removal failed holds some, and hides no other failure then.
                    bare_engine.images.remove(name, force=True)


@pytest.fixture(scope="module")
def checkout(engine_without: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    del engine_without
    pulumi_environment()
    return Checkout.at(tmp_path_factory.mktemp("official"))


@contextmanager
def deployed(checkout: Checkout, name: str, config: dict[str, Any], **secrets: str) -> Iterator[StackUnderTest]:
    """Bring a stack up by `make`, and remove it when the block ends."""
    checkout.write(name, config)
    stack = checkout.stack(name, config)
    try:
        if secrets:
            stack.pulumi("stack", "init", name).succeeded()
        for path, text in secrets.items():
            stack.set_secret(path, text)
        checkout.make("up", name).succeeded()
        stack.outputs()
        yield stack
    finally:
        stack.remove()


def change(stack: StackUnderTest, topic: str, **settings: Any) -> None:
    """Change settings in a stack's file, which `make` has written too."""
    document = yaml.safe_load(stack.file.read_text())
    document["config"].setdefault(f"open-webui-edge:{topic}", {}).update(settings)
    stack.file.write_text(yaml.safe_dump(document))


def containers_of(stack: StackUnderTest) -> dict[str, str]:
    """Return the id of each of its containers."""
    return {name: stack.engine.containers.get(name).id or "" for name in stack.owned("containers")}


def chats(client: OpenWebUIClient, model: str) -> None:
    """Chat both ways: as a browser does and as a client of the API does."""
    assert client.chat_over_socket(count_to(5, every=0.02), model).text == "1 2 3 4 5"
    assert client.chat_over_sse(count_to(5, every=0.02), model).text == "1 2 3 4 5"


def run(engine: docker.DockerClient, registry: Registry, image: Image, *command: str, **options: Any) -> str:
    """Run a program of an image and return what it wrote."""
    name = image.reference(ImageSource.PULLED, registry.address)
    return engine.containers.run(name, [*command], remove=True, stderr=True, **options).decode()


# What the test bed is: where it stops being like the official images, the rest of this file checks nothing.


def test_official_nginx_has_no_module_that_the_publisher_does_not_build(
    engine_without: docker.DockerClient, registry: Registry
) -> None:
    said = run(engine_without, registry, images.NGINX, "nginx", "-V")
    assert f"nginx/{images.NGINX.version.rpartition('.')[0]}." in said
    assert set(re.findall(r"--with-(\S+_module)(?= |$)", said)) <= OFFICIAL_MODULES
    listens = run(engine_without, registry, images.NGINX, "sh", "-c", "id nginx; ls /usr/lib/nginx/modules")
    # No dynamic one either.
    assert listens.strip() == "uid=101(nginx) gid=101(nginx) groups=101(nginx)"
    tested = run(
        engine_without,
        registry,
        images.NGINX,
        *("sh", "-ec", "/docker-entrypoint.sh nginx -t; cat /etc/nginx/conf.d/default.conf"),
    )
    assert "test is successful" in tested


@pytest.mark.parametrize(
    ("image", "command", "words"),
    [
        (images.NGINX_METRICS, ["--version"], "version 1."),
        (images.PROMETHEUS, ["--version"], "prometheus, version 3."),
        (images.CERTBOT, ["--version"], "certbot 5."),
        (images.RESTIC, ["version"], "restic 0."),
    ],
    ids=lambda value: value.role if isinstance(value, Image) else "",
)
def test_official_entry_point_is_the_program(
    engine_without: docker.DockerClient, registry: Registry, image: Image, command: list[str], words: str
) -> None:
    assert words in run(engine_without, registry, image, *command)


@pytest.mark.parametrize("image", [images.NGINX_METRICS, images.PROMETHEUS], ids=lambda image: image.role)
def test_official_exporters_have_no_shell(
    engine_without: docker.DockerClient, registry: Registry, image: Image
) -> None:
    with pytest.raises(docker.errors.APIError, match="no such file"):
        run(engine_without, registry, image, "-c", "true", entrypoint="/bin/sh")


@pytest.mark.parametrize("image", [images.CERTBOT, images.RESTIC], ids=lambda image: image.role)
def test_official_alpine_images_have_busybox_alone(
    engine_without: docker.DockerClient, registry: Registry, image: Image
) -> None:
    script = (
        "for name in /bin/sh /usr/bin/env /bin/sed; do readlink -f $name; done; ! command -v bash perl setpriv gawk"
    )
    said = run(engine_without, registry, image, "-c", script, entrypoint="/bin/sh")
    assert said.split() == ["/bin/busybox"] * 3


@pytest.mark.parametrize(
    ("image", "command", "words"),
    [
        (
            images.POSTGRES,
            ["psql", "-U", "postgres", "-qAtc", "CREATE EXTENSION vector", "-c", "SHOW data_directory"],
            "/var/lib/postgresql/18/docker",
        ),
        (images.REDIS, ["valkey-cli", "ping"], "PONG"),
    ],
    ids=["postgres", "valkey"],
)
def test_official_databases_start_by_themselves_as_user_999(
    engine_without: docker.DockerClient, registry: Registry, image: Image, command: list[str], words: str
) -> None:
    name = image.reference(ImageSource.PULLED, registry.address)
    given = {"POSTGRES_PASSWORD": "a test's own"}
    container = engine_without.containers.run(name, detach=True, environment=given, network_mode="none")
    try:

        def said_by(*command: str) -> str:
            ended = container.exec_run([*command])
            assert isinstance(ended.output, bytes)
            return ended.output.decode() if ended.exit_code == 0 else ""

        wait_until(lambda: words in said_by(*command), what=f"{name} to answer", deadline=180)
        assert said_by("stat", "--format=%u", "/proc/1").strip() == "999"
    finally:
        container.remove(force=True, v=True)


# The main path: one replica, an upgrade, and what watches and keeps it.


@pytest.fixture(scope="module")
def stack(checkout: Checkout, registry: Registry, model_server: ModelServer) -> Iterator[StackUnderTest]:
    """A stack of the series before, after its first `make up`, which pulled whatever it runs."""
    config = settings(
        images={"registry": registry.address},
        open_webui={"version": EARLIER, "drain": "10s", "environment": NO_EMBEDDINGS},
        models=answered_by(model_server),
        monitoring={"prometheus": {"enabled": True, "port": free_port(), "interval": "1s"}},
        backup={"enabled": True},
    )
    with deployed(checkout, "it-official", config, **{"models.providers[0].api_key": FIRST_KEY}) as stack:
        yield stack


@pytest.fixture(scope="module")
def token(stack: StackUnderTest) -> str:
    """The first account's, which is the administrator's."""
    with stack.client() as client:
        return client.sign_up(ADMIN, PASSWORD)


@pytest.fixture
def admin(stack: StackUnderTest, token: str) -> Iterator[OpenWebUIClient]:
    with stack.client() as client:
        client.token = token
        yield client


def test_up_pulls_every_image_and_runs_it_by_its_id(stack: StackUnderTest, registry: Registry) -> None:
    written = yaml.safe_load(stack.file.read_text())["config"]["open-webui-edge:images"]
    assert written["source"] == ImageSource.PULLED
    asked = registry.log.read_text()
    expected = {
        "nginx": images.NGINX,
        "open-webui": images.open_webui(EARLIER),
        "prometheus": images.PROMETHEUS,
        "backup": images.RESTIC,
        "backup-copy": images.open_webui(EARLIER),
    }
    for role, image in expected.items():
        name = image.reference(ImageSource.PULLED, registry.address)
        assert f"/v2/{image.repository}/manifests/" in asked
        assert stack.container(role).attrs["Image"] == stack.engine.images.get(name).id, role


def test_somebody_signs_up_and_chats_by_socket_and_by_stream(
    stack: StackUnderTest, admin: OpenWebUIClient, model_server: ModelServer
) -> None:
    del stack
    assert admin.user()["role"] == "admin"
    chats(admin, model_server.models[0])
    admin.create_chat("before the upgrade")


def test_prometheus_counts_what_was_asked(stack: StackUnderTest, admin: OpenWebUIClient) -> None:
    del admin
    url = stack.outputs()["status_page"].partition("/consoles/")[0]

    def counted() -> float:
        result = httpx.get(f"{url}/api/v1/query", params={"query": "sum(open_webui_edge_requests_total)"}).json()
        return float(result["data"]["result"][0]["value"][1])

    assert wait_until(counted, what="counted requests", deadline=60, ignoring=(IndexError, httpx.TransportError))
    targets = httpx.get(f"{url}/api/v1/targets").json()["data"]["activeTargets"]
    assert {target["scrapePool"]: target["health"] for target in targets if target["health"] != "up"} == {}


def test_it_is_backed_up_and_the_backup_is_good(
    stack: StackUnderTest, admin: OpenWebUIClient, checkout: Checkout
) -> None:
    del admin
    assert "users=1," in checkout.make("backup", stack.name).succeeded().output
    checkout.make("backup-verify", stack.name).succeeded()


def test_the_doctor_finds_nothing(stack: StackUnderTest, admin: OpenWebUIClient, checkout: Checkout) -> None:
    del admin
    output = checkout.make("doctor", stack.name, JSON="yes").output
    # What make says of the code is next to it.
    result, _ = json.JSONDecoder().raw_decode(output[output.index("\n{") + 1 :])
    assert len(result["findings"]) > 40
    fault = {"failure", "warning"}
    assert {each["check"]: each["seen"] for each in result["findings"] if each["severity"] in fault} == {}


def test_open_webui_is_upgraded_with_all_that_was_there(
    stack: StackUnderTest, admin: OpenWebUIClient, checkout: Checkout, model_server: ModelServer
) -> None:
    before = {chat["title"] for chat in admin.chats()}
    assert "before the upgrade" in before
    change(stack, "open_webui", version=OPEN_WEBUI_VERSION)
    checkout.make("up", stack.name).succeeded()
    assert admin.request("GET", "/api/version")["version"] == OPEN_WEBUI_VERSION
    assert {chat["title"] for chat in admin.chats()} == before
    chats(admin, model_server.models[0])


def test_another_up_changes_nothing_each_time(stack: StackUnderTest, checkout: Checkout) -> None:
    before = containers_of(stack)
    for _ in range(3):
        said = checkout.make("up", stack.name).succeeded().output
        assert NO_CHANGE.search(said), said
        assert containers_of(stack) == before


def test_down_leaves_data_and_then_deletes_it(stack: StackUnderTest, checkout: Checkout) -> None:
    checkout.make("down", stack.name).succeeded()
    assert stack.owned("containers") == []
    assert f"edge-{stack.name}-open-webui-data" in stack.owned("volumes")
    checkout.make("down", stack.name, DATA="delete", YES="1").succeeded()
    assert [stack.owned(kind) for kind in ("containers", "volumes", "networks")] == [[], [], []]


# Three replicas on PostgreSQL and Valkey, with a certificate of an issuer's.


@pytest.fixture(scope="module")
def world(bare_engine: docker.DockerClient, bridge_address: str) -> Iterator[tuple[Issuer, Issuer, Names]]:
    """An issuer, and the DNS server that it asks."""
    if not bare_engine.images.list(name=ACME_TOOLS):
        lacks(f"no image {ACME_TOOLS}")
    with acme_world(bridge_address) as world:
        world[-1].lead(NAME, bridge_address)
        yield world


@pytest.fixture(scope="module")
def three(
    checkout: Checkout,
    registry: Registry,
    model_server: ModelServer,
    world: tuple[Issuer, Issuer, Names],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[StackUnderTest, Path]]:
    """Such a stack, and the root of the issuer."""
    issuer, staging, _ = world
    listen = {"address": "0.0.0.0", "http_port": issuer.http_port, "https_port": free_port()}
    config = {
        "images": {"registry": registry.address},
        "site": {"domain": NAME, "listen": listen},
        "open_webui": {"replicas": 3, "drain": "10s", "admin": {"email": ADMIN}, "environment": NO_EMBEDDINGS},
        "models": answered_by(model_server),
        "data": {"postgres": {"mode": "container"}, "redis": {"mode": "container"}},
        "backup": {"enabled": True},
        "certificate": {
            "mode": "lets-encrypt",
            "lets_encrypt": {
                "directory": issuer.directory,
                "directory_ca": issuer.authority_pem,
                "email": ADMIN,
                "staging_directory": staging.directory,
                "wait": "2m",
            },
        },
    }
    secrets = {"models.providers[0].api_key": FIRST_KEY, "open_webui.admin.password": PASSWORD}
    root = tmp_path_factory.mktemp("official-three") / "root.pem"
    root.write_text(pem(issuer.root()))
    with deployed(checkout, "it-official-three", config, **secrets) as stack:
        yield stack, root


def test_replicas_chat_behind_an_issuers_certificate(
    three: tuple[StackUnderTest, Path], model_server: ModelServer
) -> None:
    stack, root = three
    url = f"https://{NAME}:{stack.https_port}"
    with OpenWebUIClient(url, ca_file=root, resolve={NAME: "127.0.0.1"}) as client:
        client.sign_in(ADMIN, PASSWORD)
        chats(client, model_server.models[0])
    roles = ("open-webui", "open-webui-2", "open-webui-3", "postgres", "redis", "certbot")
    health = {role: stack.container(role).attrs["State"]["Health"]["Status"] for role in roles}
    assert health == dict.fromkeys(roles, "healthy")


def test_databases_are_backed_up_too(three: tuple[StackUnderTest, Path], checkout: Checkout) -> None:
    stack, _ = three
    assert "users=1," in checkout.make("backup", stack.name).succeeded().output
    checkout.make("backup-verify", stack.name).succeeded()


def test_another_up_of_three_replicas_changes_nothing_each_time(
    three: tuple[StackUnderTest, Path], checkout: Checkout
) -> None:
    stack, _ = three
    before = containers_of(stack)
    for _ in range(3):
        said = checkout.make("up", stack.name).succeeded().output
        assert NO_CHANGE.search(said), said
        assert containers_of(stack) == before
    checkout.make("down", stack.name, DATA="delete", YES="1").succeeded()
    assert [stack.owned(kind) for kind in ("containers", "volumes", "networks")] == [[], [], []]


# By the publishers' own names. Nothing here can answer for their registries, so the engine is given them by a tag.


@pytest.fixture
def official_names(engine_without: docker.DockerClient, registry: Registry) -> Iterator[list[str]]:
    """The names of a small stack's images, while the engine has them."""
    given: list[str] = []
    try:
        for image in (images.NGINX, images.open_webui(OPEN_WEBUI_VERSION)):
            name = image.reference(ImageSource.PULLED, None)
            if engine_without.images.list(name=name.removeprefix("docker.io/library/")):
                lacks(f"the real {name}, which this would replace")
            repository, _, tag = image.reference(ImageSource.PULLED, registry.address).rpartition(":")
            engine_without.images.pull(repository, tag=tag).tag(*name.rsplit(":", 1))
            given.append(name)
        yield given
    finally:
        for name in given:
            engine_without.images.remove(name)


def test_a_stack_without_a_word_about_images_runs_the_publishers(checkout: Checkout, official_names: list[str]) -> None:
    config = settings(open_webui={"environment": NO_EMBEDDINGS})
    with deployed(checkout, "it-official-names", config) as stack:
        written = yaml.safe_load(stack.file.read_text())["config"]["open-webui-edge:images"]
        assert written == {"source": ImageSource.PULLED}
        before = containers_of(stack)
        said = checkout.make("up", stack.name).succeeded().output
        assert all(name in said for name in official_names)
        assert NO_CHANGE.search(said), said
        assert containers_of(stack) == before
