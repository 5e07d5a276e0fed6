"""Access to an engine on another machine: ssh forwards its socket to this one."""

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
_SOCKET = "docker.sock"
_MAX_PATH_LENGTH = 85
"""Bytes: the systems allow 103 (macOS) or 107, and ssh adds a dot and 16 letters while it creates a socket."""
_CONNECT_TIMEOUT = 30
"""Seconds."""
HOST_KEY = "platform.docker.host_key"
"""The setting that names the key of a host."""
_FOLDER = Path(".ssh")
"""Relative to the project's folder, so that the state does not depend on where a user keeps the project."""
_PORT = 22
_REFUSED_KEY = "Host key verification failed"
_SHOWN_KEY = re.compile(r"fingerprint for the (\S+) key sent by the remote host is\s+(SHA256:[A-Za-z0-9+/=]+)")

_tunnels: dict[tuple[str, ...], tuple[subprocess.Popen[str], Path]] = {}
"""Options and host -> tunnel and socket: all checks of this process share one tunnel."""
_tunnel_lock = threading.Lock()


class TunnelError(OSError):
    """ssh could not connect; the text is its message."""


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
        """Options of ssh, before the host."""
        return ssh_options(self.stack)

    def write(self, project: Path | None = None) -> None:
        """Write ssh's files to the stack's private folder below the project's (default: the current one).

        A file with the right content is not written again; a mode that lets others in is corrected.

        Raises:
            OSError: it cannot be written; the text is for the user.

        """
        folder = (project or Path()) / _FOLDER
        files = {
            "config": self._configuration(),
            "known_hosts": f"{self._name} {' '.join(self.host_key.split()[:2])}\n",
        }
        if self.client_key is not None:
            files["id_ed25519"] = f"{self.client_key.strip()}\n"
        try:
            _private_folder(folder)
            # A project of a user's own may lack the line in its .gitignore.
            _private_file(folder / ".gitignore", "*\n")
            _private_folder(folder / self.stack)
            for name, text in files.items():
                _private_file(folder / self.stack / name, text)
        except OSError as error:
            raise OSError(
                f"What ssh needs to reach {self.host} cannot be written to the project's folder: {error}"
            ) from error

    @property
    def _name(self) -> str:
        return urlsplit(self.host).hostname or ""

    def _configuration(self) -> str:
        here = _FOLDER / self.stack
        # In the original case, in which ssh compares it; Python's `hostname` is in lower case.
        written = urlsplit(self.host).netloc.rpartition("@")[2].partition(":")[0]
        lines = [
            f"# How ssh reaches the host of the stack {self.stack}. By hand, in the project's folder:",
            f"# ssh {' '.join(self.options)} {self.host}",
            "# Every update writes this file: changes are lost.",
            f"Host {written}",
            # known_hosts lists the host by name, whatever its address and port.
            f"    HostKeyAlias {self._name}",
            "    StrictHostKeyChecking yes",
            f"    UserKnownHostsFile {here}/known_hosts",
            "    GlobalKnownHostsFile /dev/null",
            "    UpdateHostKeys no",
            "    VerifyHostKeyDNS no",
            # A shared connection would bypass these rules.
            "    ControlPath none",
            "    ForwardAgent no",
            "    ForwardX11 no",
            "    PermitLocalCommand no",
            f"    ConnectTimeout {_CONNECT_TIMEOUT}",
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
            # The user's configuration sets user, key and jump hosts; for each option the first value counts.
            lines += ["    Include ~/.ssh/config", "    Include /etc/ssh/ssh_config"]
        return "\n".join(lines) + "\n"


def refused_host_key(host: str, error: str, source: str = HOST_KEY) -> str | None:
    """Return the message for a host key that ssh refused, unlike the one in `source`; None for another error of ssh."""
    if _REFUSED_KEY not in error:
        return None
    shown = _SHOWN_KEY.search(error)
    which = "" if shown is None else f" ({shown[1]} {shown[2]})"
    return (
        f"{host} has another host key than the one in {source}{which}; if it was installed again, copy its new key"
        " (/etc/ssh/ssh_host_ed25519_key.pub), else another machine may be intercepting the connection."
    )


def forwarded_socket(host: str, options: Sequence[str] = (), project: Path | None = None) -> str:
    """Forward the engine's socket of `host` (ssh://user@host:port) and return the address of this end.

    The `ssh` on PATH does it, with the user's own configuration, keys and known hosts unless `options` say otherwise,
    and never prompts. The tunnel ends with this process, however that ends: the remote `cat` then reads the end of its
    input. `options`, as `ssh_options` returns them, are relative to the folder `project`, by default the current one.

    Raises:
        TunnelError: there is no connection.

    """
    # Of two tunnels that start at once, one would be dropped, and its end removes its socket.
    with _tunnel_lock:
        key = (*options, host)
        tunnel, here = _tunnels.get(key, (None, None))
        if tunnel is not None and tunnel.poll() is None:
            return f"unix://{here}"
        # Readable by this user alone: access to the socket is control of the engine.
        folder = folder_for_a_socket(_SOCKET)
        here = folder / _SOCKET
        further_options = ("ExitOnForwardFailure=yes", f"ConnectTimeout={_CONNECT_TIMEOUT}")
        ssh = [*_ssh(options, *further_options), "-T", "-L", f"{here}:{_ENGINE_SOCKET}"]
        tunnel = subprocess.Popen(  # noqa: S603 - the host is of a kind that holds no option
            # The shell removes the folder: this process may be killed.
            ["/bin/sh", "-c", '"$@"; rm -rf "$0"', str(folder), *ssh, host, "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=project,
            encoding="utf-8",
        )
        _tunnels[key] = (tunnel, here)
        deadline = time.monotonic() + _CONNECT_TIMEOUT
        while not here.exists():
            if tunnel.poll() is not None or time.monotonic() > deadline:
                # It ends when its standard input is closed.
                _, error = tunnel.communicate(timeout=_CONNECT_TIMEOUT)
                raise TunnelError(error.strip() or f"no connection to {host} within {_CONNECT_TIMEOUT} seconds")
            time.sleep(0.05)
        return f"unix://{here}"


def folder_for_a_socket(name: str) -> Path:
    """Create a folder in which the path of a socket is short enough: TMPDIR of macOS is long."""
    folder = Path(tempfile.mkdtemp(prefix="open-webui-edge-"))
    if len(os.fsencode(folder / name)) <= _MAX_PATH_LENGTH:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="open-webui-edge-", dir="/tmp"))


def ask_over_ssh(host: str, options: Sequence[str], command: str) -> str | None:
    """Run a command on the host; return its error message, or None if it succeeded."""
    arguments = [*_ssh(options, f"ConnectTimeout={_CONNECT_TIMEOUT}"), "-T", host, command]
    try:
        ended = subprocess.run(  # noqa: S603 - the host is of a kind that holds no option
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * _CONNECT_TIMEOUT,
            check=False,
            encoding="utf-8",
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {2 * _CONNECT_TIMEOUT} seconds"
    return None if ended.returncode == 0 else ended.stderr.strip() or f"it ended with {ended.returncode}"


def _ssh(options: Sequence[str], *further_options: str) -> list[str]:
    arguments = (word for option in ("BatchMode=yes", *further_options) for word in ("-o", option))
    return ["ssh", *options, *arguments]


def _private_folder(path: Path) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) != 0o700:  # noqa: PLR2004 - as people write modes
        path.chmod(0o700)


def _private_file(path: Path, text: str) -> None:
    """Write a file for this user alone, atomically: no reader sees a part of it."""
    with suppress(OSError):
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) != 0o600:  # noqa: PLR2004 - as people write modes
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
