"""A real engine pulls from registries that refuse, are silent or stall; it keeps to its own words and to time-outs.

The registry is a stand-in on loopback: what real ones answer to whom cannot be asked for at will.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import docker
import docker.errors
import pytest

from open_webui_edge.bootstrap import images
from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.bootstrap.images import RequiredImages, pulling
from open_webui_edge.bootstrap.images.engine_client import EngineClient
from open_webui_edge.settings.images import Image, ImageSource
from tests.support.registry_with_faults import RegistryWithFaults, registry_with_faults

_ADDRESS = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
_ENGINE = Engine(_ADDRESS, "the test", ("docker", "--host", _ADDRESS))
_NOTHING_LISTENS = "127.0.0.1:1"


class _Nowhere(RequiredImages):
    """The default images, from registries where nothing listens."""

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(replace(image, registry=_NOTHING_LISTENS) for image in super().images)


@pytest.fixture(scope="module")
def registry(bare_engine: docker.DockerClient) -> Iterator[RegistryWithFaults]:
    with registry_with_faults(bare_engine.version()["Arch"]) as served:
        yield served
        for image in bare_engine.images.list():
            for name in image.tags:
                if name.startswith(served.address):
                    bare_engine.images.remove(name)


@pytest.fixture
def client() -> EngineClient:
    """A client that is less patient than the real one."""
    return EngineClient(_ENGINE, first_answer=6, stall=6)


def test_an_image_is_pulled_and_its_bytes_are_counted(
    registry: RegistryWithFaults, client: EngineClient, bare_engine: docker.DockerClient
) -> None:
    said: list[str] = []
    assert client.refusal(registry.name("fine")) is None
    pulling.pull(client.events, registry.name("fine"), said.append)
    assert bare_engine.images.get(registry.name("fine")).tags == [registry.name("fine")]
    assert any(text.endswith("2 of 2 layers unpacked") for text in said)


@pytest.mark.parametrize(
    ("repository", "words"),
    [("unauthorized", "401|unauthorized"), ("missing", "unknown|not found"), ("limited", "429|toomanyrequests")],
)
def test_a_registry_that_refuses_is_reached(
    repository: str, words: str, registry: RegistryWithFaults, client: EngineClient
) -> None:
    refusal = client.refusal(registry.name(repository))
    assert refusal is not None
    assert not pulling.is_unreachable(refusal)
    with pytest.raises(pulling.PullError, match=f"(?i){words}") as refused:
        pulling.pull(client.events, registry.name(repository), lambda _: None)
    assert not pulling.is_unreachable(str(refused.value))


@pytest.mark.parametrize("name", [f"{_NOTHING_LISTENS}/x:1", "registry.invalid/x:1"], ids=["refused", "no such name"])
def test_a_registry_that_is_not_there_is_unreachable(name: str, client: EngineClient) -> None:
    refusal = client.refusal(name)
    assert refusal is not None
    assert pulling.is_unreachable(refusal)


def test_a_silent_registry_is_given_up(registry: RegistryWithFaults, client: EngineClient) -> None:
    refusal = client.refusal(registry.name("silent"))
    assert refusal == "no answer within 6 s"
    assert pulling.is_unreachable(refusal)


def test_a_download_that_stalls_begins_again(
    registry: RegistryWithFaults, client: EngineClient, bare_engine: docker.DockerClient
) -> None:
    for image in ("fine", "stalls"):
        # An engine asks no registry for a layer that it has.
        with suppress(docker.errors.ImageNotFound):
            bare_engine.images.remove(registry.name(image))
    registry.stalls_left, said = 1, list[str]()
    pulling.pull(client.events, registry.name("stalls"), said.append)
    assert said.count("nothing came for 6 s; retrying") == 1
    assert bare_engine.images.get(registry.name("stalls"))


def test_a_registry_that_refuses_stops_a_new_stack_before_anything_is_built(
    registry: RegistryWithFaults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_provide", lambda *_: pytest.fail("built something"))
    name = f"{registry.address}/library/nginx:1.30.6"
    with pytest.raises(ProblemError, match=f"^{name} cannot be pulled: .*(unknown|not found)"):
        images.ensure(_ENGINE, RequiredImages(registry=registry.address), Step("images"))


def test_a_new_stack_without_any_registry_is_built(
    bare_engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del bare_engine
    built: list[str] = []
    monkeypatch.setattr(images, "_provide", lambda _engine, _image, name, _step: built.append(name))
    expected = _Nowhere(version="0.0.1")
    assert images.ensure(_ENGINE, expected, Step("images")) is ImageSource.BUILT
    assert "No registry can be reached (127.0.0.1:1: " in capsys.readouterr().err
    assert list(expected.named(ImageSource.BUILT))[1] in built
