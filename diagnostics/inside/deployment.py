"""Facts about a stack, and access to its containers. Plain data, which the caller fills from settings and state."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

SECONDS = 10.0
"""How long the engine may take for one answer."""
_OUT_OF_TIME = 124
"""As a shell's `timeout` says it."""
_MISSING = 127


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    output: str
    errors: str

    @property
    def last_line(self) -> str:
        """Its last line, of what it said on either stream."""
        lines = [line.strip() for line in f"{self.output}\n{self.errors}".splitlines() if line.strip()]
        return lines[-1] if lines else f"it ended with code {self.code} and said nothing"


class SilentEngineError(RuntimeError):
    """The engine did not answer; the text says what it said instead."""


@dataclass(frozen=True)
class Engine:
    """One Docker engine, asked by the docker client, which knows sockets, contexts and tunnels alike."""

    client: tuple[str, ...]
    """The client with what chooses the engine."""
    address: str
    local: bool = True
    """Whether it runs on this machine."""

    def run(self, *arguments: str, given: str | None = None, seconds: float = SECONDS) -> Answer:
        """Run the client to its end; `given` goes by standard input, where secrets and programs may go."""
        try:
            process = subprocess.Popen(  # noqa: S603  # a list of arguments, no shell
                [*self.client, *arguments],
                stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
                encoding="utf-8",
            )
        except FileNotFoundError:
            return Answer(_MISSING, "", f"{self.client[0]}: command not found")
        try:
            output, errors = process.communicate(given, timeout=seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Answer(_OUT_OF_TIME, "", f"no answer within {seconds:g} s")
        return Answer(process.returncode, output, errors)

    def must(self, *arguments: str, given: str | None = None, seconds: float = SECONDS) -> str:
        """Return what the client wrote; raises SilentEngineError where it failed."""
        answer = self.run(*arguments, given=given, seconds=seconds)
        if answer.code:
            raise SilentEngineError(answer.last_line)
        return answer.output


@dataclass(frozen=True)
class Publication:
    """A port of the host that leads to one of a container."""

    address: str
    external: int
    internal: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        """Write it as `docker ps` does."""
        return f"{self.address}:{self.external}->{self.internal}/{self.protocol}"


@dataclass(frozen=True)
class ExpectedContainer:
    """A container as the last update made it."""

    name: str
    role: str
    identity: str
    """Its id; one that was made by hand has another."""
    image: str
    urn: str = ""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    networks: frozenset[str] = frozenset()
    publications: frozenset[Publication] = frozenset()
    memory: int | None = None
    """Limit in bytes."""
    restart: str = "unless-stopped"
    runs_once: bool = False
    """Whether it has done its work when it has ended."""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Path -> SHA-256 of what was put there."""


@dataclass(frozen=True)
class Authenticator:
    """The service that the proxy asks about each request."""

    url: str
    site: str
    """URL of the site, which the proxy sends to it."""
    timeout: float
    """Seconds that the proxy waits for it."""


@dataclass(frozen=True)
class Change:
    """One resource that the next update would touch."""

    kind: str
    """create, update, replace, delete, …"""
    name: str


@dataclass
class DeploymentAccess:
    """One stack, from within."""

    stack: str
    engine: Engine | None = None
    silent: str | None = None
    """Why the engine cannot be asked, and what helps."""
    faults: tuple[str, ...] = ()
    """What is wrong with the settings, a line each."""
    made: tuple[ExpectedContainer, ...] = ()
    """Containers of the last update; nothing where there was none."""
    configuration: str | None = None
    """SHA-256 of the nginx.conf that the last update installed."""
    certificate: str | None = None
    """SHA-256 of the certificate that it installed; None where another container obtains it."""
    probe: str = ""
    """The program that runs in a container of the application and answers the doctor's questions."""
    shell_functions: str = ""
    """What the proxy's own scripts share, for a shell in its container."""
    has_admin: bool = False
    """Whether the settings name an account to sign in with."""
    database: str | None = None
    """URL of one that data.postgres.url names, without a password."""
    redis: str | None = None
    """The same of data.redis.url."""
    authenticator: Authenticator | None = None
    """None: the proxy asks none."""
    silences: Mapping[str, float] = field(default_factory=dict[str, float])
    """Hop -> seconds of silence after which it ends an answer, as the settings and the state say."""
    disk_percent: int = 85
    """From where on a disk counts as nearly full."""
    instance: str | None = None
    """Id of the cloud's instance that the engine is on, and its state, in words."""
    patience: float = 25.0
    """Seconds for all that is asked from within a replica; a busy host needs more."""
    secrets: frozenset[str] = field(default_factory=frozenset[str], repr=False)
    """What must stand in no report."""
    pending: Callable[[], Sequence[Change]] | None = field(default=None, repr=False)
    """What the next update would do; raises RuntimeError where that cannot be said."""
    update: Callable[[Sequence[str]], str] | None = field(default=None, repr=False)
    """Update the stack and recreate the named resources (URNs); raises RuntimeError."""

    def require(self) -> Engine:
        """Return the engine; raises SilentEngineError."""
        if self.engine is None:
            raise SilentEngineError(self.silent or "where its engine is, is not known")
        return self.engine

    def of(self, role: str) -> tuple[ExpectedContainer, ...]:
        """Return its containers with a role."""
        return tuple(one for one in self.made if one.role == role)
