"""An engine's socket on another machine, as a socket on this one."""

import subprocess
import tempfile
import time
from pathlib import Path

_ENGINE_SOCKET = "/var/run/docker.sock"
_PATIENCE = 30
"""Seconds for a connection to be made."""

_tunnels: dict[str, tuple[subprocess.Popen[str], Path]] = {}
"""Host -> its tunnel and socket: one serves the checks before an update and those after it, until this process ends."""


class TunnelError(OSError):
    """The connection could not be made; the text is what ssh said."""


def forwarded_socket(host: str) -> str:
    """Forward the engine's socket of `host` (ssh://user@host:port) and return the address of this end.

    The `ssh` on PATH does it, with the user's own configuration, keys and known hosts, and asks nothing. The tunnel
    ends with this process, however that ends: the far end reads from it, and there is nothing more to read then.

    Raises:
        TunnelError: there is no connection.

    """
    tunnel, here = _tunnels.get(host, (None, None))
    if tunnel is not None and tunnel.poll() is None:
        return f"unix://{here}"
    # Readable by this user alone: whoever reaches the socket commands the engine.
    folder = Path(tempfile.mkdtemp(prefix="open-webui-edge-"))
    here = folder / "docker.sock"
    options = ["BatchMode=yes", "ExitOnForwardFailure=yes", f"ConnectTimeout={_PATIENCE}"]
    ssh = ["ssh", *(word for option in options for word in ("-o", option)), "-T", "-L", f"{here}:{_ENGINE_SOCKET}"]
    tunnel = subprocess.Popen(  # noqa: S603 - the host is of a kind that holds no option
        # The shell tidies up: this process may be killed.
        ["/bin/sh", "-c", '"$@"; rm -rf "$0"', str(folder), *ssh, host, "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _tunnels[host] = (tunnel, here)
    deadline = time.monotonic() + _PATIENCE
    while not here.exists():
        if tunnel.poll() is not None or time.monotonic() > deadline:
            # Without its standard input it ends.
            _, words = tunnel.communicate(timeout=_PATIENCE)
            raise TunnelError(words.strip() or f"no connection to {host} within {_PATIENCE} seconds")
        time.sleep(0.05)
    return f"unix://{here}"
