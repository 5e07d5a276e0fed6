"""Unit tests: pure functions, and the resource graph under Pulumi's mocks. No socket can be opened here."""

import os
from pathlib import Path

import pytest
from pytest_socket import disable_socket

from open_webui_edge.bootstrap import images
from tests.support.fake_engine import FakeClient, FakeDocker


@pytest.fixture(autouse=True)
def _no_sockets() -> None:
    # An event loop talks to itself over a socket pair.
    disable_socket(allow_unix_socket=True)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test an empty home, and no variable that leads elsewhere: no test writes to the user's files."""
    for variable in os.environ:
        if variable.startswith(("PULUMI_", "XDG_", "DOCKER_", "BOOTSTRAP_")):
            monkeypatch.delenv(variable)
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    fake = FakeDocker(folder)
    fake.answers()
    return fake


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The client of every engine."""
    fake = FakeClient()
    monkeypatch.setattr(images, "_client", lambda _: fake)
    return fake
