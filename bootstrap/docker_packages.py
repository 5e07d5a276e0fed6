"""Installs a Docker engine if there is none: from Docker's own packages, else the distribution's newest."""

import shutil
import tempfile
from pathlib import Path

from open_webui_edge.bootstrap import command, debian, download
from open_webui_edge.bootstrap.console import ProblemError, Step

REPOSITORY = "https://download.docker.com/linux"
KEY = Path("/etc/apt/keyrings/docker.asc")
SOURCE = Path("/etc/apt/sources.list.d/docker.list")
OFFICIAL = ("docker-ce", "docker-ce-cli", "containerd.io")


def install(step: Step) -> None:
    """Install the most recent engine that can be had; raises ProblemError if apt refuses even the distribution's."""
    debian.apt("update")
    refusal = _install_official(step)
    if refusal is not None:
        step.now(f"Docker's own packages cannot be had ({refusal}), so the distribution's are installed")
        _install_distributions(step)


def _install_official(step: Step) -> str | None:
    """Return why it was refused, and None where it is there."""
    if not debian.versions(OFFICIAL[0]):
        # A repository that a person configured stays as it is.
        refusal = _add_repository(step)
        if refusal is not None:
            return refusal
    step.now(f"installing {' '.join(OFFICIAL)}, Docker's own packages")
    refusal = debian.install_newest(OFFICIAL)
    if refusal is not None:
        _remove_repository()
    return refusal


def _add_repository(step: Step) -> str | None:
    base = debian.base()
    if base is None:
        return "/etc/os-release names no release of Debian or Ubuntu"
    distribution, release = base
    place = f"{REPOSITORY}/{distribution}"
    step.now(f"asking {place} for packages for {release}")
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        try:
            # Not every release has a folder there.
            download.fetch(f"{place}/dists/{release}/Release", Path(folder) / "release", lambda _: None)
            download.fetch(f"{place}/gpg", key, lambda _: None)
        except download.DownloadError as error:
            return str(error)
        if b"BEGIN PGP PUBLIC KEY BLOCK" not in key.read_bytes():
            return f"{place}/gpg is no key; does a proxy answer in its place?"
        debian.install(["ca-certificates"], step)
        for file in (KEY, SOURCE):
            file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copyfile(key, KEY)
    # apt reads it as a user of its own.
    KEY.chmod(0o644)
    SOURCE.write_text(f"deb [signed-by={KEY}] {place} {release} stable\n", encoding="utf-8")
    debian.apt("update")
    if debian.versions(OFFICIAL[0]):
        return None
    _remove_repository()
    return f"{place} has none for {release} that apt accepts"


def _remove_repository() -> None:
    """Leave apt as it was, but for what a person configured."""
    if SOURCE.exists() and str(KEY) in SOURCE.read_text(encoding="utf-8"):
        SOURCE.unlink()
        KEY.unlink(missing_ok=True)


def _install_distributions(step: Step) -> None:
    packages = ["docker.io"]
    if shutil.which("docker") is None and command.attempt(["apt-cache", "show", "docker-cli"]).stdout.strip():
        # Newer Debians have the client in a package of its own; older ones do not know that name.
        packages.append("docker-cli")
    candidates = debian.versions("docker.io")
    if len(candidates) > 1:
        # apt itself takes that of the release, even where a newer suite is configured, such as backports.
        version, suite = candidates[0]
        step.now(f"installing docker.io {version} of {suite}")
        refusal = debian.install_newest(packages, suite)
        if refusal is None:
            return
        step.now(f"that is refused ({refusal})")
    try:
        debian.install(packages, step)
    except ProblemError as problem:
        raise ProblemError(
            f"{problem}\nInstall Docker by hand (https://docs.docker.com/engine/install), and run this again."
        ) from None
