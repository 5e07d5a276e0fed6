"""Recipe of the PostgreSQL image: Debian's packages with pgvector, and the official image's user and paths."""

import shutil
from pathlib import Path

from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.bootstrap.images import rootfs
from open_webui_edge.settings.images import POSTGRES_MAJOR

HERE = Path(__file__).parent
SUITE = "forky"
"""The first Debian with PostgreSQL 18."""
USER = "postgres"
USER_ID = 999
"""Of the official image: what one image wrote into a volume, the other can read."""


def fill(root: Path, step: Step) -> None:
    """Make the image's file system in the folder `root`."""
    rootfs.make(SUITE, root, rootfs.packages_in(HERE / "packages.txt"), step)
    step.now("user and paths")
    programs = root / f"usr/lib/postgresql/{POSTGRES_MAJOR}/bin"
    if not (programs / "postgres").exists():
        raise ProblemError(
            f"Debian {SUITE} on this machine's mirror has no PostgreSQL {POSTGRES_MAJOR}; use a newer mirror."
        )
    give_id(root, USER, USER_ID)
    # The packages make a database of their own; this image's is made in a volume, at its first start.
    for folder in ("var/lib/postgresql", "var/log/postgresql", "run/postgresql", "etc/postgresql"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for folder in ("var/lib/postgresql", "run/postgresql"):
        (root / folder).mkdir(parents=True)
        shutil.chown(root / folder, USER_ID, USER_ID)


def give_id(root: Path, user: str, number: int) -> None:
    """Give a user of the system in `root`, and its group, another number; remove the user that had it.

    Only services that never run in such an image have one, and which number they get differs from build to build.
    """
    for file, own in (("passwd", f"{number}:{number}"), ("group", str(number))):
        path = root / "etc" / file
        lines: list[str] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            name, password, old, *rest = line.split(":")
            if name == user:
                # A user's line has the group's number next.
                lines.append(":".join([name, password, own, *rest[1 if file == "passwd" else 0 :]]))
            elif old != str(number):
                lines.append(line)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
