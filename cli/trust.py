"""The trust stores of this machine: adds a stack's own CA to each, and removes it again."""

import base64
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from open_webui_edge.bootstrap import command, console, paths

CERTUTIL_MISSING = (
    "certutil is not installed (Debian, Ubuntu: sudo apt install libnss3-tools; Fedora: sudo dnf install nss-tools;"
    " macOS: brew install nss)"
)
_DATABASE = "cert9.db"
# Chromium's own place and, where that is missing, the one of the XDG specification; snaps and flatpaks have theirs.
_CHROMIUM = (
    ".pki/nssdb",
    ".local/share/pki/nssdb",
    "snap/chromium/current/.pki/nssdb",
    ".var/app/org.chromium.Chromium/.pki/nssdb",
    ".var/app/org.chromium.Chromium/data/pki/nssdb",
    ".var/app/com.google.Chrome/.pki/nssdb",
    ".var/app/com.google.Chrome/data/pki/nssdb",
)
_FIREFOX = (
    ".mozilla/firefox",
    ".config/mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
    "Library/Application Support/Firefox/Profiles",
)


@dataclass(frozen=True)
class Outcome:
    """The result for one store."""

    store: str
    words: str
    """What was done, or why not."""
    by_hand: str = ""
    """Command to run by hand; "" if there is nothing left to do."""


@dataclass(frozen=True)
class NssStore:
    """A database with the CAs that a user added to Chromium or Firefox."""

    title: str
    folder: Path

    def add(self, name: str, file: Path) -> Outcome:
        """Trust the CA for servers only."""
        # "C,,": servers; neither mail nor programs.
        words = [*self._certutil(), "-A", "-n", name, "-t", "C,,", "-i", str(file)]
        if shutil.which("certutil") is None:
            return self._not_done(CERTUTIL_MISSING, words)
        expected = _base64_of(file.read_text(encoding="ascii"))
        before = self._under(name)
        if before == expected and ("C,," in self._trust_of(name)):
            return Outcome(self.title, "trusted it already")
        if not (self.folder / _DATABASE).exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            command.attempt([*self._certutil(), "-N", "--empty-password"])
        # A stack that was deleted and recreated has a new CA of the same name.
        self._delete(name)
        ended = command.attempt(words)
        if ended.returncode:
            # Without the database's password, certutil adds the certificate but no trust.
            self._delete(name)
            return self._not_done(_last_line(ended.stderr), words)
        if self._under(name) != expected:
            # NSS has one nickname for all certificates of one subject, and uses the first.
            return Outcome(self.title, "has it already under another name, not added by this program; left unchanged")
        is_first = before in {None, expected}
        return Outcome(self.title, "trusts it now" if is_first else "trusts it now, and no longer its predecessor")

    def remove(self, name: str) -> Outcome:
        """Remove the certificate of that name."""
        words = [*self._certutil(), "-D", "-n", name]
        if shutil.which("certutil") is None:
            return self._not_done(CERTUTIL_MISSING, words)
        if self._under(name) is None:
            return Outcome(self.title, "did not trust it")
        if not self._delete(name):
            return self._not_done("certutil did not remove it", words)
        return Outcome(self.title, "trusts it no more")

    def _certutil(self) -> list[str]:
        return ["certutil", "-d", f"sql:{self.folder}"]

    def _under(self, name: str) -> str | None:
        listed = command.attempt([*self._certutil(), "-L", "-n", name, "-a"])
        return None if listed.returncode else _base64_of(listed.stdout)

    def _trust_of(self, name: str) -> str:
        listed = command.attempt([*self._certutil(), "-L"]).stdout
        # The name, blanks, and then one word.
        rows = (line.rstrip().rpartition(" ") for line in listed.splitlines())
        return next((trust for nickname, _, trust in rows if nickname.rstrip() == name), "")

    def _delete(self, name: str) -> bool:
        # One at a time, where several certificates of one subject have one name.
        for _ in range(8):
            if self._under(name) is None:
                return True
            if command.attempt([*self._certutil(), "-D", "-n", name]).returncode:
                break
        return self._under(name) is None

    def _not_done(self, why: str, words: Sequence[str]) -> Outcome:
        return Outcome(self.title, f"not done: {why}", _shell(words))


@dataclass(frozen=True)
class SystemStore:
    """A Linux system's trust store, which curl, git and most programs use: a folder and a command that rebuilds it."""

    title: str
    folder: Path
    suffix: str
    refresh: tuple[str, ...]

    def add(self, name: str, file: Path) -> Outcome:
        """Copy the certificate there and rebuild the store."""
        target = self._target(name)
        if target.exists() and target.read_bytes() == file.read_bytes():
            return Outcome(self.title, "trusted it already")
        return self._run("trusts it now", ["install", "-m", "0644", str(file), str(target)])

    def remove(self, name: str) -> Outcome:
        """Remove the certificate and rebuild the store."""
        target = self._target(name)
        if not target.exists():
            return Outcome(self.title, "did not trust it")
        return self._run("trusts it no more", ["rm", "-f", str(target)])

    def _target(self, name: str) -> Path:
        return self.folder / f"{name}{self.suffix}"

    def _run(self, done: str, first: Sequence[str]) -> Outcome:
        for words in (first, self.refresh):
            failed = _as_root(words)
            if failed is not None:
                by_hand = " && ".join(f"sudo {_shell(each)}" for each in (first, self.refresh))
                return Outcome(self.title, f"not done: {failed}", by_hand)
        return Outcome(self.title, done)


@dataclass(frozen=True)
class KeychainStore:
    """A person's keychain on macOS, which Safari, Chrome and most programs use."""

    title: str
    keychain: Path

    def add(self, name: str, file: Path) -> Outcome:
        """Trust the CA; macOS asks the user in a window."""
        del name  # the keychain shows the certificate's own
        # Adding it again is idempotent: macOS replaces its entry of the same certificate.
        words = ["security", "add-trusted-cert", "-r", "trustRoot", "-p", "ssl", "-k", str(self.keychain), str(file)]
        console.say("macOS may ask in a window whether the keychain may be changed.")
        ended = command.attempt(words)
        if ended.returncode:
            return Outcome(self.title, f"not done: {_last_line(ended.stderr)}", _shell(words))
        return Outcome(self.title, "trusts it now")

    def remove(self, name: str) -> Outcome:
        """Remove exactly the certificate that was added."""
        file = recorded_certificate(name)
        if not file.exists():
            return Outcome(self.title, "did not trust it")
        # A keychain identifies certificates by SHA-1; this is no security feature.
        der = base64.b64decode(_base64_of(file.read_text(encoding="ascii")))
        fingerprint = hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()
        commands = [
            ["security", "remove-trusted-cert", str(file)],
            ["security", "delete-certificate", "-Z", fingerprint, str(self.keychain)],
        ]
        for words in commands:
            ended = command.attempt(words)
            if ended.returncode:
                return Outcome(self.title, f"not done: {_last_line(ended.stderr)}", " && ".join(map(_shell, commands)))
        return Outcome(self.title, "trusts it no more")


Store = NssStore | SystemStore | KeychainStore


def name_of(stack: str) -> str:
    """Return the name of a stack's CA in every store."""
    return f"open-webui-edge-{stack}"


def recorded_certificate(name: str) -> Path:
    """Return the file with the certificate that was trusted last: it outlives the stack, for the removal."""
    return paths.data() / "trusted" / f"{name}.pem"


def add(stack: str, certificate: str, stores: Iterable[Store]) -> list[Outcome]:
    """Add a stack's CA to every store."""
    name = name_of(stack)
    file = recorded_certificate(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    targets = list(stores)
    if file.exists() and file.read_text(encoding="ascii") != certificate:
        # A keychain has no names: without this the previous CA would stay.
        for store in targets:
            if isinstance(store, KeychainStore):
                store.remove(name)
    file.write_text(certificate, encoding="ascii")
    return [store.add(name, file) for store in targets]


def remove(stack: str, stores: Iterable[Store]) -> list[Outcome]:
    """Remove from every store what `add` added for that stack; the stack may be gone."""
    name = name_of(stack)
    outcomes = [store.remove(name) for store in stores]
    if not any(outcome.by_hand for outcome in outcomes):
        recorded_certificate(name).unlink(missing_ok=True)
    return outcomes


def stores_here(*, system_store: bool = True, platform: str = sys.platform) -> Iterator[Store]:
    """Yield the trust stores of this user, and with `system_store` of this machine."""
    home = Path.home()
    if platform == "darwin":
        if system_store:
            yield KeychainStore("login keychain", home / "Library/Keychains/login.keychain-db")
    else:
        if system_store:
            yield from _system_stores()
        folders = [home / folder for folder in _CHROMIUM if (home / folder / _DATABASE).exists()]
        # Chromium uses this folder even if it has never been started.
        for folder in folders or [home / _CHROMIUM[0]]:
            yield NssStore(f"Chromium and Chrome, {folder}", folder)
    for folder in _FIREFOX:
        for database in sorted((home / folder).glob(f"*/{_DATABASE}")):
            yield NssStore(f"Firefox, profile {database.parent.name}", database.parent)


def _system_stores(root: Path = Path("/")) -> Iterator[SystemStore]:
    for title, folder, suffix, refresh in (
        ("Debian's store", "usr/local/share/ca-certificates", ".crt", ("update-ca-certificates",)),
        ("Fedora's store", "etc/pki/ca-trust/source/anchors", ".pem", ("update-ca-trust", "extract")),
        ("openSUSE's store", "etc/pki/trust/anchors", ".pem", ("update-ca-certificates",)),
        ("Arch's store", "etc/ca-certificates/trust-source/anchors", ".crt", ("trust", "extract-compat")),
    ):
        if (root / folder).is_dir() and _program_of_root(refresh[0]):
            yield SystemStore(title, root / folder, suffix, refresh)
            return


def _program_of_root(name: str) -> str | None:
    # It may be in a folder that an ordinary user's PATH lacks.
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def _as_root(words: Sequence[str]) -> str | None:
    """Run a program as root; return why that failed, or None."""
    program = _program_of_root(words[0])
    if program is None:
        return f"{words[0]} is not installed"
    words = [program, *words[1:]]
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            return "it needs root, and there is no sudo here"
        terminal = sys.stdin is not None and sys.stdin.isatty()
        console.say(f"This needs root: sudo {_shell(words)}")
        # On a terminal sudo asks for the password; without one it must not wait for it.
        words = ["sudo", *([] if terminal else ["-n"]), *words]
        if terminal:
            return None if command.pass_through(words) == 0 else "sudo did not run it"
    ended = command.attempt(words)
    return None if ended.returncode == 0 else _last_line(ended.stderr or ended.stdout)


def _shell(words: Sequence[str]) -> str:
    return " ".join(f"'{word}'" if set(word) & set(" $()*'\"") or not word else word for word in words)


def _base64_of(pem: str) -> str:
    return "".join(line.strip() for line in pem.splitlines() if line.strip() and not line.startswith("-----"))


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it failed and said nothing")


def report(outcomes: Sequence[Outcome], put: Callable[[str], None] = console.put) -> int:
    """Print the result for each store; return 1 if something is left to do."""
    for outcome in outcomes:
        put(f"{outcome.store}: {outcome.words}")
        if outcome.by_hand:
            put(f"  by hand: {outcome.by_hand}")
    return 1 if any(outcome.by_hand for outcome in outcomes) else 0
