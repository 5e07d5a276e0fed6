"""Installs a minimal Debian system into a folder and runs programs in it."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from open_webui_edge.bootstrap import command, debian, paths
from open_webui_edge.bootstrap.console import ProblemError, Step

SCRIPTS = Path("/usr/share/debootstrap/scripts")
TOOLS = ("debootstrap", "debian-archive-keyring")
_APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
"""Separate namespaces: an interrupted build leaves no process and no mount in the folder, so it can be removed."""


@contextmanager
def workplace(name: str) -> Iterator[Path]:
    """Create a temporary folder for one build."""
    parent = paths.cache() / "work"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def packages_in(file: Path) -> list[str]:
    """Read a list of packages: one a line, `#` begins a comment."""
    lines = (line.split("#", 1)[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def make(suite: str, root: Path, packages: Sequence[str], step: Step) -> None:
    """Install a minimal Debian of a suite, and these packages, into the folder `root`.

    Raises:
        ProblemError: this machine cannot do it, or debootstrap failed.

    """
    if sys.platform != "linux":
        raise ProblemError(
            "The images cannot be pulled, and only Linux can build them (debootstrap makes a Debian system); "
            "set images.registry to a registry that this machine reaches."
        )
    if os.geteuid() != 0:
        raise ProblemError(
            "The images cannot be pulled, and only root can build them (debootstrap makes device files and changes "
            "owners); set images.registry to a registry that this machine reaches, or run this as root."
        )
    if shutil.which("debootstrap") is None:
        if not debian.can_install():
            raise ProblemError(
                "The images cannot be pulled, and building them needs debootstrap; install it and run this again."
            )
        debian.install(TOOLS, step)
    step.now(f"a minimal Debian ({suite}) with {len(packages)} packages")
    words = [
        *_APART,
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        suite,
        str(root),
        debian.mirror(),
    ]
    # An older debootstrap has no script for a newer suite; that of sid works for all.
    words += [] if (SCRIPTS / suite).exists() else [str(SCRIPTS / "sid")]
    command.output(words, purpose=f"Building Debian {suite}", environment=debian.proxy())
    root.chmod(0o755)
    shutil.rmtree(root / "var/lib/apt/lists")
    (root / "var/lib/apt/lists/partial").mkdir(parents=True)
    for file in root.glob("var/cache/apt/archives/*.deb"):
        file.unlink()
    # debootstrap writes its mirror, which may be private to this network.
    (root / "etc/apt/sources.list").unlink()


def run_inside(root: Path, arguments: Sequence[str], *, purpose: str, environment: dict[str, str] | None = None) -> str:
    """Run a program of the system in the folder `root`; return its output and its errors' text."""
    script = 'mount -t proc proc "$1/proc" && root=$1 && shift && exec chroot "$root" "$@" 2>&1'
    words = [*_APART, "sh", "-c", script, "sh", str(root), "env", "-i"]
    words += [
        f"{key}={value}" for key, value in {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})}.items()
    ]
    return command.output([*words, *arguments], purpose=purpose)
