"""The Docker engine, as these tests ask it."""

import io
import json
import subprocess
import tarfile
from collections.abc import Mapping


def docker(*words: str, given: bytes | None = None) -> str:
    """Run the client and return what it printed; a failure fails the test with its words."""
    ended = subprocess.run(["docker", *words], input=given, capture_output=True, check=False)  # noqa: S603, S607
    assert ended.returncode == 0, f"docker {' '.join(words)}: {ended.stderr.decode(errors='replace')}"
    return ended.stdout.decode(errors="replace")


def log_of(container: str) -> str:
    """Return all that a container wrote, to both of its streams."""
    ended = subprocess.run(  # noqa: S603
        ["docker", "logs", container],  # noqa: S607
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return ended.stdout.decode(errors="replace")


def inside(container: str, *words: str) -> tuple[int, str]:
    """Run something in a container; return its exit code and what it printed."""
    ended = subprocess.run(  # noqa: S603
        ["docker", "exec", container, *words],  # noqa: S607
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return ended.returncode, ended.stdout.decode(errors="replace")


def address_of(container: str) -> str:
    """Return a container's address in its one network."""
    (attached,) = json.loads(docker("inspect", "--format={{json .NetworkSettings.Networks}}", container)).values()
    return attached["IPAddress"]


def bring(container: str, files: Mapping[str, str]) -> None:
    """Put files that only root reads into a container that was made and not started."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content.encode()), 0o600
            archive.addfile(entry, io.BytesIO(content.encode()))
    docker("cp", "-", f"{container}:/", given=packed.getvalue())


def remove(*containers: str) -> None:
    """Remove containers, whether they are there or not."""
    subprocess.run(["docker", "rm", "--force", "--volumes", *containers], capture_output=True, check=False)  # noqa: S603, S607
