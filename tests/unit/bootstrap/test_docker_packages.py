"""Which engine is installed where there is none."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from open_webui_edge.bootstrap import debian, docker_packages, download
from open_webui_edge.bootstrap.console import ProblemError, Step

_KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
_PLACE = "https://download.docker.com/linux"
_BOOKWORM = "ID=debian\nVERSION_CODENAME=bookworm\n"


class Machine:
    """A Debian or Ubuntu: what its apt knows, and what is done to it."""

    def __init__(self, folder: Path) -> None:
        self.release = folder / "os-release"
        self.release.write_text(_BOOKWORM, encoding="utf-8")
        self.key, self.source = folder / "keyrings/docker.asc", folder / "sources/docker.list"
        self.web: dict[str, str] = {}
        """What can be downloaded: the end of an address -> content."""
        self.suites: dict[str, list[tuple[str, str]]] = {"docker.io": [("20.10.24", "bookworm")]}
        """Package -> its versions and their suites."""
        self.refused: set[str] = set()
        """Packages that apt refuses to install."""
        self.done: list[str] = []

    def fetch(self, address: str, file: Path, _report: Callable[[str], None]) -> None:
        self.done.append(f"fetch {address}")
        content = next((text for end, text in self.web.items() if address.endswith(end)), None)
        if content is None:
            raise download.DownloadError(f"{address} answers 404 Not Found")
        file.write_text(content, encoding="utf-8")

    def apt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.done.append(f"apt {' '.join(arguments)}")
        if arguments == ("update",) and self.source.exists():
            self.suites["docker-ce"] = [("5:29.1.0", "bookworm")]
        return subprocess.CompletedProcess(arguments, 0, "", "")

    def newest(self, packages: Sequence[str], suite: str = "") -> str | None:
        self.done.append(f"install {' '.join(packages)}{f' from {suite}' if suite else ''}")
        return "E: Unmet dependencies." if self.refused & set(packages) else None

    def install(self, packages: Sequence[str], _step: Step) -> None:
        if list(packages) != ["ca-certificates"]:
            self.done.append(f"install {' '.join(packages)}")
        if self.refused & set(packages):
            message = "Installing: E: Unmet dependencies."
            raise ProblemError(message)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(debian, "OS_RELEASE", made.release)
    monkeypatch.setattr(docker_packages, "KEY", made.key)
    monkeypatch.setattr(docker_packages, "SOURCE", made.source)
    monkeypatch.setattr(download, "fetch", made.fetch)
    monkeypatch.setattr(debian, "apt", made.apt)
    monkeypatch.setattr(debian, "install", made.install)
    monkeypatch.setattr(debian, "install_newest", made.newest)
    monkeypatch.setattr(debian, "versions", lambda package: made.suites.get(package, []))
    monkeypatch.setattr(docker_packages.shutil, "which", lambda _: "/usr/bin/docker")
    return made


@pytest.mark.parametrize(
    ("release", "place"),
    [
        (_BOOKWORM, "debian bookworm"),
        ("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\nUBUNTU_CODENAME=noble\n", "ubuntu noble"),
        (
            'ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_CODENAME=zara\nUBUNTU_CODENAME=noble\n',
            "ubuntu noble",
        ),
    ],
    ids=["Debian", "Ubuntu", "Mint"],
)
def test_dockers_own_packages_come_first(machine: Machine, release: str, place: str) -> None:
    machine.release.write_text(release, encoding="utf-8")
    distribution, name = place.split()
    machine.web = {f"/linux/{distribution}/dists/{name}/Release": "", f"/linux/{distribution}/gpg": _KEY}
    docker_packages.install(Step("engine"))
    assert machine.done[-1] == "install docker-ce docker-ce-cli containerd.io"
    assert machine.source.read_text(encoding="utf-8") == (
        f"deb [signed-by={machine.key}] {_PLACE}/{distribution} {name} stable\n"
    )
    assert machine.key.read_text(encoding="utf-8") == _KEY
    assert machine.key.stat().st_mode & 0o777 == 0o644


def test_a_repository_that_is_configured_already_is_used_as_it_is(machine: Machine) -> None:
    machine.suites["docker-ce"] = [("5:28.5.2", "bookworm")]
    docker_packages.install(Step("engine"))
    assert machine.done == ["apt update", "install docker-ce docker-ce-cli containerd.io"]
    assert not machine.source.exists()


@pytest.mark.parametrize(
    ("web", "refusal"),
    [
        ({}, f"{_PLACE}/debian/dists/bookworm/Release answers 404 Not Found"),
        (
            {"Release": "", "gpg": "<html>Log in!</html>"},
            f"{_PLACE}/debian/gpg is no key; does a proxy answer in its place?",
        ),
    ],
    ids=["not reached", "no key"],
)
def test_else_the_distributions_are_installed(
    machine: Machine, capsys: pytest.CaptureFixture[str], web: dict[str, str], refusal: str
) -> None:
    machine.web = web
    docker_packages.install(Step("engine"))
    assert machine.done[-1] == "install docker.io"
    assert not machine.source.exists()
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"     engine: Docker's own packages cannot be had ({refusal}), so the distribution's are installed"
    )


def test_packages_of_dockers_that_apt_refuses_leave_apt_as_it_was(machine: Machine) -> None:
    machine.web, machine.refused = {"Release": "", "gpg": _KEY}, {"docker-ce"}
    docker_packages.install(Step("engine"))
    assert machine.done[-2:] == ["install docker-ce docker-ce-cli containerd.io", "install docker.io"]
    assert not machine.source.exists()
    assert not machine.key.exists()


def test_the_newest_of_all_suites_is_taken_and_the_releases_own_where_that_is_refused(machine: Machine) -> None:
    machine.suites["docker.io"] = [("28.4.0", "bookworm-backports"), ("20.10.24", "bookworm")]
    docker_packages.install(Step("engine"))
    assert machine.done[-1] == "install docker.io from bookworm-backports"
    machine.refused = {"docker.io"}
    with pytest.raises(ProblemError, match=r"Install Docker by hand \(https://docs\.docker\.com/engine/install\)"):
        docker_packages.install(Step("engine"))
    assert machine.done[-2:] == ["install docker.io from bookworm-backports", "install docker.io"]


def test_versions_are_those_of_all_suites_the_newest_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "apt-cache").write_text(
        "#!/bin/sh\n"
        "echo ' docker.io | 20.10.24+dfsg1-1 | http://deb.example.com/debian bookworm/main amd64 Packages'\n"
        "echo ' docker.io | 28.4.0+dfsg1-1 | http://deb.example.com/debian trixie/main amd64 Packages'\n"
        "echo ' docker.io | 26.1.5+dfsg1-9 | http://deb.example.com/debian bookworm-backports/main amd64 Packages'\n",
        encoding="utf-8",
    )
    (tmp_path / "apt-cache").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert debian.versions("docker.io") == [
        ("28.4.0+dfsg1-1", "trixie"),
        ("26.1.5+dfsg1-9", "bookworm-backports"),
        ("20.10.24+dfsg1-1", "bookworm"),
    ]
