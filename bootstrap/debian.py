"""The distribution's packages: installed only on Debian and its derivatives, and only by root."""

import functools
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from open_webui_edge.bootstrap import command
from open_webui_edge.bootstrap.console import Step

SOURCES = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")
_APT = ("apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=300")
_INSTALL = ("install", "--no-install-recommends")
_QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


def can_install() -> bool:
    """Return whether packages can be installed here: by root, on Debian, Ubuntu or their derivatives."""
    return os.geteuid() == 0 and {"debian", "ubuntu"} & set(kinds()) != set()


def kinds() -> list[str]:
    """Return the distribution's name and its ancestors', such as ["linuxmint", "ubuntu", "debian"]."""
    fields = _release()
    return [word for key in ("ID", "ID_LIKE") for word in fields.get(key, "").split()]


def base() -> tuple[str, str] | None:
    """Return the distribution and code name whose packages fit this machine.

    For a derivative, these are its base's, such as ("ubuntu", "noble") on Linux Mint; None if they are unknown.
    """
    fields = _release()
    for distribution in ("ubuntu", "debian"):
        own = fields.get("VERSION_CODENAME") if fields.get("ID") == distribution else None
        name = own or fields.get(f"{distribution.upper()}_CODENAME")
        if name and distribution in kinds():
            return distribution, name
    return None


def _release() -> dict[str, str]:
    try:
        text = OS_RELEASE.read_text(encoding="utf-8")
    except OSError:
        return {}
    fields = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key: " ".join(shlex.split(value)) for key, value in fields}


def missing(packages: Iterable[str]) -> list[str]:
    """Return the packages that are not installed."""
    return [
        package
        for package in packages
        if "install ok installed" not in command.attempt(["dpkg-query", "-W", "-f", "${Status}", package]).stdout
    ]


def install(packages: Sequence[str], step: Step) -> None:
    """Install missing packages, and report them first; raises ProblemError with apt's reason."""
    absent = missing(packages)
    if not absent:
        return
    step.now(f"installing Debian packages: {' '.join(absent)}")
    if apt(*_INSTALL, *absent).returncode == 0:
        return
    command.output([*_APT, "update"], purpose="Reading Debian's package lists", environment=_QUIET)
    command.output([*_APT, *_INSTALL, *absent], purpose=f"Installing {' '.join(absent)}", environment=_QUIET)


def apt(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run apt-get without prompts and return its result, even if it fails."""
    return command.attempt([*_APT, *arguments], environment=_QUIET)


def install_newest(packages: Sequence[str], suite: str = "") -> str | None:
    """Install packages, optionally from one suite with dependencies; return apt's reason if it refused."""
    answer = apt(*(["-t", suite] if suite else []), *_INSTALL, *packages)
    return None if answer.returncode == 0 else command.last_line(f"{answer.stdout}\n{answer.stderr}")


def versions(package: str) -> list[tuple[str, str]]:
    """Return the versions of a package in all configured suites, with their suites, the newest first."""
    lines = command.attempt(["apt-cache", "madison", package]).stdout.splitlines()
    fields = [[field.strip() for field in line.split("|")] for line in lines]
    candidates = [(one[1], one[2].split()[1].partition("/")[0]) for one in fields if len(one) == 3 and " " in one[2]]  # noqa: PLR2004 - package, version, source
    return sorted(candidates, key=functools.cmp_to_key(lambda one, other: _compare(other[0], one[0])))


def _compare(one: str, other: str) -> int:
    if one == other:
        return 0
    return 1 if command.attempt(["dpkg", "--compare-versions", one, "gt", other]).returncode == 0 else -1


def mirror() -> str:
    """Return the Debian mirror that this machine's apt uses; "" (debootstrap's default) if there is none."""
    for file in sorted([*SOURCES.glob("sources.list"), *SOURCES.glob("sources.list.d/*")]):
        if file.suffix in {".list", ".sources"}:
            address = mirror_in(file.read_text(encoding="utf-8", errors="replace"))
            if address:
                return address
    return ""


def mirror_in(sources: str) -> str:
    """Find the mirror in one file of apt's configuration, of the old form or of deb822.

    A mirror is recognised by its path: Debian's end in `/debian`, Ubuntu's and vendors' do not.
    """
    lines = [line for line in sources.splitlines() if re.match(r"\s*(deb\s|URIs\s*:)", line, re.IGNORECASE)]
    addresses = (word for line in lines for word in line.split() if re.match(r"https?://", word))
    return next((address for address in addresses if re.search(r"/debian/?$", address)), "")


def proxy() -> dict[str, str]:
    """Return the variables that make debootstrap use apt's proxy."""
    answer = command.attempt(["apt-config", "shell", "http_proxy", "Acquire::http::Proxy"]).stdout
    variables = dict(word.split("=", 1) for word in shlex.split(answer) if "=" in word)
    return {} if variables.get("http_proxy", "DIRECT") == "DIRECT" else variables
