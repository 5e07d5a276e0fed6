"""`make pull`: what an image that was published again under its tag means for a stack."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from open_webui_edge.bootstrap import images
from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.bootstrap.images import RequiredImages
from open_webui_edge.cli import republished
from open_webui_edge.cli.republished import Pin
from open_webui_edge.settings.images import PROMETHEUS
from tests.support.fake_engine import FakeClient, FakeDocker

ENGINE = Engine("ssh://far", "platform.docker.host", ("docker", "--host", "ssh://far"))
NGINX, OPEN_WEBUI = (image.reference(images.ImageSource.PULLED, None) for image in RequiredImages().images)
SETTINGS = {"images": {"source": "pulled"}}


def tag(role: str, image: str, image_id: str, **further: object) -> dict[str, Any]:
    """Return a pin as a stack's state has it."""
    outputs = {"sourceImage": image, "sourceImageId": image_id, "targetImage": f"edge-chat-{role}:pinned"}
    return {"type": "docker:index/tag:Tag", "urn": f"urn:{role}", "outputs": outputs, **further}


@dataclass
class FakeStack:
    """A stack that has a state and writes down what was marked in it."""

    state: list[dict[str, Any]]
    name: str = "chat"
    tainted: list[str] = field(default_factory=list[str])
    untainted: list[str] = field(default_factory=list[str])

    def resources(self) -> list[dict[str, Any]]:
        return self.state

    def taint(self, urns: list[str]) -> None:
        self.tainted += urns

    def untaint(self, urns: list[str]) -> None:
        self.untainted += urns


@pytest.fixture
def pulled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were pulled."""
    names: list[str] = []

    def note(_engine: Engine, required: RequiredImages, _step: Step) -> None:
        names.extend(required.named(images.ImageSource.PULLED))

    monkeypatch.setattr(images, "pull_again", note)
    return names


def asked(state: list[dict[str, Any]], settings: dict[str, Any] | None = None) -> FakeStack:
    stack = FakeStack(state)
    republished.pull(stack, ENGINE, settings or SETTINGS)  # type: ignore[arg-type]  # as much of a stack as it needs
    return stack


def engine_has(docker: FakeDocker, **ids: str) -> None:
    """Have the engine know images by the middle of their names."""
    docker.answers(
        *((f"*image\\ inspect*/{name.replace('_', '-')}:*", 0, f"sha256:{id_}") for name, id_ in ids.items())
    )


def test_what_was_published_again_is_made_again_by_the_next_update_and_nothing_else(
    docker: FakeDocker, pulled: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    engine_has(docker, nginx="aaaa", open_webui="cccc")
    stack = asked(
        [
            tag("nginx", NGINX, "sha256:aaaa"),
            tag("open-webui", OPEN_WEBUI, "sha256:bbbb"),
            tag("readiness", OPEN_WEBUI, "sha256:bbbb"),
            {"type": "pulumi:pulumi:Stack", "urn": "urn:stack"},
        ]
    )
    assert pulled == [NGINX, OPEN_WEBUI]
    assert (stack.tainted, stack.untainted) == (["urn:open-webui", "urn:readiness"], [])
    said = capsys.readouterr()
    assert said.out == f"{NGINX}: unchanged, aaaa\n{OPEN_WEBUI}: newer, cccc in place of bbbb\n"
    assert said.err.splitlines()[-1] == (
        "`make up STACK=chat` replaces the containers that run a newer image: open-webui, readiness."
    )


def test_where_nothing_is_newer_nothing_is_marked(
    docker: FakeDocker, pulled: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    engine_has(docker, nginx="aaaa", open_webui="bbbb")
    stack = asked([tag("nginx", NGINX, "sha256:aaaa"), tag("open-webui", OPEN_WEBUI, "sha256:bbbb")])
    assert pulled
    assert stack.tainted == stack.untainted == []
    assert capsys.readouterr().err.splitlines()[-1] == (
        "chat runs the newest images; `make up STACK=chat` replaces nothing."
    )


def test_a_second_pull_marks_nothing_twice(docker: FakeDocker, pulled: list[str]) -> None:
    engine_has(docker, nginx="aaaa", open_webui="cccc")
    stack = asked([tag("open-webui", OPEN_WEBUI, "sha256:bbbb", taint=True)])
    assert pulled
    assert stack.tainted == stack.untainted == []


def test_a_tag_that_means_again_what_it_meant_before_is_left_as_it_is(docker: FakeDocker, pulled: list[str]) -> None:
    engine_has(docker, nginx="aaaa", open_webui="bbbb")
    stack = asked([tag("open-webui", OPEN_WEBUI, "sha256:bbbb", taint=True)])
    assert pulled
    assert (stack.tainted, stack.untainted) == ([], ["urn:open-webui"])


def test_what_the_next_update_adds_or_replaces_anyway_is_not_marked(
    docker: FakeDocker, pulled: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    engine_has(docker, nginx="aaaa", open_webui="bbbb", prometheus="dddd")
    settings = {**SETTINGS, "monitoring": {"prometheus": {"enabled": True}}}
    stack = asked([tag("nginx", "docker.io/library/nginx:1.28.0", "sha256:eeee")], settings)
    assert len(pulled) == 3
    assert stack.tainted == stack.untainted == []
    prometheus = PROMETHEUS.reference(images.ImageSource.PULLED, None)
    assert f"{prometheus}: dddd, not used by a container of this stack yet\n" in capsys.readouterr().out


def test_a_pin_that_is_about_to_go_is_none() -> None:
    state = [tag("nginx", NGINX, "sha256:a", delete=True), tag("nginx", NGINX, "sha256:b")]
    assert list(republished.pins(state, "chat")) == [Pin("urn:nginx", "nginx", NGINX, "sha256:b", tainted=False)]


def test_a_stack_with_built_images_is_told_that_nothing_is_pulled() -> None:
    with pytest.raises(ProblemError) as refused:
        republished.refuse_built("chat", {"images": {"source": "built"}})
    assert str(refused.value) == (
        "Nothing was pulled: the images of chat are built on this machine (images.source: built). To use the official"
        " ones, write images.source: pulled into the stack file and run `make up STACK=chat`."
    )
    republished.refuse_built("chat", SETTINGS)
    republished.refuse_built("chat", {})


def test_every_image_is_asked_for_whether_it_is_there_or_not(docker: FakeDocker, client: FakeClient) -> None:
    engine_has(docker, nginx="aaaa", open_webui="bbbb")
    images.pull_again(ENGINE, RequiredImages(), Step("images"))
    assert client.pulled == [NGINX, OPEN_WEBUI]


def test_one_that_cannot_be_pulled_ends_it(docker: FakeDocker, client: FakeClient) -> None:
    engine_has(docker, nginx="aaaa", open_webui="bbbb")
    client.refusals = {NGINX: "no such host"}
    with pytest.raises(ProblemError, match=r"nginx:.* cannot be pulled: no such host\."):
        images.pull_again(ENGINE, RequiredImages(), Step("images"))
    assert client.pulled == []
