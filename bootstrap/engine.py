"""The Docker engine of a stack: finds it, or installs and starts one if that is allowed."""

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from open_webui_edge.bootstrap import command, debian, docker_packages, paths
from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.engine import podman
from open_webui_edge.engine.ssh import SshAccess, TunnelError, forwarded_socket, refused_host_key
from open_webui_edge.runtime.contract import DEPLOYMENT

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
LOG = Path("/var/log/dockerd.log")
_SSH = re.compile(r"ssh://[A-Za-z0-9_][A-Za-z0-9_.@-]*(:\d+)?")
ANSWER_TIMEOUT = 30
START_TIMEOUT = 60
OLDEST_MAINTAINED = 28
"""The oldest major version that Docker maintains."""


@dataclass(frozen=True)
class Engine:
    """One engine and the client that reaches it."""

    address: str
    origin: str
    """Source of the address: DOCKER_HOST, a context, a setting, or the default."""
    client: tuple[str, ...]
    """The docker client with the options that choose this engine."""
    ssh_options: tuple[str, ...] = ()
    """Options of ssh, if the settings have the host's key."""

    @property
    def is_local(self) -> bool:
        """Whether the engine shares this machine's disk."""
        return self.address.startswith("unix://")

    def ask(self, *arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run the docker client against this engine."""
        return command.attempt([*self.client, *arguments], timeout=timeout)

    def identity(self) -> str | None:
        """Return the engine's ID, at any address the same, if it has one; raises ProblemError if it does not answer."""
        return self._answer("info", "--format", "{{.ID}}") or None

    def has_volumes_of(self, deployment: str) -> bool:
        """Return whether a deployment has a volume there, by its label; raises as `identity`."""
        return bool(self._answer("volume", "ls", "--quiet", "--filter", f"label={DEPLOYMENT}={deployment}"))

    def _answer(self, *arguments: str) -> str:
        answer = self.ask(*arguments, timeout=ANSWER_TIMEOUT)
        if answer.returncode:
            words = command.last_line(answer.stderr).rstrip(".")
            raise ProblemError(
                f"The Docker engine at {self.address} did not answer ({words}), so nothing was changed. Run this again"
                " once it does."
            )
        return answer.stdout.strip()

    def has_image(self, name: str) -> bool:
        """Return whether the engine has an image of that name."""
        return self.ask("image", "inspect", "--format", "{{.Id}}", name).returncode == 0


def resolve(
    host: str | None = None, access: SshAccess | None = None, *, known_from: str = "platform.docker.host_key"
) -> Engine:
    """Return the engine to use: the stack's, DOCKER_HOST's, the active context's, or the default socket's.

    With `access` the client uses a tunnel that lasts until this process ends, since the docker client accepts no
    options for ssh. `known_from` is the source of the host's key, for messages.

    Raises:
        ProblemError: the tunnel cannot be opened.

    """
    if access is not None:
        origin = known_from.removesuffix("_key")
        client = ("docker", "--host", _tunnel(access, known_from))
        return Engine(access.host, origin, client, access.options)
    if host:
        return Engine(host, "platform.docker.host", ("docker", "--host", host))
    from_environment = os.environ.get("DOCKER_HOST")
    if from_environment and "://" not in from_environment:
        raise ProblemError(
            f'DOCKER_HOST: "{from_environment}" is not the address of an engine; write one such as {DEFAULT_ADDRESS} or'
            " ssh://user@host, or unset it."
        )
    if from_environment:
        return Engine(from_environment, "DOCKER_HOST", ("docker", "--host", from_environment))
    answer = command.attempt(["docker", "context", "inspect", "--format", "{{.Name}} {{.Endpoints.docker.Host}}"])
    name, _, address = answer.stdout.strip().partition(" ")
    if answer.returncode == 0 and address and address != DEFAULT_ADDRESS:
        return Engine(address, f"the docker context {name}", ("docker", "--context", name))
    return Engine(DEFAULT_ADDRESS, "the default socket", ("docker", "--host", DEFAULT_ADDRESS))


def pinned_access(stack: str, host: object, host_key: object) -> SshAccess | None:
    """Return the ssh access to a host with a pinned key; None for invalid settings, which the loader reports."""
    if not isinstance(host, str) or not isinstance(host_key, str) or not _SSH.fullmatch(host):
        return None
    return SshAccess(stack, host, host_key)


def prepare(access: SshAccess | None) -> None:
    """Write the files for ssh, or raise a ProblemError: Pulumi's provider connects before the program runs."""
    if access is None:
        return
    try:
        access.write(paths.CHECKOUT)
    except OSError as error:
        raise ProblemError(str(error)) from None


def _tunnel(access: SshAccess, known_from: str) -> str:
    prepare(access)
    try:
        return forwarded_socket(access.host, access.options, paths.CHECKOUT)
    except TunnelError as error:
        words = str(error)
    by_hand = f"ssh {' '.join(access.options)} {access.host}"
    last = words.splitlines()[-1].rstrip(".")
    no_way = f"The Docker engine at {access.host} cannot be reached: {last}. Try `{by_hand}`."
    raise ProblemError(refused_host_key(access.host, words, known_from) or no_way)


def ensure(engine: Engine, step: Step) -> None:
    """Make sure that the engine answers; install and start one if no other is configured and that is allowed.

    Raises:
        ProblemError: it does not answer or is Podman, and what to do about it.

    """
    words = ping_error(engine)
    if words is not None:
        _set_up(engine, step, words)
    version = require_docker(engine)
    step.done(f"{engine.address} ({engine.origin}), version {version}")
    if is_outdated(version):
        step.now(f"version {version} works but is no longer maintained; upgrade to {OLDEST_MAINTAINED} or later")


def is_outdated(version: str) -> bool:
    """Return whether an engine's version is no longer maintained by Docker."""
    major = version.partition(".")[0]
    return major.isdigit() and int(major) < OLDEST_MAINTAINED


def require_docker(engine: Engine) -> str:
    """Return the version of an engine that answers; raises ProblemError if it is Podman."""
    answer = engine.ask("version", "--format", "{{json .Server}}", timeout=ANSWER_TIMEOUT)
    try:
        said = json.loads(answer.stdout)
    except ValueError:
        said = None
    server: dict[str, Any] = said if isinstance(said, dict) else {}
    if podman.is_podman(server):
        raise ProblemError(podman.refusal(engine.address))
    return str(server.get("Version") or "unknown")


def _set_up(engine: Engine, step: Step, words: str) -> None:
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
        raise ProblemError(f"{explanation(engine, words)} This program does not install one: {reason}.")
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        step.now("installing a Docker engine, since there is none (BOOTSTRAP_DOCKER=0 forbids it)")
        docker_packages.install(step)
    if ping_error(engine) is not None:
        _start(engine, step)


def ping_error(engine: Engine) -> str | None:
    """Return why the engine does not answer; None if it does."""
    answer = engine.ask("version", "--format", "{{.Server.Version}}", timeout=ANSWER_TIMEOUT)
    return None if answer.returncode == 0 else answer.stderr.strip() or "no reason given"


def version(engine: Engine) -> str:
    """Return the version of an engine that answers, such as 28.5.2."""
    return engine.ask("version", "--format", "{{.Server.Version}}").stdout.strip()


def explanation(engine: Engine, words: str) -> str:
    """Explain why an engine cannot be used, and what to do."""
    tried = f"{engine.address} ({engine.origin})"
    last = words.splitlines()[-1].rstrip(".")
    if "command not found" in last:
        return (
            f"There is no docker client on PATH for {tried}; install Docker (https://docs.docker.com/engine/install)."
        )
    if "permission denied" in words.lower() and engine.is_local:
        return (
            f"The Docker engine at {tried} runs, but this user may not use it: "
            f"`sudo usermod -aG docker {os.environ.get('USER') or '$USER'}`, log in again, and run this again."
        )
    if engine.address.startswith("ssh://"):
        return f"No Docker engine answers at {tried}: {last}. Try `ssh {_ssh_target(engine.address)} docker version`."
    return (
        f"No Docker engine answers at {tried}: start it (`sudo systemctl start docker`, or Docker Desktop), "
        "or use another one with DOCKER_HOST."
    )


def _start(engine: Engine, step: Step) -> None:
    step.now("starting the Docker engine")
    if Path("/run/systemd/system").is_dir():
        command.output(["systemctl", "enable", "--now", "docker"], purpose="Starting the Docker engine")
    else:
        step.now(f"no systemd here: dockerd runs in the background, log {LOG}, pid in /var/run/docker.pid")
        with LOG.open("ab") as log:
            subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # noqa: S607
    deadline = time.monotonic() + START_TIMEOUT
    while ping_error(engine) is not None:
        if time.monotonic() > deadline:
            lines = LOG.read_text(errors="replace", encoding="utf-8").splitlines()[-3:] if LOG.exists() else []
            raise ProblemError(
                f"The Docker engine did not start within {START_TIMEOUT} s: {' / '.join(lines) or 'see its journal'}"
            )
        time.sleep(0.5)


def _ssh_target(address: str) -> str:
    parts = urlsplit(address)
    port = f"-p {parts.port} " if parts.port else ""
    return f"{port}{parts.username + '@' if parts.username else ''}{parts.hostname}"
