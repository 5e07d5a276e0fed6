"""The Python packages of the program, and of its tests, in `.venv`.

Uses the standard library only: until it is through, there is no other.
"""

import hashlib
import shutil
import sys
from pathlib import Path

from bootstrap import command, debian, lock, places
from bootstrap.console import Step
from bootstrap.problem import ProblemError

FOR_UP = places.CHECKOUT / "requirements.txt"
FOR_AWS = places.CHECKOUT / "requirements-aws.txt"
FOR_TESTS = places.CHECKOUT / "requirements-dev.txt"
_STAMP = places.VIRTUAL_ENVIRONMENT / "open-webui-edge-requirements"


def is_current(requirements: Path) -> bool:
    """Tell whether `.venv` holds what a requirements file names."""
    return fingerprint(requirements) in _recorded()


def ensure(requirements: Path, step: Step) -> None:
    """Make `.venv` hold what a requirements file names.

    Raises:
        ProblemError: it cannot be made; the message says why.

    """
    with lock.alone("virtual-environment", step):
        if not is_current(requirements):
            _install(requirements, step)
    step.done(f"installed {requirements.name}")


def fingerprint(requirements: Path) -> str:
    """Return what changes when the packages to install do, those of included files too."""
    content = b"\0".join(file.read_bytes() for file in _with_included(requirements))
    return f"{requirements.name} {hashlib.sha256(content).hexdigest()}"


def _with_included(requirements: Path) -> list[Path]:
    """Return the file, and those that it includes: the tests' packages include AWS's, and those the program's."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    included = [requirements.parent / line.split()[1] for line in lines if line.startswith("-r ")]
    return [requirements, *(file for name in included for file in _with_included(name))]


def _recorded() -> list[str]:
    if not places.PYTHON.exists():
        return []
    return _STAMP.read_text(encoding="utf-8").splitlines() if _STAMP.exists() else []


def _install(requirements: Path, step: Step) -> None:
    if not places.PYTHON.exists() or command.attempt([places.PYTHON, "-m", "pip", "--version"]).returncode:
        step.now(f"making .venv with Python {sys.version.split()[0]}")
        _make(step)
    step.now(f"installing {requirements.name}")
    words = [places.PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
    command.output(words, purpose=f"Installing {requirements.name}")
    stamps = [fingerprint(file) for file in _with_included(requirements)]
    _STAMP.write_text("\n".join(stamps) + "\n", encoding="utf-8")


def _make(step: Step) -> None:
    shutil.rmtree(places.VIRTUAL_ENVIRONMENT, ignore_errors=True)  # broken, or of a Python that is gone
    words = [sys.executable, "-m", "venv", places.VIRTUAL_ENVIRONMENT]
    made = command.attempt(words)
    if made.returncode and "ensurepip" in f"{made.stdout}{made.stderr}":
        if not debian.can_install():
            message = "Python's venv module is not installed: `sudo apt-get install python3-venv`, then run this again."
            raise ProblemError(message)
        debian.install(["python3-venv"], step)
        shutil.rmtree(places.VIRTUAL_ENVIRONMENT, ignore_errors=True)
        command.output(words, purpose="Making .venv")
    elif made.returncode:
        raise command.failure("Making .venv", words, made.returncode, f"{made.stdout}\n{made.stderr}")
