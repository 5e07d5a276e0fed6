"""Who obtains certificates: writes into the volume what certbot's container writes."""

import io
import secrets
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from components.reverse_proxy.scripts import CERTIFICATES
from tests.nginx.authorities import Issued


@dataclass(frozen=True)
class Offers:
    """A container that holds the volume open for writing."""

    volume: str

    @classmethod
    @contextmanager
    def by(cls, image: str) -> Iterator[Self]:
        """Start one, and end it and its volume afterwards."""
        made = cls(f"nginx-under-test-offers-{secrets.token_hex(4)}")
        _docker(
            *("run", "--detach", f"--name={made.volume}", f"--volume={made.volume}:{CERTIFICATES}", "--init"),
            *("--network=none", image, "sleep", "infinity"),
        )
        try:
            yield made
        finally:
            _docker("rm", "--force", made.volume)
            _docker("volume", "rm", "--force", made.volume)

    def offer(self, issued: Issued, **files: str) -> str:
        """Offer a certificate and its key, or what is said instead, and return how the offer is called."""
        name = f"{issued.certificate.serial_number:X}"
        self.write(
            f"offered/{name}", {"certificate": issued.pem, "private_key": issued.private_key_pem, **files}, ".pem"
        )
        self.run(f"cd offered && chmod 0700 . && ln -sfn {name} new && mv -T new current")
        return name

    def answer(self, token: str, text: str) -> None:
        """Answer a challenge."""
        self.write("webroot/.well-known/acme-challenge", {token: text}, mode=0o644)
        self.run("chmod -R u=rwX,go=rX webroot")

    def write(self, folder: str, files: Mapping[str, str], suffix: str = "", mode: int = 0o600) -> None:
        """Write files into a folder of the volume."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, text in files.items():
                entry = tarfile.TarInfo(f"{folder}/{name}{suffix}")
                entry.size, entry.mode = len(text.encode()), mode
                tar.addfile(entry, io.BytesIO(text.encode()))
        _docker("exec", "--interactive", self.volume, "tar", "-x", "-C", CERTIFICATES, given=archive.getvalue())

    def run(self, shell: str) -> None:
        """Run a script in the volume."""
        _docker("exec", f"--workdir={CERTIFICATES}", self.volume, "/bin/sh", "-e", "-c", shell)

    def withdraw(self) -> None:
        """Leave the volume as it was at first."""
        self.run("rm -rf offered webroot")


def _docker(*arguments: str, given: bytes | None = None) -> None:
    ended = subprocess.run(["docker", *arguments], input=given, capture_output=True, check=False)  # noqa: S603, S607
    assert ended.returncode == 0, ended.stderr.decode()
