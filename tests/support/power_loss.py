"""Loses the power at any moment of a change of version, and looks at what is left; needs nothing but the change itself.

Runs in a container as well, beside a copy of runtime/open_webui/upgrade.py: `power_loss.py FOLDER` with
DATABASE_URL set tries every moment on that database, and prints how many there were.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

REVISION = 'revision: str = "{name}"\ndown_revision: Union[str, None] = {before!r}\n'
OLD, NEW = "0.11.4", "0.12.4"


class PowerLossError(BaseException):
    """Ends everything at once: nothing that cleans up gets to see it."""


def package_of(folder: Path, *revisions: str) -> Path:
    """Write migrations, each after the one before."""
    versions = folder / "migrations/versions"
    versions.mkdir(parents=True, exist_ok=True)
    for before, name in zip((None, *revisions), revisions, strict=False):
        (versions / f"{name}.py").write_text(REVISION.format(name=name, before=before))
    return folder


@contextmanager
def power_goes(upgrade: ModuleType, after: int) -> Iterator[Callable[[], bool]]:
    """Lose the power at the n-th time that anything is made to last; lends what says whether it came to that."""
    left = [after]

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise PowerLossError
            return original(*arguments, **named)

        return call

    moments: tuple[tuple[Any, str], ...] = (
        (Path, "replace"),
        (Path, "unlink"),
        (Path, "mkdir"),
        (upgrade.shutil, "copytree"),
        (upgrade.shutil, "copy2"),
        (upgrade.shutil, "rmtree"),
        (upgrade, "_sync"),
        (upgrade, "_test_start"),
        (upgrade.Sqlite, "copy"),
        (upgrade.Postgres, "_ask"),
        (upgrade.Upgrade, "_migrate"),
    )
    with ExitStack() as patches, suppress(PowerLossError):
        for owner, name in moments:
            patches.enter_context(patch.object(owner, name, counted(getattr(owner, name))))
        yield lambda: left[0] < 0


def works(*_: object) -> None:
    """What a version that works does on trial."""


def main(folder: Path) -> None:
    """Lose the power of a change on the database at DATABASE_URL at every moment there is."""
    import sqlalchemy  # noqa: PLC0415 # pyright: ignore[reportMissingImports]
    import upgrade  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    engine: Any = sqlalchemy.create_engine(
        os.environ["DATABASE_URL"], isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.NullPool
    )

    def ask(*questions: str) -> list[list[Any]]:
        with engine.connect() as connection:
            results = [connection.execute(sqlalchemy.text(question)) for question in questions]
            return [[tuple(row) for row in result] if result.returns_rows else [] for result in results]

    def what_is_there() -> tuple[object, ...]:
        return (
            ask("SELECT title FROM chat ORDER BY title", "SELECT version_num FROM alembic_version"),
            (folder / "data/vector_db/index").read_text(),
        )

    def spoil(*_: object) -> None:
        ask("DELETE FROM chat", "UPDATE alembic_version SET version_num = 'second'", "CREATE TABLE added (id text)")
        (folder / "data/vector_db/index").write_text("new")

    def crashes(*_: object) -> None:
        raise upgrade.Failed("it crashed")

    rules = upgrade.Rules(snapshot=True, downgrade_from_snapshot=False)
    old = upgrade.Upgrade(package_of(folder / "old", "first"), folder / "data", OLD, rules)
    new = upgrade.Upgrade(package_of(folder / "new", "first", "second"), folder / "data", NEW, rules)
    (folder / "data/vector_db").mkdir(parents=True)
    (folder / "data/vector_db/index").write_text("old")
    ask(
        'CREATE TABLE "user" (id text)',
        "CREATE TABLE chat (title text)",
        "CREATE TABLE alembic_version (version_num text)",
        "INSERT INTO alembic_version VALUES ('first')",
        "INSERT INTO chat SELECT 'chat ' || number FROM generate_series(1, 100) AS number",
    )
    old.prepare(first=True).release()
    before, databases = what_is_there(), ask("SELECT datname FROM pg_database ORDER BY datname")
    moments = 0
    for ends in (works, crashes):
        moment, reached = 0, True
        while reached:
            with (
                patch.object(upgrade.Upgrade, "_migrate", spoil),
                patch.object(upgrade, "_test_start", ends),
                patch.object(upgrade.signal, "signal"),
                power_goes(upgrade, moment) as went,
            ):
                new.attempt([], None, 60)
            reached = went()
            # And again, while that is undone.
            with power_goes(upgrade, moment % 11):
                old.prepare(first=True).release()
            old.prepare(first=True).release()
            assert what_is_there() == before, f"after the power went at moment {moment}"
            assert upgrade.Journal.read(folder / "data") == upgrade.Journal(version=OLD)
            left = ask("SELECT datname FROM pg_database ORDER BY datname")
            assert left == databases, f"{left} after moment {moment}"
            assert not [*(folder / "data/open-webui-edge-snapshots").glob("*")], f"after moment {moment}"
            moment += 1
        moments += moment
    print(json.dumps({"moments": moments}))  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]))
