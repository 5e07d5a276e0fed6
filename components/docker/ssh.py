"""How an engine on another machine is reached: by ssh, and its socket as a socket on this one."""

import os
import re
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_ENGINE_SOCKET = "/var/run/docker.sock"
_PATIENCE = 30
"""Seconds for a connection to be made."""
HOST_KEY = "platform.docker.host_key"
"""The setting that names the key of a host."""
_FOLDER = Path(".ssh")
"""In the project's folder, and relative to it: what the state holds is the same for everybody who has the project."""
_PORT = 22
_REFUSED_KEY = "Host key verification failed"
_SHOWN_KEY = re.compile(r"fingerprint for the (\S+) key sent by the remote host is\s+(SHA256:[A-Za-z0-9+/=]+)")

_tunnels: dict[tuple[str, ...], tuple[subprocess.Popen[str], Path]] = {}
"""Options and host -> tunnel and socket: one serves the checks before an update and those after it, until this process
ends."""
_making = threading.Lock()


class TunnelError(OSError):
    """The connection could not be made; the text is what ssh said."""


def ssh_options(stack: str) -> tuple[str, ...]:
    """Return the options with which ssh, started in the project's folder, reaches a stack's host."""
    return ("-F", str(_FOLDER / stack / "config"))


@dataclass(frozen=True)
class SshAccess:
    """The host of a stack, and the key by which ssh knows it."""

    stack: str
    host: str
    """ssh://user@host:port."""
    host_key: str
    """Its public key, as OpenSSH writes one; what follows the key itself is a comment."""
    client_key: str | None = field(default=None, repr=False)
    """The private key to log in with, as OpenSSH writes one; None for the user's own keys and configuration."""

    @property
    def options(self) -> tuple[str, ...]:
        """What ssh is given before the host."""
        return ssh_options(self.stack)

    def write(self, project: Path | None = None) -> None:
        """Make the private folder of the stack in the project's (default: the current one) say this.

        What is there already is not touched; a mode that lets others in is mended.

        Raises:
            OSError: it cannot be written; the text is for the user.

        """
        try:
            self._write((project or Path()) / _FOLDER)
        except OSError as error:
            raise OSError(
                f"What ssh needs to reach {self.host} cannot be written to the project's folder: {error}"
            ) from error

    def _write(self, folder: Path) -> None:
        _private_folder(folder)
        # Whoever commits a project of their own has no line for it in their .gitignore.
        _private_file(folder / ".gitignore", "*\n")
        _private_folder(folder / self.stack)
        kept = {"config": self._configuration(), "known_hosts": f"{self._name} {_key_alone(self.host_key)}\n"}
        if self.client_key is not None:
            kept["id_ed25519"] = f"{self.client_key.strip()}\n"
        for name, text in kept.items():
            _private_file(folder / self.stack / name, text)

    @property
    def _name(self) -> str:
        return urlsplit(self.host).hostname or ""

    def _configuration(self) -> str:
        here = _FOLDER / self.stack
        # As it is written: ssh compares it so, and Python would give it in small letters.
        written = urlsplit(self.host).netloc.rpartition("@")[2].partition(":")[0]
        lines = [
            f"# How ssh reaches the host of the stack {self.stack}. By hand, in the project's folder:",
            f"# ssh {' '.join(self.options)} {self.host}",
            "# Made by each update; a change would be lost.",
            f"Host {written}",
            # The line in known_hosts holds whatever the address and port behind this name are.
            f"    HostKeyAlias {self._name}",
            "    StrictHostKeyChecking yes",
            f"    UserKnownHostsFile {here}/known_hosts",
            "    GlobalKnownHostsFile /dev/null",
            "    UpdateHostKeys no",
            "    VerifyHostKeyDNS no",
            # A connection that somebody keeps open was made under other rules.
            "    ControlPath none",
            "    ForwardAgent no",
            "    ForwardX11 no",
            "    PermitLocalCommand no",
            f"    ConnectTimeout {_PATIENCE}",
            "    ServerAliveInterval 15",
            "    ServerAliveCountMax 4",
        ]
        if self.client_key is not None:
            lines += [
                f"    IdentityFile {here}/id_ed25519",
                "    IdentitiesOnly yes",
                "    PreferredAuthentications publickey",
            ]
        lines += ["Match all", "    BatchMode yes"]
        if self.client_key is None:
            # Who logs in, with which key and by which way, is the user's to say; the first word on anything counts.
            lines += ["    Include ~/.ssh/config", "    Include /etc/ssh/ssh_config"]
        return "\n".join(lines) + "\n"


def refused_host_key(host: str, words: str, told_by: str = HOST_KEY) -> str | None:
    """Say so if ssh did not take the host's key, which `told_by` names; None if its words are about something else."""
    if _REFUSED_KEY not in words:
        return None
    shown = _SHOWN_KEY.search(words)
    which = "" if shown is None else f" ({shown[1]} {shown[2]})"
    return (
        f"{host} has another host key than {told_by} says{which}; if it was set up anew, take the key from there"
        " (/etc/ssh/ssh_host_ed25519_key.pub), else somebody stands between."
    )


def forwarded_socket(host: str, options: Sequence[str] = (), project: Path | None = None) -> str:
    """Forward the engine's socket of `host` (ssh://user@host:port) and return the address of this end.

    The `ssh` on PATH does it, with the user's own configuration, keys and known hosts where `options` do not say
    otherwise, and asks nothing. The tunnel ends with this process, however that ends: the far end reads from it, and
    there is nothing more to read then.

    Args:
        host: where the engine is.
        options: of ssh, as `ssh_options` gives them.
        project: the folder to which these are relative; None for the current one.

    Raises:
        TunnelError: there is no connection.

    """
    # Two that are made at once would be one too many, and the end of that one would take its socket away.
    with _making:
        return _tunnel((*options, host), host, options, project)


def _tunnel(key: tuple[str, ...], host: str, options: Sequence[str], project: Path | None) -> str:
    tunnel, here = _tunnels.get(key, (None, None))
    if tunnel is not None and tunnel.poll() is None:
        return f"unix://{here}"
    # Readable by this user alone: whoever reaches the socket commands the engine.
    folder = Path(tempfile.mkdtemp(prefix="open-webui-edge-"))
    here = folder / "docker.sock"
    further = ("ExitOnForwardFailure=yes", f"ConnectTimeout={_PATIENCE}")
    ssh = [*_ssh(options, *further), "-T", "-L", f"{here}:{_ENGINE_SOCKET}"]
    tunnel = subprocess.Popen(  # noqa: S603 - the host is of a kind that holds no option
        # The shell tidies up: this process may be killed.
        ["/bin/sh", "-c", '"$@"; rm -rf "$0"', str(folder), *ssh, host, "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=project,
    )
    _tunnels[key] = (tunnel, here)
    deadline = time.monotonic() + _PATIENCE
    while not here.exists():
        if tunnel.poll() is not None or time.monotonic() > deadline:
            # Without its standard input it ends.
            _, words = tunnel.communicate(timeout=_PATIENCE)
            raise TunnelError(words.strip() or f"no connection to {host} within {_PATIENCE} seconds")
        time.sleep(0.05)
    return f"unix://{here}"


def ask_over_ssh(host: str, options: Sequence[str], command: str) -> str | None:
    """Run a command there; return what was said where it failed, and None where it did not."""
    words = [*_ssh(options, f"ConnectTimeout={_PATIENCE}"), "-T", host, command]
    try:
        ended = subprocess.run(  # noqa: S603 - the host is of a kind that holds no option
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * _PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {2 * _PATIENCE} seconds"
    return None if ended.returncode == 0 else ended.stderr.strip() or f"it ended with {ended.returncode}"


def _ssh(options: Sequence[str], *further: str) -> list[str]:
    return ["ssh", *options, *(word for option in ("BatchMode=yes", *further) for word in ("-o", option))]


def _key_alone(line: str) -> str:
    return " ".join(line.split()[:2])


def _private_folder(path: Path) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) != 0o700:  # noqa: PLR2004 - as people write modes
        path.chmod(0o700)


def _private_file(path: Path, text: str) -> None:
    """Make a file hold a text, for this user alone. At no moment is it there with a part of it, or for others."""
    with suppress(OSError):
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) != 0o600:  # noqa: PLR2004 - likewise
            path.chmod(0o600)
    with suppress(OSError, UnicodeDecodeError):
        if not path.is_symlink() and path.read_text(encoding="utf-8") == text:
            return
    descriptor, unfinished = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
