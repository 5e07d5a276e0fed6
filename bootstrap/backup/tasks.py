"""Containers that do one thing on a stack's engine and go: what they get comes through their standard input alone."""

import base64
import io
import json
import os
import secrets
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from bootstrap import command, console, containers
from bootstrap.engine import Engine
from bootstrap.problem import ProblemError
from components.docker.container import APP

GIVEN = "/run/open-webui-edge"
ROLE = containers.BACKUP_TASK
_MEMORY = "1g"
_MAKER = f"{socket.gethostname()}-{os.getuid()}"
"""Two machines, or two of one machine's users, may look after one stack."""
# The first line is what it is given; the rest of its input is the program's own.
_START = f'read -r given && printf %s "$given" | base64 -d | tar -x -C {GIVEN} -f - && unset given && exec "$@"'


@dataclass(frozen=True)
class Task:
    """One run of a program in an image."""

    image: str
    words: Sequence[str]
    """The program and its arguments, which everybody may read."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Name -> content of what it finds in its folder of secrets, which is memory."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Path -> name of a volume, `:ro` behind it where it is only read."""
    network: str = "none"
    capabilities: Sequence[str] = ("DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "CHOWN")
    """It reads and writes what belongs to others."""


@dataclass(frozen=True)
class Tasks:
    """Runs tasks for one stack."""

    engine: Engine
    stack: str

    def run(
        self,
        task: Task,
        *,
        purpose: str,
        feed: Callable[[IO[bytes]], None] | None = None,
        shown: bool = True,
    ) -> str:
        """Run a task to its end and return what it wrote, which a person sees as well where `shown`.

        Args:
            task: what to run.
            purpose: what for, for messages.
            feed: writes what the program reads.
            shown: whether each line is shown as it comes.

        Raises:
            ProblemError: it failed; the message has its last words.

        """
        said: list[str] = []
        with self.started(task, errors=subprocess.STDOUT if shown else subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes
            if feed is not None:
                feed(process.stdin)
            _close(process.stdin)
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
        """Return what a person is told about a task that failed."""
        told = [line for line in words if line.strip()][-command.TAIL_LINES :]
        if command.is_full_disk("\n".join(told)):
            return ProblemError(f"{purpose}: the engine's disk is full; free some space and run it again.")
        return ProblemError(f"{purpose} failed (code {code}):\n" + "\n".join(f"    {line}" for line in told))

    @contextmanager
    def started(self, task: Task, *, errors: int = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
        """Lend a running task; it is gone afterwards, whatever happens."""
        name = self.name()
        options = [
            "--rm", "--interactive", "--init", "--name", name, *self.labels(),
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", _MEMORY,
            "--network", task.network, "--tmpfs", f"{GIVEN}:mode=0700",
            # What it writes may be a secret, or a whole repository.
            "--log-driver", "none",
        ]  # fmt: skip
        if task.network != "none":
            options += ["--add-host", "host.docker.internal:host-gateway"]
        options += [word for capability in task.capabilities for word in ("--cap-add", capability)]
        for path, volume in task.volumes.items():
            source, _, mode = volume.partition(":")
            options += ["--volume", f"{source}:{path}{f':{mode}' if mode else ''}"]
        process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
            [
                *self.engine.client,
                "run",
                *options,
                "--entrypoint",
                "/bin/sh",
                task.image,
                "-euc",
                _START,
                "sh",
                *task.words,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Ctrl-C is for this program, which ends it.
            start_new_session=True,
        )
        try:
            assert process.stdin is not None  # noqa: S101 - a pipe
            with _ended_early():
                process.stdin.write(base64.b64encode(_archive(task.files)) + b"\n")
                process.stdin.flush()
            yield process
            process.wait()
        finally:
            if process.poll() is None:
                self.engine.ask("rm", "--force", name)
                process.kill()
                process.wait()

    def name(self) -> str:
        """Return a name that nothing has yet."""
        return f"edge-{self.stack}-{ROLE}-{secrets.token_hex(4)}"

    @contextmanager
    def volume(self) -> Iterator[str]:
        """Lend a volume that is gone afterwards."""
        name = self.name()
        self.make("volume", name)
        try:
            yield name
        finally:
            self.engine.ask("volume", "rm", "--force", name)

    @contextmanager
    def network(self) -> Iterator[str]:
        """Lend a network that leads nowhere."""
        name = self.name()
        self.make("network", name, "--internal")
        try:
            yield name
        finally:
            self.engine.ask("network", "rm", name)

    def make(self, kind: str, name: str, *options: str, labels: Mapping[str, str] | None = None) -> None:
        """Make a volume or network; one that is there already stays.

        Raises:
            ProblemError: it cannot be made.

        """
        answer = self.engine.ask(kind, "create", *options, *self.labels(labels), name)
        if answer.returncode:
            message = f"The engine made no {kind} {name}: {answer.stderr.strip()}"
            raise ProblemError(message)

    def clear(self, role: str = ROLE) -> None:
        """Remove what an earlier run left that was killed.

        Raises:
            ProblemError: another machine is at it.

        """
        for name, maker in self._made(role):
            if maker not in {"", _MAKER}:
                raise self._taken(name, maker)
        for kind, remove in (("container", ["rm", "--force", "--volumes"]), ("volume", ["rm"]), ("network", ["rm"])):
            listing = ["ls", "--all"] if kind == "container" else ["ls"]
            for name in self._names(kind, listing, role):
                self.engine.ask(kind, *remove, name)

    @contextmanager
    def turn(self, image: str) -> Iterator[None]:
        """Hold the only turn on the engine: of two containers of one name the second is refused.

        Args:
            image: any that is there; it is never run.

        Raises:
            ProblemError: another machine holds it.

        """
        name = f"edge-{self.stack}-{ROLE}"
        made = self.engine.ask("create", "--name", name, *self.labels(), "--network", "none", image)
        if made.returncode:
            holder = next((maker for one, maker in self._made(ROLE) if one == name), None)
            if holder is None:
                message = f"The engine made no container {name}: {made.stderr.strip()}"
                raise ProblemError(message)
            raise self._taken(name, holder)
        try:
            yield
        finally:
            self.engine.ask("rm", "--force", name)

    def _taken(self, name: str, maker: str) -> ProblemError:
        return ProblemError(
            f"{name} is on the engine, made by {maker}: a backup or restore of {self.stack}. Wait for its end; if"
            f" nothing there goes on with it, `docker rm --force {name}` and run this again."
        )

    def _made(self, role: str) -> list[tuple[str, str]]:
        shown = '{{.Names}} {{.Label "maker"}}'
        said = self.engine.ask(
            "container", "ls", "--all", *containers.filters(self.stack, role), "--format", shown
        ).stdout
        return [(name, maker) for name, _, maker in (line.partition(" ") for line in said.splitlines())]

    def _names(self, kind: str, listing: Sequence[str], role: str) -> list[str]:
        shown = {"container": "{{.Names}}"}.get(kind, "{{.Name}}")
        return self.engine.ask(kind, *listing, *containers.filters(self.stack, role), "--format", shown).stdout.split()

    def labels(self, labels: Mapping[str, str] | None = None) -> list[str]:
        """Return the options that label what is made here."""
        whole = {"app": APP, "stack": self.stack, "role": ROLE, "maker": _MAKER, **(labels or {})}
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


@contextmanager
def _ended_early() -> Iterator[None]:
    """Let a program that ended before it read all of its input say itself why."""
    try:
        yield
    except BrokenPipeError:
        return


def _close(pipe: IO[bytes]) -> None:
    with _ended_early():
        pipe.close()


def inspected(engine: Engine, kind: str, name: str) -> dict[str, object] | None:
    """Return what the engine says of one thing; None where it has none of that name."""
    answer = engine.ask(kind, "inspect", name)
    return json.loads(answer.stdout)[0] if answer.returncode == 0 else None


def variable(name: str) -> str | None:
    """Return what a person gave with `make`, or None."""
    return os.environ.get(name) or None
