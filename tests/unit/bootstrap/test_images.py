"""Pulled or built: what is chosen stays, and an image becomes an archive that an engine can load."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from bootstrap import images
from bootstrap.console import Step
from bootstrap.engine import Engine
from bootstrap.images import (
    Wanted,
    acme_tools,
    archive,
    bench_tools,
    certbot,
    instance,
    nginx,
    open_webui,
    postgres,
    redis,
    rootfs,
)
from bootstrap.problem import ProblemError
from components.images import BENCH_TOOLS, NGINX, Image, ImageSource
from tests.unit.bootstrap.conftest import FakeDocker

ENGINE = Engine("ssh://far", "platform.docker.host", ("docker", "--host", "ssh://far"))
_NO_ROUTE = 'Error response from daemon: Get "https://registry/v2/": no such host'


@pytest.fixture
def provided(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were built instead of really being so."""
    names: list[str] = []

    def note(_engine: Engine, _image: Image, name: str, _step: Step) -> None:
        names.append(name)

    monkeypatch.setattr(images, "_provide", note)
    return names


def test_a_new_stack_pulls_the_official_images_where_it_can(docker: FakeDocker, provided: list[str]) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"), ("*pull*", 0, "done"))
    assert images.ensure(ENGINE, Wanted(), Step("images")) is ImageSource.PULLED
    assert not provided


def test_a_new_stack_builds_all_images_when_one_cannot_be_pulled(docker: FakeDocker, provided: list[str]) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"), ("*pull*nginx*", 0, "done"), ("*pull*", 1, _NO_ROUTE))
    assert images.ensure(ENGINE, Wanted("0.12.4"), Step("images")) is ImageSource.BUILT
    assert provided == ["open-webui-edge/nginx:1.30-debian-2", "open-webui-edge/open-webui:0.12.4-debian-2"]


def test_images_that_are_there_cost_nothing(docker: FakeDocker, provided: list[str]) -> None:
    docker.answers(("*image\\ inspect*", 0, "sha256:1"))
    assert images.ensure(ENGINE, Wanted(source=ImageSource.BUILT), Step("images")) is ImageSource.BUILT
    assert not provided
    assert not [call for call in docker.calls if "pull" in call]


def test_a_recorded_source_stays_when_the_other_would_work(docker: FakeDocker, provided: list[str]) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"), ("*pull*", 0, "done"))
    assert images.ensure(ENGINE, Wanted(source=ImageSource.BUILT), Step("images")) is ImageSource.BUILT
    assert len(provided) == 2


@pytest.mark.parametrize(
    "wanted",
    [Wanted(source=ImageSource.PULLED), Wanted(registry="registry.example.com")],
    ids=["recorded as pulled", "registry set"],
)
def test_a_pull_that_somebody_asked_for_is_not_replaced_by_a_build(
    wanted: Wanted, docker: FakeDocker, provided: list[str]
) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"), ("*pull*", 1, _NO_ROUTE))
    with pytest.raises(ProblemError, match=r"cannot be pulled: .*no such host\. Check the network, images\.registry"):
        images.ensure(ENGINE, wanted, Step("images"))
    assert not provided


def test_a_disk_that_fills_up_while_pulling_is_one_sentence(docker: FakeDocker) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"), ("*pull*", 1, "write /var/lib/x: no space left on device"))
    with pytest.raises(ProblemError) as refused:
        images.ensure(ENGINE, Wanted(), Step("images"))
    name = NGINX.reference(ImageSource.PULLED, None)
    assert str(refused.value) == (
        f"Pulling {name}: the disk is full (no space left on device); free some space and run it again."
    )


def test_the_tools_are_built_once(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def note(_engine: Engine, name: str, *_: object) -> None:
        built.append(name)

    monkeypatch.setattr(images, "_build", note)
    docker.answers(("*version*", 0, ""), ("*image\\ inspect*", 1, "none"))
    images.ensure_tools(ENGINE, Step("tools"))
    assert built == [BENCH_TOOLS]
    docker.answers(("*image\\ inspect*", 0, "sha256:1"))
    images.ensure_tools(ENGINE, Step("tools"))
    assert built == [BENCH_TOOLS]


def test_an_image_that_cannot_be_built_is_named() -> None:
    with pytest.raises(ProblemError, match=r"^The image of ollama cannot be built"):
        images.ensure(ENGINE, Wanted(source=ImageSource.BUILT, ollama=True), Step("images"))


def test_backing_services_are_built_like_the_others(docker: FakeDocker, provided: list[str]) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"))
    images.ensure(ENGINE, Wanted(source=ImageSource.BUILT, postgres=True, redis=True), Step("images"))
    assert provided[2:] == ["open-webui-edge/postgres:18-debian", "open-webui-edge/redis:9-debian"]


def test_an_image_that_holds_two_programs_is_built_once(docker: FakeDocker, provided: list[str]) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"))
    images.ensure(ENGINE, Wanted(source=ImageSource.BUILT, prometheus=True), Step("images"))
    assert provided[2:] == ["open-webui-edge/prometheus:3-debian"]


def test_official_images_of_both_are_pulled(docker: FakeDocker) -> None:
    docker.answers(("*image\\ inspect*", 1, "none"), ("*pull*", 0, "done"))
    images.ensure(ENGINE, Wanted(source=ImageSource.PULLED, prometheus=True), Step("images"))
    pulled = [call.split()[-1] for call in docker.calls if "pull" in call]
    assert pulled[2:] == ["docker.io/prom/prometheus:v3.5.3", "ghcr.io/jaqx0r/mtail:3.2.24"]


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
        images.ensure(ENGINE, Wanted(source=ImageSource.BUILT), Step("images"))


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
    [
        *(acme_tools.HERE, bench_tools.HERE, certbot.HERE, instance.HERE),
        *(nginx.HERE, open_webui.HERE, postgres.HERE, redis.HERE),
    ],
    ids=lambda folder: folder.name,
)
def test_a_recipe_is_complete(recipe: Path) -> None:
    assert rootfs.packages_in(recipe / "packages.txt")
    assert json.loads((recipe / "config.json").read_text())["Cmd"]


def test_the_nginx_image_stops_as_the_official_one_does() -> None:
    assert json.loads((nginx.HERE / "config.json").read_text())["StopSignal"] == "SIGQUIT"


@pytest.mark.parametrize("version", ["nginx version: nginx/1.26.3", "nginx version: nginx/1.29.9", "what?"])
def test_an_nginx_that_is_too_old_is_not_packed(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootfs, "make", lambda *_: None)
    monkeypatch.setattr(rootfs, "run_inside", lambda *_, **__: version)
    with pytest.raises(ProblemError, match=r"and the proxy needs 1\.30 or later"):
        nginx.fill(tmp_path, Step("nginx"))
