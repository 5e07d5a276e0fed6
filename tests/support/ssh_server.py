"""A real ssh server on this machine, that lets in its own client alone."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from open_webui_edge.benchmarks.waiting import wait_until
from tests.support.machine import lacks
from tests.support.stack import free_port

KNOWN_HOSTS = Path("~/.ssh/known_hosts").expanduser()
"""The user's: ssh takes the home that the system knows, not $HOME."""


@dataclass
class SshServer:
    """One of its kind, with keys of its own."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it is, for clients."""
        return f"ssh://root@127.0.0.1:{self.port}"

    @property
    def host_key(self) -> str:
        """The public key that it shows."""
        return (self.directory / "host.pub").read_text().strip()

    @property
    def client_key(self) -> str:
        """The private key that it lets in."""
        return (self.directory / "client").read_text()

    def start(self, *, further: str = "", lets_in: bool = True, host_key: str = "host") -> None:
        """Start it, with further settings of sshd's, or as a machine is before it is set up; wait until it listens."""
        server = shutil.which("sshd", path="/usr/sbin:/usr/bin")
        if server is None:
            lacks("no sshd (openssh-server)")
        here = self.directory
        (here / "authorized_keys").write_text((here / "client.pub").read_text() if lets_in else "")
        (here / "sshd_config").write_text(
            f'ListenAddress 127.0.0.1\nPort {self.port}\nHostKey "{here}/{host_key}"\nPidFile "{here}/sshd.pid"\n'
            f'AuthorizedKeysFile "{here}/authorized_keys"\nStrictModes no\nUsePAM no\nMaxStartups 100:30:200\n'
            f"{further}\n"
        )
        (here / "sshd.pid").unlink(missing_ok=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        configuration = str(here / "sshd_config")
        self.process = subprocess.Popen([server, "-D", "-f", configuration], stderr=subprocess.DEVNULL)  # noqa: S603 - the test's own words
        wait_until((here / "sshd.pid").exists, what="sshd")

    def move(self) -> str:
        """Have it listen on another port and nowhere else, and return its address there."""
        self.stop()
        self.port = free_port()
        self.start()
        return self.address

    def stop(self) -> None:
        """End it; connections go on."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


def make_key(file: Path, kind: str = "ed25519") -> str:
    """Make a pair of keys, the private one in `file`, and return the public one."""
    words = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "a test's", "-f", str(file)]
    subprocess.run(words, check=True)  # noqa: S603 - the test's own words
    return file.with_name(f"{file.name}.pub").read_text().strip()


@contextmanager
def ssh_server(directory: Path) -> Iterator[SshServer]:
    """Lend one whose files are in `directory`."""
    for name in ("host", "client"):
        make_key(directory / name)
    server = SshServer(directory, free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def ssh_agent(key: Path) -> Iterator[dict[str, str]]:
    """Lend the environment in which ssh has a private key at hand, as its user would have."""
    started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    agent = dict(line.partition(";")[0].split("=", 1) for line in started.splitlines() if "=" in line)
    environment = {**os.environ, **agent}
    try:
        subprocess.run(["ssh-add", "-q", str(key)], env=environment, check=True)  # noqa: S603, S607
        yield agent
    finally:
        subprocess.run(["ssh-agent", "-k"], env=environment, stdout=subprocess.DEVNULL, check=True)  # noqa: S607
