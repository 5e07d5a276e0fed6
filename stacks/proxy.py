"""How the reverse proxy treats connections, requests and answers."""

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator

from stacks.values import Bytes, Duration, Settings, between_bytes, between_durations


class TimeoutSettings(Settings):
    """How long the proxy waits for whom. A change is a reload: nothing in flight is cut."""

    connect: Annotated[Duration, between_durations("1s", "75s")] = timedelta(seconds=5)
    """For Open WebUI to accept a connection (at most 75s: the kernel gives up then)."""

    read: Annotated[Duration, between_durations("10s", "24h")] = timedelta(minutes=30)
    """For the next byte of an answer. A model may think for minutes and the API sends no sign of life meanwhile."""

    send: Annotated[Duration, between_durations("10s", "24h")] = timedelta(minutes=5)
    """For Open WebUI to take the next bytes of an upload."""

    client: Annotated[Duration, between_durations("5s", "1h")] = timedelta(minutes=1)
    """For the next bytes of a request from the browser, and for the browser to take the next bytes of an answer."""

    keepalive: Annotated[Duration, between_durations("5s", "1h")] = timedelta(seconds=75)
    """For the next request on an idle connection."""

    shutdown: Annotated[Duration, between_durations("1m", "7d")] = timedelta(hours=12)
    """For connections opened under an earlier configuration, WebSockets above all; after that they are closed and
    the browser connects anew."""


def _whole_mebibytes(value: int) -> int:
    if value % (1 << 20):
        raise ValueError("is not a whole number of MiB, in which Open WebUI counts; write one such as 100MiB")
    return value


class LimitSettings(Settings):
    """What a request may cost."""

    max_upload: Annotated[Bytes, between_bytes("1MiB", "100GiB"), AfterValidator(_whole_mebibytes)] = 100 << 20
    """Largest file a person may upload; the proxy and Open WebUI refuse more. Whole MiB."""


class WebSocketSettings(Settings):
    """The browser's socket, over which answers arrive token by token."""

    idle_timeout: Annotated[Duration, between_durations("30s", "24h")] = timedelta(hours=1)
    """For a silent socket. Open WebUI's clients say something every 25 seconds."""


class ProxySettings(Settings):
    """How the reverse proxy treats connections, requests and answers."""

    timeouts: TimeoutSettings = TimeoutSettings()
    """How long the proxy waits for whom."""

    limits: LimitSettings = LimitSettings()
    """What a request may cost."""

    websocket: WebSocketSettings = WebSocketSettings()
    """The browser's socket."""

    memory: Annotated[Bytes, between_bytes("64MiB", "64GiB")] = 512 << 20
    """Memory limit of the proxy's container. Workers of earlier configurations live on beside the new ones until their
    connections end, a few MiB a worker and core."""
