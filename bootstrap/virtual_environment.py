"""The Python packages of the program, and of its tests, in `.venv`.

Uses only the standard library, since it runs before any package is installed.
"""

import hashlib
import shutil
import sys
from pathlib import Path

from open_webui_edge.bootstrap import NEWEST, command, debian, lock, paths
from open_webui_edge.bootstrap.console import ProblemError, Step

FOR_UP = paths.CHECKOUT / "requirements.txt"
FOR_AWS = paths.CHECKOUT / "requirements-aws.txt"
FOR_TESTS = paths.CHECKOUT / "requirements-dev.txt"
FOR_DOCS = paths.CHECKOUT / "requirements-docs.txt"
LOCKS = (FOR_UP, FOR_AWS, FOR_TESTS, FOR_DOCS)
"""Each contains all packages of the previous one, in the same version."""
_STAMP = paths.VIRTUAL_ENVIRONMENT / "open-webui-edge-requirements"


def is_current(requirements: Path) -> bool:
    """Return whether `.venv` has the packages of a lock."""
    is_made = paths.PYTHON.exists() and _STAMP.exists()
    return is_made and fingerprint(requirements) in _STAMP.read_text(encoding="utf-8").splitlines()


def ensure(requirements: Path, step: Step) -> None:
    """Install the packages of a lock into `.venv`; raises ProblemError with the reason if that fails."""
    with lock.exclusive("virtual-environment", step):
        if not is_current(requirements):
            _install(requirements, step)
    step.done(f"installed {requirements.name}")


def fingerprint(requirements: Path) -> str:
    """Return a fingerprint of a lock."""
    return f"{requirements.name} {hashlib.sha256(requirements.read_bytes()).hexdigest()}"


def _install(requirements: Path, step: Step) -> None:
    if not paths.PYTHON.exists() or command.attempt([paths.PYTHON, "-m", "pip", "--version"]).returncode:
        step.now(f"making .venv with Python {sys.version.split()[0]}")
        _make(step)
    step.now(f"installing {requirements.name}")
    words = [paths.PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # With hashes, pip also refuses packages that the lock lacks.
    words += ["--require-hashes", "-r", requirements]
    try:
        command.output(words, purpose=f"Installing {requirements.name}")
    except ProblemError as problem:
        raise ProblemError(f"{problem}{of_new_python(sys.version_info[:2])}") from None
    stamps = [fingerprint(file) for file in LOCKS[: LOCKS.index(requirements) + 1]]
    _STAMP.write_text("\n".join(stamps) + "\n", encoding="utf-8")


def of_new_python(version: tuple[int, int]) -> str:
    """Return a hint if Python is newer than the packages support."""
    if version <= NEWEST:
        return ""
    newest, this = (".".join(map(str, one)) for one in (NEWEST, version))
    return f"\nPackages for Python {this} may not exist yet; install python3.11 to python{newest} and put it on PATH."


def _make(step: Step) -> None:
    shutil.rmtree(paths.VIRTUAL_ENVIRONMENT, ignore_errors=True)  # broken, or of a Python that is gone
    words = [sys.executable, "-m", "venv", paths.VIRTUAL_ENVIRONMENT]
    made = command.attempt(words)
    if made.returncode and "ensurepip" in f"{made.stdout}{made.stderr}":
        if not debian.can_install():
            raise ProblemError(
                "Python's venv module is not installed: `sudo apt-get install python3-venv`, then run this again."
            )
        debian.install(["python3-venv"], step)
        shutil.rmtree(paths.VIRTUAL_ENVIRONMENT, ignore_errors=True)
        command.output(words, purpose="Making .venv")
    elif made.returncode:
        raise command.failure("Making .venv", words, made.returncode, f"{made.stdout}\n{made.stderr}")
