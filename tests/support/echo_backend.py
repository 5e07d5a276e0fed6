"""What stands behind the proxy in its tests: it answers what it was asked, and says when it was asked what.

The end of a path says what to do, so that every location can be asked for everything: /api/headers, /static/headers.
"""

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable

from aiohttp import web

from open_webui_edge.benchmarks.serving import PATIENCE, ServerInThread
from open_webui_edge.benchmarks.waiting import wait_until

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_HEADER_MAX = 1 << 16
WHO_ASKS = "/api/v1/users/user/info"


class EchoBackend(ServerInThread):
    """An HTTP server in a thread of its own, as a context manager.

    - /headers: how the request arrived, as JSON.
    - /stream?type=…: two events; the second is only sent after `acknowledge()`.
    - /silent?seconds=N: nothing for so long, and then a line; with begin=yes a line before it as well.
    - /slow: nothing, for as long as the client is there; a body is not read either.
    - /break, /half: the connection ends before the answer's head, in the middle of its body.
    - /upload: how many bytes came, and `uploaded` meanwhile.
    - /status/N: status N, in the backend's own words.
    - /text?type=…&size=…: so many bytes.
    - /die: the connection is cut once the request is there, before a byte of an answer.
    - whatever `answers` says of a path.
    - /api/v1/users/user/info: who asks, by `status_of` of the token in its cookie, its Authorization or its X-API-Key.
    - a WebSocket, wherever one is asked for: an echo.
    """

    def __init__(self, address: str, port: int = 0) -> None:
        """Listen on `address`; port 0 is any."""
        super().__init__(address, port)
        self.requests: list[str] = []
        """Method and path of each request whose head arrived."""
        self.heads: list[dict[str, str]] = []
        """The headers of each."""
        self.answered: list[str] = []
        """Method and path of each that was whole, and got its answer."""
        self.uploaded = 0
        """Bytes of the upload under way."""
        self.answers: dict[str, Handler] = {}
        """Path -> what answers there, in place of what its end says."""
        self.otherwise: Handler | None = None
        """What answers at all other paths, in place of what their ends say."""
        self.status_of: dict[str, int] = {}
        """Token -> status of the answer to who it is; any other, and none, is that of a user."""
        self.questions: list[dict[str, str]] = []
        """The headers of each request that asked it."""
        self._acknowledged = asyncio.Event()
        self._happened: dict[str, threading.Event] = defaultdict(threading.Event)
        self._runner: web.AppRunner | None = None

    def acknowledge(self) -> None:
        """Let a stream go on."""
        self.tell(self._acknowledged.set)

    def tell(self, what: Callable[[], object]) -> None:
        """Do something where the answers are made, such as setting an event that one waits for."""
        self._loop.call_soon_threadsafe(what)

    def wait_for(self, event: str) -> None:
        """Wait until a slow request was `asked` or its client `gone`; raises AssertionError if that does not happen."""
        assert self._happened[event].wait(PATIENCE), f"no slow request was {event} within {PATIENCE:g} s"

    def wait_for_upload_of(self, size: int) -> None:
        """Wait until so many bytes of an upload are here."""
        wait_until(lambda: self.uploaded >= size, what=f"{size} bytes at the backend", deadline=PATIENCE, every=0.01)

    def wait_for_requests(self, number: int) -> None:
        """Wait until so many requests have arrived."""
        wait_until(lambda: len(self.requests) >= number, what=f"request {number}", deadline=PATIENCE, every=0.01)

    def forget(self) -> None:
        """Reset the recorded state of earlier tests."""
        self.requests.clear()
        self.heads.clear()
        self.answered.clear()
        self.answers.clear()
        self.otherwise = None
        self.status_of.clear()
        self.questions.clear()
        self.uploaded = 0
        self._happened.clear()
        self.tell(self._acknowledged.clear)

    async def _end(self) -> None:
        # It may have been stopped before the block ends.
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _listen(self) -> int:
        application = web.Application()
        application.router.add_route("*", r"/{path:(?s:.*)}", self._answer)
        # A client that leaves ends its request, as with the application.
        self._runner = web.AppRunner(
            application,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=0.1,
            max_line_size=_HEADER_MAX,
            max_field_size=_HEADER_MAX,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.address, self.port)
        await site.start()
        return self._runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == WHO_ASKS:
            self.questions.append(dict(request.headers))
            given = (request.headers.get(name, "") for name in ("Cookie", "Authorization", "X-API-Key"))
            token = next((text for text in given if text), "").removeprefix("token=").removeprefix("Bearer ")
            return web.Response(status=self.status_of.get(token, 200))
        self.requests.append(f"{request.method} {request.path}")
        self.heads.append(dict(request.headers))
        answer = await self._answer_of(request)
        self.answered.append(f"{request.method} {request.path}")
        return answer

    async def _answer_of(self, request: web.Request) -> web.StreamResponse:
        if web.WebSocketResponse().can_prepare(request).ok:
            return await self._echo(request)
        if request.path in self.answers:
            return await self.answers[request.path](request)
        if self.otherwise is not None:
            return await self.otherwise(request)
        what: dict[str, Handler] = {
            "headers": self._headers,
            "stream": self._stream,
            "silent": self._silent,
            "slow": self._slow,
            "break": self._hung_up,
            "half": self._half,
            "upload": self._upload,
            "text": self._text,
            "die": dies,
        }
        *_, folder, name = ["", *request.path.split("/")]
        if folder == "status":
            return web.Response(status=int(name), text="the backend's own words", headers={"X-Own": "yes"})
        return await what.get(name, self._headers)(request)

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_str(message.data)
        return websocket

    async def _headers(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        arrived = {
            "method": request.method,
            "path": request.raw_path,
            "version": f"{request.version.major}.{request.version.minor}",
            "headers": list(request.headers.items()),
            "body": len(body),
        }
        return web.json_response(arrived, headers={"X-Process-Time": "1", "Set-Cookie": "a=b"})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": request.query["type"]}
        if "accel" in request.query:
            headers["X-Accel-Buffering"] = request.query["accel"]
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(request)
        await answer.write(b'data: {"event": 1}\n')
        await self._acknowledged.wait()
        await answer.write(b'data: {"event": 2}\n')
        await answer.write_eof()
        return answer

    async def _silent(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if "begin" in request.query:
            await answer.prepare(request)
            await answer.write(b"begins\n")
        # The silence is what is measured.
        await asyncio.sleep(float(request.query["seconds"]))
        if not answer.prepared:
            await answer.prepare(request)
        await answer.write(b"ends\n")
        return answer

    async def _slow(self, _request: web.Request) -> web.StreamResponse:
        self._happened["asked"].set()
        try:
            await asyncio.Event().wait()
        finally:
            self._happened["gone"].set()
        raise AssertionError("an event that is never set was set")

    async def _half(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/plain", "Content-Length": "10"})
        await answer.prepare(request)
        await answer.write(b"hello")
        return await self._hung_up(request)

    async def _hung_up(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        # The end of its connection ends the request.
        await asyncio.Event().wait()
        raise AssertionError("an event that is never set was set")

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        self.uploaded = 0
        async for chunk in request.content.iter_any():
            self.uploaded += len(chunk)
        return web.json_response({"bytes": self.uploaded})

    async def _text(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": request.query["type"]}
        if "header" in request.query:
            headers |= dict([request.query["header"].split(":", 1)])
        if "encoding" in request.query:
            headers["Content-Encoding"] = request.query["encoding"]
        return web.Response(body=b"x" * int(request.query["size"]), headers=headers)


async def dies(request: web.Request) -> web.StreamResponse:
    """Cut the connection once the request is there, before a byte of an answer."""
    await request.read()
    assert request.transport is not None
    request.transport.abort()
    raise asyncio.CancelledError


def arrived(body: bytes) -> dict[str, list[str]]:
    """Read an answer of /headers: header name, in lower case, -> values."""
    headers: dict[str, list[str]] = defaultdict(list)
    for name, value in json.loads(body)["headers"]:
        headers[name.lower()].append(value)
    return dict(headers)
