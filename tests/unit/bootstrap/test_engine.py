"""Which engine is used, and what is said when it cannot be."""

import json
from pathlib import Path

import pytest

from open_webui_edge.bootstrap import debian, engine, paths
from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.engine.ssh import TunnelError
from tests.support.fake_engine import FakeDocker

DEFAULT = Engine(engine.DEFAULT_ADDRESS, "the default socket", ("docker", "--host", engine.DEFAULT_ADDRESS))
_NOBODY = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
_FORBIDDEN = "permission denied while trying to connect to the Docker daemon socket"


def test_the_stacks_engine_comes_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2376")
    assert engine.resolve("unix:///run/other.sock").address == "unix:///run/other.sock"


def test_the_environments_engine_comes_before_the_contexts(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.answers(("context*", 0, "far ssh://far"))
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2376")
    assert engine.resolve().origin == "DOCKER_HOST"


def test_the_active_context_comes_before_the_default_socket(docker: FakeDocker) -> None:
    docker.answers(("context*", 0, "desktop unix:///home/me/.docker/run/docker.sock"))
    resolved = engine.resolve()
    assert (resolved.origin, resolved.client) == ("the docker context desktop", ("docker", "--context", "desktop"))


@pytest.mark.parametrize("answer", [("context*", 0, f"default {engine.DEFAULT_ADDRESS}"), ("context*", 1, "broken")])
def test_the_default_socket_is_the_last_resort(docker: FakeDocker, answer: tuple[str, int, str]) -> None:
    docker.answers(answer)
    assert engine.resolve() == DEFAULT


@pytest.mark.parametrize(
    ("resolved", "words", "sentence"),
    [
        (
            DEFAULT,
            _NOBODY,
            (
                "No Docker engine answers at unix:///var/run/docker.sock (the default socket): start it "
                "(`sudo systemctl start docker`, or Docker Desktop), or use another one with DOCKER_HOST."
            ),
        ),
        (
            DEFAULT,
            _FORBIDDEN,
            (
                "The Docker engine at unix:///var/run/docker.sock (the default socket) runs, but this user may not "
                "use it: `sudo usermod -aG docker me`, log in again, and run this again."
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
                "There is no docker client on PATH for unix:///var/run/docker.sock (the default socket); "
                "install Docker (https://docs.docker.com/engine/install)."
            ),
        ),
    ],
    ids=["nothing listens", "no permission", "ssh", "no client"],
)
def test_an_engine_that_cannot_be_used_is_explained(
    resolved: Engine, words: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "me")
    assert engine.explanation(resolved, words) == sentence


def _server(version: str, *components: str) -> tuple[str, int, str]:
    named = [{"Name": name, "Version": version} for name in components]
    return ("*version*json*", 0, json.dumps({"Version": version, "Components": named}))


@pytest.mark.parametrize(
    ("version", "old"),
    [
        ("28.5.2", ""),
        ("30.0.0-rc.1", ""),
        (
            "20.10.24+dfsg1",
            "     engine: version 20.10.24+dfsg1 works but is no longer maintained; upgrade to 28 or later\n",
        ),
    ],
)
def test_an_engine_that_answers_is_left_alone_and_its_version_is_said(
    docker: FakeDocker, capsys: pytest.CaptureFixture[str], *, version: str, old: str
) -> None:
    docker.answers(_server(version, "Engine", "containerd"), ("*version*", 0, version))
    step = Step("engine")
    engine.ensure(DEFAULT, step)
    assert step.result == f"unix:///var/run/docker.sock (the default socket), version {version}"
    assert capsys.readouterr().err == old
    assert all("version" in call for call in docker.calls)


def test_podman_is_refused_before_anything_is_touched(docker: FakeDocker) -> None:
    docker.answers(_server("5.4.0", "Podman Engine", "Conmon"), ("*version*", 0, "5.4.0"))
    for ask in (lambda: engine.ensure(DEFAULT, Step("engine")), lambda: engine.require_docker(DEFAULT)):
        with pytest.raises(ProblemError) as refused:
            ask()
        assert str(refused.value) == (
            "The engine at unix:///var/run/docker.sock is Podman, and a stack needs Docker: Nginx finds Open WebUI by"
            " Docker's name server at 127.0.0.11, which Podman does not have. Install Docker"
            " (https://docs.docker.com/engine/install), or name a Docker engine with DOCKER_HOST or"
            " platform.docker.host. Nothing was touched."
        )


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
        engine.ensure(engine.resolve(), Step("engine"))


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE"


def test_a_host_whose_key_is_known_is_reached_by_the_connection_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path)
    monkeypatch.setattr(engine, "forwarded_socket", lambda *words: f"unix:///{'+'.join(map(str, words))}")
    resolved = engine.resolve("ssh://me@far", engine.pinned_access("prod", "ssh://me@far", KEY))
    assert (resolved.address, resolved.is_local) == ("ssh://me@far", False)
    assert resolved.client == ("docker", "--host", f"unix:///ssh://me@far+('-F', '.ssh/prod/config')+{tmp_path}")
    assert (tmp_path / ".ssh/prod/known_hosts").read_text() == f"far {KEY}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "Warning: Permanently added\nme@far: Permission denied (publickey).",
            (
                "The Docker engine at ssh://me@far cannot be reached: me@far: Permission denied (publickey). "
                "Try `ssh -F .ssh/prod/config ssh://me@far`."
            ),
        ),
        (
            (
                "The fingerprint for the ED25519 key sent by the remote host is\nSHA256:Ab+/c.\n"
                "Host key verification failed."
            ),
            (
                "ssh://me@far has another host key than the one in platform.docker.host_key (ED25519 SHA256:Ab+/c); if"
                " it "
                "was installed again, copy its new key (/etc/ssh/ssh_host_ed25519_key.pub), else another machine may"
                " be intercepting the connection."
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

    monkeypatch.setattr(paths, "CHECKOUT", tmp_path)
    monkeypatch.setattr(engine, "forwarded_socket", refuse)
    with pytest.raises(ProblemError) as refused:
        engine.resolve("ssh://me@far", engine.pinned_access("prod", "ssh://me@far", KEY))
    assert str(refused.value) == sentence


@pytest.mark.parametrize("host", [None, 5, "unix:///run/docker.sock", "ssh://far\nProxyCommand x", "ssh://-oProxy"])
def test_what_is_no_host_for_ssh_is_left_to_the_program_to_refuse(host: object) -> None:
    assert engine.pinned_access("prod", host, KEY) is None


def test_a_key_is_one_line_whatever_the_settings_say(tmp_path: Path) -> None:
    access = engine.pinned_access("prod", "ssh://far", f"{KEY} a comment\n* {KEY}")
    assert access is not None
    access.write(tmp_path)
    assert (tmp_path / ".ssh/prod/known_hosts").read_text() == f"far {KEY}\n"
