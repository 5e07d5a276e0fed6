"""A release: what changes/ says becomes the changelog's newest section, once."""

from datetime import date
from pathlib import Path

import pytest

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli import release

DAY = date(2026, 11, 25)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes" / "README.md").write_text("How to write a note.\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.0.0"\n\n[tool.x]\nversion = "9"\n')
    monkeypatch.setattr(release, "CHANGES", tmp_path / "changes")
    monkeypatch.setattr(release, "CHANGELOG", tmp_path / "CHANGELOG.md")
    monkeypatch.setattr(release, "PROJECT", tmp_path / "pyproject.toml")
    return tmp_path


def said(checkout: Path, **files: str) -> None:
    for name, text in files.items():
        (checkout / "changes" / f"{name.replace('_', '.')}.md").write_text(text)


def test_files_become_a_section_by_kind(checkout: Path) -> None:
    said(
        checkout,
        b_added="B is there,\nin two lines.\n",
        a_added="- A.\n- And a.\n",
        c_upgrade="Do it.\n",
        d_fixed="D.\n",
    )
    release.cut("0.1.0", DAY)
    assert (
        (checkout / "CHANGELOG.md").read_text()
        == """\
# What has changed

## 0.1.0 (2026-11-25)

### When you come from the version before

- Do it.

### Added

- A.
- And a.
- B is there,
  in two lines.

### Fixed

- D.
"""
    )
    assert [file.name for file in (checkout / "changes").iterdir()] == ["README.md"]
    assert (checkout / "pyproject.toml").read_text() == '[project]\nversion = "0.1.0"\n\n[tool.x]\nversion = "9"\n'
    assert release.current() == "0.1.0"


def test_the_next_one_stands_above_it(checkout: Path) -> None:
    for version in ("0.9.0", "0.10.0"):
        said(checkout, a_added=f"New in {version}.")
        release.cut(version, DAY)
    text = (checkout / "CHANGELOG.md").read_text()
    assert text.count("# What has changed\n\n## 0.10.0") == 1
    assert text.index("New in 0.10.0.\n\n## 0.9.0") < text.index("New in 0.9.0.")


@pytest.mark.parametrize(
    ("version", "files", "words"),
    [
        ("v1", {"a_added": "A."}, "VERSION=v1 is not a version; use one such as 0.1.0."),
        ("0.1.0", {}, "changes/ is empty: there is nothing to release since the last version."),
        (
            "0.1.0",
            {"a_added": "\n"},
            "changes/ has files without text (a.added.md); write what changed, or remove them.",
        ),
        ("0.1.0", {"a_wrong": "A."}, "changes/ has files without a kind (a.wrong.md); name them NAME.KIND.md:"),
    ],
    ids=["no version", "nothing new", "no text", "no kind"],
)
def test_what_is_no_release_changes_nothing(checkout: Path, version: str, files: dict[str, str], words: str) -> None:
    said(checkout, **files)
    with pytest.raises(ProblemError) as refused:
        release.cut(version, DAY)
    assert str(refused.value).startswith(words)
    assert not (checkout / "CHANGELOG.md").exists()
    assert len(release.notes()) == len(files)


def test_a_version_comes_after_the_last_one(checkout: Path) -> None:
    said(checkout, a_added="A.")
    release.cut("0.2.0", DAY)
    said(checkout, a_added="A.")
    with pytest.raises(ProblemError, match=r"VERSION=0\.2\.0 is not higher than 0\.2\.0, the last release"):
        release.cut("0.2.0", DAY)


def test_what_this_project_says_can_be_released_at_any_time() -> None:
    if release.notes():
        assert release.section("9.9.9", DAY).startswith("## 9.9.9 (2026-11-25)\n\n### ")
    assert release.current()
