"""Small questions to the machine: mirror, disk, Python, Pulumi, shell."""

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap import command, commands, console, debian, disk, places, pulumi_cli, virtual_environment
from bootstrap.console import Step
from bootstrap.problem import ProblemError


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
    with pytest.raises(ProblemError, match=r"^Doing it: `no-such-program -x` ended with code 127:"):
        command.output(["no-such-program", "-x"], purpose="Doing it")


def test_the_front_of_bootstrap_can_be_read_by_an_old_python() -> None:
    for name in ("__init__.py", "__main__.py"):
        ast.parse((places.CHECKOUT / "bootstrap" / name).read_text(), feature_version=(3, 4))


def test_an_old_python_gets_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from bootstrap import __main__ as front  # noqa: PLC0415 - a program, imported for its function

    monkeypatch.setattr(front, "OLDEST", (99, 0))
    monkeypatch.setenv("BOOTSTRAP_PYTHON", "tried")
    assert front.main() == 1
    assert (
        capsys.readouterr().err
        == f"Python 3.11 or later is needed, and python3 here is {sys.version.split()[0]}; install it.\n"
    )


def test_packages_are_installed_again_when_an_included_file_changes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("-r b.txt\nx==1\n")
    (tmp_path / "b.txt").write_text("-r c.txt\n")
    (tmp_path / "c.txt").write_text("y==1\n")
    before = virtual_environment.fingerprint(tmp_path / "a.txt")
    (tmp_path / "c.txt").write_text("y==2\n")
    assert virtual_environment.fingerprint(tmp_path / "a.txt") != before


def test_a_pulumi_on_path_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pulumi", "pulumi-language-python"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pulumi_cli.find(Step("Pulumi")) == pulumi_cli.PulumiCLI(tmp_path / "pulumi", "on PATH", {})


def test_a_pulumi_that_was_built_before_is_found_at_once_and_leaves_the_login_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever runs the tests may have a Pulumi of their own, or ours.
    monkeypatch.setenv("PATH", str(home))
    for variable in ("PULUMI_HOME", "PULUMI_CREDENTIALS_PATH"):
        monkeypatch.delenv(variable, raising=False)
    folder = home / ".cache/open-webui-edge/toolchain" / pulumi_cli.built_folder().name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/pulumi").touch()
    found = pulumi_cli.find(Step("Pulumi"))
    assert found.environment["PATH"] == f"{folder}/bin"
    assert found.environment["PULUMI_HOME"] == f"{folder}/home"
    assert found.environment["PULUMI_CREDENTIALS_PATH"] == f"{home}/.pulumi"


def test_the_official_installer_comes_before_a_build_and_is_pinned(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulumi_cli, "INSTALLER", "https://pulumi.example.com")
    # As the real one: `--install-root FOLDER` gets a folder `bin`.
    (tmp_path / "curl").write_text(
        "#!/bin/sh\n"
        'while [ $# -gt 1 ]; do [ "$1" = -o ] && file=$2; shift; done\n'
        'echo \'mkdir -p "$4/bin" && echo "$2 $5" >"$4/bin/pulumi"\' >"$file"\n'
    )
    (tmp_path / "curl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    found = pulumi_cli.find(Step("Pulumi"))
    version = pulumi_cli.pinned("pulumi")
    assert found.executable == home / f".cache/open-webui-edge/toolchain/official-{version}/bin/pulumi"
    assert found.executable.read_text() == f"{version} --no-edit-path\n"
    assert pulumi_cli.find(Step("Pulumi")).origin == "official"


def test_without_pulumi_installer_and_go_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProblemError) as refused:
        pulumi_cli.find(Step("Pulumi"))
    assert str(refused.value) == (
        "There is no Pulumi, its installer cannot be reached, and there is no Go to build it with: install Pulumi "
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
    with pytest.raises(ProblemError, match="YES=1 answers for automation"):
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
