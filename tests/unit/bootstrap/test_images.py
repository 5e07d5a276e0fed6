"""Pulled or built: what is chosen stays, and an image becomes an archive that an engine can load."""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from open_webui_edge.bootstrap import disk, images
from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.bootstrap.images import (
    RequiredImages,
    archive,
    nginx,
    open_webui,
    postgres,
    pulling,
    recipes,
    rootfs,
)
from open_webui_edge.settings import images as components_images
from open_webui_edge.settings.images import (
    BENCH_TOOLS,
    IMAGE_SIZES,
    NGINX,
    OLLAMA,
    POSTGRES,
    PROMETHEUS,
    REDIS,
    Image,
    ImageSource,
)
from tests.support.fake_engine import FakeClient, FakeDocker

ENGINE = Engine("ssh://far", "platform.docker.host", ("docker", "--host", "ssh://far"))
LOCAL = Engine("unix:///run/docker.sock", "the default socket", ("docker",))
_NO_HOST = 'Get "https://registry/v2/": dial tcp: lookup registry on 10.0.0.53:53: no such host'
_REFUSED = 'Get "https://registry/v2/": dial tcp 10.0.0.1:443: connect: connection refused'


@pytest.fixture
def provided(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were built instead of really being so."""
    names: list[str] = []

    def note(_engine: Engine, _image: Image, name: str, _step: Step) -> None:
        names.append(name)

    monkeypatch.setattr(images, "_provide", note)
    return names


def test_a_new_stack_pulls_the_official_images_where_it_can(
    docker: FakeDocker, provided: list[str], client: FakeClient
) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"))
    assert images.ensure(ENGINE, RequiredImages(), Step("images")) is ImageSource.PULLED
    assert client.pulled == ["docker.io/library/nginx:1.30.6", "ghcr.io/open-webui/open-webui:v0.12.4"]
    assert not provided


def test_a_new_stack_builds_its_images_when_no_registry_can_be_reached(
    docker: FakeDocker, provided: list[str], client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"))
    client.refusals = {"docker.io": _NO_HOST, "ghcr.io": _REFUSED}
    assert images.ensure(ENGINE, RequiredImages("0.12.4", services=(REDIS,)), Step("images")) is ImageSource.BUILT
    assert provided == [
        "open-webui-edge/nginx:1.30-debian-2",
        "open-webui-edge/open-webui:0.12.4-debian-2",
        "open-webui-edge/redis:9-debian",
    ]
    # One question for each registry.
    assert client.asked == ["docker.io/library/nginx:1.30.6", "ghcr.io/open-webui/open-webui:v0.12.4"]
    assert capsys.readouterr().err.endswith(
        f"     images: No registry can be reached (docker.io: {_NO_HOST}; ghcr.io: {_REFUSED}), so images are built"
        " here from distribution packages. Built images lack:\n"
        "  - Open WebUI: PyTorch and the models for local embeddings, reranking and speech recognition (set an"
        " embedding\n"
        "    provider to search in documents), ffmpeg (recordings in other formats than WAV), pandoc, git and a"
        " compiler.\n"
        "  - Ollama: no image of it can be built.\n"
        "Later, with a network: write `images.source: pulled` into the stack's file, and `make up` uses the official"
        " ones.\n"
    )


@pytest.mark.parametrize(
    "refusals",
    [
        {"docker.io": _NO_HOST},
        {"ghcr.io": _NO_HOST},
        {"docker.io": "unauthorized: authentication required", "ghcr.io": _NO_HOST},
        {"docker.io": _NO_HOST, "ghcr.io": "toomanyrequests: You have reached your pull rate limit."},
        {"docker.io": "manifest unknown"},
        {"docker.io": 'Get "https://registry/v2/": x509: certificate signed by unknown authority', "ghcr.io": _NO_HOST},
        {"docker.io": 'Get "https://registry/v2/": proxyconnect tcp: dial tcp 10.0.0.9:3128: connection refused'},
        {"docker.io": "received unexpected HTTP status: 503 Service Unavailable", "ghcr.io": _REFUSED},
    ],
    ids=["first", "second", "login", "limit", "not found", "TLS", "proxy", "fault"],
)
def test_a_registry_that_can_be_reached_is_no_reason_to_build(
    refusals: dict[str, str], docker: FakeDocker, provided: list[str], client: FakeClient
) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"))
    client.refusals = refusals
    with pytest.raises(ProblemError) as refused:
        images.ensure(ENGINE, RequiredImages("0.12.4"), Step("images"))
    registry = next(iter(refusals))
    name = {"docker.io": "docker.io/library/nginx:1.30.6", "ghcr.io": "ghcr.io/open-webui/open-webui:v0.12.4"}[registry]
    assert str(refused.value) == (
        f"{name} cannot be pulled: {refusals[registry].rstrip('.')}. Check the network, images.registry and `docker"
        " login`. With `images.source: built` images are built here instead; docs/operations.md lists what those lack."
    )
    assert not provided


@pytest.mark.parametrize(
    ("words", "is_unreachable"),
    [
        (_NO_HOST, True),
        (_REFUSED, True),
        ("no answer within 30 s", True),
        ("dial tcp 10.0.0.1:443: i/o timeout", True),
        ("dial tcp 10.0.0.1:443: connect: no route to host", True),
        ("dial tcp [2001:db8::1]:443: connect: network is unreachable", True),
        ("lookup registry on 10.0.0.53:53: server misbehaving", True),
        ("net/http: TLS handshake timeout", True),
        (
            "net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
            True,
        ),
        ("unauthorized", False),
        ("manifest unknown", False),
        ("toomanyrequests: You have reached your pull rate limit.", False),
        ("x509: certificate has expired or is not yet valid", False),
        ("http: server gave HTTP response to HTTPS client", False),
        ("no matching manifest for linux/riscv64 in the manifest list entries", False),
        ("write /var/lib/docker/tmp/x: no space left on device", False),
        ("proxyconnect tcp: dial tcp: lookup proxy: no such host", False),
        ("read tcp 10.0.0.2:1->10.0.0.1:443: read: connection reset by peer", False),
    ],
)
def test_what_counts_as_a_registry_that_cannot_be_reached(words: str, *, is_unreachable: bool) -> None:
    assert pulling.is_unreachable(words) is is_unreachable


def test_images_that_are_there_cost_nothing(docker: FakeDocker, provided: list[str]) -> None:
    docker.answers(("*image\\ inspect*", 0, "sha256:1"))
    assert images.ensure(ENGINE, RequiredImages(source=ImageSource.BUILT), Step("images")) is ImageSource.BUILT
    assert not provided
    assert not [call for call in docker.calls if "pull" in call]


def test_a_recorded_source_stays_when_the_other_would_work(docker: FakeDocker, provided: list[str]) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"))
    assert images.ensure(ENGINE, RequiredImages(source=ImageSource.BUILT), Step("images")) is ImageSource.BUILT
    assert len(provided) == 2


def test_a_stack_whose_images_were_built_returns_to_the_official_ones_by_its_setting(
    docker: FakeDocker, provided: list[str], client: FakeClient
) -> None:
    docker.answers(("*image\\ inspect*open-webui-edge*", 0, "sha256:1"), ("*image\\ inspect*", 1, "none"))
    assert images.ensure(ENGINE, RequiredImages(source=ImageSource.PULLED), Step("images")) is ImageSource.PULLED
    assert len(client.pulled) == 2
    assert not provided


@pytest.mark.parametrize(
    "required",
    [RequiredImages(source=ImageSource.PULLED), RequiredImages(registry="registry.example.com")],
    ids=["recorded as pulled", "registry set"],
)
def test_a_pull_that_somebody_asked_for_is_not_replaced_by_a_build(
    required: RequiredImages, docker: FakeDocker, provided: list[str], client: FakeClient
) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"))
    client.refusals = {"": _NO_HOST}
    with pytest.raises(ProblemError, match=r"cannot be pulled: .*no such host\. Check the network, images\.registry"):
        images.ensure(ENGINE, required, Step("images"))
    assert not provided


def test_a_disk_that_fills_up_while_pulling_is_one_sentence(docker: FakeDocker, client: FakeClient) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"))
    client.refusals = {"nginx": "write /var/lib/x: no space left on device"}
    with pytest.raises(ProblemError) as refused:
        images.ensure(ENGINE, RequiredImages(), Step("images"))
    name = NGINX.reference(ImageSource.PULLED, None)
    assert str(refused.value) == (
        f"Pulling {name}: the disk is full (no space left on device); free some space and run it again."
    )


class _Disk(NamedTuple):
    free: int


_SERVICES = RequiredImages(source=ImageSource.PULLED, services=(POSTGRES, REDIS))


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the engine, on a disk with 100 MB left."""
    monkeypatch.setattr(images, "CONTAINERD", tmp_path / "no containerd")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Disk(100 * disk.MEGABYTE))
    return tmp_path


@pytest.mark.parametrize(
    "case",
    [
        ("none", "overlay2", "4 images needs 10.0 GB"),
        # This one keeps what a registry sent.
        ("none", "io.containerd.snapshotter.v1", "4 images needs 10.3 GB"),
        ("*open-webui/open-webui*", "overlay2", "3 images needs 1.2 GB"),
    ],
    ids=["all of them", "containerd's store", "not Open WebUI, which is there"],
)
def test_room_is_asked_for_the_images_that_are_missing(
    case: tuple[str, str, str], docker: FakeDocker, client: FakeClient, small_disk: Path
) -> None:
    there, driver, needed = case
    docker.answers((f"*image\\ inspect*{there}*", 0, "sha256:1"), ("*image\\ inspect*", 1, "none"))
    client.said = {"DockerRootDir": str(small_disk), "DriverStatus": [["driver-type", driver]]}
    with pytest.raises(ProblemError) as refused:
        images.ensure(LOCAL, _SERVICES, Step("images"))
    assert str(refused.value) == (
        f"Pulling {needed} at {small_disk}, but only 0.1 GB are free there; free some space and run it again."
    )
    assert not client.pulled


@pytest.mark.parametrize(
    ("engine", "said"),
    [(ENGINE, {}), (LOCAL, {"OperatingSystem": "Docker Desktop"})],
    ids=["another machine", "a virtual machine"],
)
def test_room_is_not_looked_for_on_another_disk(
    engine: Engine, said: dict[str, str], docker: FakeDocker, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"))
    client.said = said
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Disk(0))
    images.ensure(engine, _SERVICES, Step("images"))
    assert len(client.pulled) == 4


def test_the_room_of_every_image_is_known() -> None:
    every = [value for value in vars(components_images).values() if isinstance(value, Image)]
    assert {image.role for image in every} | {"open-webui"} == set(IMAGE_SIZES)


def _events(*events: tuple[str, str] | tuple[str, str, int, int]) -> Iterator[Mapping[str, Any]]:
    for status, identity, *detail in events:
        numbers = dict(zip(("current", "total"), detail, strict=False))
        yield {"status": status, "id": identity, "progressDetail": numbers}


def test_progress_is_in_bytes() -> None:
    progress = pulling.Progress()
    texts: list[str] = []
    for event in _events(
        ("Pulling from library/nginx", "1.30.6"),
        ("Pulling fs layer", "a"),
        ("Pulling fs layer", "b"),
        ("Already exists", "c"),
        ("Downloading", "a", 1_000_000, 40_000_000),
        ("Downloading", "b", 500_000, 2_000_000),
        ("Retrying in 5 seconds", "b"),
        ("Download complete", "b"),
        ("Extracting", "a", 1_000_000, 40_000_000),
        ("Pull complete", "b"),
    ):
        progress.note(event)
        texts.append(progress.text)
    assert texts == [
        "Pulling from library/nginx",
        "0.0 MB, 0 of 1 layers unpacked",
        "0.0 MB, 0 of 2 layers unpacked",
        "0.0 MB, 1 of 3 layers unpacked",
        "1.0 of more than 40.0 MB, 1 of 3 layers unpacked",
        "1.5 of 42.0 MB, 1 of 3 layers unpacked",
        "1.0 of 42.0 MB, 1 of 3 layers unpacked",
        "3.0 of 42.0 MB, 1 of 3 layers unpacked",
        "42.0 of 42.0 MB, 1 of 3 layers unpacked",
        "42.0 of 42.0 MB, 2 of 3 layers unpacked",
    ]


class _Stalling(FakeClient):
    """Stalls for ever, after a first event."""

    def events(self, name: str) -> Iterator[Mapping[str, Any]]:
        self.pulled.append(name)
        yield from _events(("Pulling fs layer", "a"), ("Downloading", "a", 3_000_000, 40_000_000))
        raise pulling.StalledError("nothing came for 180 s")


def test_a_pull_that_stalls_begins_again_and_ends_in_a_sentence() -> None:
    client, said = _Stalling(), list[str]()
    with pytest.raises(pulling.PullError) as refused:
        pulling.pull(client.events, "x", said.append)
    assert str(refused.value) == (
        "nothing came for 180 s, 3 times; the last time at 3.0 of 40.0 MB, 0 of 1 layers unpacked"
    )
    assert client.pulled == ["x"] * 3
    assert said.count("nothing came for 180 s; retrying") == 2


def test_the_tools_are_built_once(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def note(_engine: Engine, name: str, *_: object) -> None:
        built.append(name)

    monkeypatch.setattr(images, "_build", note)
    docker.answers(("*version*", 0, ""), ("*image\\ inspect*", 1, "none"))
    images.ensure_built(ENGINE, BENCH_TOOLS, Step("tools"))
    assert built == [BENCH_TOOLS]
    docker.answers(("*image\\ inspect*", 0, "sha256:1"))
    images.ensure_built(ENGINE, BENCH_TOOLS, Step("tools"))
    assert built == [BENCH_TOOLS]


def test_an_image_that_cannot_be_built_is_named() -> None:
    with pytest.raises(ProblemError, match=r"^The image of ollama cannot be built"):
        images.ensure(ENGINE, RequiredImages(source=ImageSource.BUILT, services=(OLLAMA,)), Step("images"))


def test_backing_services_are_built_like_the_others(docker: FakeDocker, provided: list[str]) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"))
    images.ensure(ENGINE, RequiredImages(source=ImageSource.BUILT, services=(POSTGRES, REDIS)), Step("images"))
    assert provided[2:] == ["open-webui-edge/postgres:18-debian", "open-webui-edge/redis:9-debian"]


def test_prometheus_is_one_image_more(docker: FakeDocker, provided: list[str]) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"), ("*pull*", 0, "done"))
    images.ensure(ENGINE, RequiredImages(source=ImageSource.BUILT, services=(PROMETHEUS,)), Step("images"))
    assert provided[2:] == ["open-webui-edge/prometheus:3-debian"]


def test_the_official_image_of_prometheus_is_pulled(docker: FakeDocker, client: FakeClient) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"))
    images.ensure(ENGINE, RequiredImages(source=ImageSource.PULLED, services=(PROMETHEUS,)), Step("images"))
    assert client.pulled[2:] == ["docker.io/prom/prometheus:v3.5.3"]


def test_a_user_gets_the_number_of_the_official_image(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\nsomething:x:999:998::/:/bin/false\npostgres:x:101:103:PG:/var/lib:/bin/bash\n"
    )
    (tmp_path / "etc/group").write_text("root:x:0:\nsystemd-journal:x:999:\npostgres:x:103:\nssl-cert:x:104:postgres\n")
    postgres.give_id(tmp_path, "postgres", 999)
    assert (tmp_path / "etc/passwd").read_text() == (
        "root:x:0:0:root:/root:/bin/bash\npostgres:x:999:999:PG:/var/lib:/bin/bash\n"
    )
    assert (tmp_path / "etc/group").read_text() == "root:x:0:\npostgres:x:999:\nssl-cert:x:104:postgres\n"


def test_an_engine_of_another_architecture_gets_no_image_built_here(docker: FakeDocker) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"), ("*version*", 0, "s390x"))
    with pytest.raises(ProblemError, match="runs s390x and images built here are"):
        images.ensure(ENGINE, RequiredImages(source=ImageSource.BUILT), Step("images"))


def test_a_folder_becomes_an_archive_whose_digests_agree(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/motd").write_text("hello")
    (root / "etc/resolv.conf").write_text("of the building machine")
    (root / "proc").mkdir()
    layer = tmp_path / "layer.tar"
    digest = archive.pack(root, layer)
    description = archive.configuration({"Cmd": ["true"]}, layer_digest=digest, machine="x86_64")
    written = io.BytesIO()
    archive.write(written, "open-webui-edge/x:1", description, layer)

    written.seek(0)
    with tarfile.open(fileobj=written) as image:
        content = {name: opened.read() for name in image.getnames() if (opened := image.extractfile(name))}
    [manifest] = json.loads(content["manifest.json"])
    assert manifest["RepoTags"] == ["open-webui-edge/x:1"]
    config = json.loads(content[manifest["Config"]])
    assert (config["architecture"], config["config"]) == ("amd64", {"Cmd": ["true"]})
    [stored_layer] = manifest["Layers"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(content[stored_layer]).hexdigest()}"]
    with tarfile.open(layer) as files:
        assert files.getnames() == [".", "./etc", "./etc/motd", "./proc"]


@pytest.mark.parametrize(
    "recipe",
    [open_webui.HERE, *(recipe.folder for recipe in recipes.RECIPES.values())],
    ids=lambda folder: folder.name,
)
def test_a_recipe_is_complete(recipe: Path) -> None:
    assert rootfs.packages_in(recipe / "packages.txt")
    assert json.loads((recipe / "config.json").read_text()).keys() & {"Cmd", "Entrypoint"}


def test_the_nginx_image_stops_as_the_official_one_does() -> None:
    assert json.loads((nginx.HERE / "config.json").read_text())["StopSignal"] == "SIGQUIT"


@pytest.mark.parametrize("version", ["nginx version: nginx/1.26.3", "nginx version: nginx/1.29.9", "what?"])
def test_an_nginx_that_is_too_old_is_not_packed(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootfs, "make", lambda *_: None)
    monkeypatch.setattr(rootfs, "run_inside", lambda *_, **__: version)
    with pytest.raises(ProblemError, match=r"and the proxy needs 1\.30 or later"):
        nginx.fill(tmp_path, Step("nginx"))
