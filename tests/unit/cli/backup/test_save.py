"""A folder of this machine that is made the same as a repository: whole at each moment, whatever cuts it short."""

import io
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.backup.deployed import Deployed, Repository
from open_webui_edge.cli.backup.save import mirror

REPOSITORY = Repository("/repository/restic", "password", {}, "edge-unit-backup")
FIRST = {"config": b"one", "keys/k": b"key", "data/00/00aa": b"pack", "index/i": b"index", "snapshots/s": b"then"}
SECOND = {**FIRST, "data/00/00bb": b"another pack", "index/j": b"another", "snapshots/t": b"later"}
del SECOND["snapshots/s"], SECOND["index/i"]


class Asked(io.BytesIO):
    """Standard input of a task; what was written stays to be looked at."""

    def close(self) -> None:
        self.written = self.getvalue().decode()
        super().close()


class Engine:
    """A repository on an engine, whose connection breaks after so many bytes."""

    def __init__(self, files: dict[str, bytes], *, breaks_after: int | None = None) -> None:
        self.files, self._breaks_after = files, breaks_after
        self.sent: list[str] = []

    def run(self, *_: object, **__: object) -> str:
        listed = "\n".join(f"{len(content)} {name}" for name, content in self.files.items())
        return f"{sha256(self.files['config']).hexdigest()}\n{listed}"

    @contextmanager
    def started(self, _task: object) -> Iterator[Any]:
        asked = Asked()
        yield SimpleNamespace(
            stdin=asked, stdout=_Answer(self, asked), stderr=io.BytesIO(b"gone"), returncode=self._code
        )

    @property
    def _code(self) -> int:
        return 0 if self._breaks_after is None else 1

    def packed(self, names: Sequence[str]) -> bytes:
        self.sent += names
        packed = io.BytesIO()
        for name in names:
            # One archive after the other, as xargs makes them.
            with tarfile.open(fileobj=packed, mode="w") as archive:
                entry = tarfile.TarInfo(name)
                entry.size = len(self.files[name])
                archive.addfile(entry, io.BytesIO(self.files[name]))
        return packed.getvalue()[: self._breaks_after]

    def failed(self, purpose: str, _code: int, _words: Sequence[str]) -> ProblemError:
        return ProblemError(purpose)


class _Answer:
    def __init__(self, engine: Engine, asked: Asked) -> None:
        self._engine, self._asked = engine, asked
        self._content: io.BytesIO | None = None

    def read(self, size: int = -1) -> bytes:
        if self._content is None:
            self._content = io.BytesIO(self._engine.packed(self._asked.written.split()))
        return self._content.read(size)


def mirrored(engine: Engine, folder: Path) -> tuple[int, int]:
    deployed = SimpleNamespace(name="unit", runner=engine, restic_task=lambda *_: None, run_restic=engine.run)
    return mirror(cast("Deployed", deployed), REPOSITORY, folder)


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_new_comes_and_what_is_gone_goes(tmp_path: Path) -> None:
    assert mirrored(Engine(FIRST), tmp_path / "folder") == (5, sum(map(len, FIRST.values())))
    engine = Engine(SECOND)
    assert mirrored(engine, tmp_path / "folder")[0] == 3
    assert engine.sent == ["data/00/00bb", "index/j", "snapshots/t"]
    assert held(tmp_path / "folder") == SECOND
    assert (tmp_path / "folder").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("size", range(100, 30_000, 1700))
def test_a_connection_that_breaks_leaves_the_backups_of_before(size: int, tmp_path: Path) -> None:
    mirrored(Engine(FIRST), tmp_path)
    with pytest.raises(ProblemError):
        mirrored(Engine(SECOND, breaks_after=size), tmp_path)
    assert FIRST.items() <= held(tmp_path).items()
    assert all(SECOND[name] == content for name, content in held(tmp_path).items() if name in SECOND)
    mirrored(Engine(SECOND), tmp_path)
    assert held(tmp_path) == SECOND


def test_backups_of_another_repository_are_left_alone(tmp_path: Path) -> None:
    mirrored(Engine(FIRST), tmp_path)
    with pytest.raises(ProblemError, match="contains the backups of another stack, or of an earlier"):
        mirrored(Engine({**SECOND, "config": b"two"}), tmp_path)
    assert held(tmp_path) == FIRST


def test_a_bucket_is_not_copied_into_a_folder(tmp_path: Path) -> None:
    repository = Repository("s3:https://s3.example.com/chat/unit", "password", {}, None)
    with pytest.raises(ProblemError, match="copy them with restic itself"):
        mirror(cast("Deployed", SimpleNamespace(name="unit")), repository, tmp_path)
