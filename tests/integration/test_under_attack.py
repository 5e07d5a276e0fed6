"""A deployment with default settings under attack from one address, while somebody else chats.

`make test-long ARGS='tests/integration/test_under_attack.py -s'` prints what both saw. Times are compared with those of
a quiet moment before, for people to read: a busy machine would make a test of them fail by chance.
"""

import json
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import docker.types
import pytest

from open_webui_edge.benchmarks.model_server import MODEL, ModelServer, count_to
from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient
from open_webui_edge.runtime.nginx.scripts import PORTS
from tests.integration.conftest import ADMIN_PASSWORD, FIRST_KEY, answered_by
from tests.support.stack import StackUnderTest, Workshop

pytestmark = [pytest.mark.long, pytest.mark.alone]
ATTACKS = Path(__file__).parents[1] / "support/attacks.py"
QUIET, ATTACK = 30.0, 60.0
"""Seconds."""
SIZES_OF_DELETED_FILES = "find /proc/[0-9]*/fd -lname '*(deleted)' -exec stat -Lc %s {} + 2>/dev/null || true"
EMAIL = "admin@example.com"
HTTP, HTTPS = PORTS


@dataclass
class Seen:
    """What an honest client saw, in milliseconds."""

    ready: list[float] = field(default_factory=list[float])
    first_token: list[float] = field(default_factory=list[float])
    whole_answer: list[float] = field(default_factory=list[float])
    failures: list[str] = field(default_factory=list[str])

    def of(self, kind: str) -> float:
        """Return the 95th percentile of one kind."""
        return statistics.quantiles(getattr(self, kind), n=20, method="inclusive")[-1]


@pytest.fixture(scope="module")
def attacked(workshop: Workshop, model_server: ModelServer) -> Iterator[StackUnderTest]:
    stack = StackUnderTest(
        workshop,
        "it-attacked",
        {"open_webui": {"admin": {"email": EMAIL}}, "models": answered_by(model_server)},
        secrets={"models.providers[0].api_key": FIRST_KEY, "open_webui.admin.password": ADMIN_PASSWORD},
    )
    with stack.running():
        yield stack


def watched(stack: StackUnderTest, over: threading.Event, seconds: float) -> Seen:
    """Ask /ready and chat, in turn, until the time or the event is over."""
    seen, until = Seen(), time.monotonic() + seconds
    with stack.client() as client:
        client.sign_in(EMAIL, ADMIN_PASSWORD)
        while time.monotonic() < until and not over.is_set():
            try:
                for _ in range(5):
                    began = time.monotonic()
                    if not client.ready():
                        seen.failures.append("/ready says no")
                    seen.ready.append((time.monotonic() - began) * 1e3)
                _chat(client, seen)
            except Exception as error:  # noqa: BLE001 - whatever a user would have lost
                seen.failures.append(f"{type(error).__name__}: {error}")
    return seen


def _chat(client: OpenWebUIClient, seen: Seen) -> None:
    began = time.monotonic()
    answer = client.chat_over_sse(count_to(10, every=0.01), MODEL)
    seen.first_token.append(answer.seconds_to_first * 1e3)
    seen.whole_answer.append((time.monotonic() - began) * 1e3)


def attack(stack: StackUnderTest) -> dict[str, int]:
    """Attack from a container of the stack's network, and return what came of it."""
    ((network, attached),) = stack.container("nginx").attrs["NetworkSettings"]["Networks"].items()
    site = f"localhost:{stack.https_port}"
    container = stack.engine.containers.run(
        stack.container("open-webui").attrs["Config"]["Image"],
        [attached["IPAddress"], str(HTTPS), str(HTTP), site, str(ATTACK)],
        entrypoint=["python3", "-I", "-c", ATTACKS.read_text()],
        network=network,
        # An attacker's machine is not ours: it takes no more than a part of one core here.
        nano_cpus=500_000_000,
        ulimits=[docker.types.Ulimit(name="nofile", soft=20000, hard=20000)],
        detach=True,
    )
    try:
        assert container.wait(timeout=ATTACK * 4)["StatusCode"] == 0, container.logs().decode()
        return json.loads(container.logs(stderr=False))
    finally:
        container.remove(force=True)


@dataclass
class Used:
    """The most that a container used while it was watched."""

    memory: int = 0
    """Bytes without the page cache."""
    deleted_files: int = 0
    """Bytes of files that are open and have no name, on the engine's disk."""


def use(stack: StackUnderTest, role: str, used: Used) -> None:
    """Take in what a container uses now."""
    memory: Any = stack.engine.api.stats(stack.container(role).name or "", stream=False)["memory_stats"]
    cache = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
    used.memory = max(used.memory, memory["usage"] - cache)
    sizes = stack.read(role, "sh", "-c", SIZES_OF_DELETED_FILES).split()
    used.deleted_files = max(used.deleted_files, sum(map(int, sizes)))


def processes(stack: StackUnderTest) -> dict[str, tuple[object, ...]]:
    """Return what tells a container, or a worker of Nginx, from one that replaced it."""
    states = {role: stack.container(role).attrs["State"] for role in ("nginx", "open-webui")}
    marks = {role: (state["StartedAt"], state["Pid"], state["OOMKilled"]) for role, state in states.items()}
    workers = stack.container("nginx").top()["Processes"]
    return {**marks, "workers": tuple(sorted(process[1] for process in workers if "worker" in process[-1]))}


def test_nobody_else_loses_anything_and_nothing_is_killed(attacked: StackUnderTest) -> None:
    before = processes(attacked)
    quiet = watched(attacked, threading.Event(), QUIET)
    assert quiet.failures == []
    over = threading.Event()
    used = {"nginx": Used(), "open-webui": Used()}
    with ThreadPoolExecutor() as pool:
        under_attack = pool.submit(watched, attacked, over, ATTACK * 4)
        attacking = pool.submit(attack, attacked)
        while not attacking.done():
            for role, most in used.items():
                use(attacked, role, most)
        over.set()
        loud, came = under_attack.result(), attacking.result()
    for kind in ("ready", "first_token", "whole_answer"):
        was, became = quiet.of(kind), loud.of(kind)
        print(f"{kind}, p95: {was:.1f} ms quiet, {became:.1f} ms under attack, {became / was:.2f} x")  # noqa: T201
    print(json.dumps(came, indent=1), used)  # noqa: T201
    assert loud.failures == []
    assert len(loud.whole_answer) > 5
    assert processes(attacked) == before
    for role, most in used.items():
        limit = attacked.container(role).attrs["HostConfig"]["Memory"]
        assert most.memory < limit * 0.8, f"{role} used {most.memory} of {limit}"
        assert most.deleted_files < 256 << 20, f"{role} holds {most.deleted_files} bytes of deleted files"
    assert any(name.startswith("body") for name in came), came
