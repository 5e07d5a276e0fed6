"""The same stack on an engine that is reached over ssh."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.machine import lacks, pulumi_environment
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop, free_port
from tests.support.waiting import wait_until


@pytest.fixture
def ssh_host(engine: docker.DockerClient, tmp_path: Path) -> Iterator[str]:
    """An ssh server on this machine; its address for clients with the configuration in tmp_path."""
    del engine
    server = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    if server is None:
        lacks("no sshd (openssh-server)")
    for key in ("host", "client"):
        make_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / key)]
        subprocess.run(make_key, check=True)  # noqa: S603 - the test's own words
    port = free_port()
    (tmp_path / "authorized_keys").write_text((tmp_path / "client.pub").read_text())
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}")
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {tmp_path}/host\nPidFile {tmp_path}/sshd.pid\n"
        f"AuthorizedKeysFile {tmp_path}/authorized_keys\nStrictModes no\nUsePAM no\nMaxStartups 100:30:200\n",
    )
    (tmp_path / "config").write_text(
        f"IdentityFile {tmp_path}/client\nIdentitiesOnly yes\nUserKnownHostsFile {tmp_path}/known_hosts\n"
        "StrictHostKeyChecking yes\n",
    )
    wrapper = tmp_path / "bin/ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/config "$@"\n')
    wrapper.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    configuration = str(tmp_path / "sshd_config")
    process = subprocess.Popen([server, "-D", "-f", configuration], stderr=subprocess.DEVNULL)  # noqa: S603 - likewise
    try:
        wait_until((tmp_path / "sshd.pid").exists, what="sshd")
        yield f"ssh://root@127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


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
