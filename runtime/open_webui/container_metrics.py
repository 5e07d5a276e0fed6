"""Metrics of a replica's container in Prometheus' format; the launcher next to it serves them at /metrics.

Runs in Open WebUI's container with the image's own Python and nothing of this project but the launcher. It reads the
container's own control group, of version 2 or 1, and probes the application's /ready.
"""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from open_webui_edge.runtime.contract import PORT

APPLICATION = ("127.0.0.1", PORT)
READY_TIMEOUT = 3.0
"""Seconds for the application's answer; half of the scraper's time-out if that is shorter."""
CGROUPS = Path("/sys/fs/cgroup")
_PREFIX = "open_webui_edge_"
_NO_LIMIT = 1 << 60
"""From here on, a limit of version 1 means "no limit"."""


class ContainerMetrics:
    """The metrics of one container."""

    def __init__(self, starts: Path, cgroups: Path = CGROUPS, application: tuple[str, int] = APPLICATION) -> None:
        """Count this start in the file `starts`, which is in a volume."""
        self._cgroups = cgroups
        self._application = application
        self._started = time.time()
        self._starts = _count_start(starts)

    def text(self, *, draining: bool, within: str | None = None) -> str:
        """Return all metrics in Prometheus' text format; `within` is the scraper's time-out in seconds."""
        return "".join(
            f"# HELP {_PREFIX}{name} {says}\n# TYPE {_PREFIX}{name} {kind}\n{_PREFIX}{name} {value}\n"
            for name, kind, value, says in self._all(draining=draining, timeout=_ready_timeout(within))
        )

    def _all(self, *, draining: bool, timeout: float) -> Iterator[tuple[str, str, float, str]]:
        ready = is_ready(self._application, timeout)
        yield "replica_ready", "gauge", int(ready), "Whether the application answers /ready with its body."
        yield "replica_draining", "gauge", int(draining), "Whether it is shutting down."
        yield "container_start_time_seconds", "gauge", round(self._started, 3), "When it started."
        if self._starts is not None:
            yield "container_starts_total", "counter", self._starts, "How often it started, for any reason."
        yield from self._memory()

    def _memory(self) -> Iterator[tuple[str, str, float, str]]:
        second = (self._cgroups / "memory.current").exists()
        folder = self._cgroups if second else self._cgroups / "memory"
        used_in, limit_in, idle_key, kills_in = (
            ("memory.current", "memory.max", "inactive_file", "memory.events")
            if second
            else ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file", "memory.oom_control")
        )
        try:
            used = int((folder / used_in).read_text(encoding="utf-8")) - _values(folder / "memory.stat")[idle_key]
            limit = (folder / limit_in).read_text(encoding="utf-8").strip()
            kills = _values(folder / kills_in).get("oom_kill")
        except (OSError, ValueError, KeyError):
            # The control group is not readable: report no number rather than a wrong one.
            return
        yield "container_memory_bytes", "gauge", used, "Memory in use that is not given back at once."
        if limit != "max" and int(limit) < _NO_LIMIT:
            yield "container_memory_limit_bytes", "gauge", int(limit), "What it may use."
        if kills is not None:
            yield "container_oom_kills_total", "counter", kills, "Processes that were killed for want of memory."


def _ready_timeout(within: str | None) -> float:
    try:
        return READY_TIMEOUT if within is None else min(READY_TIMEOUT, float(within) / 2)
    except ValueError:
        return READY_TIMEOUT


def is_ready(application: tuple[str, int], timeout: float) -> bool:
    """Return whether the application is ready; checks the body, since it answers unknown paths with 200 too."""
    with (
        suppress(OSError, ValueError, http.client.HTTPException),
        closing(http.client.HTTPConnection(*application, timeout=timeout)) as connection,
    ):
        connection.request("GET", "/ready", headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status == http.client.OK and json.loads(answer.read(1 << 16)) == {"status": True}
    return False


def _count_start(file: Path) -> int | None:
    try:
        count = int(file.read_text(encoding="utf-8")) + 1 if file.exists() else 1
        # Other users in the container need no access.
        file.touch(mode=0o600)
        file.write_text(str(count), encoding="utf-8")
    except (OSError, ValueError):
        return None
    return count


def _values(file: Path) -> dict[str, int]:
    lines = (line.partition(" ") for line in file.read_text(encoding="utf-8").splitlines())
    return {key: int(value) for key, _, value in lines}
