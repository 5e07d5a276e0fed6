"""Debian's Chromium, driven by Playwright, with a deployment's CA among those it trusts."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import (
    Browser,
    Playwright,
)

# No sandbox, for tests run as root in containers. The rest keeps Chromium from calling home.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


_PEM = re.compile("-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


@contextmanager
def chromium(
    playwright: Playwright,
    *,
    ca_file: str | Path | None,
    home: Path | None = None,
    arguments: Sequence[str] = (),
    executable: Path | None = None,
) -> Generator[Browser]:
    """Start a browser with a home of its own, in which it trusts `ca_file`.

    With `home` it is that one instead, as it is. `arguments` are further switches, `executable` is what starts it
    instead of the machine's own.
    """
    with tempfile.TemporaryDirectory(prefix="chromium-home-", ignore_cleanup_errors=True) as own:
        if home is None:
            _trust(ca_file, Path(own))
        browser = playwright.chromium.launch(
            executable_path=executable or _program("chromium", "chromium"),
            args=[*_ARGUMENTS, *arguments],
            env={**os.environ, "HOME": str(home or own)},
        )
        try:
            yield browser
        finally:
            browser.close()


def _trust(ca_file: str | Path | None, home: Path) -> None:
    """Create the NSS database with the CAs that a user added to Chromium."""
    certutil = _program("certutil", "libnss3-tools")
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    commands: list[tuple[list[str], str | None]] = [(["-N", "--empty-password"], None)]
    if ca_file is not None:
        # It reads one CA at a time. "C,,": for servers only.
        for number, one in enumerate(_PEM.findall(Path(ca_file).read_text(encoding="utf-8"))):
            commands.append((["-A", "-n", f"deployment {number}", "-t", "C,,", "-a"], one))
    for command, given in commands:
        words = [certutil, "-d", f"sql:{database}", *command]
        subprocess.run(words, check=True, input=given, text=True, encoding="utf-8")  # noqa: S603  # our own arguments


def _program(name: str, package: str) -> str:
    if (path := shutil.which(name)) is None:
        raise RuntimeError(f"{name} is not installed; on Debian: apt-get install {package}")
    return path
