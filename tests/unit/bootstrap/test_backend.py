"""Where the state is kept, and under which passphrase."""

import json
import stat
from pathlib import Path

import pytest

from open_webui_edge.bootstrap import backend


def test_without_a_login_the_state_is_below_the_home_and_the_passphrase_is_for_its_owner_alone(home: Path) -> None:
    given = backend.environment()
    assert given["PULUMI_BACKEND_URL"] == f"file://{home}/.local/share/open-webui-edge/state?metadata=skip"
    assert (home / ".local/share/open-webui-edge/state").is_dir()
    file = Path(given["PULUMI_CONFIG_PASSPHRASE_FILE"])
    assert file == home / ".config/open-webui-edge/passphrase"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert len(file.read_text().strip()) >= 32


def test_the_passphrase_is_never_written_anew() -> None:
    file = Path(backend.environment()["PULUMI_CONFIG_PASSPHRASE_FILE"])
    file.write_text("mine")
    backend.environment()
    assert file.read_text() == "mine"


@pytest.mark.parametrize("variable", ["PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"])
def test_a_passphrase_of_the_persons_own_is_left_alone(
    variable: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "mine")
    assert list(backend.environment()) == ["PULUMI_BACKEND_URL"]
    assert not (home / ".config").exists()


@pytest.mark.parametrize(
    ("variable", "value"), [("PULUMI_BACKEND_URL", "s3://states"), ("PULUMI_ACCESS_TOKEN", "pul-1")]
)
def test_a_chosen_backend_is_not_overruled(
    variable: str, value: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert backend.environment() == {}
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps({"current": "https://api.pulumi.com"}), True),
        (json.dumps({"current": ""}), False),
        ("not JSON", False),
        ("[]", False),
    ],
    ids=["logged in", "logged out", "broken", "of another shape"],
)
def test_a_login_is_found_where_pulumi_keeps_it(content: str, *, expected: bool, home: Path) -> None:
    (home / ".pulumi").mkdir()
    (home / ".pulumi/credentials.json").write_text(content)
    assert backend.logged_in() is expected


@pytest.mark.parametrize(
    ("variables", "source"),
    [
        ({"PULUMI_CONFIG_PASSPHRASE": ""}, "the variable PULUMI_CONFIG_PASSPHRASE"),
        ({"PULUMI_CONFIG_PASSPHRASE_FILE": "/a/file"}, "the file /a/file"),
        ({}, "your answer"),
    ],
)
def test_the_passphrases_source_has_a_name(variables: dict[str, str], source: str) -> None:
    assert backend.passphrase_source(variables) == source
