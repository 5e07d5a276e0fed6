"""Servers in a thread of this process: what they have in common, one that echoes, and a relay to another server."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from aiohttp import web

T = TypeVar("T")
PATIENCE = 10.0
"""Seconds until something that must happen is given up."""


class ServerInThread:
    """A server whose event loop runs in a thread of its own while the block runs."""

    def __init__(self, address: str, port: int = 0) -> None:
        """Listen on `address`; port 0 is any, and known once it listens."""
        self.address, self.port = address, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__, daemon=True)

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        self.port = self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up on everybody."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def stop(self) -> None:
        """Go, and cut every connection; nothing listens here from now on."""
        self._run(self._end())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _listen(self) -> int:
        """Begin, and return the port."""
        raise NotImplementedError

    async def _end(self) -> None:
        raise NotImplementedError


class SocketEcho(ServerInThread):
    """An application that echoes each message of a WebSocket."""

    async def _listen(self) -> int:
        application = web.Application()
        application.router.add_get("/{path:.*}", _echo)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.address, self.port).start()
        return self._runner.addresses[0][1]

    async def _end(self) -> None:
        await self._runner.cleanup()


async def _echo(request: web.Request) -> web.StreamResponse:
    websocket = web.WebSocketResponse()
    if not websocket.can_prepare(request).ok:
        # The run waits for each proxy to answer.
        return web.Response()
    await websocket.prepare(request)
    async for message in websocket:
        await websocket.send_str(message.data)
    return websocket


class Relay(ServerInThread):
    """A port of an address that leads to another address: what happens to a connection is for a subclass to say."""

    def __init__(self, address: str, target: tuple[str, int]) -> None:
        """Lead from `address` to `target`, an address and a port."""
        super().__init__(address)
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._join, self.address, 0)
        return self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            await self._relay(reader, writer)
        writer.close()
        self._tasks.discard(task)
