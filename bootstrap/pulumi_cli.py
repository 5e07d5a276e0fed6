"""The Pulumi command line: the one on PATH, else the official one, else one built from Go modules."""

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from bootstrap import command, disk, lock, places
from bootstrap.console import Step
from bootstrap.images.rootfs import workplace
from bootstrap.problem import ProblemError

SOURCES = places.CHECKOUT / "bootstrap" / "toolchain"
REQUIREMENTS = places.CHECKOUT / "requirements.txt"
REQUIREMENTS_FOR_AWS = places.CHECKOUT / "requirements-aws.txt"
INSTALLER = "https://get.pulumi.com"
SECONDS_TO_CONNECT = 5
BYTES_TO_BUILD = disk.GIGABYTE
"""For the programs themselves, twice while they are moved into place."""
BYTES_FOR_GO = 6 * disk.GIGABYTE
"""For a first build: 2 GB of modules, 3 GB of build cache and the linker's work."""
LANGUAGE_HOST = ("pulumi-language-python", "language_host.py")
_GO_FLAGS = {"GOFLAGS": "-mod=mod -buildvcs=false"}


@dataclass(frozen=True)
class PulumiCLI:
    """A Pulumi that can run this project."""

    executable: Path
    origin: str
    environment: dict[str, str]
    """What a shell needs to run it; PATH holds only the folder to put first."""


def find(step: Step) -> PulumiCLI:
    """Return a Pulumi; install or build it where there is none.

    Raises:
        ProblemError: there is none, and the machine cannot make one.

    """
    found = shutil.which("pulumi")
    if found and shutil.which("pulumi-language-python") and not _is_ours(Path(found)):
        return PulumiCLI(Path(found), "on PATH", {})
    ours = _ours()
    if ours is None:
        with lock.alone("toolchain", step):
            ours = _ours()  # somebody else may have been quicker
            if ours is None and not _install_official(_official_folder(), step):
                _build(built_folder(), step)
        ours = ours or _ours()
    if ours is None:
        message = (
            f"Pulumi was installed below {places.cache()} and is not there; is something else clearing that folder?"
        )
        raise ProblemError(message)
    return ours


def _ours() -> PulumiCLI | None:
    """Return the Pulumi that an earlier run installed or built."""
    official, built = _official_folder(), built_folder()
    if (official / "pulumi").exists():
        return PulumiCLI(official / "pulumi", "official", {"PATH": str(official)})
    if (built / "bin/pulumi").exists():
        return PulumiCLI(built / "bin/pulumi", "built from Go modules", _built_environment(built))
    return None


def _is_ours(executable: Path) -> bool:
    return places.cache() in executable.parents


def pinned(package: str) -> str:
    """Return the version that the requirements pin for a package of Pulumi's."""
    file = REQUIREMENTS_FOR_AWS if package == "pulumi-aws" else REQUIREMENTS
    found = re.search(rf"(?m)^{re.escape(package)}==([\w.]+)", file.read_text(encoding="utf-8"))
    if found is None:
        message = f"{file.name} pins no version of {package}; put the line back."
        raise ProblemError(message)
    return found[1]


def _official_folder() -> Path:
    return places.cache() / "toolchain" / f"official-{pinned('pulumi')}" / "bin"


def built_folder() -> Path:
    """Return where the built Pulumi is, or would be: a folder of its own for each set of inputs."""
    host = (SOURCES / name for name in LANGUAGE_HOST)
    return places.cache() / "toolchain" / _digest(_go_folder().name, *host)


def _go_folder() -> Path:
    """Return where the compiled part is: what takes minutes need not be done again for a changed language host."""
    versions = f"docker {pinned('pulumi-docker')} tls {pinned('pulumi-tls')}"
    files = (file for module in ("cli", "plugins") for file in sorted((SOURCES / module).rglob("*")) if file.is_file())
    return places.cache() / "toolchain" / f"go-{_digest(versions, *files)}"


def _digest(words: str, *files: Path) -> str:
    digest = hashlib.sha256(words.encode())
    for file in files:
        digest.update(f"{file.relative_to(SOURCES)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _built_environment(folder: Path) -> dict[str, str]:
    # A home of its own holds the plugins, so that no other project's Pulumi takes the built ones for the official ones
    # of the same version. A login stays where it was.
    theirs = Path(os.environ.get("PULUMI_HOME", Path.home() / ".pulumi"))
    home = folder / "home"
    found = {"PATH": str(folder / "bin"), "PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    if not _is_ours(theirs):
        found["PULUMI_CREDENTIALS_PATH"] = os.environ.get("PULUMI_CREDENTIALS_PATH", str(theirs))
    return found


def _install_official(target: Path, step: Step) -> bool:
    """Run the official installer; False where it cannot be reached."""
    step.now(f"asking {INSTALLER} for the official installer")
    with workplace("pulumi") as folder:
        script = folder / "install.sh"
        download = [
            "curl",
            "-fsSL",
            "--connect-timeout",
            str(SECONDS_TO_CONNECT),
            "--max-time",
            "60",
            "-o",
            script,
            INSTALLER,
        ]
        answer = command.attempt(download)
        if answer.returncode == 0:
            version = pinned("pulumi")
            step.now(f"installing Pulumi {version}")
            root = folder / "root"
            install = ["sh", script, "--version", version, "--install-root", root, "--no-edit-path"]
            answer = command.attempt(install)
            if answer.returncode == 0 and (root / "bin/pulumi").exists():
                _move_into_place(root, target.parent)
                return True
    reason = (answer.stderr or answer.stdout).strip().splitlines()
    step.now(
        f"the official one cannot be had here ({reason[-1] if reason else 'no reason given'}); building it instead"
    )
    return False


def _build(target: Path, step: Step) -> None:
    compiled = _go_folder()
    if not compiled.exists():
        _compile(compiled, step)
    with workplace("toolchain") as folder:
        made = folder / "made"
        shutil.copytree(compiled, made, copy_function=os.link)
        for name in LANGUAGE_HOST:
            shutil.copy2(SOURCES / name, made / "bin" / name)
        _move_into_place(made, target)


def _compile(target: Path, step: Step) -> None:
    go = _go()
    disk.require(BYTES_TO_BUILD, places.cache(), "Building Pulumi")
    caches = command.output([go, "env", "GOMODCACHE", "GOCACHE"], purpose="Asking Go for its caches")
    modules, builds = (Path(line) for line in caches.splitlines())
    if not (modules / "github.com/pulumi").is_dir():
        disk.require(BYTES_FOR_GO, builds, "Building Pulumi for the first time")
    module = (SOURCES / "cli/go.mod").read_text(encoding="utf-8")
    release = re.search(r"github.com/pulumi/pulumi/pkg/v3 v([\w.]+)", module)
    if release is None:
        message = "bootstrap/toolchain/cli/go.mod names no release of Pulumi; put the line back."
        raise ProblemError(message)
    variable = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
    docker, tls = pinned("pulumi-docker"), pinned("pulumi-tls")
    parts = (
        # One after another: two of these linkers at once need more memory than small machines have.
        ("cli", "bin/pulumi", "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", f"{variable}={release[1]}"),
        (
            "plugins",
            f"home/plugins/resource-docker-v{docker}/pulumi-resource-docker",
            "./docker",
            f"main.version={docker}",
        ),
        ("plugins", f"home/plugins/resource-tls-v{tls}/pulumi-resource-tls", "./tls", f"main.version={tls}"),
    )
    with workplace("toolchain") as folder:
        for number, (name, result, package, linked) in enumerate(parts, start=1):
            source = folder / name
            # A copy: the go command may write to go.mod and go.sum, which no build may do in a checkout.
            shutil.copytree(SOURCES / name, source, dirs_exist_ok=True)
            step.now(f"building {Path(result).name}, {number} of {len(parts)} (a first build takes minutes)")
            words = [
                go,
                "build",
                "-trimpath",
                "-ldflags",
                f"-s -w -X {linked}",
                "-o",
                folder / "made" / result,
                package,
            ]
            command.output(words, purpose=f"Building {Path(result).name}", environment=_GO_FLAGS, folder=source)
        _move_into_place(folder / "made", target)


def _go() -> str:
    go = shutil.which("go")
    module = (SOURCES / "cli/go.mod").read_text(encoding="utf-8")
    needed = re.search(r"(?m)^go ([\w.]+)", module)
    version = needed[1] if needed else ""
    remedy = f"install Pulumi (https://www.pulumi.com/docs/install) or Go {version} or later, and run this again."
    if go is None:
        message = f"There is no Pulumi, its installer cannot be reached, and there is no Go to build it with: {remedy}"
        raise ProblemError(message)
    # In the module's folder the command says whether it, or the toolchain it would fetch, is new enough.
    answer = command.attempt([go, "list", "-m"], environment=_GO_FLAGS, folder=SOURCES / "cli")
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        message = f"There is no Pulumi, its installer cannot be reached, and {go} cannot build it ({reason}): {remedy}"
        raise ProblemError(message)
    return go


def _move_into_place(made: Path, target: Path) -> None:
    """Let a folder appear whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)  # the remains of another way of installing; a whole one would have been used
    made.rename(target)
