"""The Docker engine that a stack runs on: found, or installed and started where that is allowed."""

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bootstrap import command, debian, places
from bootstrap.console import Step
from bootstrap.problem import ProblemError
from components.docker.ssh import SshAccess, TunnelError, forwarded_socket, refused_host_key

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
LOG = Path("/var/log/dockerd.log")
_SSH = re.compile(r"ssh://[A-Za-z0-9_][A-Za-z0-9_.@-]*(:\d+)?")
SECONDS_TO_ANSWER = 30
SECONDS_TO_START = 60


@dataclass(frozen=True)
class Engine:
    """One engine and the words that reach it."""

    address: str
    origin: str
    """Who named it: DOCKER_HOST, a context, a setting, or nobody (the default)."""
    client: tuple[str, ...]
    """The docker client with the options that choose this engine."""

    @property
    def is_local(self) -> bool:
        """Whether the engine shares this machine's disk."""
        return self.address.startswith("unix://")

    def ask(self, *arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run the docker client against this engine."""
        return command.attempt([*self.client, *arguments], timeout=timeout)

    def has_image(self, name: str) -> bool:
        """Tell whether an image is in the engine under a name."""
        return self.ask("image", "inspect", "--format", "{{.Id}}", name).returncode == 0


def chosen(
    host: str | None = None, access: SshAccess | None = None, *, known_from: str = "platform.docker.host_key"
) -> Engine:
    """Return the engine to use: the stack's, DOCKER_HOST's, the active context's, or the default socket's.

    With `access` it is reached as the program reaches it, by one connection until this process ends: the docker client
    itself can be told no options for ssh. `known_from` is what names its key.

    Raises:
        ProblemError: there is no such connection.

    """
    if access is not None:
        origin = known_from.removesuffix("_key")
        return Engine(access.host, origin, ("docker", "--host", _tunnel(access, known_from)))
    if host:
        return Engine(host, "platform.docker.host", ("docker", "--host", host))
    from_environment = os.environ.get("DOCKER_HOST")
    if from_environment:
        return Engine(from_environment, "DOCKER_HOST", ("docker", "--host", from_environment))
    answer = command.attempt(["docker", "context", "inspect", "--format", "{{.Name}} {{.Endpoints.docker.Host}}"])
    name, _, address = answer.stdout.strip().partition(" ")
    if answer.returncode == 0 and address and address != DEFAULT_ADDRESS:
        return Engine(address, f"the docker context {name}", ("docker", "--context", name))
    return Engine(DEFAULT_ADDRESS, "the default socket", ("docker", "--host", DEFAULT_ADDRESS))


def known_beforehand(stack: str, host: object, host_key: object) -> SshAccess | None:
    """Return how a host is reached whose key the settings name; what is wrong there, the program refuses."""
    if not isinstance(host, str) or not isinstance(host_key, str) or not _SSH.fullmatch(host):
        return None
    return SshAccess(stack, host, host_key)


def prepare(access: SshAccess | None) -> None:
    """Put what ssh needs to know into its place: Pulumi's provider asks a host before the program can say how.

    Raises:
        ProblemError: it cannot be written.

    """
    if access is None:
        return
    try:
        access.write(places.CHECKOUT)
    except OSError as error:
        raise ProblemError(str(error)) from None


def _tunnel(access: SshAccess, known_from: str) -> str:
    prepare(access)
    try:
        return forwarded_socket(access.host, access.options, places.CHECKOUT)
    except TunnelError as error:
        words = str(error)
    by_hand = f"ssh {' '.join(access.options)} {access.host}"
    last = words.splitlines()[-1].rstrip(".")
    no_way = f"There is no way to the Docker engine at {access.host}: {last}. Try `{by_hand}`."
    raise ProblemError(refused_host_key(access.host, words, known_from) or no_way)


def ensure(engine: Engine, step: Step) -> None:
    """Make sure that the engine answers; install and start one where nobody named another and we may.

    Raises:
        ProblemError: it does not answer, and what to do about it.

    """
    words = unanswered(engine)
    if words is None:
        return
    ours_to_start = engine.address == DEFAULT_ADDRESS and engine.origin != "platform.docker.host"
    if "permission denied" in words.lower() or not ours_to_start:
        raise ProblemError(explanation(engine, words))
    forbidden = os.environ.get("BOOTSTRAP_DOCKER") == "0"
    if forbidden or not debian.can_install():
        reason = (
            "BOOTSTRAP_DOCKER=0 forbids installing one"
            if forbidden
            else "only root on Debian or Ubuntu can install one"
        )
        message = f"{explanation(engine, words)} It is not set up here either: {reason}."
        raise ProblemError(message)
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        step.now("no Docker engine here, so Debian's is installed (BOOTSTRAP_DOCKER=0 forbids it)")
        client = [] if shutil.which("docker") else _client_package()
        debian.install(["docker.io", *client], step)
    if unanswered(engine) is not None:
        _start(engine, step)


def unanswered(engine: Engine) -> str | None:
    """Return the words with which asking the engine failed; None when it answers."""
    answer = engine.ask("version", "--format", "{{.Server.Version}}", timeout=SECONDS_TO_ANSWER)
    return None if answer.returncode == 0 else answer.stderr.strip() or "no reason given"


def explanation(engine: Engine, words: str) -> str:
    """Say why an engine cannot be used, and what helps."""
    tried = f"{engine.address} ({engine.origin})"
    last = words.splitlines()[-1].rstrip(".")
    if "command not found" in last:
        return f"There is no docker client on PATH to ask {tried} with; install Docker (https://docs.docker.com/engine/install)."
    if "permission denied" in words.lower() and engine.is_local:
        return (
            f"The Docker engine at {tried} is there, but this user may not use it: "
            f"`sudo usermod -aG docker {_user()}`, log in again, and run this once more."
        )
    if engine.address.startswith("ssh://"):
        return f"No Docker engine answers at {tried}: {last}. Try `ssh {_ssh_target(engine.address)} docker version`."
    return (
        f"No Docker engine answers at {tried}: start it (`sudo systemctl start docker`, or Docker Desktop), "
        "or name another with DOCKER_HOST."
    )


def _client_package() -> list[str]:
    # Newer Debians have the client in a package of its own; older ones do not know that name.
    return ["docker-cli"] if command.attempt(["apt-cache", "show", "docker-cli"]).stdout.strip() else []


def _start(engine: Engine, step: Step) -> None:
    step.now("starting the Docker engine")
    if Path("/run/systemd/system").is_dir():
        command.output(["systemctl", "enable", "--now", "docker"], purpose="Starting the Docker engine")
    else:
        step.now(f"no systemd here: dockerd runs in the background, log {LOG}, pid in /var/run/docker.pid")
        with LOG.open("ab") as log:
            subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # noqa: S607
    deadline = time.monotonic() + SECONDS_TO_START
    while unanswered(engine) is not None:
        if time.monotonic() > deadline:
            lines = LOG.read_text(errors="replace").splitlines()[-3:] if LOG.exists() else []
            message = (
                f"The Docker engine did not start within {SECONDS_TO_START} s: {' / '.join(lines) or 'see its journal'}"
            )
            raise ProblemError(message)
        time.sleep(0.5)


def _user() -> str:
    return os.environ.get("USER") or "$USER"


def _ssh_target(address: str) -> str:
    parts = urlsplit(address)
    port = f"-p {parts.port} " if parts.port else ""
    return f"{port}{parts.username + '@' if parts.username else ''}{parts.hostname}"
