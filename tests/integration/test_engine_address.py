"""A stack whose engine is reached elsewhere than before; and another engine in the place of its own.

Every run tests that another engine is refused, which protects data. Going on at another address is marked long: each
test takes an update.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from open_webui_edge.engine.engine import Engine
from tests.support.other_engine import OtherEngine, other_engine
from tests.support.stack import NO_CHANGE, Ended, StackUnderTest, Workshop

HERE = Engine(None).host


@pytest.fixture(scope="module")
def stack(
    engine: docker.DockerClient, workshop: Workshop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StackUnderTest]:
    """A stack of a person who said nothing of an engine, or what the tests are told."""
    del engine
    # Whether its containers are healthy is not what this is about.
    own = Workshop.at(tmp_path_factory.mktemp("addresses"), workshop.environment).wait_for_no_health()
    stack = StackUnderTest(own, "it-address", {"models": {"ollama": {"mode": "none"}}})
    try:
        stack.create()
        run(stack, "pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", stack.name).succeeded()
        yield stack
    finally:
        make(stack, "preview")
        stack.remove()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="edge-") as path:
        yield Path(path)


def run(stack: StackUnderTest, *words: str, **variables: str | None) -> Ended:
    """Run a command; a variable that is None is not set."""
    environment = {**stack.workshop.environment, **variables}
    remaining = {key: value for key, value in environment.items() if value is not None}
    return Workshop(stack.workshop.directory, remaining).run(*words)


def make(stack: StackUnderTest, target: str, **variables: str | None) -> Ended:
    """Run one command for the stack."""
    return run(stack, "make", target, f"STACK={stack.name}", **variables)


@contextmanager
def a_second_address(folder: Path) -> Iterator[str]:
    """Lend another address of the engine, which leads nowhere when the block ends."""
    socket = folder / "docker.sock"
    socket.symlink_to(HERE.removeprefix("unix://"))
    yield f"unix://{socket}"
    socket.unlink()


def moved(stack: StackUnderTest, before: str, now: str) -> str:
    """Return what is said when the engine is elsewhere."""
    return f"The engine of {stack.name} moved from {before} to {now}; it is the same engine, so nothing else changes."


def identities(stack: StackUnderTest) -> dict[str, str | None]:
    """Return which container each is."""
    return {name: stack.engine.containers.get(name).id for name in stack.owned("containers")}


@pytest.mark.long
def test_an_address_that_is_given_and_then_no_more_changes_nothing(stack: StackUnderTest, folder: Path) -> None:
    before = identities(stack)
    origin = "DOCKER_HOST" if os.environ.get("DOCKER_HOST") else "the default socket"
    with a_second_address(folder) as there:
        given = make(stack, "preview", DOCKER_HOST=there).succeeded().output
        assert moved(stack, HERE, f"{there} (DOCKER_HOST)") in given
        assert NO_CHANGE.search(given), given
        again = make(stack, "preview", DOCKER_HOST=there).succeeded().output
        assert "The engine of" not in again
        assert NO_CHANGE.search(again), again
    taken = make(stack, "preview").succeeded().output
    assert moved(stack, there, f"{HERE} ({origin})") in taken
    assert NO_CHANGE.search(taken), taken
    assert identities(stack) == before


@pytest.mark.long
def test_another_docker_context_changes_nothing(stack: StackUnderTest, folder: Path) -> None:
    before = identities(stack)
    configured = {"DOCKER_CONFIG": str(folder / "configuration"), "DOCKER_HOST": None}
    with a_second_address(folder) as there:
        environment = {**os.environ, "DOCKER_CONFIG": str(folder / "configuration")}
        for words in (("create", "edge-it", "--docker", f"host={there}"), ("use", "edge-it")):
            subprocess.run(["docker", "context", *words], env=environment, check=True, capture_output=True)  # noqa: S603, S607 - the test's own words
        used = make(stack, "preview", **configured).succeeded().output
        assert moved(stack, HERE, f"{there} (the docker context edge-it)") in used
        assert NO_CHANGE.search(used), used
        # The provider would take a context of that name for the last word.
        named = make(stack, "preview", DOCKER_CONTEXT="no-such", DOCKER_HOST=there).succeeded().output
        assert NO_CHANGE.search(named), named
    make(stack, "preview").succeeded()
    assert identities(stack) == before


@pytest.mark.long
def test_plain_pulumi_goes_on_at_another_address_after_make_env(stack: StackUnderTest, folder: Path) -> None:
    before = identities(stack)
    up = f"pulumi up --yes --skip-preview --non-interactive --stack {stack.name}"
    line = f'eval "$(make -s env STACK={stack.name})" && {up}'
    with a_second_address(folder) as there:
        ended = run(stack, "bash", "-c", line, DOCKER_HOST=there).succeeded()
        assert NO_CHANGE.search(ended.output), ended.output
    ended = run(stack, "bash", "-c", line).succeeded()
    assert NO_CHANGE.search(ended.output), ended.output
    assert identities(stack) == before


@pytest.fixture
def another(folder: Path, engine: docker.DockerClient) -> Iterator[OtherEngine]:
    with other_engine(folder / "other.sock", engine) as server:
        yield server


@pytest.mark.parametrize("target", ["preview", "up", "down"])
def test_another_engine_is_refused_before_anything_is_touched(
    stack: StackUnderTest, another: OtherEngine, target: str
) -> None:
    before, containers = _state(stack), identities(stack)
    ended = make(stack, target, DOCKER_HOST=another.address).failed()
    assert (
        ended.output.count(
            f"The Docker engine at {another.address} (DOCKER_HOST) is not the one that {stack.name} is on (which was at"
            f" {HERE}), so nothing on it was touched."
        )
        == 1
    ), ended.output
    assert f"add ENGINE=new to `make up STACK={stack.name}`" in ended.output
    assert _state(stack) == before
    assert another.changes == []
    assert identities(stack) == containers


def test_a_stack_goes_down_at_another_address(stack: StackUnderTest, folder: Path) -> None:
    with a_second_address(folder) as there:
        down = make(stack, "down", DOCKER_HOST=there).succeeded().output
        assert moved(stack, HERE, f"{there} (DOCKER_HOST)") in down
        assert stack.owned("containers") == []
    back = make(stack, "preview").succeeded().output
    assert moved(stack, there, HERE) in back.replace(" (DOCKER_HOST)", "").replace(" (the default socket)", "")


@pytest.mark.parametrize("words", [("preview",), ("up", "--yes", "--skip-preview")], ids=["preview", "up"])
def test_plain_pulumi_refuses_another_engine_too(
    stack: StackUnderTest, another: OtherEngine, words: tuple[str, ...]
) -> None:
    # Its containers are gone: on one machine their ports, which another engine knows nothing of, would be said first.
    identity, volumes = stack.engine.info()["ID"], stack.owned("volumes")
    ended = run(
        stack, "pulumi", *words, "--non-interactive", "--stack", stack.name, DOCKER_HOST=another.address
    ).failed()
    _, _, diagnostics = ended.output.partition("Diagnostics:")
    assert (
        diagnostics.count(
            f"The Docker engine at {another.address} is not the one that {stack.name} is on (its ID is {identity})"
        )
        == 1
    ), ended.output
    assert another.changes == []
    assert stack.owned("volumes") == volumes


@pytest.mark.long
def test_data_is_deleted_at_another_address(stack: StackUnderTest, folder: Path) -> None:
    with a_second_address(folder) as there:
        make(stack, "down", DATA="delete", YES="1", DOCKER_HOST=there).succeeded()
    assert stack.owned("volumes") == []


def _state(stack: StackUnderTest) -> str:
    return stack.pulumi("stack", "export", "--stack", stack.name).succeeded().output
