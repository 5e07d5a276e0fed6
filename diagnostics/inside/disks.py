"""Room on the disks that the containers write to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.inside.containers import EXPLAINS

_FULL_PERCENT = 97
_FULL_BYTES = 256 << 20
_ROOMY = 50 << 30
"""With that much left a percentage says nothing."""
PLACES: Mapping[str, tuple[str, ...]] = {
    "nginx": ("/", "/var/cache/open-webui-edge"),
    "open-webui": ("/", "/app/backend/data"),
    "postgres": ("/var/lib/postgresql",),
    "redis": ("/data",),
    "ollama": ("/root/.ollama",),
}
"""Role -> what is on the engine's own disk, or on a volume."""


_STORED_BY = EXPLAINS[Hop.DATABASE] + EXPLAINS[Hop.REDIS]


@dataclass(frozen=True)
class Disk:
    """A file system as `df` shows it."""

    device: str
    size: int
    free: int
    places: tuple[str, ...]
    """Container and path, for people."""

    @property
    def percent(self) -> int:
        """How full it is, as `df` reckons: of what others than root may use."""
        return 0 if self.size == 0 else round(100 * (1 - self.free / self.size))


def read(text: str, place: str) -> Disk | None:
    """Read the last line of `df -P -B1`."""
    parts = text.strip().rpartition("\n")[2].split()
    if len(parts) < 6 or not all(part.isdigit() for part in parts[1:4]):  # noqa: PLR2004 - its columns
        return None
    used, free = int(parts[2]), int(parts[3])
    return Disk(parts[0], used + free, free, (place,))


def together(disks: Sequence[Disk]) -> list[Disk]:
    """Return each file system once: those of the same size and free space are one, whatever they are called."""
    merged: list[Disk] = []
    for disk in disks:
        same = next((one for one in merged if _is_same(one, disk)), None)
        if same is None:
            merged.append(disk)
        else:
            places = (*same.places, *disk.places)
            merged[merged.index(same)] = replace(same, free=min(same.free, disk.free), places=places)
    return merged


def _is_same(one: Disk, other: Disk) -> bool:
    # What is written meanwhile moves both figures a little.
    return abs(one.size - other.size) <= one.size // 100 and abs(one.free - other.free) <= one.size // 100


def judge(disks: Sequence[Disk], *, percent: int, hop: Hop = Hop.ENGINE) -> Iterator[Finding]:
    """Say which file systems are full or nearly so."""
    if not disks:
        yield hop.unknown("disk.room", "No container that runs could say how full the disks are.")
        return
    fullest = max(disks, key=lambda disk: disk.percent)
    has_trouble = False
    for disk in disks:
        full = disk.percent >= _FULL_PERCENT or disk.free < _FULL_BYTES
        nearly = disk.percent >= percent and disk.free < _ROOMY
        if not full and not nearly:
            continue
        has_trouble = True
        problem = hop.failure if full else hop.warning
        yield problem(
            "disk.room",
            f"The disk below {', '.join(disk.places)} is {disk.percent} % full: {_written(disk.free)} of"
            f" {_written(disk.size)} are free.",
            "A database on a full disk refuses to write: sign-in fails, and chats are lost.",
            "Free space (`docker system df` shows what the engine holds; `docker image prune` removes images that"
            " nothing uses), or enlarge the disk.",
            # One that has some room left explains nothing yet.
            explains=_STORED_BY if full else (),
        )
    if not has_trouble:
        yield hop.ok("disk.room", f"The fullest disk is {fullest.percent} % full, {_written(fullest.free)} are free.")


def _written(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"
