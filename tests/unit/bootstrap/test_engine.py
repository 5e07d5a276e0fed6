"""Which engine is used, and what is said when it cannot be."""

from pathlib import Path

import pytest

from bootstrap import debian, engine, places
from bootstrap.console import Step
from bootstrap.engine import Engine
from bootstrap.problem import ProblemError
from components.docker.ssh import TunnelError
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


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE"


def test_a_host_whose_key_is_known_is_reached_by_the_connection_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "CHECKOUT", tmp_path)
    monkeypatch.setattr(engine, "forwarded_socket", lambda *words: f"unix:///{'+'.join(map(str, words))}")
    found = engine.chosen("ssh://me@far", engine.known_beforehand("prod", "ssh://me@far", KEY))
    assert (found.address, found.is_local) == ("ssh://me@far", False)
    assert found.client == ("docker", "--host", f"unix:///ssh://me@far+('-F', '.ssh/prod/config')+{tmp_path}")
    assert (tmp_path / ".ssh/prod/known_hosts").read_text() == f"far {KEY}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "Warning: Permanently added\nme@far: Permission denied (publickey).",
            (
                "There is no way to the Docker engine at ssh://me@far: me@far: Permission denied (publickey). "
                "Try `ssh -F .ssh/prod/config ssh://me@far`."
            ),
        ),
        (
            (
                "The fingerprint for the ED25519 key sent by the remote host is\nSHA256:Ab+/c.\n"
                "Host key verification failed."
            ),
            (
                "ssh://me@far has another host key than platform.docker.host_key says (ED25519 SHA256:Ab+/c); if it "
                "was set up anew, take the key from there (/etc/ssh/ssh_host_ed25519_key.pub), else somebody stands "
                "between."
            ),
        ),
    ],
    ids=["no way", "another key"],
)
def test_a_known_host_that_cannot_be_reached_is_explained(
    words: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        raise TunnelError(words)

    monkeypatch.setattr(places, "CHECKOUT", tmp_path)
    monkeypatch.setattr(engine, "forwarded_socket", refuse)
    with pytest.raises(ProblemError) as refused:
        engine.chosen("ssh://me@far", engine.known_beforehand("prod", "ssh://me@far", KEY))
    assert str(refused.value) == sentence


@pytest.mark.parametrize("host", [None, 5, "unix:///run/docker.sock", "ssh://far\nProxyCommand x", "ssh://-oProxy"])
def test_what_is_no_host_for_ssh_is_left_to_the_program_to_refuse(host: object) -> None:
    assert engine.known_beforehand("prod", host, KEY) is None


def test_a_key_is_one_line_whatever_the_settings_say(tmp_path: Path) -> None:
    access = engine.known_beforehand("prod", "ssh://far", f"{KEY} a comment\n* {KEY}")
    assert access is not None
    access.write(tmp_path)
    assert (tmp_path / ".ssh/prod/known_hosts").read_text() == f"far {KEY}\n"
