"""Images out of a real registry: pulled by name once, pinned from then on, and an Ollama of the stack's own.

Nginx is the real one. Ollama's image cannot be had everywhere, and Open WebUI's takes a registry on a small machine a
minute to swallow and half a minute to give back: small ones stand in for both, with the parts that a stack relies on.

Marked long: it fills a registry. test_pulling.py tests how a pull fails, and unit tests check how images are pinned.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import docker
import docker.errors
import pytest
from docker.models.images import Image as EngineImage

from open_webui_edge.settings import images
from open_webui_edge.settings.images import Image, ImageSource
from tests.support.registry import Registry, registry_in
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop

pytestmark = pytest.mark.long

OPEN_WEBUI = images.open_webui(images.OPEN_WEBUI_VERSION)
_BUILT_NGINX = images.NGINX.reference(ImageSource.BUILT, None)

_REMOTE_IMAGE = "docker:index/remoteImage:RemoteImage"

_SERVER = """
user root; daemon off; pid /run/stand-in.pid; error_log /dev/stderr;
events {{}}
http {{
    access_log off;
    default_type application/json;
    server {{ listen {port}; location / {{ return 200 '{body}'; }} }}
}}
"""

_STAND_INS: Mapping[Image, dict[str, str]] = {
    # What the stack starts is `python3 launch.py DIRECTORY bash start.sh`; what launch.py does has tests of its own.
    OPEN_WEBUI: {
        "usr/local/bin/python3": '#!/bin/sh\nshift 2\nexec "$@"\n',
        "app/backend/start.sh": "exec nginx -c /app/backend/stand-in.conf\n",
        "app/backend/stand-in.conf": _SERVER.format(port=8080, body='{"status": true}'),
    },
    images.OLLAMA: {
        "bin/ollama": (
            "#!/bin/sh\n"
            "case $1 in\n"
            "serve) exec nginx -c /etc/stand-in.conf ;;\n"
            "list) exec curl --fail --silent http://127.0.0.1:11434/api/tags ;;\n"
            "esac\n"
        ),
        "etc/stand-in.conf": _SERVER.format(port=11434, body='{"models": []}'),
    },
}
_COMMANDS: Mapping[Image, dict[str, Any]] = {
    OPEN_WEBUI: {"WorkingDir": "/app/backend", "Cmd": ["bash", "start.sh"]},
    images.OLLAMA: {"Entrypoint": ["/bin/ollama"], "Cmd": ["serve"]},
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    directory = tmp_path_factory.mktemp("registry")
    with registry_in(directory / "data", directory / "log") as registry:
        yield registry


def derived(engine: docker.DockerClient, files: Mapping[str, str], configuration: Mapping[str, Any]) -> EngineImage:
    """Return an image of no name: the built nginx with more files and another configuration."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text), 0o755
            tar.addfile(entry, io.BytesIO(text.encode()))
    container = engine.containers.create(_BUILT_NGINX)
    try:
        container.put_archive("/", archive.getvalue())
        return container.commit(conf=dict(configuration))
    finally:
        container.remove()


@pytest.fixture(scope="module")
def digests(engine: docker.DockerClient, registry: Registry) -> Iterator[dict[str, str]]:
    """What the registry holds: role -> digest."""
    result = {images.NGINX.role: registry.push(engine, images.NGINX, engine.images.get(_BUILT_NGINX))}
    for image, files in _STAND_INS.items():
        stand_in = derived(engine, files, _COMMANDS[image])
        # With its last name its content goes: what runs afterwards was pulled.
        result[image.role] = registry.push(engine, image, stand_in)
        with pytest.raises(docker.errors.ImageNotFound):
            engine.images.get(stand_in.id or "")
    yield result
    for image in engine.images.list():
        for name in [*image.attrs["RepoTags"], *image.attrs["RepoDigests"]]:
            if name.startswith(registry.address):
                with suppress(docker.errors.ImageNotFound):  # the digest goes with the last tag
                    engine.images.remove(name)


@pytest.fixture(scope="module")
def stack(workshop: Workshop, registry: Registry, digests: dict[str, str]) -> Iterator[StackUnderTest]:
    """A stack with an Ollama of its own, all of it out of the registry."""
    assert digests
    stack = StackUnderTest(
        workshop,
        "it-registry",
        {
            "images": {"source": "pulled", "registry": registry.address},
            "models": {"ollama": {"mode": "container", "container": {"memory": "512MiB"}}},
        },
    )
    with stack.running():
        yield stack


def test_images_are_pulled_from_the_registry_and_their_digests_stand_in_the_state(
    stack: StackUnderTest, registry: Registry, digests: dict[str, str]
) -> None:
    asked = registry.log.read_text()
    for image in (images.NGINX, OPEN_WEBUI, images.OLLAMA):
        name = image.reference(ImageSource.PULLED, registry.address)
        digest = digests[image.role]
        (outputs,) = (result for result in _remote_images(stack) if result["name"] == name)
        # The repository in it is any one that the engine knows the same content by.
        assert outputs["repoDigest"].rpartition("@")[2] == digest
        assert f"/v2/{image.repository}/manifests/{image.tag} " in asked


def test_every_container_runs_by_the_id_of_its_image(stack: StackUnderTest, registry: Registry) -> None:
    for role, image in {"nginx": images.NGINX, "open-webui": OPEN_WEBUI, "ollama": images.OLLAMA}.items():
        container = stack.container(role)
        pulled = stack.engine.images.get(image.reference(ImageSource.PULLED, registry.address))
        assert container.attrs["Config"]["Image"] == container.attrs["Image"] == pulled.id


def test_an_ollama_of_the_stacks_own_is_healthy_and_found_by_the_application(stack: StackUnderTest) -> None:
    assert stack.container("ollama").attrs["State"]["Health"]["Status"] == "healthy"
    assert stack.outputs()["containers"]["ollama"] == ["edge-it-registry-ollama"]
    url = _answer(stack, "cat", "/run/open-webui-edge/environment.json")["environment"]["OLLAMA_BASE_URL"]
    assert _answer(stack, "curl", "--fail", "--silent", f"{url}/api/tags") == {"models": []}
    with stack.client() as client:
        assert client.ready()


def test_a_new_image_under_the_same_tag_replaces_nothing(
    stack: StackUnderTest, registry: Registry, digests: dict[str, str]
) -> None:
    name = OPEN_WEBUI.reference(ImageSource.PULLED, registry.address)
    before = stack.container("open-webui").id
    newer = derived(stack.engine, {**_STAND_INS[OPEN_WEBUI], "newer": ""}, _COMMANDS[OPEN_WEBUI])
    assert registry.push(stack.engine, OPEN_WEBUI, newer) != digests[OPEN_WEBUI.role]
    repository, _, tag = name.rpartition(":")
    pulled = stack.engine.images.pull(repository, tag=tag)
    assert pulled.id == newer.id
    assert NO_CHANGE.search(stack.up().succeeded().output)
    assert stack.container("open-webui").id == before


def test_a_name_that_was_cleaned_up_is_pulled_again_and_replaces_nothing(
    stack: StackUnderTest, registry: Registry
) -> None:
    name = OPEN_WEBUI.reference(ImageSource.PULLED, registry.address)
    before = stack.container("open-webui").id
    stack.engine.images.remove(name)
    stack.up().succeeded()
    # What the name means by now is another image.
    assert stack.engine.images.get(name).id != stack.container("open-webui").attrs["Image"]
    assert stack.container("open-webui").id == before
    assert NO_CHANGE.search(stack.up().succeeded().output)


def test_a_corrected_image_under_the_same_tag_comes_by_make_pull_and_the_next_update(
    stack: StackUnderTest, registry: Registry, digests: dict[str, str]
) -> None:
    assert digests
    # Whatever the tests before this one published.
    pull(stack)
    stack.up().succeeded()
    before = _ids(stack)
    old = stack.container("ollama").attrs["Image"]
    corrected = derived(stack.engine, {**_STAND_INS[images.OLLAMA], "corrected": ""}, _COMMANDS[images.OLLAMA])
    registry.push(stack.engine, images.OLLAMA, corrected)
    # Publishing it made this engine forget the name.
    name = images.OLLAMA.reference(ImageSource.PULLED, registry.address)
    stack.engine.images.get(old).tag(*name.rsplit(":", 1))
    assert NO_CHANGE.search(stack.up().succeeded().output)

    said = pull(stack)

    assert f"{name}: newer, " in said
    for image in (images.NGINX, OPEN_WEBUI):
        assert f"{image.reference(ImageSource.PULLED, registry.address)}: the same, " in said
    assert "`make up STACK=it-registry` replaces the containers that run a newer image: ollama.\n" in said
    # Nothing that runs was touched, and asking a second time says the same.
    assert _ids(stack) == before
    assert pull(stack).splitlines()[-1] == said.splitlines()[-1]

    stack.up().succeeded()
    after = _ids(stack)
    assert {role for role in before if before[role] != after[role]} == {"ollama"}
    assert stack.container("ollama").attrs["Image"] == stack.engine.images.get(name).id != old
    assert NO_CHANGE.search(stack.up().succeeded().output)
    assert "it-registry runs the newest images; " in pull(stack)


def pull(stack: StackUnderTest) -> str:
    """Return what `make pull` said."""
    return stack.workshop.run("make", "--no-print-directory", "pull", f"STACK={stack.name}").succeeded().output


def _ids(stack: StackUnderTest) -> dict[str, str | None]:
    return {role: stack.container(role).id for role in ("nginx", "open-webui", "ollama")}


def _answer(stack: StackUnderTest, *command: str) -> dict[str, Any]:
    """Run a command in the application's container."""
    answer = stack.container("open-webui").exec_run([*command])
    assert answer.exit_code == 0, answer.output
    assert isinstance(answer.output, bytes)
    return json.loads(answer.output)


def _remote_images(stack: StackUnderTest) -> list[dict[str, Any]]:
    exported = json.loads(stack.pulumi("stack", "export", "--stack", stack.name).succeeded().output)
    return [result["outputs"] for result in exported["deployment"]["resources"] if result["type"] == _REMOTE_IMAGE]
