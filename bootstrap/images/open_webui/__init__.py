"""Recipe of the Open WebUI image: Debian's Python and the released package, at the official image's paths."""

import os
import platform
import shutil
from pathlib import Path

from open_webui_edge.bootstrap import command, paths
from open_webui_edge.bootstrap.console import Step
from open_webui_edge.bootstrap.images import rootfs

HERE = Path(__file__).parent
SUITE = "bookworm"
"""The Debian whose Python Open WebUI runs on (3.11 or 3.12)."""
PYTHON_VERSION = "3.11"
OLDEST_LIBC = "2_36"
"""Of that Debian; wheels for a later one would not load."""
PACKAGES = f"usr/local/lib/python{PYTHON_VERSION}/dist-packages"
HOME = "app/backend"
_SCRATCH = "/tmp/build"  # noqa: S108  # in the image's folder, and left out of the image


def fill(root: Path, version: str, step: Step) -> None:
    """Make the image's file system of one release in the folder `root`."""
    rootfs.make(SUITE, root, rootfs.packages_in(HERE / "packages.txt"), step)
    step.now(f"installing open-webui {version} from the Python package index")
    install(root / PACKAGES, version)
    home = root / HOME
    (home / "data").mkdir(parents=True)
    shutil.copyfile(HERE / "start.sh", home / "start.sh")
    (home / "start.sh").chmod(0o755)
    shutil.copyfile(HERE / "open-webui", root / "usr/local/bin/open-webui")
    (root / "usr/local/bin/open-webui").chmod(0o755)
    step.now("importing it once, which compiles just what a start needs")
    _compile(root)


def install(target: Path, version: str) -> None:
    """Install a release and what it needs into the folder `target`."""
    words = [_uv(), "pip", "install", "--target", target, "--python", paths.PYTHON, "--quiet"]
    # The host's Python may be another one than the image's.
    words += ["--python-version", PYTHON_VERSION, "--python-platform", f"{platform.machine()}-manylinux_{OLDEST_LIBC}"]
    # pip too: Open WebUI installs what a user's function asks for with it.
    # "postgres": drivers for the database and its vectors, which the official image holds too.
    words += ["--override", HERE / "overrides.txt", f"open-webui[postgres]=={version}", "pip"]
    command.output(words, purpose=f"Installing open-webui {version}", environment=_as_pip_does())


def _uv() -> Path:
    """Return the installer, in a virtual environment of its own: resolving takes it seconds, and pip minutes."""
    folder = paths.cache() / "uv"
    if not (folder / "bin/uv").exists():
        command.output([paths.PYTHON, "-m", "venv", folder], purpose="Making a virtual environment for uv")
        command.output(
            [folder / "bin/pip", "install", "--quiet", "-r", HERE / "requirements-build.txt"], purpose="Installing uv"
        )
    return folder / "bin/uv"


def _as_pip_does() -> dict[str, str]:
    """Return the environment that makes uv use the package index and the certificates that pip is configured to use."""
    asked = {"UV_DEFAULT_INDEX": "index-url", "UV_INDEX": "extra-index-url", "SSL_CERT_FILE": "cert"}
    variables: dict[str, str] = {"UV_SYSTEM_CERTS": "true", "UV_HTTP_TIMEOUT": "180"}
    for variable, option in asked.items():
        value = os.environ.get(f"PIP_{option.replace('-', '_').upper()}")
        value = (
            value or command.attempt([paths.PYTHON, "-m", "pip", "config", "get", f"global.{option}"]).stdout.strip()
        )
        if value and variable not in os.environ:
            variables[variable] = value
    return variables


def _compile(root: Path) -> None:
    # Without the compiled files every new container compiles again, which doubles its time to start.
    environment = {
        "HOME": _SCRATCH,
        "DATA_DIR": _SCRATCH,
        "FROM_INIT_PY": "true",
        "WEBUI_SECRET_KEY": "only for this import",
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "RAG_EMBEDDING_ENGINE": "openai",
        "VECTOR_DB": "chroma",
    }
    words = ["sh", "-c", f"mkdir -p {_SCRATCH} && python3 -c 'import uvicorn, open_webui.main'"]
    rootfs.run_inside(root, words, purpose="Importing the installed Open WebUI", environment=environment)
