"""An update that changes nothing changes nothing: `make up` three times, under load, on every engine.

Nothing cheaper shows it: what a container's resource is compared with is what an engine reads back, in its own order
and with its own defaults.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.support.checkout import Checkout, settings
from tests.support.load import Http1, Http2, Load, SocketIo
from tests.support.machine import pulumi_environment
from tests.support.recorded_states import STACKS, recorded, restored
from tests.support.stack import NO_CHANGE, PASSPHRASE, StackUnderTest

pytestmark = pytest.mark.every_engine


@pytest.fixture(scope="module")
def checkout(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    del engine
    pulumi_environment()  # builds the toolchain, or says that it cannot
    return Checkout.at(tmp_path_factory.mktemp("no-op"))


@contextmanager
def up(checkout: Checkout, name: str, config: dict[str, Any]) -> Iterator[StackUnderTest]:
    """Bring a stack up by `make up`, which need not be its first update; remove it when the block ends."""
    stack = checkout.stack(name, config)
    try:
        checkout.make("up", name).succeeded()
        stack.outputs()
        yield stack
    finally:
        stack.remove()


def assert_nothing_changes(checkout: Checkout, stack: StackUnderTest, *, http3: bool = False) -> None:
    """Run `make up` twice more under load, and fail on a change, a lost request and a container that is another."""
    before = identities(stack)
    clients = [Http1(connections=2, every=0.05), Http2(every=0.05), SocketIo()]
    with Load(stack.url, stack.ca_file, *clients) as load:
        for _ in range(2):
            ended = checkout.make("up", stack.name).succeeded()
            assert NO_CHANGE.search(ended.output), ended.output
    assert load.failures == [], str(load)
    assert load.requests > 100, str(load)
    assert identities(stack) == before
    assert ("443/udp" in stack.container("nginx").attrs["NetworkSettings"]["Ports"]) is http3


def identities(stack: StackUnderTest) -> dict[str, tuple[str, str]]:
    """Return for each container of a stack which one it is, and since when it runs."""
    containers = [stack.engine.containers.get(name) for name in stack.owned("containers")]
    assert containers
    return {str(one.name): (str(one.id), one.attrs["State"]["StartedAt"]) for one in containers}


def test_three_updates_of_the_example_change_nothing_and_lose_no_request(checkout: Checkout) -> None:
    config = settings()
    checkout.write("no-op", config)
    with up(checkout, "no-op", config) as stack:
        assert_nothing_changes(checkout, stack)


@pytest.mark.long
def test_three_updates_of_replicas_change_nothing_and_lose_no_request(checkout: Checkout) -> None:
    config = settings(
        open_webui={"admin": {"email": "admin@example.com"}, "replicas": 3},
        data={"postgres": {"mode": "container"}, "redis": {"mode": "container"}},
        proxy={"http3": True, "metrics": {"enabled": True}},
        monitoring={"prometheus": {"enabled": True}},
        backup={"enabled": True},
    )
    checkout.write("no-op-replicas", config)
    with up(checkout, "no-op-replicas", config) as stack:
        assert_nothing_changes(checkout, stack, http3=True)


@pytest.mark.long
@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("folder", recorded(), ids=lambda folder: folder.name)
def test_a_stack_of_an_earlier_version_settles_with_its_first_update(
    impatient: Checkout, folder: Path, name: str
) -> None:
    with restored(impatient.with_pulumi, folder, name) as stack:
        try:
            # It was recorded on another engine: nothing of it is here, nor are the images that it is pinned to.
            state = json.loads(stack.pulumi("stack", "export", "--stack", stack.name).succeeded().output)
            pins = [one["urn"] for one in state["deployment"]["resources"] if one["type"] == "docker:index/tag:Tag"]
            stack.pulumi("state", "taint", "--yes", "--stack", stack.name, *pins).succeeded()
            impatient.make("up", stack.name, ENGINE="new").succeeded()
            before = {name: which for name, (which, _) in identities(stack).items()}
            for _ in range(2):
                ended = impatient.make("up", stack.name).succeeded()
                assert NO_CHANGE.search(ended.output), ended.output
            assert {name: which for name, (which, _) in identities(stack).items()} == before
        finally:
            stack.remove()


@pytest.fixture(scope="module")
def impatient(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose updates wait for no health: one of the recorded stacks asks an issuer that is nowhere."""
    del checkout
    directory = tmp_path_factory.mktemp("recorded")
    passphrase = directory / "passphrase"
    passphrase.write_text(PASSPHRASE)
    made = Checkout.at(directory, PULUMI_CONFIG_PASSPHRASE_FILE=str(passphrase))
    made.workshop.wait_for_no_health()
    return made
