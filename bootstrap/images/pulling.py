"""Pulls images from registries: reasons of failures, and the progress of downloads.

The engine contacts a registry, not this program: it may be on another machine, and use a mirror or a proxy.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ATTEMPTS = 3
"""Attempts for a pull that stalls; the engine keeps completed layers."""
_MEGABYTE = 10**6
_UNREACHABLE = re.compile(
    r"no such host|server misbehaving|temporary failure in name resolution|connection refused|network is unreachable"
    r"|no route to host|i/o timeout|TLS handshake timeout|context deadline exceeded|request canceled while waiting"
    r"|Client\.Timeout exceeded|no answer within",
    re.IGNORECASE,
)
_BY_A_PROXY = "proxyconnect"
"""Prefix of Go's errors about a proxy: the user configured it, so its failure is reported."""


class PullError(Exception):
    """A registry or the engine refused; the text is their reason."""


class StalledError(PullError):
    """The engine reported no progress within the time-out."""


def is_unreachable(words: str) -> bool:
    """Return whether an engine's error means that the registry is unreachable."""
    return _BY_A_PROXY not in words and _UNREACHABLE.search(words) is not None


def pull(events: Callable[[str], Iterable[Mapping[str, Any]]], name: str, report: Callable[[str], None]) -> None:
    """Pull an image and `report` the progress, which `events` tells of a name, as `EngineClient.events` does.

    Raises:
        PullError: it cannot be pulled; the text is the reason of the engine or the registry.

    """
    for tries_left in reversed(range(ATTEMPTS)):
        progress = Progress()
        try:
            for event in events(name):
                if "error" in event:
                    raise PullError(str(event["error"]))
                progress.note(event)
                report(progress.text)
        except StalledError as stalled:
            if not tries_left:
                raise PullError(
                    f"{stalled}, {ATTEMPTS} times; the last time at {progress.text or 'the beginning'}"
                ) from None
            report(f"{stalled}; retrying")
        else:
            return


@dataclass
class _Layer:
    bytes_there: int = 0
    bytes_in_all: int | None = None
    is_downloaded: bool = False
    is_unpacked: bool = False


@dataclass
class Progress:
    """The progress of a pull, from the events of an engine with the classic or containerd's image store."""

    _layers: dict[str, _Layer] = field(default_factory=dict[str, _Layer])
    _status: str = ""

    def note(self, event: Mapping[str, Any]) -> None:
        """Record one event."""
        status, identity, detail = event.get("status", ""), event.get("id"), event.get("progressDetail") or {}
        if identity is None or status.startswith("Pulling from"):
            self._status = status
            return
        layer = self._layers.setdefault(identity, _Layer())
        if status == "Downloading":
            layer.bytes_there = int(detail.get("current") or 0)
            layer.bytes_in_all = int(detail.get("total") or 0) or layer.bytes_in_all
        elif status.startswith("Retrying"):
            layer.bytes_there = 0
        elif status in {"Verifying Checksum", "Download complete", "Extracting"}:
            layer.is_downloaded = True
        elif status in {"Pull complete", "Already exists"}:
            layer.is_downloaded = layer.is_unpacked = True

    @property
    def text(self) -> str:
        """The downloaded and total bytes, and the unpacked layers."""
        if not self._layers:
            return self._status
        layers = self._layers.values()
        there = sum(
            (layer.bytes_in_all or layer.bytes_there) if layer.is_downloaded else layer.bytes_there for layer in layers
        )
        whole = sum(layer.bytes_in_all or 0 for layer in layers)
        # The engine learns the size of a layer when its download starts, and limits parallel downloads.
        is_known = all(layer.is_downloaded or layer.bytes_in_all for layer in layers)
        unpacked = sum(layer.is_unpacked for layer in layers)
        of = f" of {'' if is_known else 'more than '}{whole / _MEGABYTE:.1f}" if whole else ""
        return f"{there / _MEGABYTE:.1f}{of} MB, {unpacked} of {len(layers)} layers unpacked"
