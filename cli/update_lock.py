"""Pulumi's lock on a stack during an update, in a backend with files.

Pulumi removes its lock when it exits. If it is killed, the lock stays and blocks every later update. For the contents
and the path of a lock see pkg/backend/diy/lock.go of Pulumi.
"""

import json
import os
import shlex
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from open_webui_edge.bootstrap import backend, command, console, paths
from open_webui_edge.bootstrap.console import ProblemError

_CLOCKS_DIFFER = timedelta(seconds=2)
"""The kernel reports start times in hundredths of a second since boot, but the boot time in whole seconds."""
_KERNEL = Path("/proc/stat")
_ATTRIBUTES_SUFFIX = ".attrs"
"""Suffix of the attribute file that Pulumi's storage library writes next to each file."""


@dataclass(frozen=True)
class _Lock:
    """One lock, as Pulumi writes it."""

    pid: int
    owner: str
    host: str
    since: datetime

    @classmethod
    def read(cls, file: Path) -> "_Lock | None":
        """Read a lock; None if it is truncated, from a power loss here: files are renamed when complete."""
        try:
            said = json.loads(file.read_text(encoding="utf-8"))
            since = datetime.fromisoformat(said["timestamp"]).astimezone(UTC)
            return cls(int(said["pid"]), str(said["username"]), str(said["hostname"]), since)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether this machine wrote it."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid}, since {self.since:%Y-%m-%d %H:%M:%S} UTC"


def lift_abandoned(stack: str, project: str, environment: Mapping[str, str]) -> None:
    """Remove the locks of killed updates (`environment` is Pulumi's); a ProblemError says where one may still run."""
    held: _Lock | None = None
    for file in _lock_files(stack, project, environment):
        lock = _Lock.read(file)
        if lock is None or (lock.is_here and not _runs(lock.pid, lock.since)):
            file.unlink(missing_ok=True)
            file.with_name(f"{file.name}{_ATTRIBUTES_SUFFIX}").unlink(missing_ok=True)
            held_by = lock or "a truncated lock"
            console.say(f"An update of {stack} was killed and left it locked ({held_by}); the lock was removed.")
        else:
            held = held or lock
    if held:
        raise ProblemError(
            f"An update of {stack} runs on this machine ({held}). Wait for it; or stop it with"
            f" `kill -INT {held.pid}` and, once it has ended, run this again."
            if held.is_here
            else f"{held.owner}@{held.host} has locked {stack} ({held}): an update runs there, or was killed. Wait for"
            f" it; or, if none runs there any more, unlock the stack: {by_hand(stack)}"
        )


def by_hand(stack: str) -> str:
    """Return the command that removes any lock of a stack, for a shell in any folder."""
    folder = shlex.quote(str(paths.CHECKOUT))
    return f'(cd {folder} && eval "$(make -s env STACK={stack})" && pulumi cancel --yes --stack {stack})'


def _lock_files(stack: str, project: str, environment: Mapping[str, str]) -> Iterator[Path]:
    url = backend.url(environment)
    if url is None or not url.startswith("file://"):
        return
    # As in Pulumi: ~ is the home, and relative paths are relative to the project's folder.
    parts = urlsplit(url)
    state = paths.CHECKOUT / Path(f"{parts.netloc}{parts.path}").expanduser()
    # Until 2023 the paths had no project, and Pulumi still uses such paths in older states.
    for folder in (state / ".pulumi/locks/organization" / project / stack, state / ".pulumi/locks" / stack):
        if folder.is_dir():
            files = sorted(folder.iterdir())
            yield from (file for file in files if file.is_file() and file.suffix != _ATTRIBUTES_SUFFIX)


def _runs(pid: int, since: datetime) -> bool:
    """Return whether the process with that PID may hold a lock of that time; if in doubt, it does."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # Another user's.
        pass
    process = _by_kernel(pid) if _KERNEL.exists() else _by_ps(pid)
    if process is None:
        return True
    name, is_remains, began = process
    # The PID was reused if the process started after the lock; a Pulumi process may seem newer if the clock was set.
    return not is_remains and (name == "pulumi" or began <= since + _CLOCKS_DIFFER)


def _by_kernel(pid: int) -> tuple[str, bool, datetime] | None:
    """Return a process's name, whether it is a zombie, and when it started; None if that is hidden."""
    try:
        # proc_pid_stat(5); the name, in brackets, may hold anything.
        said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        booted = next(line for line in _KERNEL.read_text(encoding="ascii").splitlines() if "btime" in line)
    except OSError:
        return None
    before, _, after = said.rpartition(")")
    status, *numbers = after.split()
    seconds = int(booted.split()[1]) + int(numbers[18]) / os.sysconf("SC_CLK_TCK")
    return before.partition("(")[2], status in {"Z", "X"}, datetime.fromtimestamp(seconds, UTC)


def _by_ps(pid: int) -> tuple[str, bool, datetime] | None:
    """Return the same by `ps`, for systems without /proc, such as macOS."""
    words = ["ps", "-o", "lstart=", "-o", "stat=", "-o", "comm=", "-p", str(pid)]
    answer = command.attempt(words, environment={"LC_ALL": "C", "TZ": "UTC"})
    *date, status, program = answer.stdout.split(maxsplit=6) or [""] * 2
    with suppress(ValueError):
        began = datetime.strptime(" ".join(date), "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
        return Path(program.strip()).name, status.startswith("Z"), began
    return None
