"""Recipe of the nginx image: Debian's package, with the official image's user, paths and signals."""

import re
from pathlib import Path

from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.bootstrap.images import rootfs

HERE = Path(__file__).parent
SUITE = "forky"
"""The first Debian with nginx 1.30."""
OLDEST = (1, 30)
USER_ID = 101
"""Of the official image: what one image wrote into a volume, the other can read."""


def fill(root: Path, step: Step) -> None:
    """Make the image's file system in the folder `root`."""
    rootfs.make(SUITE, root, rootfs.packages_in(HERE / "packages.txt"), step)
    step.now("user, paths and version")
    _require_version(rootfs.run_inside(root, ["nginx", "-V"], purpose="Asking the built nginx for its version"))
    _add_user(root)
    # Root's, as in the official image: nginx makes its folders there before it gives up root, maybe without root's
    # capability to write anywhere.
    (root / "var/cache/nginx").mkdir()
    for log, stream in (("access.log", "/dev/stdout"), ("error.log", "/dev/stderr")):
        (root / "var/log/nginx" / log).unlink(missing_ok=True)
        (root / "var/log/nginx" / log).symlink_to(stream)
    entry_point = root / "docker-entrypoint.sh"
    entry_point.write_text('#!/bin/sh\nexec "$@"\n', encoding="utf-8")
    entry_point.chmod(0o755)
    (root / "etc/nginx/modules").symlink_to("/usr/lib/nginx/modules")
    main = root / "etc/nginx/nginx.conf"
    main.write_text(re.sub(r"(?m)^user .*;", "user nginx;", main.read_text(encoding="utf-8")), encoding="utf-8")


def _require_version(answer: str) -> None:
    match = re.search(r"nginx/(\d+)\.(\d+)", answer)
    if match is None or (int(match[1]), int(match[2])) < OLDEST:
        version = match[0] if match else "an nginx without a version"
        raise ProblemError(
            f"Debian {SUITE} on this machine's mirror has {version}, and the proxy needs {OLDEST[0]}.{OLDEST[1]} or "
            "later; use a newer mirror, or pull the official image (images.registry)."
        )


def _add_user(root: Path) -> None:
    for file, line in (
        ("passwd", f"nginx:x:{USER_ID}:{USER_ID}:nginx:/nonexistent:/bin/false"),
        ("group", f"nginx:x:{USER_ID}:"),
        ("shadow", "nginx:!:19000::::::"),
    ):
        path = root / "etc" / file
        text = path.read_text(encoding="utf-8")
        if re.search(rf"(?m)^[^:]+:[^:]*:{USER_ID}:", text) and file != "shadow":
            raise ProblemError(
                f"Debian {SUITE} gives the official nginx user's id {USER_ID} to something else; nothing was built."
            )
        path.write_text(f"{text}{line}\n", encoding="utf-8")
