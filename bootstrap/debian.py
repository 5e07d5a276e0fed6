"""The distribution below us: only Debian and its kind can be extended, and only by root."""

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from bootstrap import command
from bootstrap.console import Step

SOURCES = Path("/etc/apt")


def can_install() -> bool:
    """Tell whether packages can be installed here: by root, on Debian, Ubuntu or what is made from them."""
    return os.geteuid() == 0 and {"debian", "ubuntu"} & set(kinds()) != set()


def kinds() -> list[str]:
    """Return the distribution's name and those it is made from, such as ["linuxmint", "ubuntu", "debian"]."""
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return []
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return [word for key in ("ID", "ID_LIKE") for word in shlex.split(fields.get(key, ""))[:1] for word in word.split()]


def missing(packages: Iterable[str]) -> list[str]:
    """Return those packages that are not installed."""
    return [
        package
        for package in packages
        if "install ok installed" not in command.attempt(["dpkg-query", "-W", "-f", "${Status}", package]).stdout
    ]


def install(packages: Sequence[str], step: Step) -> None:
    """Install what is missing of these packages, after saying so.

    Raises:
        ProblemError: apt refused; the message has its words.

    """
    wanted = missing(packages)
    if not wanted:
        return
    step.now(f"installing Debian packages: {' '.join(wanted)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    get = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=300", "install", "--no-install-recommends", *wanted]
    if command.attempt(get, environment=quiet).returncode == 0:
        return
    command.output(["apt-get", "-q", "update"], purpose="Reading Debian's package lists", environment=quiet)
    command.output(get, purpose=f"Installing {' '.join(wanted)}", environment=quiet)


def mirror() -> str:
    """Return the Debian mirror that this machine's apt uses; "" (debootstrap's own default) where it uses none."""
    for file in sorted([*SOURCES.glob("sources.list"), *SOURCES.glob("sources.list.d/*")]):
        if file.suffix in {".list", ".sources"}:
            found = mirror_in(file.read_text(encoding="utf-8", errors="replace"))
            if found:
                return found
    return ""


def mirror_in(sources: str) -> str:
    """Find the mirror in one file of apt's configuration, of the old form or of deb822.

    A mirror is recognised by its path: all of Debian's end in `/debian`, and neither Ubuntu's nor a vendor's do.
    """
    lines = [line for line in sources.splitlines() if re.match(r"\s*(deb\s|URIs\s*:)", line, re.IGNORECASE)]
    addresses = (word for line in lines for word in line.split() if re.match(r"https?://", word))
    return next((address for address in addresses if re.search(r"/debian/?$", address)), "")


def proxy() -> dict[str, str]:
    """Return the environment that makes debootstrap's downloads go where apt's go."""
    answer = command.attempt(["apt-config", "shell", "http_proxy", "Acquire::http::Proxy"]).stdout
    found = dict(word.split("=", 1) for word in shlex.split(answer) if "=" in word)
    return {} if found.get("http_proxy", "DIRECT") == "DIRECT" else found
