"""A Docker engine that goes away in the middle of an update, and comes back.

Marked long: it starts a second engine. test_update.py also kills an update, with the engine still there.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
import requests

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.components.docker.waiting import transfer_images
from open_webui_edge.engine.engine import Engine
from open_webui_edge.engine.ssh import SshAccess
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from tests.support.machine import lacks
from tests.support.ssh_server import ssh_server
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop

pytestmark = pytest.mark.long

NAMESPACE = "edge-it-engine"
_NO_ANSWER = (docker.errors.DockerException, requests.RequestException, OSError)


_CONTAINERD = """version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
"""


@dataclass
class SecondEngine:
    """A Docker engine that a test may kill: its own data, and its own network, so that it leaves the first one's be."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None
    client: docker.DockerClient = field(init=False)
    _containerd: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        """Start its containerd: a service of its own, as systemd has it, which outlives a killed engine."""
        self.address = f"unix://{self.directory}/docker.sock"
        self._log = self.directory / "log"
        configuration = self.directory / "containerd.toml"
        configuration.write_text(_CONTAINERD)
        self._containerd = self._in_namespace(
            "containerd",
            f"--config={configuration}",
            f"--root={self.directory}/containerd",
            f"--state={self.directory}/run/containerd",
            f"--address={self.directory}/containerd.sock",
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = self._in_namespace(
            "dockerd",
            f"--host={self.address}",
            f"--containerd={self.directory}/containerd.sock",
            f"--data-root={self.directory}/data",
            f"--exec-root={self.directory}/run/docker",
            f"--pidfile={self.directory}/pid",
        )
        wait_until(self._answers, what=f"an answer of the second engine; its log: {self._log}", ignoring=_NO_ANSWER)

    def _in_namespace(self, *command: str) -> subprocess.Popen[bytes]:
        # Not `ip netns exec`: that mounts a /sys without the control groups.
        words = ["nsenter", f"--net=/run/netns/{NAMESPACE}", *command]
        with self._log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the test's own words
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            last = self._log.read_text(errors="replace").splitlines()[-1:]
            lacks(f"no way to run a second Docker engine ({last})")
        self.client = docker.DockerClient(base_url=self.address, timeout=30)
        return self.client.ping()

    def end(self, how: signal.Signals) -> None:
        """Send it a signal and wait until it is gone."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(timeout=60)
        self.process = None

    def load(self, *names: str) -> None:
        """Copy images from the first engine."""
        with subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE) as sending:  # noqa: S603, S607 - the test's own words
            loading = ["docker", "--host", self.address, "load", "--quiet"]
            subprocess.run(loading, stdin=sending.stdout, check=True, capture_output=True)  # noqa: S603 - our own words
        assert sending.returncode == 0

    def _end_shims(self) -> None:
        """End what holds a container that a killed engine has forgotten; each names this containerd's socket."""
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = entry.read_bytes().split(b"\0")
                if b"shim" in words[0] and f"{self.directory}/".encode() in words[-2]:
                    os.kill(int(entry.parent.name), signal.SIGKILL)

    def remove(self) -> None:
        """End it with all that it runs, and delete its data."""
        try:
            if self.process is None:
                self.start()
            for container in self.client.containers.list(all=True, ignore_removed=True):
                container.remove(force=True)
            self.end(signal.SIGTERM)
        finally:
            if self.process is not None:
                self.end(signal.SIGKILL)
            self._containerd.terminate()
            self._containerd.wait(timeout=60)
            self._end_shims()
            for mounted in reversed(Path("/proc/mounts").read_text().splitlines()):
                if Path(mounted.split()[1]).is_relative_to(self.directory):
                    _run("umount", "--lazy", mounted.split()[1])
            shutil.rmtree(self.directory)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - the test's own words


@contextmanager
def a_network_namespace() -> Iterator[None]:
    """A network apart, where a second engine's rules and bridges are its own."""
    try:
        _run("ip", "netns", "add", NAMESPACE)
    except subprocess.CalledProcessError as error:
        lacks(f"no network namespaces ({error.stderr.decode().strip()})")
    try:
        _run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
        yield
    finally:
        _run("ip", "netns", "delete", NAMESPACE)


@pytest.fixture(scope="module")
def second_engine(engine: docker.DockerClient) -> Iterator[SecondEngine]:
    del engine
    missing = [
        program for program in ("dockerd", "containerd", "docker", "ip", "nsenter") if shutil.which(program) is None
    ]
    if missing or os.geteuid() != 0:
        lacks(f"no {' and no '.join(missing) or 'right'} to run a second Docker engine")
    with a_network_namespace():
        # A socket's path has room for 107 characters.
        second = SecondEngine(Path(tempfile.mkdtemp(prefix="edge-")))
        try:
            second.start()
            used = (images.NGINX, images.open_webui(images.OPEN_WEBUI_VERSION))
            second.load(*(image.reference(ImageSource.BUILT, None) for image in used))
            yield second
        finally:
            second.remove()


@pytest.fixture(scope="module")
def stack(second_engine: SecondEngine, workshop: Workshop) -> StackUnderTest:
    """A stack on the second engine, where a user has signed up."""
    config = {"platform": {"docker": {"host": second_engine.address}}, "models": {"ollama": {"mode": "none"}}}
    stack = StackUnderTest(workshop, "it-engine", {**config, "open_webui": {}}, engine=second_engine.client)
    stack.create().up().succeeded()
    account = _ask(stack, "/api/v1/auths/signup", {"name": "Ada", "email": "ada@example.com", "password": PASSWORD})
    assert account["role"] == "admin"
    # Nothing removes it: the whole engine goes.
    return stack


PASSWORD = "correct horse battery"


@pytest.mark.parametrize(
    ("how", "role", "change", "evidence", "words"),
    [
        pytest.param(
            signal.SIGKILL,
            "open-webui",
            {"open_webui": {"environment": {"WEBUI_NAME": "Afterwards"}}},
            ["curl", "--silent", "http://open-webui:8080/api/config"],
            '"name":"Afterwards',
            id="killed while the application is replaced",
        ),
        pytest.param(
            signal.SIGTERM,
            "nginx-installer",
            {"proxy": {"timeouts": {"read": "17m"}}},
            ["cat", "/etc/open-webui-edge/current/nginx.conf"],
            "proxy_read_timeout 1020s;",
            id="stopped while a configuration is installed",
        ),
    ],
)
def test_an_update_whose_engine_went_away_is_mended_by_the_next(  # noqa: PLR0913, PLR0917 - a table
    stack: StackUnderTest,
    second_engine: SecondEngine,
    how: signal.Signals,
    role: str,
    change: dict[str, Any],
    evidence: list[str],
    words: str,
) -> None:
    stack.config |= change
    stack.write()
    before = stack.container(role).id
    update = stack.workshop.start("pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", stack.name)
    wait_until(lambda: before not in _containers(stack), what=f"the old {role} to go", every=0.01)
    second_engine.end(how)
    said, _ = update.communicate(timeout=120)
    assert update.returncode != 0, said
    assert "Traceback" not in said

    said = stack.up().failed().output
    assert f"Cannot connect to the Docker daemon at {second_engine.address}. Is the docker daemon running?" in said

    second_engine.start()
    stack.engine = second_engine.client
    stack.up().succeeded()
    for name in ("nginx", "open-webui"):
        assert stack.container(name).attrs["State"]["Health"]["Status"] == "healthy"
    assert words in _answer(stack, evidence)
    signed_in = _ask(stack, "/api/v1/auths/signin", {"email": "ada@example.com", "password": PASSWORD})
    assert signed_in["name"] == "Ada"
    assert NO_CHANGE.search(stack.up().succeeded().output)


def test_what_an_engine_lacks_is_sent_to_it_over_ssh(
    engine: docker.DockerClient, second_engine: SecondEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there, only_here = images.NGINX.reference(ImageSource.BUILT, None), "open-webui-edge/of-a-test:sent"
    second_engine.client.images.get(there).tag(only_here)
    with ssh_server(tmp_path) as server:
        access = SshAccess("prod", server.address, server.host_key, server.client_key)
        access.write()
        said: list[str] = []
        try:
            transfer_images(
                Engine(access.host, ssh_options=access.options),
                [there, only_here],
                Engine(second_engine.address),
                said.append,
            )
            # Its id is another where one of the engines has containerd's store.
            sent, source = (one.images.get(only_here).attrs["RootFS"] for one in (engine, second_engine.client))
            assert sent == source
            assert said[-1].startswith(f"sent the image {only_here} to {server.address}: ")
            assert there not in " ".join(said)
        finally:
            if engine.images.list(name=only_here):
                engine.images.remove(only_here, noprune=True)


def _containers(stack: StackUnderTest) -> set[str | None]:
    return {container["Id"] for container in stack.engine.api.containers(all=True)}


def _answer(stack: StackUnderTest, command: list[str]) -> str:
    """Run a command in the proxy's container: what that publishes is published in the other network."""
    answer = stack.container("nginx").exec_run(command)
    assert answer.exit_code == 0, answer.output
    assert isinstance(answer.output, bytes)
    return answer.output.decode()


def _ask(stack: StackUnderTest, path: str, body: dict[str, str]) -> dict[str, str]:
    words = ["curl", "--silent", "--fail", "--header", "Content-Type: application/json", "--data", json.dumps(body)]
    return json.loads(_answer(stack, [*words, f"http://open-webui:8080{path}"]))
