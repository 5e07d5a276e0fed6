"""The hook that a developer can switch on refuses what CI would refuse, and looks at nothing but what is committed."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "core.hooksPath", ".githooks")
    shutil.copytree(ROOT / ".githooks", tmp_path / ".githooks")
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


def git(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.com", *words]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)  # noqa: S603 - our own words


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x =  1\n", "unformatted: File would be reformatted\n --> staged one.py"),
        ("import os\n", "F401 [*] `os` imported but unused"),
    ],
    ids=["format", "lint"],
)
def test_what_ci_would_refuse_is_not_committed(checkout: Path, text: str, reason: str) -> None:
    (checkout / "staged one.py").write_text(text)
    git(checkout, "add", "staged one.py")
    refused = git(checkout, "commit", "-m", "x")
    assert refused.returncode == 1
    assert reason in refused.stdout + refused.stderr


def test_only_staged_python_is_looked_at(checkout: Path) -> None:
    (checkout / "staged.py").write_text('"""A module."""\n')
    (checkout / "staged.md").write_text("x =  1\n")
    (checkout / "other.py").write_text("x =  1\n")
    git(checkout, "add", "staged.py", "staged.md")
    accepted = git(checkout, "commit", "-m", "x")
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr


def test_a_commit_without_python_needs_no_virtual_environment(checkout: Path) -> None:
    (checkout / ".venv").unlink()
    (checkout / "a.md").write_text("A.\n")
    git(checkout, "add", "a.md")
    assert git(checkout, "commit", "-m", "x").returncode == 0
    (checkout / "a.py").write_text('"""A."""\n')
    git(checkout, "add", "a.py")
    refused = git(checkout, "commit", "-m", "x")
    assert refused.returncode == 1
    assert "there is no .venv/bin/ruff yet; `make fmt` installs it" in refused.stderr
