"""The packages in `.venv`: all of them are locked with hashes, and pip accepts no other file."""

import hashlib
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from open_webui_edge.bootstrap import paths, virtual_environment
from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.bootstrap.virtual_environment import LOCKS
from open_webui_edge.cli import checkout

SOURCES = [lock.with_suffix(".in") for lock in LOCKS]
_PIN = re.compile(r"(?P<name>[\w.-]+)(\[[\w,-]+\])?==(?P<version>[\w.!+-]+)")


@dataclass(frozen=True)
class Entry:
    """One package of a lock."""

    name: str
    version: str
    hashes: Sequence[str]
    required_by: Sequence[str]
    """Packages, and source files as `-r requirements.in`."""


def entries(lock: Path) -> Iterator[Entry]:
    for text in re.findall(r"^\w.*(?:\n[ #].*)*", lock.read_text(), re.MULTILINE):
        name, version = pin(text)
        lines = [line.strip() for line in text.splitlines()]
        comments = [line.removeprefix("#").strip().removeprefix("via ") for line in lines if line.startswith("#")]
        hashes = [line.removesuffix("\\").strip() for line in lines if line.startswith("--hash")]
        yield Entry(name, version, hashes, comments)


def pins(source: Path) -> dict[str, str]:
    lines = source.read_text().splitlines()
    return dict(pin(line) for line in lines if line and not line.startswith(("#", "-r ")))


def pin(line: str) -> tuple[str, str]:
    """Return the name of a package as an index writes it, and its version."""
    match = _PIN.match(line)
    assert match is not None, f"{line}: pinned by =="
    return re.sub(r"[-_.]+", "-", match["name"]).lower(), match["version"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_is_locked_with_hashes(lock: Path) -> None:
    locked = list(entries(lock))
    assert len(locked) > 40
    for entry in locked:
        assert entry.hashes, entry.name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in entry.hashes), entry.name


@pytest.mark.parametrize(
    ("lock", "source"),
    [(lock, source) for number, lock in enumerate(LOCKS) for source in SOURCES[: number + 1]],
    ids=lambda file: file.name,
)
def test_a_lock_has_the_pins_of_its_sources(lock: Path, source: Path) -> None:
    locked = {entry.name: entry.version for entry in entries(lock) if f"-r {source.name}" in entry.required_by}
    assert locked == pins(source), "run: make lock"


@pytest.mark.parametrize(("smaller", "larger"), list(pairwise(LOCKS)), ids=lambda file: file.name)
def test_a_lock_holds_the_one_before_it(smaller: Path, larger: Path) -> None:
    one, other = ({(entry.name, entry.version) for entry in entries(lock)} for lock in (smaller, larger))
    assert one <= other, "run: make lock"


def test_the_header_of_a_lock_is_the_command_that_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Renovate runs what the header says.
    headers = [lock.read_text().splitlines()[1].removeprefix("#").split() for lock in LOCKS]
    run: list[Sequence[str]] = []

    def record(*words: str) -> int:
        run.append([word for word in words if word not in {"-m", "--quiet"}])
        return 0

    monkeypatch.setattr(checkout, "_python", record)
    assert checkout.lock() == 0
    assert run == headers


@dataclass(frozen=True)
class Index:
    """A package index in a folder, a lock of its package `example`, and the folder that pip installs into."""

    folder: Path
    lock: Path
    target: Path

    def write_lock(self, *hashes: str) -> None:
        self.lock.write_text(" ".join(["example==1", *(f"--hash=sha256:{one}" for one in hashes)]) + "\n")

    def add(self, name: str, *, requires: str = "") -> str:
        """Add a package, and return its hash."""
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n" + (
            f"Requires-Dist: {requires}\n" if requires else ""
        )
        wheel = self.folder / f"{name}-1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{name}.py", "")
            archive.writestr(f"{name}-1.dist-info/METADATA", metadata)
            archive.writestr(f"{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{name}-1.dist-info/RECORD", "")
        return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    folder = tmp_path / "index"
    folder.mkdir()
    made = Index(folder, tmp_path / "larger.txt", tmp_path / "target")
    smaller = tmp_path / "smaller.txt"
    smaller.write_text("# no package\n")
    # The real pip of the virtual environment that the tests run in, which installs elsewhere.
    monkeypatch.setattr(paths, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(virtual_environment, "_STAMP", tmp_path / "stamp")
    monkeypatch.setattr(virtual_environment, "LOCKS", (smaller, made.lock))
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": folder, "TARGET": made.target}.items():
        monkeypatch.setenv(f"PIP_{name}", str(value))
    return made


def test_a_lock_is_installed_once_and_counts_for_the_smaller_ones(index: Index) -> None:
    index.write_lock(index.add("example"))
    virtual_environment.ensure(index.lock, Step("packages"))
    assert (index.target / "example.py").exists()
    smaller = virtual_environment.LOCKS[0]
    assert virtual_environment.is_current(index.lock)
    assert virtual_environment.is_current(smaller)
    smaller.write_text("# another package\n")
    assert not virtual_environment.is_current(smaller)
    # pip would fail now; it is not run again.
    (index.folder / "example-1-py3-none-any.whl").unlink()
    virtual_environment.ensure(index.lock, Step("packages"))


@pytest.mark.parametrize(
    ("hashes", "requires", "reason"),
    [
        ([], "", "Hashes are required in --require-hashes mode"),
        (["0" * 64], "", "THESE PACKAGES DO NOT MATCH THE HASHES"),
        (None, "other", "all requirements must have their versions pinned with =="),
    ],
    ids=["no hash", "another file", "a package that is not locked"],
)
def test_pip_installs_nothing_but_what_is_locked(
    index: Index, hashes: Sequence[str] | None, requires: str, reason: str
) -> None:
    index.add("other")
    actual = index.add("example", requires=requires)
    index.write_lock(*([actual] if hashes is None else hashes))
    with pytest.raises(ProblemError, match=reason):
        virtual_environment.ensure(index.lock, Step("packages"))
    assert not index.target.exists()
    assert not virtual_environment.is_current(index.lock)
