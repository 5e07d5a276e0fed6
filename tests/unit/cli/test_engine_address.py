"""The engine of a stack that is elsewhere than its state says, and another engine."""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

import pytest

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.cli import engine_address
from tests.support.fake_engine import FakeDocker

if TYPE_CHECKING:
    from open_webui_edge.cli.stack import Stack

SOCKET, OTHER = "unix:///var/run/docker.sock", "unix:///run/user/1000/docker.sock"
OF_THE_STACK = "*label=deployment=SHA256:ours"


def state(host: str | None = SOCKET, identity: str | None = "OURS", *, data: bool = True) -> dict[str, Any]:
    """Return what Pulumi exports of a stack, its provider at a host; None as earlier releases wrote it."""
    address = {} if host is None else {"host": host}
    resources: list[dict[str, Any]] = [
        {"urn": "urn::edge-host", "type": "open-webui-edge:index:DockerHost", "inputs": {**address, "ipv6": False}},
        {
            "urn": "urn::edge-host-engine",
            "type": "pulumi:providers:docker",
            "inputs": {**address, "__internal": {}},
            "outputs": {**address},
        },
    ]
    if identity is not None:
        known = {"input": identity, "output": identity}
        resources.append(
            {
                "urn": "urn::edge-host-engine-identity",
                "type": "pulumi:index:Stash",
                "inputs": {"input": identity},
                "outputs": known,
            }
        )
    if data:
        labels = [{"label": "app", "value": "open-webui-edge"}, {"label": "deployment", "value": "SHA256:ours"}]
        resources.append({"urn": "urn::edge-data", "type": "docker:index/volume:Volume", "inputs": {"labels": labels}})
    return {"version": 3, "deployment": {"resources": resources}}


class FakeStack:
    """A stack whose state is at hand."""

    name = "local"

    def __init__(self, exported: Mapping[str, Any]) -> None:
        self.exported = deepcopy(dict(exported))

    def resources(self) -> list[dict[str, Any]]:
        return self.exported["deployment"].get("resources") or []

    def edit(self, change: Callable[[str], str], purpose: str) -> None:
        assert purpose == "Recording where the engine is"
        self.exported = json.loads(change(json.dumps(self.exported)))


def follow(stack: FakeStack, address: str) -> None:
    """Follow to the engine at an address."""
    engine_address.follow(cast("Stack", stack), at(address), stack.resources())


def at(address: str) -> Engine:
    return Engine(address, "DOCKER_HOST", ("docker", "--host", address))


def an_engine(docker: FakeDocker, identity: str, volumes: str = "") -> None:
    """Have the client say what an engine does."""
    docker.answers(("*info*", 0, identity), (OF_THE_STACK, 0, volumes))


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    return lambda: capfd.readouterr().err


FOLLOWED = (
    f"The engine of local moved from {SOCKET} to {OTHER} (DOCKER_HOST); it is the same engine, so nothing else"
    " changes.\n"
)


@pytest.mark.parametrize("host", [SOCKET, None], ids=["written down", "the default of earlier releases"])
@pytest.mark.parametrize(
    ("identity", "today", "volumes"),
    [("OURS", "OURS", ""), (None, "OURS", "edge-local-data")],
    ids=["same ID", "no ID known and our volumes"],
)
def test_the_same_engine_is_followed(  # noqa: PLR0913, PLR0917 - a table
    docker: FakeDocker, said: Callable[[], str], host: str | None, identity: str | None, today: str, volumes: str
) -> None:
    an_engine(docker, today, volumes)
    stack = FakeStack(state(host, identity))
    follow(stack, OTHER)
    assert stack.exported == state(OTHER, None if identity is None else today)
    assert said() == FOLLOWED


def test_an_engine_that_stays_is_not_mentioned_and_its_state_not_touched(
    docker: FakeDocker, said: Callable[[], str]
) -> None:
    an_engine(docker, "OURS")
    stack = FakeStack(state())
    follow(stack, SOCKET)
    assert stack.exported == state()
    assert said() == ""
    # As earlier releases left it: the next update writes down what is missing.
    earlier = FakeStack(state(None, None))
    follow(earlier, SOCKET)
    assert earlier.exported == state(None, None)


@pytest.mark.parametrize(
    ("known", "address"),
    [(state(), OTHER), (state(), SOCKET), (state(None, None), OTHER), (state(OTHER, None), SOCKET)],
    ids=["elsewhere", "at the same address", "from the default of an earlier release", "to the default"],
)
def test_another_engine_is_refused_and_nothing_touched(
    docker: FakeDocker, known: Mapping[str, Any], address: str
) -> None:
    an_engine(docker, "ANOTHER")
    stack = FakeStack(known)
    with pytest.raises(ProblemError) as refused:
        follow(stack, address)
    was = known["deployment"]["resources"][1]["inputs"].get("host", SOCKET)
    assert str(refused.value) == (
        f"The Docker engine at {address} (DOCKER_HOST) is not the one that local is on (which was at {was}), so nothing"
        " on it was touched. Name the right one by DOCKER_HOST, `docker context use` or platform.docker.host; or, if"
        " that one is gone for good, add ENGINE=new to `make up STACK=local`, which goes on here without the data that"
        " is there."
    )
    assert stack.exported == known


def test_an_engine_at_the_same_address_with_our_volumes_may_have_another_id(
    docker: FakeDocker, said: Callable[[], str]
) -> None:
    an_engine(docker, "RENAMED", "edge-local-data")
    stack = FakeStack(state())
    follow(stack, SOCKET)
    assert stack.exported == state(SOCKET, "RENAMED")
    assert said() == ""


def test_a_copy_of_the_engine_elsewhere_is_refused(docker: FakeDocker) -> None:
    an_engine(docker, "COPY", "edge-local-data")
    stack = FakeStack(state())
    with pytest.raises(ProblemError) as refused:
        follow(stack, OTHER)
    assert str(refused.value) == (
        f"The Docker engine at {OTHER} (DOCKER_HOST) is not the one that local is on (which was at {SOCKET}), though"
        " it has volumes of local: it is a copy, or an engine that local has left. Nothing was touched. Name the right"
        " one by DOCKER_HOST, `docker context use` or platform.docker.host; or, if that one is gone for good, add"
        " ENGINE=new to `make up STACK=local`, which goes on here without the data that is there."
    )
    assert stack.exported == state()


@pytest.mark.parametrize("silent", ["*info*", "*volume ls*"])
def test_an_engine_that_does_not_say_which_one_it_is_counts_as_none(docker: FakeDocker, silent: str) -> None:
    docker.answers((silent, 1, "context deadline exceeded"), ("*", 0, "ANOTHER"))
    stack = FakeStack(state())
    with pytest.raises(ProblemError, match=f"^The Docker engine at {OTHER} did not answer .*nothing was changed"):
        follow(stack, OTHER)
    assert stack.exported == state()


def test_another_engine_is_taken_where_a_person_says_so(docker: FakeDocker, said: Callable[[], str]) -> None:
    an_engine(docker, "ANOTHER")
    stack = FakeStack(state())
    move = engine_address.compare(cast("Stack", stack), at(OTHER), stack.resources(), accepts_another=True)
    assert move is not None
    assert move.leaves_data
    # Until a person has confirmed it, or all else is in place.
    assert stack.exported == state()
    move.record()
    assert stack.exported == state(OTHER, "ANOTHER")
    assert said() == f"local leaves the engine at {SOCKET} for the one at {OTHER} (DOCKER_HOST), without its data.\n"


def test_where_nothing_holds_data_nothing_is_lost_by_another_engine(docker: FakeDocker) -> None:
    an_engine(docker, "ANOTHER")
    stack = FakeStack(state(data=False))
    follow(stack, OTHER)
    assert stack.exported == state(OTHER, "ANOTHER", data=False)


@pytest.mark.parametrize("empty", [{}, {"resources": []}, {"resources": [{"urn": "u", "type": "pulumi:pulumi:Stack"}]}])
def test_a_stack_that_is_on_no_engine_yet_asks_none(docker: FakeDocker, empty: dict[str, Any]) -> None:
    stack = FakeStack({"version": 3, "deployment": empty})
    follow(stack, OTHER)
    assert docker.calls == []


def test_another_engine_pins_the_images_that_it_has() -> None:
    known = state()
    known["deployment"]["resources"].append({"urn": "urn::edge-nginx-image-pin", "type": "docker:index/tag:Tag"})
    same = json.loads(engine_address.moved(OTHER, (), "OURS")(json.dumps(known)))
    assert not any("taint" in one for one in same["deployment"]["resources"])
    other = json.loads(engine_address.moved(OTHER, (), "ANOTHER", elsewhere=True)(json.dumps(known)))
    assert [one["urn"] for one in other["deployment"]["resources"] if one.get("taint")] == ["urn::edge-nginx-image-pin"]


def test_ssh_options_come_and_go_with_the_address() -> None:
    over_ssh = json.loads(
        engine_address.moved("ssh://root@far", ("-F", ".ssh/local/config"), "OURS")(json.dumps(state()))
    )
    component, provider, *_ = over_ssh["deployment"]["resources"]
    assert component["inputs"] == {
        "host": "ssh://root@far",
        "ssh_options": ["-F", ".ssh/local/config"],
        "ipv6": False,
    }
    for side in ("inputs", "outputs"):
        assert provider[side]["host"] == "ssh://root@far"
        assert provider[side]["sshOpts"] == '["-F",".ssh/local/config"]'
    assert json.loads(engine_address.moved(SOCKET, (), "OURS")(json.dumps(over_ssh))) == state()
