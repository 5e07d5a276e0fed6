"""Which engine is used, and what is said when it cannot be."""

import pytest

from bootstrap import debian, engine
from bootstrap.console import Step
from bootstrap.engine import Engine
from bootstrap.problem import ProblemError
from tests.unit.bootstrap.conftest import FakeDocker

DEFAULT = Engine(engine.DEFAULT_ADDRESS, "the default socket", ("docker", "--host", engine.DEFAULT_ADDRESS))
_NOBODY = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
_FORBIDDEN = "permission denied while trying to connect to the Docker daemon socket"


def test_the_stacks_engine_comes_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2376")
    assert engine.chosen("unix:///run/other.sock").address == "unix:///run/other.sock"


def test_the_environments_engine_comes_before_the_contexts(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.answers(("context*", 0, "far ssh://far"))
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2376")
    assert engine.chosen().origin == "DOCKER_HOST"


def test_the_active_context_comes_before_the_default_socket(docker: FakeDocker) -> None:
    docker.answers(("context*", 0, "desktop unix:///home/me/.docker/run/docker.sock"))
    found = engine.chosen()
    assert (found.origin, found.client) == ("the docker context desktop", ("docker", "--context", "desktop"))


@pytest.mark.parametrize("answer", [("context*", 0, f"default {engine.DEFAULT_ADDRESS}"), ("context*", 1, "broken")])
def test_the_default_socket_is_the_last_resort(docker: FakeDocker, answer: tuple[str, int, str]) -> None:
    docker.answers(answer)
    assert engine.chosen() == DEFAULT


@pytest.mark.parametrize(
    ("found", "words", "sentence"),
    [
        (
            DEFAULT,
            _NOBODY,
            (
                "No Docker engine answers at unix:///var/run/docker.sock (the default socket): start it "
                "(`sudo systemctl start docker`, or Docker Desktop), or name another with DOCKER_HOST."
            ),
        ),
        (
            DEFAULT,
            _FORBIDDEN,
            (
                "The Docker engine at unix:///var/run/docker.sock (the default socket) is there, but this user may not "
                "use it: `sudo usermod -aG docker me`, log in again, and run this once more."
            ),
        ),
        (
            Engine("ssh://root@far:2222", "platform.docker.host", ("docker",)),
            "error during connect:\nHost key verification failed.",
            (
                "No Docker engine answers at ssh://root@far:2222 (platform.docker.host): Host key verification failed. "
                "Try `ssh -p 2222 root@far docker version`."
            ),
        ),
        (
            DEFAULT,
            "docker: command not found",
            (
                "There is no docker client on PATH to ask unix:///var/run/docker.sock (the default socket) with; "
                "install Docker (https://docs.docker.com/engine/install)."
            ),
        ),
    ],
    ids=["nothing listens", "no permission", "ssh", "no client"],
)
def test_an_engine_that_cannot_be_used_is_explained(
    found: Engine, words: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "me")
    assert engine.explanation(found, words) == sentence


def test_an_engine_that_answers_is_left_alone(docker: FakeDocker) -> None:
    docker.answers(("*version*", 0, "28.0"))
    engine.ensure(DEFAULT, Step("engine"))
    assert len(docker.calls) == 1


def test_nothing_is_installed_where_that_is_forbidden(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.answers(("*version*", 1, _NOBODY))
    monkeypatch.setenv("BOOTSTRAP_DOCKER", "0")
    monkeypatch.setattr(debian, "install", lambda *_: pytest.fail("installed something"))
    with pytest.raises(ProblemError, match="BOOTSTRAP_DOCKER=0 forbids installing one"):
        engine.ensure(DEFAULT, Step("engine"))


def test_nothing_is_installed_beside_an_engine_that_somebody_named(
    docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.answers(("*version*", 1, _NOBODY))
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/mine.sock")
    monkeypatch.setattr(debian, "install", lambda *_: pytest.fail("installed something"))
    with pytest.raises(ProblemError, match=r"No Docker engine answers at unix:///run/mine\.sock \(DOCKER_HOST\)"):
        engine.ensure(engine.chosen(), Step("engine"))
