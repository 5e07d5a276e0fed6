"""The Pulumi CLI: the one on PATH, else the official release, else one built from Go modules."""

import hashlib
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from open_webui_edge.bootstrap import command, disk, download, lock, paths
from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.bootstrap.images.rootfs import workplace

SOURCES = paths.CHECKOUT / "bootstrap" / "toolchain"
REQUIREMENTS = paths.CHECKOUT / "requirements.txt"
REQUIREMENTS_FOR_AWS = paths.CHECKOUT / "requirements-aws.txt"
RELEASES = "https://get.pulumi.com/releases/sdk"
"""Archives of Pulumi's installer (https://get.pulumi.com), which itself needs curl."""
_KINDS = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
"""The machine's name of its architecture -> the archives'."""
BYTES_TO_BUILD = disk.GIGABYTE
"""For the programs, twice while they are moved into place."""
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
    """Variables that it needs; PATH holds only the folder to prepend."""


def find(step: Step) -> PulumiCLI:
    """Return a Pulumi; install or build it if there is none, or raise a ProblemError that says why neither works."""
    executable = shutil.which("pulumi")
    if executable and shutil.which("pulumi-language-python") and not _is_ours(Path(executable)):
        return PulumiCLI(Path(executable), "on PATH", {})
    ours = _ours()
    if ours is None:
        with lock.exclusive("toolchain", step):
            ours = _ours()  # another run may have installed it meanwhile
            if ours is None and not _install_official(_official_folder(), step):
                _build(built_folder(), step)
        ours = ours or _ours()
    if ours is None:
        raise ProblemError(
            f"Pulumi was installed into {paths.cache()} and is missing; does another program clear that folder?"
        )
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
    return paths.cache() in executable.parents


def pinned(package: str) -> str:
    """Return the version that the requirements pin for a package of Pulumi's."""
    file = REQUIREMENTS_FOR_AWS if package == "pulumi-aws" else REQUIREMENTS
    match = re.search(rf"(?m)^{re.escape(package)}==([\w.]+)", file.read_text(encoding="utf-8"))
    if match is None:
        raise ProblemError(f"{file.name} pins no version of {package}; restore that line.")
    return match[1]


def _official_folder() -> Path:
    return paths.cache() / "toolchain" / f"official-{pinned('pulumi')}" / "bin"


def built_folder() -> Path:
    """Return the folder of the built Pulumi, one for each set of inputs."""
    host = (SOURCES / name for name in LANGUAGE_HOST)
    return paths.cache() / "toolchain" / _digest(_go_folder().name, *host)


def _go_folder() -> Path:
    """Return the folder of the compiled part: a changed language host needs no compilation, which takes minutes."""
    versions = f"docker {pinned('pulumi-docker')} tls {pinned('pulumi-tls')}"
    files = (file for module in ("cli", "plugins") for file in sorted((SOURCES / module).rglob("*")) if file.is_file())
    return paths.cache() / "toolchain" / f"go-{_digest(versions, *files)}"


def _digest(words: str, *files: Path) -> str:
    digest = hashlib.sha256(words.encode())
    for file in files:
        digest.update(f"{file.relative_to(SOURCES)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _built_environment(folder: Path) -> dict[str, str]:
    # A separate home for plugins, so that no other project's Pulumi uses the built ones as the official ones of the
    # same version. A login stays where it was.
    theirs = Path(os.environ.get("PULUMI_HOME", Path.home() / ".pulumi"))
    home = folder / "home"
    variables = {"PATH": str(folder / "bin"), "PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    if not _is_ours(theirs):
        variables["PULUMI_CREDENTIALS_PATH"] = os.environ.get("PULUMI_CREDENTIALS_PATH", str(theirs))
    return variables


def _install_official(target: Path, step: Step) -> bool:
    """Install the official release; return False if it is not available."""
    processor = _KINDS.get(platform.machine().lower())
    if processor is None or sys.platform not in {"linux", "darwin"}:
        step.now(f"there is no official release for {sys.platform} on {platform.machine()}; building it")
        return False
    address = f"{RELEASES}/pulumi-v{pinned('pulumi')}-{sys.platform}-{processor}.tar.gz"
    step.now(f"downloading {address}")
    with workplace("pulumi") as folder:
        archive = folder / "pulumi.tar.gz"
        try:
            download.fetch(address, archive, lambda far: setattr(step, "doing", f"downloading {address}: {far}"))
        except download.DownloadError as error:
            step.now(f"the official release is not available ({error}); building it instead")
            return False
        unpack = ["tar", "-xzf", archive, "-C", folder]
        answer = command.attempt(unpack)
        if answer.returncode or not (folder / "pulumi/pulumi").exists():
            words = f"{answer.stdout}{answer.stderr}\n{address} contains no Pulumi; does a proxy answer in its place?"
            raise command.failure("Unpacking Pulumi", unpack, answer.returncode, words)
        # The archive has one folder, with the programs.
        (folder / "root").mkdir()
        (folder / "pulumi").rename(folder / "root/bin")
        _move_into_place(folder / "root", target.parent)
    return True


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
    disk.require(BYTES_TO_BUILD, paths.cache(), "Building Pulumi")
    caches = command.output([go, "env", "GOMODCACHE", "GOCACHE"], purpose="Asking Go for its caches")
    modules, builds = (Path(line) for line in caches.splitlines())
    if not (modules / "github.com/pulumi").is_dir():
        disk.require(BYTES_FOR_GO, builds, "Building Pulumi for the first time")
    module = (SOURCES / "cli" / "go.mod").read_text(encoding="utf-8")
    release = re.search(r"github.com/pulumi/pulumi/pkg/v3 v([\w.]+)", module)
    if release is None:
        raise ProblemError("bootstrap/toolchain/cli/go.mod has no release of Pulumi; restore that line.")
    variable = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
    parts = [("cli", "bin/pulumi", "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", f"{variable}={release[1]}")]
    for name in ("docker", "tls"):
        version = pinned(f"pulumi-{name}")
        plugin = f"home/plugins/resource-{name}-v{version}/pulumi-resource-{name}"
        parts.append(("plugins", plugin, f"./{name}", f"main.version={version}"))
    with workplace("toolchain") as folder:
        # One after another: two linkers in parallel need more memory than small machines have.
        for number, (name, result, package, linked) in enumerate(parts, start=1):
            source = folder / name
            # A copy: the go command may write to go.mod and go.sum, and a build must not change the checkout.
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
    module = (SOURCES / "cli" / "go.mod").read_text(encoding="utf-8")
    needed = re.search(r"(?m)^go ([\w.]+)", module)
    version = needed[1] if needed else ""
    remedy = f"install Pulumi (https://www.pulumi.com/docs/install) or Go {version} or later, and run this again."
    if go is None:
        raise ProblemError(
            f"There is no Pulumi, its official release is not available, and there is no Go to build it: {remedy}"
        )
    # In the module's folder the command checks whether it, or the toolchain it would fetch, is new enough.
    answer = command.attempt([go, "list", "-m"], environment=_GO_FLAGS, folder=SOURCES / "cli")
    if answer.returncode:
        raise ProblemError(
            f"There is no Pulumi, its official release is not available, and {go} cannot build it "
            f"({command.last_line(answer.stderr)}): {remedy}"
        )
    return go


def _move_into_place(made: Path, target: Path) -> None:
    """Move a folder into place atomically."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)  # leftovers of another installation; a complete one would have been used
    made.rename(target)
