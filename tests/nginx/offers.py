"""Who obtains certificates: writes into the volume what certbot's container writes."""

import io
import secrets
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from open_webui_edge.runtime.certbot.key_pair import serial_of
from open_webui_edge.runtime.nginx.scripts import CERTIFICATES
from tests.nginx.authorities import Issued

_CHALLENGES = "webroot/.well-known/acme-challenge"


@dataclass(frozen=True)
class Offers:
    """A container that holds the volume open for writing."""

    volume: str

    @classmethod
    @contextmanager
    def by(cls, image: str) -> Iterator[Self]:
        """Start one, and end it and its volume afterwards."""
        made = cls(f"nginx-under-test-offers-{secrets.token_hex(4)}")
        docker(
            *("run", "--detach", f"--name={made.volume}", f"--volume={made.volume}:{CERTIFICATES}", "--init"),
            *("--network=none", image, "sleep", "infinity"),
        )
        try:
            yield made
        finally:
            docker("rm", "--force", made.volume)
            docker("volume", "rm", "--force", made.volume)

    def offer(self, issued: Issued, *, afterwards: str = "true", **files: str) -> str:
        """Offer a certificate and its key, or what is said instead, and return how the offer is called.

        Before anybody can see it, `afterwards` is run where it is `current`.
        """
        name = serial_of(issued.certificate)
        pair = {"certificate": issued.pem, "private_key": issued.private_key_pem, **files}
        self.run(
            "tar -x && mkdir -p -m 0700 offered && cd new"
            f" && ln -s {name} current && {{ {afterwards}; }}"
            f" && rm -rf ../offered/{name} && mv {name} ../offered && mv -T current ../offered/current",
            _archive({f"new/{name}/{part}.pem": text for part, text in pair.items()}, 0o600),
        )
        return name

    def answer(self, token: str, text: str) -> None:
        """Answer a challenge."""
        self.run("tar -x && chmod -R u=rwX,go=rX webroot", _archive({f"{_CHALLENGES}/{token}": text}, 0o644))

    def run(self, shell: str, given: bytes | None = None) -> None:
        """Run a script in the volume."""
        words = ("exec", "--interactive", f"--workdir={CERTIFICATES}", self.volume, "/bin/sh", "-e", "-c", shell)
        docker(*words, given=given or b"")

    def withdraw(self) -> None:
        """Leave the volume as it was at first."""
        self.run("rm -rf new offered webroot")


def _archive(files: Mapping[str, str], mode: int) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), mode
            tar.addfile(entry, io.BytesIO(text.encode()))
    return archive.getvalue()


def docker(*arguments: str, given: bytes | None = None) -> None:
    """Ask the engine for something, which it must do."""
    ended = subprocess.run(["docker", *arguments], input=given, capture_output=True, check=False)  # noqa: S603, S607
    assert ended.returncode == 0, ended.stderr.decode()
