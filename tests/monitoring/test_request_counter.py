"""The program that counts requests, in the image that it runs in and with the rights that it has there."""

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.runtime import delivery
from open_webui_edge.settings.images import OPEN_WEBUI_VERSION, ImageSource, open_webui
from tests.support.machine import image_here

LINE = "pages answer 200 0.012 0.000 0.011 - 1200 400 HTTP/2.0\n"
MEMORY = 64 << 20
SILENT_CLIENTS = """
import socket

opened = [socket.create_connection(("127.0.0.1", 3903)) for _ in range(400)]
closed = 0
for one in opened:
    try:
        one.sendall(b"GET /metr")
        closed += not one.recv(1)
    except OSError:
        closed += 1
print(closed, "closed")
"""
"""What another container could run."""
REQUESTS = 'open_webui_edge_requests_total{kind="answer",location="pages",status="200"}'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What Nginx writes; it belongs to root, and others may read it."""
    return tmp_path / "requests.log"


@pytest.fixture
def counter(log: Path) -> Iterator[Container]:
    """The program at work, as a stack runs it."""
    image = image_here(open_webui(OPEN_WEBUI_VERSION).reference(ImageSource.BUILT, None))
    log.parent.chmod(0o755)
    log.touch(mode=0o644)
    client = docker.from_env()
    container = client.containers.run(
        image,
        [str(log)],
        entrypoint=["python3", "-I", "-c", delivery.program("open_webui/request_counter.py")],
        user="65534:65534",
        read_only=True,
        init=True,
        cap_drop=["ALL"],
        mem_limit=MEMORY,
        memswap_limit=MEMORY,
        network_mode="none",
        volumes={str(log.parent): {"bind": str(log.parent), "mode": "ro"}},
        detach=True,
    )
    try:
        wait_until(lambda: shown(container), what="its first answer")
        yield container
    finally:
        container.remove(force=True)
        client.close()


def inside(counter: Container, *words: str) -> tuple[int, str]:
    """Run a command next to the program; return its exit code and what it said."""
    ended = counter.exec_run([*words])
    assert isinstance(ended.output, bytes)
    return ended.exit_code or 0, ended.output.decode()


def shown(counter: Container) -> str:
    """Return what Prometheus would be told; "" where nothing answers."""
    code, said = inside(counter, "curl", "--silent", "--fail", "--max-time", "4", "http://127.0.0.1:3903/metrics")
    return "" if code else said


def requests(counter: Container) -> int:
    values = [line.rpartition(" ")[2] for line in shown(counter).splitlines() if line.startswith(REQUESTS)]
    return int(values[0]) if values else 0


def append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def wait_for(counter: Container, number: int) -> None:
    wait_until(lambda: requests(counter) == number, what=f"{number} requests", every=0.2)


def test_it_counts_across_emptying_replacing_and_a_restart(counter: Container, log: Path) -> None:
    append(log, LINE * 1000)
    wait_for(counter, 1000)
    # As the proxy's scripts do where it is long.
    log.write_text("")
    append(log, LINE)
    wait_for(counter, 1001)
    log.rename(log.with_suffix(".1"))
    append(log, LINE)
    wait_for(counter, 1002)
    # Prometheus knows that a counter begins again; what is in the file was counted.
    counter.restart(timeout=5)
    wait_until(lambda: shown(counter), what="an answer after the restart")
    assert requests(counter) == 0
    append(log, LINE)
    wait_for(counter, 1)


def test_it_ends_at_once_when_it_is_told_to(counter: Container) -> None:
    counter.stop(timeout=30)
    counter.reload()
    assert counter.attrs["State"]["ExitCode"] == 143


def test_who_writes_is_not_held_up_by_a_reader_that_stands_still(counter: Container, log: Path) -> None:
    append(log, LINE)
    wait_for(counter, 1)
    counter.pause()
    append(log, LINE * 100_000)
    counter.unpause()
    wait_for(counter, 100_001)


def test_hostile_lines_and_clients_leave_it_within_its_memory(counter: Container, log: Path) -> None:
    # Longer than all its memory, and without an end.
    with log.open("ab") as file:
        for _ in range(80):
            file.write(b"\xffpages " * (1 << 17))
    append(log, "\n" + LINE)
    code, said = inside(counter, "python3", "-I", "-c", SILENT_CLIENTS)
    assert (code, said) == (0, "400 closed\n")
    wait_for(counter, 1)
    counter.reload()
    assert counter.attrs["RestartCount"] == 0
    assert not counter.attrs["State"]["OOMKilled"]
    _, peak = inside(counter, "sh", "-c", "sed -n 's/^VmHWM:[^0-9]*//p' /proc/[0-9]*/status | sort -n | tail -n 1")
    assert int(peak.split()[0]) << 10 < MEMORY / 1.5


def test_it_says_why_it_cannot_read(counter: Container, log: Path) -> None:
    log.chmod(0o600)
    counter.restart(timeout=5)
    assert counter.wait(timeout=30)["StatusCode"] == 1
    said = counter.logs(tail=1).decode()
    assert said == f"request-counter: [Errno 13] Permission denied: '{log}'\n"
