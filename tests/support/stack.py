"""Stacks of a copy of this project, run by the real engine: `pulumi up` and what comes after."""

import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import docker
import yaml
from docker.models.containers import Container

from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient
from open_webui_edge.benchmarks.waiting import wait_until
from tests.support.certificates import Issued

ROOT = Path(__file__).parent.parent.parent
_PROGRAM = (
    *("Makefile", "Pulumi.yaml", "__main__.py", "open_webui_edge", "bootstrap", "cli", "components", "diagnostics"),
    *("engine", "runtime", "settings", "stacks"),
    *("requirements.txt", "requirements-aws.txt"),
)
PASSPHRASE = "a test's own"
"""What opens the secrets of the tests' stacks, the recorded ones among them."""
_UP_SECONDS = 1800
_PORTS = iter(random.sample(range(20000, 30000), 10000))
NO_CHANGE = re.compile(r"Resources:\n +\d+ unchanged\n")
"""What Pulumi says of an update that changes nothing."""


def free_port(ports: Iterator[int] = _PORTS) -> int:
    """Return a port of 127.0.0.1 without a listener, the next such one of `ports`.

    Below the range out of which the kernel takes those of outgoing connections, or one of these would have it by the
    time it is wanted; and never the same twice.
    """
    for port in ports:
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("none of these ports is free")


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    output: str
    """What it wrote to both streams."""

    def succeeded(self) -> Self:
        """Return it; fail with what it wrote if it failed."""
        assert self.code == 0, self.output
        return self

    def failed(self) -> Self:
        """Return it; fail unless it failed, and without a traceback."""
        assert self.code != 0, self.output
        assert "Traceback" not in self.output, self.output
        return self


@dataclass
class Workshop:
    """A copy of the program with a state of its own, so that a test can change both."""

    directory: Path
    environment: Mapping[str, str]

    @classmethod
    def at(cls, directory: Path, environment: Mapping[str, str], program: Path = ROOT) -> Self:
        """Copy the program below `directory`; `environment` makes `pulumi` work."""
        project = directory / "project"
        project.mkdir(parents=True)
        _copy(program, project)
        (project / ".venv").symlink_to(ROOT / ".venv")
        state = directory / "state"
        state.mkdir()
        passphrase = directory / "passphrase"
        passphrase.write_text(PASSPHRASE)
        passphrase.chmod(0o600)
        remaining = {key: value for key, value in environment.items() if not key.startswith("PULUMI_CONFIG_PASSPHRASE")}
        return cls(
            project,
            {
                **remaining,
                "PULUMI_BACKEND_URL": f"file://{state}",
                "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
                "PULUMI_SKIP_UPDATE_CHECK": "true",
                "NO_COLOR": "1",
            },
        )

    def wait_for_no_health(self) -> Self:
        """Have its updates end as soon as their containers are made, and return it."""
        with (self.directory / "engine/engine.py").open("a") as program:
            program.write("\n\nEngine.wait_until_healthy = lambda *_, **__: None\n")
        return self

    def take(self, program: Path = ROOT) -> None:
        """Replace the program by another version of it, as a person does who pulls; the stack files stay."""
        for name in _PROGRAM:
            if name != "stacks" and (self.directory / name).is_dir():
                shutil.rmtree(self.directory / name)
        _copy(program, self.directory)

    def run(self, *command: str, given: str | None = None, timeout: float = _UP_SECONDS, **variables: str) -> Ended:
        """Run a command in the project's folder; `variables` are set on top."""
        ended = subprocess.run(  # noqa: S603 - the test's own words
            command,
            cwd=self.directory,
            env={**self.environment, **variables},
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in the project's folder and return at once."""
        return subprocess.Popen(  # noqa: S603 - the test's own words
            command,
            cwd=self.directory,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def _copy(program: Path, project: Path) -> None:
    """Copy what a program consists of; an earlier one has not all of that."""
    for name in _PROGRAM:
        source = program / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "Pulumi.*.yaml")
            shutil.copytree(source, project / name, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy2(source, project / name)


@dataclass
class StackUnderTest:
    """One stack of a workshop."""

    workshop: Workshop
    name: str
    config: dict[str, Any]
    """Topic -> settings; a stack gets free ports and the images that are there."""
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    """Path -> clear text."""
    engine: docker.DockerClient = field(default_factory=docker.from_env)

    @property
    def file(self) -> Path:
        """Its stack file."""
        return self.workshop.directory / f"stacks/Pulumi.{self.name}.yaml"

    @property
    def ca_file(self) -> Path:
        """The certificate of its authority."""
        return self.workshop.directory / f"{self.name}-ca.pem"

    @property
    def https_port(self) -> int:
        """Where its proxy listens."""
        return self.config["site"]["listen"]["https_port"]

    def create(self) -> Self:
        """Write its file and make it known to the backend."""
        self.config.setdefault("images", {"source": "built"})
        site = self.config.setdefault("site", {})
        site.setdefault("listen", {"http_port": free_port(), "https_port": free_port()})
        self.write()
        self.pulumi("stack", "init", self.name).succeeded()
        for path, text in self.secrets.items():
            self.set_secret(path, text)
        return self

    def write(self) -> None:
        """Write the configuration into the stack file, and keep what Pulumi wrote there."""
        document = yaml.safe_load(self.file.read_text()) if self.file.exists() else {}
        config = {f"open-webui-edge:{topic}": settings for topic, settings in self.config.items()}
        for key, value in (document.get("config") or {}).items():
            _keep_secrets(config.get(key), value)
        self.file.write_text(yaml.safe_dump({**document, "config": config}))

    def set_secret(self, path: str, text: str) -> None:
        """Encrypt a setting, as a person does; the text goes by standard input."""
        self.pulumi(
            "config", "set", "--path", "--secret", f"open-webui-edge:{path}", "--stack", self.name, given=text
        ).succeeded()

    def pulumi(self, *arguments: str, given: str | None = None) -> Ended:
        """Run the CLI."""
        return self.workshop.run("pulumi", *arguments, "--non-interactive", given=given)

    def up(self, *arguments: str) -> Ended:
        """Update, without the preview that would come first."""
        return self.pulumi("up", "--yes", "--skip-preview", "--stack", self.name, *arguments)

    def preview(self, *arguments: str) -> Ended:
        """Preview."""
        return self.pulumi("preview", "--stack", self.name, *arguments)

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs in clear, and write the authority's certificate for clients."""
        ended = self.pulumi("stack", "output", "--json", "--show-secrets", "--stack", self.name).succeeded()
        outputs = json.loads(ended.output)
        # Pulumi leaves out what is null.
        if "ca_certificate" in outputs:
            self.ca_file.write_text(outputs["ca_certificate"])
        return outputs

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://localhost:{self.https_port}"

    def provide(self, issued: Issued) -> None:
        """Put a certificate into the project's folder, and the settings that name it into the configuration."""
        folder = self.workshop.directory / f"{self.name}-tls"
        folder.mkdir(exist_ok=True)
        for name, text in (("chain.pem", issued.chain_pem), ("key.pem", issued.key_pem)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        files = {"certificate_file": f"{folder.name}/chain.pem", "private_key_file": f"{folder.name}/key.pem"}
        self.config["certificate"] = {"mode": "provided", "provided": files}

    def client(self, url: str | None = None) -> OpenWebUIClient:
        """Return a user in front of the proxy."""
        return OpenWebUIClient(url or self.url, ca_file=self.ca_file)

    def container(self, role: str) -> Container:
        """Return its container of a role."""
        return self.engine.containers.get(f"edge-{self.name}-{role}")

    def folder(self, role: str, inside: str) -> Path:
        """Return where this machine sees what is mounted in a container, also if the engine has a root of its own."""
        mounts = self.container(role).attrs["Mounts"]
        (source,) = (mount["Source"] for mount in mounts if mount["Destination"] == inside)
        with socket.socket(socket.AF_UNIX) as asking:
            address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
            asking.connect(address.removeprefix("unix://"))
            daemon, *_ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return Path(f"/proc/{daemon}/root{source}")

    def read(self, role: str, *command: str) -> str:
        """Return what a command in a container writes; fail when it fails."""
        ended = self.container(role).exec_run(list(command))
        assert isinstance(ended.output, bytes)
        assert ended.exit_code == 0, ended.output
        return ended.output.decode()

    def direct_url(self) -> str:
        """Return where the application answers without the proxy."""
        container = self.container("open-webui")
        (network,) = container.attrs["NetworkSettings"]["Networks"].values()
        return f"http://{network['IPAddress']}:8080"

    def owned(self, collection: str) -> list[str]:
        """Return the names of its containers, volumes or networks that the engine has."""
        result = getattr(self.engine, collection).list(
            filters={"label": [f"stack={self.name}", "app=open-webui-edge"]},
            **({"all": True} if collection == "containers" else {}),
        )
        return sorted(item.name for item in result)

    def wait_until_ready(self) -> None:
        """Wait until the application answers through the proxy."""
        with self.client() as client:
            wait_until(client.ready, what=f"{self.url}/ready", deadline=180, ignoring=(Exception,))

    @contextmanager
    def running(self) -> Generator[Self]:
        """Bring it up, and remove it when the block ends."""
        try:
            self.create().up().succeeded()
            self.outputs()
            yield self
        finally:
            self.remove()

    def remove(self) -> None:
        """Remove everything, data too; a test's last act."""
        if self.file.exists():
            self.pulumi("state", "unprotect", "--all", "--yes", "--stack", self.name)
            self.pulumi("destroy", "--yes", "--skip-preview", "--stack", self.name)
        for container in self.owned("containers"):
            self.engine.containers.get(container).remove(force=True)
        for volume in self.owned("volumes"):
            self.engine.volumes.get(volume).remove(force=True)
        for network in self.owned("networks"):
            self.engine.networks.get(network).remove()
        for image in self.engine.images.list(filters={"reference": f"edge-{self.name}-*:pinned"}):
            for tag in image.tags:
                if tag.startswith(f"edge-{self.name}-"):
                    self.engine.images.remove(tag, noprune=True)


def _keep_secrets(written: Any, before: Any) -> None:
    if isinstance(written, dict) and isinstance(before, dict):
        for key, value in before.items():
            if isinstance(value, dict) and set(value) == {"secure"}:
                written.setdefault(key, value)
            else:
                _keep_secrets(written.get(key), value)
    elif isinstance(written, list) and isinstance(before, list):
        for new, old in zip(written, before, strict=False):
            _keep_secrets(new, old)


def end(process: subprocess.Popen[str]) -> str:
    """Kill a command that `Workshop.start` started, with its children, and return what it wrote."""
    os.killpg(process.pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=30)
    return output
