"""Where the programs of the smallest images come from."""

import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from open_webui_edge.bootstrap.console import Step
from open_webui_edge.bootstrap.images import rootfs

SUITE = "forky"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAMS = (
    *("certbot", "python3-certbot-dns-route53", "python3-cffi-backend", "openssl"),
    *("restic", "prometheus", "prometheus-nginx-exporter", "busybox-static", "ca-certificates"),
)

Settings = Mapping[str, Any]
"""What a Dockerfile's CMD, ENV, EXPOSE, VOLUME… say, as an image's configuration holds it."""


class Donor:
    """A Debian with all programs of the images that hold one program and little else; made when first asked for."""

    def __init__(self, stack: ExitStack, step: Step) -> None:
        """Keep what is needed to make it; it goes with the stack."""
        self._stack = stack
        self._step = step

    @cached_property
    def root(self) -> Path:
        """The folder with that Debian."""
        root = self._stack.enter_context(rootfs.workplace("official")) / "root"
        root.mkdir()
        rootfs.make(SUITE, root, _PROGRAMS, self._step)
        return root

    def give(self, target: Path, programs: Mapping[str, str]) -> None:
        """Copy files into another root, by their paths here and there, with the libraries that they load."""
        for source, path in programs.items():
            copied = target / path
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.root / source, copied)
        self.give_libraries(target, programs)

    def give_libraries(self, target: Path, files: Iterable[str]) -> None:
        """Copy the libraries that files here load, to the same paths there."""
        words = ["sh", "-c", 'for file; do ldd "$file" || true; done', "sh", *(f"/{file}" for file in files)]
        loaded = rootfs.run_inside(self.root, words, purpose="Listing libraries")
        for library in sorted(set(re.findall(r"(/\S+) \(0x", loaded))):
            # One place for all, with links from the names by which they are asked for.
            place = Path("usr", *Path(library).parts[2 if library.startswith("/usr/") else 1 :])
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.root / library.lstrip("/"), target / place)
        for link in ("lib", "lib64"):
            if (target / "usr" / link).exists() and not (target / link).is_symlink():
                (target / link).symlink_to(f"usr/{link}")
