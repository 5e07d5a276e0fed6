"""A network that is farther away than this machine's own: connections through it take a round trip and share a line.

The kernel can do that (netem), but not every kernel is built with it, and it needs rights. What this does not do: lose
packets, or start slowly.
"""

import asyncio
from dataclasses import dataclass

from open_webui_edge.benchmarks.serving import Relay

_CHUNK = 16384


@dataclass(frozen=True)
class Distance:
    """How far away."""

    round_trip: float
    """Seconds."""
    bytes_per_second: float
    """Towards the client, shared by all its connections."""


class FarNetwork(Relay):
    """A port of an address that leads to another address, from that far away: `with FarNetwork(…) as far: far.port`."""

    def __init__(self, address: str, ip: str, port: int, distance: Distance) -> None:
        """Lead to `ip`:`port`."""
        super().__init__(address, (ip, port))
        self._distance = distance
        self._line_is_free_at = 0.0

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Here the connection stood at once; there the handshake of TCP would have taken a round trip.
        await asyncio.sleep(self._distance.round_trip)
        there, to_there = await asyncio.open_connection(*self._target)
        try:
            await asyncio.gather(self._carry(reader, to_there, shared=False), self._carry(there, writer, shared=True))
        finally:
            to_there.close()

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
