"""One-off containers on a stack's engine; they receive secrets and data only by standard input."""

import base64
import io
import os
import secrets
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO

from open_webui_edge.bootstrap import command, console
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.cli import containers
from open_webui_edge.runtime.contract import APP, CONFIG_DIR

_START_TIMEOUT = 30 * 60
"""Seconds for a server to start: Open WebUI may migrate its database first."""
_OWNER = f"{socket.gethostname()}-{os.getuid()}"
"""Owner of locks and one-off containers: several machines or users may manage one stack."""
# The first line holds its secret files; the rest of the input is the program's own.
_START = f'read -r given && printf %s "$given" | base64 -d | tar -x -C {CONFIG_DIR} -f - && unset given && exec "$@"'


@dataclass(frozen=True)
class OneOff:
    """One run of a program in an image."""

    image: str
    words: Sequence[str]
    """The program and its arguments, which are visible to all users of the engine."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Name -> content of files in its folder of secrets, a tmpfs."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Path -> name of a volume, with the suffix `:ro` to mount it read-only."""
    network: str = "none"
    capabilities: Sequence[str] = ("DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "CHOWN")
    """It reads and writes files of other users."""


@dataclass(frozen=True)
class OneOffRunner:
    """Runs one-off containers for one stack."""

    engine: Engine
    stack: str

    def run(
        self,
        task: OneOff,
        *,
        purpose: str,
        feed: Callable[[IO[bytes]], None] | None = None,
        shown: bool = True,
    ) -> str:
        """Run a one-off and return its output, printed if `shown`; `feed` writes its input. Raises `failed`."""
        said: list[str] = []
        with self.started(task, errors=subprocess.STDOUT if shown else subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes
            if feed is not None:
                feed(process.stdin)
            with suppress(BrokenPipeError):
                process.stdin.close()
            for line in process.stdout:
                text = line.decode(errors="replace").rstrip()
                said.append(text)
                if shown and text:
                    console.say(f"     {text}")
            words = b"" if process.stderr is None else process.stderr.read()
        if process.returncode:
            last = [*said, *words.decode(errors="replace").splitlines()]
            raise self.failed(purpose, process.returncode, last)
        return "\n".join(said)

    def failed(self, purpose: str, code: int, words: Sequence[str]) -> ProblemError:
        """Return the error for a failed one-off."""
        tail = [line for line in words if line.strip()][-command.TAIL_LINES :]
        if command.is_full_disk("\n".join(tail)):
            return ProblemError(f"{purpose}: the engine's disk is full; free some space and run it again.")
        return ProblemError(f"{purpose} failed (code {code}):\n" + "\n".join(f"    {line}" for line in tail))

    @contextmanager
    def started(self, task: OneOff, *, errors: int = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
        """Run a one-off while the block runs, and remove it afterwards."""
        name = self.name()
        host = [] if task.network == "none" else ["--add-host", "host.docker.internal:host-gateway"]
        words = [
            *self.engine.client, "run", "--rm", "--interactive", *self.options(name, task, memory="1g"), *host,
            # Its output may be a secret, or a whole repository.
            "--tmpfs", f"{CONFIG_DIR}:mode=0700", "--log-driver", "none",
            "--entrypoint", "/bin/sh", task.image, "-euc", _START, "sh", *task.words,
        ]  # fmt: skip
        process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Ctrl-C reaches only this program, which then ends it.
            start_new_session=True,
        )
        try:
            assert process.stdin is not None  # noqa: S101 - a pipe
            # A program that ends before it read all of its input reports the reason itself.
            with suppress(BrokenPipeError):
                process.stdin.write(base64.b64encode(_archive(task.files)) + b"\n")
                process.stdin.flush()
            yield process
            process.wait()
        finally:
            if process.poll() is None:
                self.engine.ask("rm", "--force", name)
                process.kill()
                process.wait()

    def options(self, name: str, task: OneOff, *, memory: str) -> list[str]:
        """Return the options of `docker run` for a container with the fewest rights; `memory` is its limit."""
        mounts = [(volume.partition(":"), path) for path, volume in task.volumes.items()]
        return [
            "--init", "--name", name, *self.labels(), "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--memory", memory, "--network", task.network,
            *(word for capability in task.capabilities for word in ("--cap-add", capability)),
            *(word for (volume, colon, mode), path in mounts for word in ("--volume", f"{volume}:{path}{colon}{mode}")),
        ]  # fmt: skip

    def wait_for(self, name: str, purpose: str, is_up: Callable[[], bool | None]) -> None:
        """Wait until a server is up, or raise a ProblemError with its log; `is_up` returns None once it failed."""
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline and (answer := is_up()) is not None:
            if answer:
                return
            time.sleep(0.5)
        words = self.engine.ask("logs", "--tail", "8", name)
        raise self.failed(purpose, 1, (words.stdout + words.stderr).splitlines())

    def name(self) -> str:
        """Return an unused name."""
        return f"edge-{self.stack}-{containers.BACKUP_TASK}-{secrets.token_hex(4)}"

    @contextmanager
    def temporary(self, kind: str, *options: str) -> Iterator[str]:
        """Create a volume or network for the block and remove it afterwards."""
        name = self.name()
        self.make(kind, name, *options)
        try:
            yield name
        finally:
            self.engine.ask(kind, "rm", name)

    def make(self, kind: str, name: str, *options: str, labels: Mapping[str, str] | None = None) -> None:
        """Create a volume or network, or raise a ProblemError; an existing one stays."""
        answer = self.engine.ask(kind, "create", *options, *self.labels(labels), name)
        if answer.returncode:
            raise ProblemError(f"The engine did not create the {kind} {name}: {answer.stderr.strip()}")

    def clear(self, *roles: str) -> None:
        """Remove leftovers of killed runs in these roles; raises ProblemError if another machine uses them."""
        for role in roles:
            owners = self._owners(role)
            for name, owner in owners:
                if owner not in {"", _OWNER}:
                    raise self._locked_by(name, owner)
            for name, _ in owners:
                self.engine.ask("container", "rm", "--force", "--volumes", name)
            for kind in ("volume", "network"):
                listed = self.engine.ask(kind, "ls", *containers.filters(self.stack, role), "--format", "{{.Name}}")
                for name in listed.stdout.split():
                    self.engine.ask(kind, "rm", name)

    @contextmanager
    def lock(self, image: str) -> Iterator[None]:
        """Hold an exclusive lock on the engine: a container with a fixed name, which the engine creates only once.

        Its image is any existing one and is never run. Raises ProblemError if another machine holds the lock.
        """
        name = f"edge-{self.stack}-{containers.BACKUP_TASK}"
        made = self.engine.ask("create", "--name", name, *self.labels(), "--network", "none", image)
        if made.returncode:
            holder = next((owner for one, owner in self._owners(containers.BACKUP_TASK) if one == name), None)
            if holder is None:
                raise ProblemError(f"The engine did not create the container {name}: {made.stderr.strip()}")
            raise self._locked_by(name, holder)
        try:
            yield
        finally:
            self.engine.ask("rm", "--force", name)

    def _locked_by(self, name: str, owner: str) -> ProblemError:
        return ProblemError(
            f"{name} is on the engine, created by {owner}: a backup or restore of {self.stack}. Wait for its end; if"
            f" none runs there any more, run `docker rm --force {name}` and then this again."
        )

    def _owners(self, role: str) -> list[tuple[str, str]]:
        shown = '{{.Names}} {{.Label "maker"}}'
        listed = self.engine.ask("container", "ls", "--all", *containers.filters(self.stack, role), "--format", shown)
        return [(name, owner) for name, _, owner in (line.partition(" ") for line in listed.stdout.splitlines())]

    def labels(self, labels: Mapping[str, str] | None = None) -> list[str]:
        """Return the options that label the created resources."""
        whole = {"app": APP, "stack": self.stack, "role": containers.BACKUP_TASK, "maker": _OWNER, **(labels or {})}
        return [word for key, value in whole.items() for word in ("--label", f"{key}={value}")]


def _archive(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode, data = 0o600, content.encode()
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
