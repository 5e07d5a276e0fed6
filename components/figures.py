"""What a replica's container tells Prometheus of itself; the launcher beside it answers with this at /metrics.

Runs in Open WebUI's container with the image's own Python and nothing of this program but the launcher. It reads the
container's own control group, of version 2 or 1, and asks the application whether it is ready.
"""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

APPLICATION = ("127.0.0.1", 8080)
PATIENCE = 3.0
"""Seconds for the application's answer, unless whoever asks waits less than twice as long for ours."""
GROUPS = Path("/sys/fs/cgroup")
_PREFIX = "open_webui_edge_"
_NO_LIMIT = 1 << 60
"""From here on, version 1 means that there is none."""


class Figures:
    """Numbers of one container."""

    def __init__(self, starts: Path, groups: Path = GROUPS, application: tuple[str, int] = APPLICATION) -> None:
        """Count this start in the file `starts`, which outlives the container."""
        self._groups = groups
        self._application = application
        self._started = time.time()
        self._starts = _counted(starts)

    def text(self, *, draining: bool, within: str | None = None) -> str:
        """Return all of them in Prometheus' text format; it says `within` how many seconds it wants them."""
        return "".join(
            f"# HELP {_PREFIX}{name} {says}\n# TYPE {_PREFIX}{name} {kind}\n{_PREFIX}{name} {value}\n"
            for name, kind, value, says in self._all(draining=draining, patience=_patience(within))
        )

    def _all(self, *, draining: bool, patience: float) -> Iterator[tuple[str, str, float, str]]:
        ready = is_ready(self._application, patience)
        yield "replica_ready", "gauge", int(ready), "Whether the application answers /ready with its body."
        yield "replica_draining", "gauge", int(draining), "Whether it is about to end."
        yield "container_start_time_seconds", "gauge", round(self._started, 3), "When it started."
        if self._starts is not None:
            yield "container_starts_total", "counter", self._starts, "How often it started, by whoever's doing."
        yield from self._memory()

    def _memory(self) -> Iterator[tuple[str, str, float, str]]:
        second = (self._groups / "memory.current").exists()
        folder = self._groups if second else self._groups / "memory"
        used_in, limit_in, idle_key, kills_in = (
            ("memory.current", "memory.max", "inactive_file", "memory.events")
            if second
            else ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file", "memory.oom_control")
        )
        try:
            used = int((folder / used_in).read_text()) - _values(folder / "memory.stat")[idle_key]
            limit = (folder / limit_in).read_text().strip()
            kills = _values(folder / kills_in).get("oom_kill")
        except (OSError, ValueError, KeyError):
            # No control group to be seen: better no number than a wrong one.
            return
        yield "container_memory_bytes", "gauge", used, "Memory in use that is not given back at once."
        if limit != "max" and int(limit) < _NO_LIMIT:
            yield "container_memory_limit_bytes", "gauge", int(limit), "What it may use."
        if kills is not None:
            yield "container_oom_kills_total", "counter", kills, "Processes that were killed for want of memory."


def _patience(within: str | None) -> float:
    try:
        return PATIENCE if within is None else min(PATIENCE, float(within) / 2)
    except ValueError:
        return PATIENCE


def is_ready(application: tuple[str, int], patience: float) -> bool:
    """Whether the application answers; by its body, since it answers unknown paths with 200 too."""
    connection = http.client.HTTPConnection(*application, timeout=patience)
    try:
        connection.request("GET", "/ready", headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status == http.client.OK and json.loads(answer.read(1 << 16)) == {"status": True}
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def _counted(file: Path) -> int | None:
    try:
        count = int(file.read_text()) + 1 if file.exists() else 1
        # Whoever is another user inside has no need of it.
        file.touch(mode=0o600)
        file.write_text(str(count))
    except (OSError, ValueError):
        return None
    return count


def _values(file: Path) -> dict[str, int]:
    return {key: int(value) for key, _, value in (line.partition(" ") for line in file.read_text().splitlines())}
