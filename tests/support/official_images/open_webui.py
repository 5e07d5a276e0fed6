"""Open WebUI as its own Dockerfile lays it out, which its source distribution holds, on Python's image of Debian."""

import os
import shutil
import tarfile
from pathlib import Path

from open_webui_edge.bootstrap import command, paths
from open_webui_edge.bootstrap.console import Step
from open_webui_edge.bootstrap.images import open_webui, rootfs
from open_webui_edge.settings.images import Image
from tests.support.official_images import dockerfile, python
from tests.support.official_images.donor import PATH, Donor, Settings

_BUILD_TIME = {
    "HOME": "/tmp/build",  # noqa: S108 - in the image's folder, and left out of the image
    "DATA_DIR": "/tmp/build",  # noqa: S108 - a path inside the image
    "WEBUI_SECRET_KEY": "only for this import",
    "OFFLINE_MODE": "true",
    "HF_HUB_OFFLINE": "1",
    "RAG_EMBEDDING_ENGINE": "openai",
    "VECTOR_DB": "chroma",
    "PATH": PATH,
}


def fill(image: Image, root: Path, donor: Donor, step: Step) -> Settings:
    """Make the image's file system in the folder `root`; return its settings."""
    del donor
    rootfs.make(open_webui.SUITE, root, rootfs.packages_in(open_webui.HERE / "packages.txt"), step)
    packages = root / "usr/local/lib" / f"python{open_webui.PYTHON_VERSION}" / "site-packages"
    step.now(f"installing open-webui {image.version} from the Python package index")
    open_webui.install(packages, image.version)
    name = python.move(root, root)
    for leftover in (*(root / "usr/bin").glob("python*"), root / "usr/lib" / name, root / "usr/lib/python3"):
        shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
    step.now(f"fetching the source of open-webui {image.version}")
    source = _source(image.version, root / "tmp")
    home = root / "app/backend"
    home.parent.mkdir()
    (source / "backend").rename(home)
    (home / "data").mkdir(exist_ok=True)
    for file in ("CHANGELOG.md", "package.json"):
        (source / file).rename(home.parent / file)
    # Of the published package its frontend is taken, and nothing else.
    (packages / "open_webui/frontend").rename(home.parent / "build")
    for leftover in (packages / "open_webui", *packages.glob("open_webui-*"), packages / "bin"):
        shutil.rmtree(leftover)
    user_id = root / "root/.cache/chroma/telemetry_user_id"
    user_id.parent.mkdir(parents=True)
    user_id.write_text("00000000-0000-0000-0000-000000000000", encoding="utf-8")
    step.now("importing it once, which compiles the packages that a start needs")
    words = ["sh", "-c", "mkdir -p /tmp/build && cd /app/backend && python3 -c 'import uvicorn, open_webui.main'"]
    rootfs.run_inside(root, words, purpose="Importing Open WebUI", environment=_BUILD_TIME)
    for compiled in list((home / "open_webui").rglob("__pycache__")):
        shutil.rmtree(compiled)
    settings = dockerfile.settings_in(
        (source / "Dockerfile").read_text(encoding="utf-8"),
        {"PATH": PATH, "LANG": "C.UTF-8", "PYTHON_VERSION": open_webui.PYTHON_VERSION},
    )
    shutil.rmtree(source)
    return settings


def _source(version: str, folder: Path) -> Path:
    """Fetch the source distribution and return its folder below another one."""
    # Its build would build the frontend, out of a thousand packages; that is in the published package already.
    stub = folder / "stub/npm"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\nmkdir -p build\n", encoding="utf-8")
    stub.chmod(0o755)
    words = (
        *(paths.PYTHON, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=open-webui"),
        *(f"--dest={folder}", f"open-webui=={version}"),
    )
    path = {"PATH": f"{stub.parent}{os.pathsep}{os.environ['PATH']}"}
    command.output(words, purpose=f"Fetching the source of open-webui {version}", environment=path)
    (archive,) = folder.glob("open_webui-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    return folder / f"open_webui-{version}"
