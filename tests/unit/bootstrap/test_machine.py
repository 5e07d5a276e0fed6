"""Small questions to the machine: mirror, disk, Python, Pulumi, shell."""

import ast
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from open_webui_edge.bootstrap import command, console, debian, disk, download, paths, pulumi_cli, virtual_environment
from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.bootstrap.images import archive, rootfs
from open_webui_edge.cli import __main__ as front
from open_webui_edge.cli import commands


@pytest.mark.parametrize(
    ("sources", "mirror"),
    [
        ("deb http://mirror.example.com/debian bookworm main\n", "http://mirror.example.com/debian"),
        (
            "# deb http://old.example.com/debian x main\ndeb [arch=amd64] https://m.example.com/debian/ x main\n",
            "https://m.example.com/debian/",
        ),
        ("Types: deb\nURIs: http://m.example.com/debian\nSuites: bookworm\n", "http://m.example.com/debian"),
        ("deb http://m.example.com/debian-security bookworm-security main\n", ""),
        ("deb http://m.example.com/ubuntu jammy main\n", ""),
        (
            "deb https://download.example.com/linux/debian bookworm stable\n",
            "https://download.example.com/linux/debian",
        ),
        ("", ""),
    ],
    ids=["one line", "options and a comment", "deb822", "security only", "Ubuntu", "vendor", "nothing"],
)
def test_debians_mirror_is_the_one_that_apt_uses(sources: str, mirror: str) -> None:
    assert debian.mirror_in(sources) == mirror


def test_too_small_a_disk_is_told_before_work_begins(tmp_path: Path) -> None:
    with pytest.raises(ProblemError) as refused:
        disk.require(10**18, tmp_path / "not/there/yet", "Building")
    assert str(refused.value).startswith(f"Building needs 1000000000.0 GB at {tmp_path}/not/there/yet, but only ")


def test_enough_disk_is_no_matter(tmp_path: Path) -> None:
    disk.require(1, tmp_path, "Building")


def test_a_missing_program_is_a_sentence() -> None:
    with pytest.raises(ProblemError, match=r"^Doing it: `no-such-program -x` failed with exit code 127:"):
        command.output(["no-such-program", "-x"], purpose="Doing it")


def test_the_front_of_the_commands_can_be_read_by_an_old_python() -> None:
    for name in ("open_webui_edge/__init__.py", "bootstrap/__init__.py", "cli/__init__.py", "cli/__main__.py"):
        ast.parse((paths.CHECKOUT / name).read_text(), feature_version=(3, 4))


def test_an_old_python_gets_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(front, "OLDEST", (99, 0))
    monkeypatch.setenv("BOOTSTRAP_PYTHON", "tried")
    assert front.main() == 1
    assert (
        capsys.readouterr().err
        == f"Python 3.11 or later is needed, and python3 here is {sys.version.split()[0]}; install it.\n"
    )


@pytest.mark.parametrize("this", [(3, 10, 2), (3, 15, 0), (4, 0, 0)], ids=str)
def test_a_python_that_is_known_is_found_under_its_own_name(
    this: tuple[int, int, int], case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first of a manager of versions, which has none of it.
    for name, body in (("python3.14", "exit 127"), ("python3.12", "exit 0")):
        (case / name).write_text(f"#!/bin/sh\n{body}\n")
        (case / name).chmod(0o755)
    started: list[list[str]] = []
    monkeypatch.setenv("PATH", str(case))
    monkeypatch.setattr(sys, "version_info", this)
    monkeypatch.setattr(sys, "argv", ["cli", "up", "local"])

    def replace(_: str, words: list[str]) -> None:
        started.append(words)
        raise SystemExit

    monkeypatch.setattr(os, "execv", replace)
    with pytest.raises(SystemExit):
        front.main()
    assert started == [[str(case / "python3.12"), "-m", "open_webui_edge.cli", "up", "local"]]


@pytest.mark.parametrize(
    ("version", "more"),
    [
        ((3, 14), ""),
        (
            (3, 15),
            "\nPackages for Python 3.15 may not exist yet; install python3.11 to python3.14 and put it on PATH.",
        ),
    ],
    ids=["known", "newer"],
)
def test_packages_that_a_new_python_cannot_have_are_explained(version: tuple[int, int], more: str) -> None:
    assert virtual_environment.of_new_python(version) == more


def test_make_finds_a_python_that_has_a_name_with_its_version(case: Path) -> None:
    path = _only(case, "make", "sh")
    (Path(path) / "python3.12").write_text('#!/bin/sh\necho "started $*"\n')
    (Path(path) / "python3.12").chmod(0o755)
    answer = subprocess.run(  # noqa: S603 - our own words
        [f"{path}/make", "help"], cwd=paths.CHECKOUT, env={"PATH": path}, capture_output=True, text=True, check=False
    )
    assert answer.stdout == "started -m open_webui_edge.cli help\n"


@pytest.mark.parametrize(
    ("machine", "name"),
    [("x86_64", "amd64"), ("AMD64", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64"), ("riscv64", "riscv64")],
)
def test_a_machines_processor_has_the_engines_name(machine: str, name: str) -> None:
    assert archive.architecture(machine) == name


def test_only_linux_builds_images(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ProblemError) as refused:
        rootfs.make("bookworm", case, [], Step("images"))
    assert str(refused.value) == (
        "The images cannot be pulled, and only Linux can build them (debootstrap makes a Debian system); set"
        " images.registry to a registry that this machine reaches."
    )


def test_no_two_files_differ_in_case_alone() -> None:
    # On macOS and Windows they would be one.
    words = ["git", "ls-files"]
    files = subprocess.run(words, cwd=paths.CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603 - our own
    assert files
    assert len({file.lower() for file in files}) == len(files)


def test_a_pulumi_on_path_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pulumi", "pulumi-language-python"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pulumi_cli.find(Step("Pulumi")) == pulumi_cli.PulumiCLI(tmp_path / "pulumi", "on PATH", {})


def test_a_pulumi_that_was_built_before_is_found_at_once_and_leaves_the_login_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The developer's machine may have a Pulumi of its own, or one that this program installed.
    monkeypatch.setenv("PATH", str(home))
    for variable in ("PULUMI_HOME", "PULUMI_CREDENTIALS_PATH"):
        monkeypatch.delenv(variable, raising=False)
    folder = home / ".cache/open-webui-edge/toolchain" / pulumi_cli.built_folder().name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/pulumi").touch()
    pulumi = pulumi_cli.find(Step("Pulumi"))
    assert pulumi.environment["PATH"] == f"{folder}/bin"
    assert pulumi.environment["PULUMI_HOME"] == f"{folder}/home"
    assert pulumi.environment["PULUMI_CREDENTIALS_PATH"] == f"{home}/.pulumi"


def _archive_of_pulumi(folder: Path) -> Path:
    """Return a file that holds what the official archive does: one folder with programs."""
    (folder / "pulumi").mkdir()
    for name in ("pulumi", "pulumi-language-python"):
        (folder / "pulumi" / name).write_text("official\n")
        (folder / "pulumi" / name).chmod(0o755)
    archive = folder / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as content:
        content.add(folder / "pulumi", "pulumi")
    return archive


@pytest.mark.parametrize(
    ("system", "machine", "kind"),
    [
        ("linux", "x86_64", "linux-x64"),
        ("linux", "aarch64", "linux-arm64"),
        ("darwin", "arm64", "darwin-arm64"),
        ("darwin", "x86_64", "darwin-x64"),
    ],
)
def test_the_official_release_comes_before_a_build_and_is_pinned(
    case: Path, monkeypatch: pytest.MonkeyPatch, *, system: str, machine: str, kind: str
) -> None:
    asked: list[str] = []
    archive = _archive_of_pulumi(case)

    def fetch(address: str, file: Path, _report: object) -> None:
        asked.append(address)
        shutil.copyfile(archive, file)

    monkeypatch.setattr(download, "fetch", fetch)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    # No curl is needed, and no Pulumi is there.
    monkeypatch.setenv("PATH", _only(case, "tar", "gzip"))
    pulumi = pulumi_cli.find(Step("Pulumi"))
    version = pulumi_cli.pinned("pulumi")
    assert asked == [f"https://get.pulumi.com/releases/sdk/pulumi-v{version}-{kind}.tar.gz"]
    assert pulumi.executable == paths.cache() / f"toolchain/official-{version}/bin/pulumi"
    assert pulumi.executable.read_text() == "official\n"
    assert os.access(pulumi.executable, os.X_OK)
    assert pulumi_cli.find(Step("Pulumi")).origin == "official"
    assert len(asked) == 1


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A folder for what a test makes."""
    folder = tmp_path / "case"
    folder.mkdir()
    return folder


def _only(folder: Path, *programs: str) -> str:
    """Return a PATH on which these programs are and no others."""
    path = folder / "programs"
    path.mkdir()
    for program in programs:
        executable = shutil.which(program)
        assert executable is not None
        (path / program).symlink_to(executable)
    return str(path)


def test_what_is_no_archive_is_no_pulumi(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "fetch", lambda _address, file, _report: file.write_text("<html>Log in!</html>"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", _only(case, "tar", "gzip"))
    with pytest.raises(ProblemError, match=r"contains no Pulumi; does a proxy answer in its place\?$"):
        pulumi_cli.find(Step("Pulumi"))


def test_without_pulumi_installer_and_go_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(address: str, _file: Path, _report: object) -> None:
        raise download.DownloadError(f"{address}: Name or service not known")

    monkeypatch.setattr(download, "fetch", fetch)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProblemError) as refused:
        pulumi_cli.find(Step("Pulumi"))
    assert str(refused.value) == (
        "There is no Pulumi, its official release is not available, and there is no Go to build it: install Pulumi "
        "(https://www.pulumi.com/docs/install) or Go 1.26 or later, and run this again."
    )


def test_exports_survive_a_shell_whatever_they_hold(tmp_path: Path) -> None:
    folder = tmp_path / "it's a $(folder)"
    lines = commands.exports({"PATH": str(folder), "A": "x; y'z"}, "/bin")
    script = "; ".join([*lines, 'printf "%s\\n" "$A" "$PATH"'])
    answer = subprocess.run(["/bin/sh", "-c", script], env={"PATH": "/bin"}, capture_output=True, text=True, check=True)  # noqa: S603 - our own lines
    assert answer.stdout.splitlines() == ["x; y'z", f"{folder}:/bin"]


def test_a_folder_that_is_on_path_is_not_put_there_again() -> None:
    assert commands.exports({"PATH": "/a"}, f"/b{os.pathsep}/a") == []
    assert commands.exports({"PATH": "/a"}, "/b") == [f'export PATH={shlex.quote("/a")}:"$PATH"']


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (12.4, "12 s"), (185, "3 min 5 s"), (60, "1 min 0 s")])
def test_a_duration_reads_as_a_person_says_it(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_deleting_data_asks_and_nobody_there_means_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YES", raising=False)
    monkeypatch.setattr("sys.stdin", None, raising=False)
    with pytest.raises(ProblemError, match="no terminal; set YES=1 to confirm"):
        commands.confirm("local")


@pytest.mark.parametrize(("answer", "accepted"), [("local\n", True), ("yes\n", False), ("\n", False), ("", False)])
def test_deleting_data_needs_the_stacks_name(answer: str, *, accepted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return answer

    monkeypatch.delenv("YES", raising=False)
    monkeypatch.setattr("sys.stdin", Terminal())
    if accepted:
        commands.confirm("local")
    else:
        with pytest.raises(ProblemError, match="nothing was deleted"):
            commands.confirm("local")
