"""The same stack on an engine that is reached over ssh."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.machine import pulumi_environment
from tests.support.ssh_server import ssh_server
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop
from tests.support.waiting import wait_until


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


def _tunnels(host: str) -> list[str]:
    """Return the command lines of this machine's processes that still forward to the host."""
    lines: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(entry.read_text().replace("\0", " "))
    return [line for line in lines if " -L " in line and host in line]
