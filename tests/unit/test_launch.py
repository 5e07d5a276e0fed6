"""What the launcher in Open WebUI's container does to saved settings, on a small copy of how Open WebUI keeps them."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from components import launch

CONFIG = """
import os
PROVIDER_KEY = os.getenv("PROVIDER_KEY", None)
URLS = os.environ.get("URLS", PROVIDER_KEY)
URLS = [url for url in URLS.split(";")]
TYPED: int = int(os.getenv("LIMIT", "5"))
LIMIT = TYPED
SEARCH_KEY = os.getenv("SEARCH_KEY", PROVIDER_KEY)
FLAG = "x"
DEFAULT_CONFIG = {
    "provider.key": PROVIDER_KEY,
    "provider.urls": URLS,
    "limit": LIMIT,
    "search.key": SEARCH_KEY,
    "inline": os.getenv("INLINE"),
    "flag": FLAG,
}
"""

GIVEN = {
    "environment": {},
    "saved_settings": {},
    "first": True,
    "announced": False,
    "drain": 5,
    "brought": {},
    "version": "0.12.4",
    "snapshot": True,
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "open_webui"
    package.mkdir()
    (package / "config.py").write_text(CONFIG)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return package


@pytest.mark.parametrize(
    ("variables", "keys"),
    [
        ({"PROVIDER_KEY"}, {"provider.key"}),
        ({"URLS"}, {"provider.urls"}),
        ({"LIMIT"}, {"limit"}),
        ({"INLINE"}, {"inline"}),
        ({"SEARCH_KEY", "UNKNOWN"}, {"search.key"}),
        (set(), set()),
    ],
    ids=str,
)
def test_a_variable_owns_the_settings_that_are_read_from_it(
    tmp_path: Path, variables: set[str], keys: set[str]
) -> None:
    source = tmp_path / "config.py"
    source.write_text(CONFIG)
    assert launch.saved_settings_of(source, variables) == keys


def test_a_version_that_says_nothing_of_its_settings_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "config.py"
    source.write_text("X = 1")
    with pytest.raises(SystemExit, match="not supported"):
        launch.saved_settings_of(source, {"A"})


def _saved(package: Path) -> dict[str, object]:
    with sqlite3.connect(package.parent / "data/webui.db") as database:
        return {key: json.loads(str(value)) for key, value in database.execute("SELECT key, value FROM config")}


def test_owned_settings_are_forgotten_and_exact_ones_written(package: Path) -> None:
    with sqlite3.connect(package.parent / "data/webui.db") as database:
        database.execute("CREATE TABLE config (key TEXT PRIMARY KEY, value JSON NOT NULL, updated_at BIGINT)")
        database.executemany(
            "INSERT INTO config VALUES (?, ?, 0)",
            [("provider.urls", '["old"]'), ("limit", "5"), ("flag", '"edited"'), ("keys", '["old"]')],
        )
    launch.write_saved_settings(package, {"provider.urls", "keys"}, {"keys": ['a;b"c']})
    assert _saved(package) == {"limit": 5, "flag": "edited", "keys": ['a;b"c']}
    # The stack names neither any more: both go back to the application once, and `flag` was never the stack's.
    launch.write_saved_settings(package, {"limit"}, {})
    assert _saved(package) == {"flag": "edited"}


def test_the_package_is_found_in_the_working_directory(package: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "environment.json").write_text(json.dumps({**GIVEN, "environment": {"LIMIT": "6"}}))
    (package / "__init__.py").touch()
    with sqlite3.connect(package.parent / "data/webui.db") as database:
        database.execute("CREATE TABLE config (key TEXT PRIMARY KEY, value JSON NOT NULL, updated_at BIGINT)")
    # As in the official image: the package lies where the container starts, and is installed nowhere.
    command = [sys.executable, launch.__file__, str(given), "printenv", "LIMIT"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert ended.stdout == "launch: 1 saved settings come from the stack\n6\n", ended.stderr
