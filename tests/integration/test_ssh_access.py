"""A host whose key is known beforehand, asked by the real ssh and sshd; no engine is needed for that."""

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_webui_edge.engine.engine import Engine, EngineError
from open_webui_edge.engine.ssh import SshAccess, ssh_options
from tests.support.ssh_server import KNOWN_HOSTS, SshServer, make_key, ssh_agent, ssh_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    """A server whose folder has a blank in its name."""
    directory = tmp_path / "a server"
    directory.mkdir()
    with ssh_server(directory) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, in which the test works as the program does."""
    folder = tmp_path / "my project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def access(server: SshServer, **changed: str | None) -> SshAccess:
    given = {"host": server.address, "host_key": server.host_key, "client_key": server.client_key, **changed}
    return SshAccess("prod", **given)  # pyright: ignore[reportArgumentType] - the test's own words


def run(server: SshServer, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the test's own words
        ["ssh", *ssh_options("prod"), server.address, *command],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def known_before() -> bytes | None:
    return KNOWN_HOSTS.read_bytes() if KNOWN_HOSTS.exists() else None


def modes_below(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode)) for path in [folder, *folder.rglob("*")]
    }


PRIVATE = {
    ".": "0o700",
    ".gitignore": "0o600",
    "prod": "0o700",
    "prod/config": "0o600",
    "prod/id_ed25519": "0o600",
    "prod/known_hosts": "0o600",
}


def test_a_known_host_lets_in_whoever_has_its_key_and_nobody_s_known_hosts_are_touched(
    server: SshServer, project: Path
) -> None:
    before = known_before()
    access(server).write()
    ended = run(server, "echo", "inside")
    assert (ended.returncode, ended.stdout) == (0, "inside\n"), ended.stderr
    assert known_before() == before
    assert (project / ".ssh/prod/known_hosts").read_text() == f"127.0.0.1 {' '.join(server.host_key.split()[:2])}\n"
    assert modes_below(project / ".ssh") == PRIVATE


def test_the_user_s_own_keys_are_used_where_the_stack_has_none(
    server: SshServer, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access(server, client_key=None).write()
    assert not (project / ".ssh/prod/id_ed25519").exists()
    assert "Permission denied" in run(server, "true").stderr
    with ssh_agent(server.directory / "client") as agent:
        for name, value in agent.items():
            monkeypatch.setenv(name, value)
        assert run(server, "true").returncode == 0


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_another_host_key_ends_it_in_a_sentence_that_names_the_setting(
    server: SshServer, project: Path, kind: str
) -> None:
    before = known_before()
    other = make_key(project / "other", kind)
    there = access(server, host_key=other)
    there.write()
    listed = subprocess.run(  # noqa: S603
        ["ssh-keygen", "-l", "-f", str(server.directory / "host.pub")],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    shown = listed.stdout.split()[1]
    with pytest.raises(EngineError) as refused:
        Engine(there.host, ssh_options=there.options).facts()
    assert str(refused.value) == (
        f"{server.address} has another host key than the one in platform.docker.host_key (ED25519 {shown}); if it was"
        " installed again, copy its new key (/etc/ssh/ssh_host_ed25519_key.pub), else another machine may be"
        " intercepting the connection."
    )
    assert known_before() == before


def test_what_is_there_is_not_touched_and_what_others_could_read_is_mended(server: SshServer, project: Path) -> None:
    there = access(server)
    there.write()
    folder = project / ".ssh/prod"
    written = {path.name: path.stat() for path in folder.iterdir()}
    there.write()
    assert {path.name: path.stat() for path in folder.iterdir()} == written
    (folder / "id_ed25519").chmod(0o644)
    folder.chmod(0o755)
    assert "UNPROTECTED PRIVATE KEY FILE" in run(server, "true").stderr
    there.write()
    assert modes_below(project / ".ssh") == PRIVATE
    assert run(server, "true").returncode == 0


def test_a_lost_or_broken_key_comes_back(server: SshServer, project: Path) -> None:
    there = access(server)
    there.write()
    key = project / ".ssh/prod/id_ed25519"
    elsewhere = project / "a user's"
    elsewhere.write_text("not ours")
    for spoil in (key.unlink, lambda: key.write_text("half a k"), lambda: (key.unlink(), key.symlink_to(elsewhere))):
        spoil()
        assert run(server, "true").returncode != 0
        there.write()
        assert run(server, "true").returncode == 0
    assert elsewhere.read_text() == "not ours"
    assert modes_below(project / ".ssh") == PRIVATE


def test_git_does_not_see_the_folder(server: SshServer, project: Path) -> None:
    access(server).write()
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)  # noqa: S607
    status = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],  # noqa: S607
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    assert status.stdout == ""


def test_a_host_in_between_keeps_its_own_key(server: SshServer, project: Path) -> None:
    del project
    access(server, client_key=None).write()
    for host, expected in (("127.0.0.1", "hostkeyalias 127.0.0.1"), ("jump.example.com", "")):
        shown = subprocess.run(  # noqa: S603
            ["ssh", *ssh_options("prod"), "-G", host],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        assert [line for line in shown if line.startswith("hostkeyalias")] == ([expected] if expected else [])
        assert "batchmode yes" in shown


def test_the_private_key_is_not_shown_with_its_owner(server: SshServer) -> None:
    assert "PRIVATE" not in repr(access(server))
