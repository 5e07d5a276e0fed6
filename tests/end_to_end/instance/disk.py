"""A volume: a file that outlives every machine that it is plugged into."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_GIB = 1 << 30


@dataclass
class Disk:
    """A volume of the cloud; it takes no more room than what is written on it."""

    volume_id: str
    file: Path
    device: str | None = None
    """The block device of this machine, while it is in use."""

    @property
    def links(self) -> list[str]:
        """Where a machine finds it, whatever its name there: by the volume's id, and by its file system's."""
        assert self.device is not None
        links = [f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{self.volume_id.replace('-', '')}"]
        if identity := self.file_system:
            links.append(f"/dev/disk/by-uuid/{identity}")
        return links

    @property
    def file_system(self) -> str | None:
        """The identity of the file system on it; None while there is none."""
        words = ["blkid", "--probe", "--match-tag=UUID", "--output=value", str(self.device or self.file)]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - the test's own words
        return ended.stdout.strip() or None

    @property
    def number(self) -> tuple[int, int]:
        """Major and minor number of its device."""
        assert self.device is not None
        major, minor = Path(f"/sys/class/block/{Path(self.device).name}/dev").read_text().split(":")
        return int(major), int(minor)

    def have(self, gibibytes: int) -> None:
        """Be that large; a disk never shrinks."""
        with self.file.open("ab") as file:
            if self.file.stat().st_size < gibibytes * _GIB:
                file.truncate(gibibytes * _GIB)
                if self.device is not None:
                    _run("losetup", "--set-capacity", self.device)

    def spin_up(self) -> None:
        """Become a block device."""
        if self.device is None:
            self.device = _run("losetup", "--find", "--show", str(self.file))

    def spin_down(self) -> None:
        """Be a file and nothing else."""
        if self.device is not None:
            _run("losetup", "--detach", self.device)
            self.device = None


def _run(*words: str) -> str:
    ended = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - the test's own words
    assert ended.returncode == 0, f"{' '.join(words)}: {ended.stderr}"
    return ended.stdout.strip()
