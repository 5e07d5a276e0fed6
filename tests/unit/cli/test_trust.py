"""A stack's authority in the stores of a machine: what is added, and that exactly that is taken out again."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from open_webui_edge.bootstrap import paths
from open_webui_edge.cli import trust
from open_webui_edge.cli.trust import KeychainStore, NssStore, Outcome, SystemStore
from tests.support.certificates import Issued, authority, server
from tests.support.machine import lacks

NAME = trust.name_of("local")


@pytest.fixture
def mine() -> Issued:
    return authority("edge-certificate local CA")


@pytest.fixture
def browsers(home: Path) -> list[NssStore]:
    """The databases of Chromium and of two profiles of Firefox."""
    if shutil.which("certutil") is None:
        lacks("no certutil (libnss3-tools)")
    for profile in (".mozilla/firefox/abc.default", "snap/firefox/common/.mozilla/firefox/xyz.work"):
        (home / profile).mkdir(parents=True)
        certutil(home / profile, "-N", "--empty-password")
    return [store for store in trust.stores_here(system_store=False, platform="linux") if isinstance(store, NssStore)]


def certutil(database: Path, *words: str) -> str:
    ended = subprocess.run(  # noqa: S603 - our own words
        ["certutil", "-d", f"sql:{database}", *words],  # noqa: S607 - whichever is first on PATH
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return ended.stdout + ended.stderr


def names_in(store: NssStore) -> list[str]:
    rows = certutil(store.folder, "-L").splitlines()
    return sorted(row.rpartition(" ")[0].rstrip() for row in map(str.rstrip, rows) if row.endswith(",,"))


def words_of(outcomes: list[Outcome]) -> list[str]:
    return [outcome.words for outcome in outcomes]


def test_all_browsers_of_a_person_are_found(browsers: list[NssStore], home: Path) -> None:
    assert [store.title for store in browsers] == [
        f"Chromium and Chrome, {home}/.pki/nssdb",
        "Firefox, profile abc.default",
        "Firefox, profile xyz.work",
    ]


def test_what_was_added_is_taken_out_and_nothing_else(browsers: list[NssStore], mine: Issued, tmp_path: Path) -> None:
    company = tmp_path / "company.pem"
    company.write_text(authority("A company's root").pem)
    for store in browsers[1:]:
        certutil(store.folder, "-A", "-n", "company", "-t", "C,,", "-i", str(company))
    # Another stack whose name begins alike.
    trust.add("local-2", authority("edge-certificate local-2 CA").pem, browsers)
    before = [names_in(store) for store in browsers]
    assert words_of(trust.add("local", mine.pem, browsers)) == ["trusts it now"] * 3
    assert all(NAME in names_in(store) for store in browsers)
    assert words_of(trust.add("local", mine.pem, browsers)) == ["trusted it already"] * 3
    assert words_of(trust.remove("local", browsers)) == ["trusts it no more"] * 3
    assert [names_in(store) for store in browsers] == before
    assert words_of(trust.remove("local", browsers)) == ["did not trust it"] * 3


def test_an_authority_that_was_made_anew_takes_its_predecessor_s_place(browsers: list[NssStore], mine: Issued) -> None:
    trust.add("local", authority("edge-certificate local CA").pem, browsers)
    assert words_of(trust.add("local", mine.pem, browsers)) == ["trusts it now, and no longer its predecessor"] * 3
    assert all(names_in(store) == [NAME] for store in browsers)
    held = certutil(browsers[0].folder, "-L", "-n", NAME, "-a")
    assert "".join(held.split()) == "".join(mine.pem.split())


def test_trust_that_somebody_took_away_is_given_again(browsers: list[NssStore], mine: Issued) -> None:
    for stack in ("local-1", "local", "local-2"):
        authority_of = mine if stack == "local" else authority(f"edge-certificate {stack} CA")
        trust.add(stack, authority_of.pem, browsers)
    certutil(browsers[0].folder, "-M", "-n", NAME, "-t", ",,")
    assert words_of(trust.add("local", mine.pem, browsers)) == ["trusts it now", *["trusted it already"] * 2]
    rows = [row.split() for row in certutil(browsers[0].folder, "-L").splitlines()]
    assert [NAME, "C,,"] in rows


def test_what_somebody_else_added_stays(browsers: list[NssStore], mine: Issued, tmp_path: Path) -> None:
    file = tmp_path / "mine.pem"
    file.write_text(mine.pem)
    certutil(browsers[1].folder, "-A", "-n", "by hand", "-t", "C,,", "-i", str(file))
    outcomes = trust.add("local", mine.pem, browsers)
    assert outcomes[1].words == "has it already under another name, not added by this program; left unchanged"
    trust.remove("local", browsers)
    assert names_in(browsers[1]) == ["by hand"]


def test_a_database_behind_a_password_is_said_and_how_to_do_it_by_hand(
    browsers: list[NssStore], mine: Issued, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("hunter22\n")
    locked = browsers[1].folder
    for file in locked.iterdir():
        file.unlink()
    certutil(locked, "-N", "-f", str(password))
    outcome = trust.add("local", mine.pem, browsers)[1]
    assert outcome.words.startswith("not done: certutil: could not authenticate to token")
    assert outcome.by_hand == f"certutil -d sql:{locked} -A -n {NAME} -t C,, -i {trust.recorded_certificate(NAME)}"
    assert NAME not in certutil(locked, "-L")


def test_without_certutil_a_person_is_told_where_to_get_it(
    home: Path, mine: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(home))
    (outcome,) = trust.add("local", mine.pem, trust.stores_here(system_store=False, platform="linux"))
    assert outcome.words == f"not done: {trust.CERTUTIL_MISSING}"
    assert (
        outcome.by_hand
        == f"certutil -d sql:{home}/.pki/nssdb -A -n {NAME} -t C,, -i {trust.recorded_certificate(NAME)}"
    )
    said: list[str] = []
    assert trust.report([outcome], said.append) == 1
    assert said[1] == f"  by hand: {outcome.by_hand}"


@pytest.fixture
def system(tmp_path: Path) -> SystemStore:
    """Debian's own tool, on folders of the test's."""
    program = shutil.which("update-ca-certificates") or shutil.which("update-ca-certificates", path="/usr/sbin")
    if program is None:
        lacks("no update-ca-certificates (ca-certificates)")
    local, whole = tmp_path / "local", tmp_path / "whole"
    local.mkdir()
    whole.mkdir()
    folders = ("--localcertsdir", str(local), "--etccertsdir", str(whole), "--hooksdir", str(tmp_path / "none"))
    return SystemStore("Debian's store", local, ".crt", (program, *folders))


@pytest.mark.skipif(os.geteuid() != 0, reason="the system's store belongs to root")
def test_debian_s_store_trusts_it_until_it_is_taken_out(system: SystemStore, mine: Issued, tmp_path: Path) -> None:
    site = tmp_path / "site.pem"
    site.write_text(server(["localhost"], mine).pem)

    def trusted() -> bool:
        words = ["openssl", "verify", "-no-CAfile", "-CApath", str(tmp_path / "whole"), str(site)]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0  # noqa: S603 - our own words

    assert not trusted()
    assert words_of(trust.add("local", mine.pem, [system])) == ["trusts it now"]
    assert trusted()
    assert words_of(trust.add("local", mine.pem, [system])) == ["trusted it already"]
    assert words_of(trust.remove("local", [system])) == ["trusts it no more"]
    assert not trusted()
    assert words_of(trust.remove("local", [system])) == ["did not trust it"]
    assert not list((tmp_path / "local").iterdir())


def test_a_store_of_root_s_is_said_before_and_by_hand(
    tmp_path: Path, mine: Issued, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tools = stand_in(tmp_path / "bin", "sudo", "echo 'sudo: a password is required' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    store = SystemStore("Fedora's store", tmp_path, ".pem", ("true", "extract"))
    (outcome,) = trust.add("local", mine.pem, [store])
    file, target = trust.recorded_certificate(NAME), tmp_path / f"{NAME}.pem"
    assert outcome.words == "not done: sudo: a password is required"
    assert outcome.by_hand == f"sudo install -m 0644 {file} {target} && sudo true extract"
    said = capsys.readouterr().err
    assert f"This needs root: sudo {shutil.which('install')} -m 0644 {file} {target}" in said


def stand_in(folder: Path, name: str, script: str) -> Path:
    """Put a program at the front of PATH that writes down how it was called."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "$*" >> {folder}/calls\n{script}\n')
    program.chmod(0o755)
    return folder


def test_macos_trusts_it_until_it_is_taken_out(
    tmp_path: Path, home: Path, mine: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stand-in: there is no macOS to try it on.
    tools = stand_in(tmp_path / "bin", "security", "exit 0")
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    stores = list(trust.stores_here(platform="darwin"))
    assert [type(store) for store in stores] == [KeychainStore]
    assert words_of(trust.add("local", mine.pem, stores)) == ["trusts it now"]
    file, keychain = trust.recorded_certificate(NAME), home / "Library/Keychains/login.keychain-db"
    assert file == paths.data() / f"trusted/{NAME}.pem"
    assert words_of(trust.remove("local", stores)) == ["trusts it no more"]
    fingerprint = _openssl_fingerprint(mine, tmp_path)
    assert (tools / "calls").read_text().splitlines() == [
        f"add-trusted-cert -r trustRoot -p ssl -k {keychain} {file}",
        f"remove-trusted-cert {file}",
        f"delete-certificate -Z {fingerprint} {keychain}",
    ]
    assert not file.exists()
    assert words_of(trust.remove("local", stores)) == ["did not trust it"]


def test_macos_that_refuses_is_said(tmp_path: Path, mine: Issued, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = stand_in(tmp_path / "bin", "security", "echo 'SecTrustSettings: the user cancelled' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    (outcome,) = trust.add("local", mine.pem, trust.stores_here(platform="darwin"))
    assert outcome.words == "not done: SecTrustSettings: the user cancelled"
    assert outcome.by_hand.startswith("security add-trusted-cert -r trustRoot -p ssl -k ")


def _openssl_fingerprint(issued: Issued, folder: Path) -> str:
    file = folder / "one.pem"
    file.write_text(issued.pem)
    words = ["openssl", "x509", "-in", str(file), "-noout", "-fingerprint", "-sha1"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own words
    return said.strip().partition("=")[2].replace(":", "")


@pytest.mark.parametrize(
    ("folder", "program", "title"),
    [
        ("usr/local/share/ca-certificates", "update-ca-certificates", "Debian's store"),
        ("etc/pki/ca-trust/source/anchors", "update-ca-trust", "Fedora's store"),
        ("etc/pki/trust/anchors", "update-ca-certificates", "openSUSE's store"),
        ("etc/ca-certificates/trust-source/anchors", "trust", "Arch's store"),
    ],
)
def test_the_system_s_store_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, program: str, title: str
) -> None:
    root = tmp_path / "root"
    (root / folder).mkdir(parents=True)
    monkeypatch.setenv("PATH", str(stand_in(tmp_path / "bin", program, "exit 0")))
    (store,) = trust._system_stores(root)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    assert (store.title, store.folder) == (title, root / folder)
