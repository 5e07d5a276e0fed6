"""How the launcher ends the application: a real child, whose answers are tasks as Open WebUI keeps them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.open_webui import launch, upgrade
from tests.support.delivered import deliver

# What uvicorn and Open WebUI do: serve until SIGTERM, with a dictionary of tasks; here a file says which there are.
APPLICATION = """
import pathlib, signal, sys, time
import open_webui.tasks as state

class Tasks:
    def __iter__(self):
        return iter(pathlib.Path("begun").read_text().split())

state.tasks = Tasks()
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
print("started", flush=True)
while not told:
    time.sleep(0.02)
print("told with", len(list(state.tasks)), flush=True)
sys.exit(7)
"""
DEAF = """
import pathlib, signal, time
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
pathlib.Path(__import__("sys").argv[1]).touch()
time.sleep(60)
"""


class Launched:
    """A launcher and its application."""

    def __init__(self, directory: Path, *, drain: float) -> None:
        self.begun = directory / "begun"
        self.begun.write_text("")
        given = directory / "given"
        (given / "inside").mkdir(parents=True)
        environment = {
            "environment": {},
            "saved_settings": {},
            "first": False,
            "announced": False,
            "drain": drain,
            "brought": {},
            "version": "0.12.4",
            "snapshot": True,
        }
        (given / "environment.json").write_text(json.dumps(environment))
        (given / "inside/sitecustomize.py").write_text(delivery.program("open_webui/task_reporter.py"))
        launcher = deliver(given, "open_webui/launch.py", "open_webui/upgrade.py")
        data = directory / "data"
        data.mkdir()
        upgrade.Journal(version="0.12.4").write(data)
        package = directory / "open_webui"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "tasks.py").write_text("tasks = {}")
        (directory / "application.py").write_text(APPLICATION)
        self.process = subprocess.Popen(  # noqa: S603 - our own
            [sys.executable, str(launcher), str(given), sys.executable, "application.py"],
            cwd=directory,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines = iter(self.process.stdout)
        assert next(self.lines) == "started\n"

    def write(self, names: str) -> None:
        """Say which answers are being written; at once, as a dictionary changes."""
        unfinished = self.begun.with_suffix(".new")
        unfinished.write_text(names)
        unfinished.replace(self.begun)

    def tell(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def rest(self) -> list[str]:
        return [line.strip() for line in self.lines]


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Launched]:
    started = Launched(tmp_path, drain=30)
    yield started
    started.process.kill()
    started.process.wait()


def test_without_answers_under_way_it_ends_at_once_with_the_application_s_exit_code(launched: Launched) -> None:
    began = time.monotonic()
    launched.tell()
    assert launched.rest() == ["launch: ending the application", "told with 0"]
    assert launched.process.wait(10) == 7
    assert time.monotonic() - began < 5


def test_it_waits_for_answers_that_were_begun_and_for_no_others(launched: Launched) -> None:
    launched.write("one two")
    launched.tell()
    assert "2 answers are being written" in next(launched.lines)
    launched.write("two three")
    with pytest.raises(subprocess.TimeoutExpired):
        launched.process.wait(1)
    launched.write("three")
    assert launched.rest() == ["launch: ending the application", "told with 1"]


def test_it_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    launched = Launched(tmp_path, drain=1)
    launched.write("endless")
    launched.tell()
    assert "for at most 1 s" in next(launched.lines)
    assert launched.rest() == ["launch: ending the application", "told with 1"]


@pytest.fixture
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals_as_before")
def test_an_application_that_does_not_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_KILL_AFTER", 0.3)
    deaf = tmp_path / "deaf"
    application = launch.Application([sys.executable, "-c", DEAF, str(deaf)], tmp_path, drain=0.1, is_probed=False)

    def tell() -> None:
        wait_until(deaf.exists, what="an application that ignores what it is told")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=tell, daemon=True).start()
    assert application.run() == 128 + signal.SIGKILL


def test_an_application_that_ends_by_itself_ends_the_launcher(launched: Launched) -> None:
    # As the kernel does to one that takes too much memory.
    number = int((launched.begun.parent / "given/inside/process").read_text())
    os.kill(number, signal.SIGKILL)
    assert launched.process.wait(10) == 128 + signal.SIGKILL


@pytest.mark.usefixtures("_signals_as_before")
def test_what_an_earlier_start_left_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "process").write_text("1")
    application = launch.Application([sys.executable, "-c", ""], tmp_path, drain=1, is_probed=False)
    assert application.run() == 0
    assert application.running() == set()


def test_services_that_are_not_there_yet_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = ["refused", "refused", None, None]
    asked: list[tuple[str, int]] = []

    def refusal(address: tuple[str, int]) -> str | None:
        asked.append(address)
        return refusals.pop(0)

    monkeypatch.setattr(launch, "connection_error", refusal)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@postgres:5433/x")
    monkeypatch.setenv("REDIS_URL", "redis://:p@redis")
    launch.wait_for_services({})
    assert asked == [("postgres", 5433)] * 3 + [("redis", 6379)]


def test_a_service_that_never_comes_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "connection_error", lambda _: "refused")
    monkeypatch.setattr(launch, "_SERVICES_TIMEOUT", -1)
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter22@postgres/x")
    with pytest.raises(SystemExit, match="DATABASE_URL: nothing accepts connections at postgres:5432") as ended:
        launch.wait_for_services({})
    assert "hunter22" not in str(ended.value)


def test_a_service_of_somebody_else_s_must_let_the_application_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "connection_error", lambda address: None if address[0] == "db" else "refused")
    monkeypatch.setattr(launch, "sign_in_error", lambda variable, _: f"no {variable} for you")
    monkeypatch.setattr(launch, "_EXTERNAL_SERVICE_TIMEOUT", -1)
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter22@db/x")
    monkeypatch.setenv("REDIS_URL", "redis://:hunter22@redis:6380")
    with pytest.raises(SystemExit) as ended:
        launch.wait_for_services({"DATABASE_URL": "data.postgres.url", "REDIS_URL": "data.redis.url"})
    assert str(ended.value).splitlines() == [
        "launch: data.postgres.url: db:5432 does not let the application in (no DATABASE_URL for you)",
        "launch: data.redis.url: nothing accepts connections at redis:6380 (refused)",
    ]
    monkeypatch.setattr(launch, "sign_in_error", lambda *_: None)
    monkeypatch.delenv("REDIS_URL")
    launch.wait_for_services({"DATABASE_URL": "data.postgres.url"})
    assert capsys.readouterr().out == ""
