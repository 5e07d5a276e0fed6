"""The same stack on an engine that is reached over ssh.

Tests that wait for a machine are marked long: unit tests check the same waits with a clock of their own.
"""

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.components.docker.waiting import wait_until_engine_answers
from open_webui_edge.engine.engine import Engine, EngineError
from open_webui_edge.engine.ssh import SshAccess
from tests.support.machine import pulumi_environment
from tests.support.ssh_server import KNOWN_HOSTS, make_key, ssh_agent, ssh_server
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop


@pytest.fixture
def ssh_host(engine: docker.DockerClient, tmp_path: Path) -> Iterator[str]:
    """An ssh server on this machine; its address for clients with the configuration in tmp_path."""
    del engine
    with ssh_server(tmp_path) as server:
        (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
        (tmp_path / "config").write_text(
            f"IdentityFile {tmp_path}/client\nIdentitiesOnly yes\nUserKnownHostsFile {tmp_path}/known_hosts\n"
            "StrictHostKeyChecking yes\n",
        )
        wrapper = tmp_path / "bin/ssh"
        wrapper.parent.mkdir()
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/config "$@"\n')
        wrapper.chmod(0o755)
        yield server.address


def test_an_engine_over_ssh_runs_the_same_stack(ssh_host: str, tmp_path: Path) -> None:
    environment = dict(pulumi_environment())
    environment["PATH"] = f"{tmp_path}/bin:{environment['PATH']}"
    workshop = Workshop.at(tmp_path / "workshop", environment)
    stack = StackUnderTest(workshop, "it-ssh", {"platform": {"docker": {"host": ssh_host}}})
    try:
        stack.create().up().succeeded()
        stack.outputs()
        with stack.client() as client:
            assert client.ready()
        assert NO_CHANGE.search(stack.up().succeeded().output)
        wait_until(lambda: not _tunnels(ssh_host), what="the tunnels to end with the updates")
    finally:
        stack.remove()


def test_an_unknown_host_key_is_refused_in_the_words_of_ssh(ssh_host: str, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("")
    environment = dict(pulumi_environment())
    environment["PATH"] = f"{tmp_path}/bin:{environment['PATH']}"
    workshop = Workshop.at(tmp_path / "workshop", environment)
    stack = StackUnderTest(workshop, "it-ssh", {"platform": {"docker": {"host": ssh_host}}})
    try:
        output = stack.create().up().failed().output
        assert "Host key verification failed" in output
        assert f"The Docker engine at {ssh_host} does not answer" in output
    finally:
        stack.remove()


@pytest.mark.long
def test_a_host_key_of_the_settings_is_all_that_is_needed_to_know_a_host(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    del engine
    directory = tmp_path / "a server"
    directory.mkdir()
    before = KNOWN_HOSTS.read_bytes() if KNOWN_HOSTS.exists() else None
    with ssh_server(directory) as server, ssh_agent(directory / "client") as agent:
        workshop = Workshop.at(tmp_path / "a workshop", {**pulumi_environment(), **agent})
        host = {"host": server.address, "host_key": server.host_key}
        stack = StackUnderTest(workshop, "it-ssh-key", {"platform": {"docker": host}})
        try:
            stack.create().up().succeeded()
            stack.outputs()
            with stack.client() as client:
                assert client.ready()
            assert NO_CHANGE.search(stack.up().succeeded().output)
            status = workshop.run("make", "status", "STACK=it-ssh-key").succeeded().output
            assert "edge-it-ssh-key-nginx" in status
            assert "edge-it-ssh-key-nginx | " in workshop.run("make", "logs", "STACK=it-ssh-key").succeeded().output

            host["host_key"] = make_key(tmp_path / "other")
            stack.write()
            refused = f"{server.address} has another host key than the one in platform.docker.host_key (ED25519 SHA256:"
            for ended in (stack.up(), workshop.run("make", "status", "STACK=it-ssh-key")):
                assert refused in ended.failed().output

            # Before the program is run the provider looks at what is there, with what ssh knew before.
            host["host_key"] = server.host_key
            stack.write()
            workshop.run("make", "-s", "env", "STACK=it-ssh-key").succeeded()
            assert NO_CHANGE.search(stack.up().succeeded().output)

            # As on another machine, or in another checkout.
            shutil.rmtree(workshop.directory / ".ssh")
            workshop.run("make", "-s", "env", "STACK=it-ssh-key").succeeded()
            assert NO_CHANGE.search(stack.up().succeeded().output)

            former, host["host"] = server.address, server.move()
            stack.write()
            moved = workshop.run("make", "preview", "STACK=it-ssh-key").succeeded().output
            assert (
                f"The engine of it-ssh-key moved from {former} to {server.address} (platform.docker.host); it is the"
                " same engine, so nothing else changes."
            ) in moved
            assert NO_CHANGE.search(moved), moved
            assert NO_CHANGE.search(stack.up().succeeded().output)

            # It need not be reached by ssh any more.
            del stack.config["platform"]
            stack.write()
            assert NO_CHANGE.search(workshop.run("make", "preview", "STACK=it-ssh-key").succeeded().output)
            stack.config["platform"] = {"docker": {**host, "host": server.move()}}
            stack.write()
            workshop.run("make", "down", "STACK=it-ssh-key").succeeded()
            assert stack.owned("containers") == []
        finally:
            stack.remove()
    assert (KNOWN_HOSTS.read_bytes() if KNOWN_HOSTS.exists() else None) == before


@pytest.mark.long
def test_a_machine_that_is_only_just_being_set_up_is_waited_for(
    engine: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del engine
    monkeypatch.chdir(tmp_path)
    make_key(tmp_path / "other")
    with ssh_server(tmp_path) as server:
        access = SshAccess("prod", server.address, server.host_key, server.client_key)
        access.write()
        server.stop()
        reached = Engine(access.host, ssh_options=access.options)
        # As an instance comes up: with keys of its own, then with ours, then with whom it lets in.
        becomes = iter(
            [
                lambda: server.start(host_key="other"),
                lambda: server.start(lets_in=False),
                lambda: server.start(further="SetEnv DOCKER_HOST=unix:///nowhere.sock"),
                server.start,
            ]
        )

        def pause(_: float) -> None:
            server.stop()
            next(becomes)()

        seconds = itertools.count(step=11)
        said: list[str] = []
        wait_until_engine_answers(reached, 600, said.append, clock=lambda: next(seconds), pause=pause)
        for words, line in zip(
            [
                ("TCP port", "Connection refused"),
                ("the SSH login", "Host key verification failed."),
                ("the SSH login", "Permission denied"),
                ("the Docker engine", "Cannot connect to the Docker daemon at unix:///nowhere.sock."),
            ],
            said,
            strict=True,
        ):
            assert all(word in line for word in words), line


@pytest.mark.long
@pytest.mark.parametrize(
    ("further", "lets_in", "step", "reason"),
    [
        ("", False, "the SSH login", "root@127.0.0.1: Permission denied"),
        (
            "SetEnv DOCKER_HOST=unix:///nowhere.sock",
            True,
            "the Docker engine",
            "Cannot connect to the Docker daemon at unix:///nowhere.sock. Is the docker daemon running?",
        ),
    ],
    ids=["login refused", "no engine"],
)
def test_a_machine_that_never_comes_up_is_waited_for_no_longer_than_allowed(  # noqa: PLR0913, PLR0917 - a table
    engine: docker.DockerClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    further: str,
    lets_in: bool,  # noqa: FBT001 - a column of the table
    step: str,
    reason: str,
) -> None:
    del engine
    monkeypatch.chdir(tmp_path)
    with ssh_server(tmp_path) as server:
        server.stop()
        server.start(further=further, lets_in=lets_in)
        access = SshAccess("prod", server.address, server.host_key, server.client_key)
        access.write()
        with pytest.raises(EngineError) as late:
            wait_until_engine_answers(Engine(access.host, ssh_options=access.options), 1, print)
    assert str(late.value).startswith(f"Timed out after 1 s: {step} of {server.address} not reachable ({reason}")


def _tunnels(host: str) -> list[str]:
    """Return the command lines of this machine's processes that still forward to the host."""
    lines: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(entry.read_text().replace("\0", " "))
    return [line for line in lines if " -L " in line and host in line]
