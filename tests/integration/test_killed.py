"""An update or a removal that is killed in its midst: the same command, given again, goes on.

Nothing cheaper shows what a killed Pulumi leaves behind: its lock, unfinished operations in the state, and on the
engine what no state knows.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from tests.support.stack import NO_CHANGE, Ended, StackUnderTest, Workshop, end

pytestmark = pytest.mark.long

LIFTED = "was killed and left it locked (process "


@pytest.fixture(scope="module")
def stack(
    engine: docker.DockerClient, workshop: Workshop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StackUnderTest]:
    """A stack that has never been up."""
    del engine
    # Whether its containers are healthy is not what this is about.
    own = Workshop.at(tmp_path_factory.mktemp("killed"), workshop.environment).wait_for_no_health()
    closed = {"models": {"ollama": {"mode": "none"}}, "proxy": {"maintenance": True}}
    stack = StackUnderTest(own, "it-killed", closed)
    try:
        yield stack.create()
    finally:
        stack.remove()


def lock(stack: StackUnderTest) -> list[Path]:
    """Return the locks of the stack."""
    state = Path(stack.workshop.environment["PULUMI_BACKEND_URL"].removeprefix("file://"))
    return list((state / ".pulumi/locks/organization/open-webui-edge" / stack.name).glob("*.json"))


def holder(stack: StackUnderTest) -> int:
    """Return the number of the process that holds the stack."""
    (held,) = lock(stack)
    return int(json.loads(held.read_text())["pid"])


def has_appeared(kind: str, role: str = "") -> Callable[[StackUnderTest], bool]:
    """Return whether the engine has something of the stack."""
    return lambda stack: any(role in name for name in stack.owned(kind))


def has_gone(kind: str, role: str) -> Callable[[StackUnderTest], bool]:
    """Return whether the engine has something of the stack no more."""
    return lambda stack: not has_appeared(kind, role)(stack)


def start(stack: StackUnderTest, target: str, **variables: str) -> subprocess.Popen[str]:
    """Start a command."""
    workshop = Workshop(stack.workshop.directory, {**stack.workshop.environment, **variables})
    return workshop.start("make", target, f"STACK={stack.name}")


def kill(stack: StackUnderTest, target: str, moment: Callable[[StackUnderTest], bool], **variables: str) -> str:
    """Kill a command with all that it started once it holds the stack and a moment has come; return what it wrote."""
    before = lock(stack)
    started = start(stack, target, **variables)
    try:
        wait_until(lambda: set(lock(stack)) - set(before) and moment(stack), what="the moment", deadline=300)
        assert started.poll() is None, "it ended before"
    finally:
        written = end(started)
    assert lock(stack), "it was killed too late"
    return written


def make(stack: StackUnderTest, target: str, **variables: str) -> Ended:
    """Run a command to its end."""
    return Workshop(stack.workshop.directory, {**stack.workshop.environment, **variables}).run(
        "make", target, f"STACK={stack.name}"
    )


def test_a_first_update_that_is_killed_at_any_moment_goes_on(stack: StackUnderTest) -> None:
    moments = [
        lambda _: True,
        has_appeared("volumes"),
        has_appeared("networks"),
        has_appeared("containers"),
        has_appeared("containers", "nginx"),
    ]
    written = [kill(stack, "up", moment) for moment in moments]
    assert [LIFTED in text for text in written] == [False, True, True, True, True], written
    up = make(stack, "up").succeeded().output
    assert LIFTED in up
    again = make(stack, "up").succeeded().output
    assert LIFTED not in again
    assert NO_CHANGE.search(again), again


def test_a_killed_change_goes_on_and_the_outputs_stay(stack: StackUnderTest) -> None:
    outputs, replica = stack.outputs(), stack.container("open-webui").id
    stack.config["open_webui"] = {"environment": {"WEBUI_NAME": "Killed"}}
    stack.write()

    def is_replaced(_: StackUnderTest) -> bool:
        return replica not in {one.id for one in stack.engine.containers.list(all=True, ignore_removed=True)}

    # Pulumi alone: `make` says so and ends.
    started = start(stack, "up")
    wait_until(lambda: lock(stack) and is_replaced(stack), what="the old replica to go", deadline=300)
    os.kill(holder(stack), signal.SIGKILL)
    written, _ = started.communicate(timeout=60)
    assert started.returncode != 0, written
    assert "Traceback" not in written
    assert stack.outputs() == outputs
    up = make(stack, "up").succeeded().output
    assert LIFTED in up
    assert stack.outputs() == outputs
    assert stack.container("open-webui").id != replica
    assert NO_CHANGE.search(stack.up().succeeded().output)


@pytest.mark.parametrize(
    ("topic", "settings"),
    [("site", {"domain": "no name"}), ("data", {"volume": "it-killed-nowhere"})],
    ids=["settings are refused", "the engine is"],
)
def test_an_update_that_fails_at_once_leaves_the_outputs(
    stack: StackUnderTest, topic: str, settings: dict[str, object]
) -> None:
    outputs, before = stack.outputs(), dict(stack.config)
    stack.config[topic] = {**stack.config.get(topic, {}), **settings}
    stack.write()
    try:
        assert f"{topic}.{next(iter(settings))}" in stack.up().failed().output
        assert stack.outputs() == outputs
    finally:
        stack.config = before
        stack.write()


def test_an_update_that_fails_in_its_midst_leaves_the_outputs(stack: StackUnderTest) -> None:
    outputs, installer = stack.outputs(), stack.container("nginx-installer")
    image, name = installer.image, installer.name
    assert image is not None
    installer.remove(force=True)
    somebody_elses = stack.engine.containers.create(image, name=name)
    try:
        assert "belongs to another deployment" in stack.up().failed().output
        assert stack.outputs() == outputs
    finally:
        somebody_elses.remove()
    stack.up().succeeded()


def test_an_update_that_still_runs_is_not_disturbed(stack: StackUnderTest) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:  # noqa: S607 - whichever is first on PATH
        state = Path(stack.workshop.environment["PULUMI_BACKEND_URL"].removeprefix("file://"))
        folder = state / ".pulumi/locks/organization/open-webui-edge" / stack.name
        folder.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(["date", "-u", "+%Y-%m-%dT%H:%M:%S.%NZ"], capture_output=True, text=True, check=True)  # noqa: S607
        hostname = subprocess.run(["uname", "-n"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607
        held = {"pid": process.pid, "username": "ada", "hostname": hostname, "timestamp": made.stdout.strip()}
        file = folder / "0.json"
        file.write_text(json.dumps(held))
        for target in ("up", "down"):
            ended = make(stack, target).failed().output
            assert f"An update of {stack.name} runs on this machine (process {process.pid}, since" in ended
        file.write_text(json.dumps({**held, "hostname": "elsewhere"}))
        said = make(stack, "down").failed().output
        (command,) = (
            line.partition("unlock the stack: ")[2] for line in said.splitlines() if "unlock the stack: " in line
        )
        assert process.stdin is not None
        process.stdin.close()
    # As it is printed, in a shell that knows nothing and in any folder.
    freed = Workshop(Path("/"), stack.workshop.environment).run("bash", "-c", command)
    freed.succeeded()
    assert lock(stack) == []


def test_a_removal_that_is_killed_at_any_moment_goes_on(stack: StackUnderTest) -> None:
    kill(stack, "down", lambda _: True)
    kill(stack, "down", has_gone("containers", "nginx-installer"))
    kill(stack, "down", has_gone("containers", "open-webui"))
    down = make(stack, "down").succeeded().output
    assert LIFTED in down
    assert stack.owned("containers") == []
    assert stack.owned("networks") == []
    assert stack.owned("volumes") == ["edge-it-killed-letsencrypt", "edge-it-killed-open-webui-data"]


def test_a_deletion_that_is_killed_goes_on(stack: StackUnderTest) -> None:
    asked = {"DATA": "delete", "YES": "1"}
    kill(stack, "down", lambda _: True, **asked)
    kill(stack, "down", has_gone("volumes", "letsencrypt"), **asked)
    gone = make(stack, "down", **asked).succeeded().output
    assert "and its data are gone" in gone
    assert stack.owned("volumes") == []
    exported = json.loads(stack.pulumi("stack", "export", "--stack", stack.name).succeeded().output)
    assert (exported["deployment"].get("resources") or []) == []
