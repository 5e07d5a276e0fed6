"""A recent Docker engine for the tests: 28 or later, with the containerd image store and IPv6, as users have it.

It comes from Debian's testing suite, in a folder of the cache, and runs in a network namespace: next to the engine that
the machine has, whose firewall rules and bridges stay apart from its own. Tests run in the same namespace, since the
ports that containers publish are published there.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from open_webui_edge.bootstrap import command, console, lock, paths
from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.bootstrap.engine import DEFAULT_ADDRESS, Engine, ping_error, version
from open_webui_edge.bootstrap.images import rootfs
from open_webui_edge.cli.arguments import reported

SUITE = "forky"
"""Debian's testing: the newest that has Docker 28 (docker.io 28.5)."""
PACKAGES = ("docker.io", "iptables", "ca-certificates", "procps")
NAMESPACE = "edge-tests"
# Not `ip netns exec`, which mounts a /sys without control groups.
_IN_NAMESPACE = ("nsenter", f"--net=/run/netns/{NAMESPACE}", "unshare", "--mount", "--propagation", "private")
_SCRIPT = Path(__file__).with_name("recent_engine.sh")
_LINK = "198.18.213.0/30"
"""Network between the machine and the namespace, out of a range that is for tests of networks (RFC 2544)."""
_HOST, _INSIDE = "198.18.213.1", "198.18.213.2"
_RULES = (
    ("nat", "POSTROUTING", "--source", _LINK, "--jump", "MASQUERADE"),
    # An engine of the machine may refuse to pass on what is not its own.
    ("filter", "FORWARD", "--source", _LINK, "--jump", "ACCEPT"),
    ("filter", "FORWARD", "--destination", _LINK, "--jump", "ACCEPT"),
)
"""Of iptables: table, chain and what follows."""
_START_TIMEOUT = 90
"""Seconds for the engine to answer."""
_STOP_TIMEOUT = 60
"""Seconds for it to end all containers."""


def in_namespace(engine: Engine) -> list[str]:
    """Return the words before a program's own that run it next to the engine: there the default socket is this one's.

    Also for what is reached over ssh, which knows no DOCKER_HOST.
    """
    default = DEFAULT_ADDRESS.removeprefix("unix://")
    script = f'[ -e {default} ] || : >{default}; mount --bind "$0" {default} && exec "$@"'
    return [*_IN_NAMESPACE, "sh", "-c", script, engine.address.removeprefix("unix://")]


@contextmanager
def running(step: Step) -> Iterator[Engine]:
    """Run the engine while the block runs, or raise a ProblemError; a second run here waits for the first."""
    with lock.exclusive("recent-engine", step):
        folder = paths.cache() / "recent-engine"
        root, data = folder / "root", folder / "data"
        if not (root / "usr/sbin/dockerd").exists():
            _make(root, step)
        address = f"unix://{root}/sock/docker.sock"
        engine = Engine(address, "the engine for tests", ("docker", "--host", address))
        with _namespace():
            step.now("starting it")
            data.mkdir(parents=True, exist_ok=True)
            words = [*_IN_NAMESPACE, "sh", str(_SCRIPT), str(root), str(data), str(paths.CHECKOUT)]
            # A session of its own: Ctrl-C ends the tests first, which remove what they made in it.
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603  # no shell
            try:
                _wait_until_it_answers(engine, process, root / "sock/log")
                _remove_leftovers(engine)
                yield engine
            finally:
                _stop(process)


def _make(root: Path, step: Step) -> None:
    # Made elsewhere and renamed when whole: a run that was cut leaves nothing that looks like an engine.
    with rootfs.workplace("recent-engine") as place:
        made = place / "root"
        made.mkdir()
        rootfs.make(SUITE, made, PACKAGES, step)
        for name in ("sock", "old", "var/lib/docker", "etc/docker"):
            (made / name).mkdir(parents=True, exist_ok=True)
        configuration = {
            "features": {"containerd-snapshotter": True},
            "hosts": ["unix:///sock/docker.sock"],
            # The tests' registry speaks no TLS.
            "insecure-registries": ["127.0.0.0/8"],
        }
        (made / "etc/docker/daemon.json").write_text(json.dumps(configuration), encoding="utf-8")
        root.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(root, ignore_errors=True)
        made.rename(root)


@contextmanager
def _namespace() -> Iterator[None]:
    """Make the network namespace, with a way out for what tests install from package indexes."""
    link = f"{NAMESPACE}-out"
    # A run that was killed leaves it.
    _remove_namespace()
    _ip("netns", "add", NAMESPACE)
    try:
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
        _ip("address", "add", f"{_HOST}/30", "dev", link)
        _ip("link", "set", link, "up")
        _ip("-n", NAMESPACE, "link", "set", "lo", "up")
        _ip("-n", NAMESPACE, "address", "add", f"{_INSIDE}/30", "dev", "eth0")
        _ip("-n", NAMESPACE, "link", "set", "eth0", "up")
        _ip("-n", NAMESPACE, "route", "add", "default", "via", _HOST)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
        for table, chain, *rule in _RULES:
            words = ["iptables", "--wait", "--table", table, "--insert", chain, *rule]
            command.output(words, purpose="Making the network of the engine for tests")
        yield
    finally:
        _remove_namespace()


def _remove_namespace() -> None:
    """Remove the namespace with the processes that are left in it, and the way out."""
    for process in command.attempt(["ip", "netns", "pids", NAMESPACE]).stdout.split():
        command.attempt(["kill", "-KILL", process])
    command.attempt(["ip", "netns", "delete", NAMESPACE])
    for table, chain, *rule in _RULES:
        command.attempt(["iptables", "--wait", "--table", table, "--delete", chain, *rule])


def _wait_until_it_answers(engine: Engine, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while ping_error(engine) is not None:
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:] if log.exists() else []
            raise ProblemError(f"The Docker engine for tests did not start: {' / '.join(lines) or 'it wrote nothing'}")
        time.sleep(0.2)


def _remove_leftovers(engine: Engine) -> None:
    """Remove what a run that was killed has left: the engine is the tests' own, and keeps its images alone."""
    leftovers = engine.ask("container", "ls", "--all", "--quiet").stdout.split()
    if leftovers:
        engine.ask("container", "rm", "--force", "--volumes", *leftovers)
    engine.ask("volume", "prune", "--all", "--force")
    engine.ask("network", "prune", "--force")
    # By such a name a stack counts as one that was here before.
    listed = ("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=edge-*:pinned")
    if pinned := engine.ask(*listed).stdout.split():
        engine.ask("image", "rm", "--no-prune", *pinned)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ip(*arguments: str) -> None:
    command.output(["ip", *arguments], purpose="Making the network of the engine for tests")


def main(arguments: Sequence[str]) -> int:
    """Run a program next to the engine: `python -m tests.support.recent_engine docker version`."""
    with ExitStack() as held:
        with console.step("Docker engine") as shown:
            engine = held.enter_context(running(shown))
            shown.done(f"{version(engine)} at {engine.address}")
        return command.pass_through([*in_namespace(engine), *arguments])


if __name__ == "__main__":
    sys.exit(reported(lambda: main(sys.argv[1:])))
