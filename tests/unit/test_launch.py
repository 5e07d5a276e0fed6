"""What the launcher in Open WebUI's container does to saved settings, on a small copy of how Open WebUI keeps them."""

import base64
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from open_webui_edge.runtime.open_webui import launch
from tests.support.delivered import deliver

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
    command = [
        sys.executable,
        str(deliver(given, "open_webui/launch.py", "open_webui/upgrade.py")),
        str(given),
        "printenv",
        "LIMIT",
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert ended.stdout == "launch: 1 saved settings come from the stack\n6\n", ended.stderr


def test_further_authorities_are_trusted_beside_the_well_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    well_known = tmp_path / "cacert.pem"
    well_known.write_text("THE WELL-KNOWN")
    monkeypatch.setitem(sys.modules, "certifi", SimpleNamespace(where=lambda: str(well_known)))
    for name in launch.CA_BUNDLE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    bundle = tmp_path / "bundle.pem"
    launch.install_ca_bundle("THE COMPANY'S\n", bundle, {"REQUESTS_CA_BUNDLE": "/another/bundle.pem"})
    assert bundle.read_text() == "THE WELL-KNOWN\nTHE COMPANY'S\n"
    variables = {name: os.environ.get(name) for name in launch.CA_BUNDLE_VARIABLES}
    assert variables == {**dict.fromkeys(launch.CA_BUNDLE_VARIABLES, str(bundle)), "REQUESTS_CA_BUNDLE": None}


OLD, OLDER, NEW = "an old key of the stack", base64.urlsafe_b64encode(b"k" * 32).decode(), "the key in use from now on"


def _fernet(key: str, *, second: bool = False) -> Fernet:
    """Make the cipher that the application makes of its key, for most or for second factors."""
    if second:
        kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"open-webui/mfa-encryption/v1")
        return Fernet(base64.urlsafe_b64encode(kdf.derive(key.encode())))
    if len(key) == 44:
        return Fernet(key)
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))


def _encrypted(key: str, text: str, *, second: bool = False) -> str:
    return _fernet(key, second=second).encrypt(text.encode()).decode()


def _opened(token: str, *, second: bool = False) -> str:
    return _fernet(NEW, second=second).decrypt(token).decode()


def test_what_a_former_key_encrypted_is_written_anew(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger, second = _encrypted("an unknown key", "x"), _encrypted(OLD, "a second factor", second=True)
    current = _encrypted(NEW, "already new")
    with sqlite3.connect(package.parent / "data/webui.db") as database:
        database.execute("CREATE TABLE oauth_session (id TEXT PRIMARY KEY, token TEXT)")
        tokens = [("1", _encrypted(OLD, "a token")), ("2", stranger), ("3", current), ("4", "in clear")]
        database.executemany("INSERT INTO oauth_session VALUES (?, ?)", tokens)
        database.execute("CREATE TABLE auth (id TEXT PRIMARY KEY, mfa JSON)")
        database.execute("INSERT INTO auth VALUES ('1', ?)", (json.dumps({"secret": second, "last_step": -1}),))
        database.execute("CREATE TABLE config (key TEXT PRIMARY KEY, value JSON)")
        connections = [{"url": "https://x", "info": {"oauth_client_info": _encrypted(OLDER, "a client")}}]
        database.execute("INSERT INTO config VALUES ('tool_server.connections', ?)", (json.dumps(connections),))
        database.execute("CREATE TABLE user (id TEXT PRIMARY KEY, settings JSON)")
        database.execute("INSERT INTO user VALUES ('1', NULL)")
    monkeypatch.setenv("WEBUI_SECRET_KEY", NEW)

    launch.reencrypt(package, [OLD, OLDER])

    with sqlite3.connect(package.parent / "data/webui.db") as database:
        after = dict(database.execute("SELECT id, token FROM oauth_session"))
        (mfa,) = database.execute("SELECT mfa FROM auth").fetchone()
        (saved,) = database.execute("SELECT value FROM config").fetchone()
    assert _opened(after["1"]) == "a token"
    assert {key: after[key] for key in "234"} == {"2": stranger, "3": current, "4": "in clear"}
    assert json.loads(mfa)["last_step"] == -1
    assert _opened(json.loads(mfa)["secret"], second=True) == "a second factor"
    assert _opened(json.loads(saved)[0]["info"]["oauth_client_info"]) == "a client"

    launch.reencrypt(package, [OLD, OLDER])
    with sqlite3.connect(package.parent / "data/webui.db") as database:
        assert dict(database.execute("SELECT id, token FROM oauth_session")) == after


def test_a_database_without_tables_holds_nothing_to_renew(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBUI_SECRET_KEY", NEW)
    launch.reencrypt(package, [OLD])


def test_temporary_files_of_a_run_that_was_killed_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data/.temporary/1"
    monkeypatch.setenv("TMPDIR", "/tmp")  # noqa: S108 - set back afterwards
    (tmp_path / "environment.json").write_text(json.dumps({**GIVEN, "environment": {"TMPDIR": str(folder)}}))
    for _ in range(2):
        launch.load_environment(tmp_path)
        assert list(folder.iterdir()) == []
        assert os.environ["TMPDIR"] == str(folder)
        (folder / "upload").mkdir()
        (folder / "upload/part").write_text("of a run that was killed")
