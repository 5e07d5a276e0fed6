"""The project as a library: its folders go by one name, and leave all others to the program that uses it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import components, settings
import open_webui_edge.components.open_webui
import open_webui_edge.runtime.delivery
import open_webui_edge.settings.stack
from open_webui_edge.components.reverse_proxy import rendering

assert settings.MINE and components.MINE
assert open_webui_edge.settings.stack.__file__.startswith(INSTALLED), open_webui_edge.settings.stack.__file__
assert open_webui_edge.runtime.delivery.program("nginx/watch.sh")
assert (rendering._TEMPLATES / "nginx.conf.j2").exists()
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source") / "project"
    # The build leaves its own folders where it runs.
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S607
    for name in filter(None, listed.split("\0")):
        file, path = source / name, ROOT / name
        if name.startswith(("tests/", "docs/")) or not (path.is_symlink() or path.exists()):
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            file.symlink_to(path.readlink())
        else:
            file.write_bytes(path.read_bytes())
    words = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", target, source]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)  # noqa: S603 - our own words
    return target


def test_one_top_level_name_is_installed(installed: Path) -> None:
    assert {path.name.partition("-")[0] for path in installed.iterdir()} == {"open_webui_edge"}


def test_it_lives_next_to_a_program_with_the_same_folders(installed: Path, tmp_path: Path) -> None:
    for name in ("components", "settings"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    program = tmp_path / "program.py"
    program.write_text(f"INSTALLED = {str(installed)!r}\n{PROGRAM}")
    words = [
        sys.executable,
        "-I",
        "-c",
        f"import sys, runpy; sys.path[:0] = [{str(tmp_path)!r}, {str(installed)!r}];runpy.run_path({str(program)!r})",
    ]
    ended = subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, text=True)  # noqa: S603 - our own words
    assert ended.returncode == 0, ended.stderr
