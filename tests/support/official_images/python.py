"""Python where the images of Python's authors have it, made of Debian's."""

import re
import shutil
from pathlib import Path

from open_webui_edge.bootstrap import command


def move(source: Path, target: Path) -> str:
    """Copy Debian's Python to where Python's own images have it, from one root to another; return its name.

    Its packages are in `site-packages` there.
    """
    (program,) = (path for path in (source / "usr/bin").glob("python3.*") if re.fullmatch(r"python3\.\d+", path.name))
    folder = target / "usr/local"
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "lib" / program.name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(program, folder / "bin")
    library = source / "usr/lib" / program.name
    command.output(["cp", "-a", f"{library}/.", folder / "lib" / program.name], purpose="Copying Python")
    for link in ("python3", "python"):
        (folder / "bin" / link).symlink_to(program.name)
    # Debian's looks there; which folders it looks into is compiled into it.
    packages = folder / "lib" / program.name / "dist-packages"
    if packages.exists():
        packages.rmdir()
    packages.symlink_to("site-packages")
    return program.name
