"""A network that is farther away than this machine's own: connections through it take a round trip and share a line.

The kernel can do that (netem), but not every kernel is built with it, and it needs rights. What this does not do: lose
packets, or start slowly.
"""

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import Self

_CHUNK = 16384
_PATIENCE = 10.0


@dataclass(frozen=True)
class Distance:
    """How far away."""

    round_trip: float
    """Seconds."""
    bytes_per_second: float
    """Towards the client, shared by all its connections."""


class FarNetwork:
    """A port of `host` that leads to another address, from that far away: `with FarNetwork(…) as far: far.port`."""

    def __init__(self, host: str, ip: str, port: int, distance: Distance) -> None:
        """Lead to `ip`:`port`."""
        self.host, self.port = host, 0
        self._target = (ip, port)
        self._distance = distance
        self._line_is_free_at = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="far network", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up on everybody."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._join, self.host, 0)
        return self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            # Here the connection stood at once; there the handshake of TCP would have taken a round trip.
            await asyncio.sleep(self._distance.round_trip)
            there, to_there = await asyncio.open_connection(*self._target)
            try:
                await asyncio.gather(
                    self._carry(reader, to_there, shared=False), self._carry(there, writer, shared=True)
                )
            finally:
                to_there.close()
        writer.close()
        self._tasks.discard(task)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, shared: bool) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

        async def deliver() -> None:
            while True:
                at, data = await under_way.get()
                await asyncio.sleep(max(0.0, at - self._loop.time()))
                if not data:
                    target.close()
                    return
                target.write(data)
                await target.drain()

        delivery = asyncio.create_task(deliver())
        try:
            while True:
                data = await source.read(_CHUNK)
                leaves = self._loop.time()
                if shared:
                    leaves = max(leaves, self._line_is_free_at) + len(data) / self._distance.bytes_per_second
                    self._line_is_free_at = leaves
                await under_way.put((leaves + self._distance.round_trip / 2, data))
                if not data:
                    break
            await delivery
        finally:
            delivery.cancel()
