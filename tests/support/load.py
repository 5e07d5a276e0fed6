"""A steady load of clients that never retry, and report whatever went wrong, when and why.

    with Load(url, ca_file, Http1(), Http2(), SocketIo()) as load:
        ...  # change something
    assert load.failures == [], str(load)
    assert load.requests > 500, str(load)

The block starts once every client has had its first answer, and ends once every client has had its last. The load is
bounded in count and time, and is only ever put on this machine's loopback addresses.
"""

import asyncio
import ipaddress
import json
import select
import socket
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self, cast
from urllib.parse import urlsplit

import aiohttp
import h2.config
import h2.connection
import h2.events
import h2.exceptions

from open_webui_edge.benchmarks.http1 import Broken, read_http1

SILENCE = 15.0
"""Seconds without a byte after which a client gives up waiting for an answer."""

_AFTER_FAILURE = 0.05
_HTTPS_PORT = 443
_H2_HEAD = 9
_H2_GOAWAY = 0x7


class Failure(NamedTuple):
    """A request that a user would have lost, or a connection that was dropped."""

    client: str
    at: float
    """Seconds since the load began."""
    reason: str


class Load:
    """Clients of the given kinds, all at once, as a context manager."""

    def __init__(
        self,
        url: str,
        ca_file: str | Path,
        *clients: "Client",
        resolve: Mapping[str, str] | None = None,
        seconds: float = 300,
        requests: int = 200_000,
    ) -> None:
        """Aim at `url`, trusting `ca_file` only and looking hosts up in `resolve` before DNS.

        A client that reaches `seconds` or `requests` (each client's share) stops, and that is a failure too: what the
        block did afterwards went unwatched.
        """
        self._target = Target.of(url, ca_file, resolve or {})
        stop = threading.Event()
        share = requests // max(1, sum(client.connections for client in clients))
        self._tallies = [
            Tally(f"{client.name}-{number}", stop, share, seconds)
            for client in clients
            for number in range(client.connections)
        ]
        kinds = [client for client in clients for _ in range(client.connections)]
        self._threads = [
            threading.Thread(target=client.run, args=(self._target, tally), name=tally.client, daemon=True)
            for client, tally in zip(kinds, self._tallies, strict=True)
        ]
        self._stop = stop

    @property
    def failures(self) -> list[Failure]:
        """Everything that went wrong so far, in the order of time."""
        return sorted((failure for tally in self._tallies for failure in tally.failures), key=lambda f: f.at)

    @property
    def requests(self) -> int:
        """How many requests were answered in full, as expected; a round trip over a WebSocket is one."""
        return sum(tally.answered for tally in self._tallies)

    @property
    def announced_closes(self) -> int:
        """How often a server closed as the protocol asks: `Connection: close`, or GOAWAY."""
        return sum(tally.announced_closes for tally in self._tallies)

    @property
    def untouched(self) -> int:
        """How many HTTP/2 requests crossed a GOAWAY that names them untouched.

        They are not lost: RFC 9113 §6.8 has every client, a browser too, send them again over a new connection.
        """
        return sum(tally.untouched for tally in self._tallies)

    def __str__(self) -> str:
        """Say what every client saw; failures with the same reason take one line."""
        when: dict[str, list[float]] = {}
        for failure in self.failures:
            when.setdefault(failure.reason, []).append(failure.at)
        reasons = [f"{len(at)} x {reason} (second {at[0]:.2f} to {at[-1]:.2f})" for reason, at in when.items()]
        return "\n".join([*(str(tally) for tally in self._tallies), *reasons])

    def __enter__(self) -> Self:
        """Start, and wait until every client has had an answer; raises RuntimeError that says why one had none."""
        for tally, thread in zip(self._tallies, self._threads, strict=True):
            tally.began = time.monotonic()
            thread.start()
        waiting_until = time.monotonic() + SILENCE
        for tally in self._tallies:
            if not tally.first.wait(max(0, waiting_until - time.monotonic())):
                self._end()
                raise RuntimeError(f"no load could be put on {self._target.netloc}:\n{self}")
        return self

    def __exit__(self, *_: object) -> None:
        """Let every client finish what it asked, and stop."""
        self._end()

    def _end(self) -> None:
        self._stop.set()
        for tally, thread in zip(self._tallies, self._threads, strict=True):
            thread.join(2 * SILENCE)
            if thread.is_alive():
                tally.fail("did not stop")


class Tally:
    """What one client saw, and whether it should go on."""

    def __init__(self, client: str, stop: threading.Event, at_most: int, seconds: float) -> None:
        """Count for `client` until `stop` is set, or `at_most` requests or `seconds` are reached."""
        self.client = client
        self.failures: list[Failure] = []
        self.answered = 0
        self.announced_closes = 0
        self.untouched = 0
        self.began = time.monotonic()
        self.first = threading.Event()
        self._stop = stop
        self._at_most = at_most
        self._seconds = seconds
        self._spent = False

    def __str__(self) -> str:
        """Say it in a line."""
        closes = f", {self.announced_closes} announced closes" if self.announced_closes else ""
        return f"{self.client}: {self.answered} answered, {len(self.failures)} failed{closes}"

    def succeed(self) -> None:
        """Count an answer."""
        self.answered += 1
        self.first.set()

    def fail(self, reason: str) -> None:
        """Note what went wrong."""
        self.failures.append(Failure(self.client, time.monotonic() - self.began, reason))

    def goes_on(self) -> bool:
        """Whether another request is due; waits for nothing."""
        if self._stop.is_set() or self._spent:
            return False
        so_far = self.answered + len(self.failures) + self.announced_closes
        self._spent = so_far >= self._at_most or time.monotonic() - self.began >= self._seconds
        if self._spent:
            self.fail(f"ended by its own limit of {self._at_most} requests or {self._seconds:g} s, before the test did")
        return not self._spent

    def pause(self, seconds: float) -> None:
        """Keep the pace: wait, but no longer than the load lasts."""
        self._stop.wait(seconds)


@dataclass(frozen=True)
class Target:
    """Where the load goes, and whom it trusts there."""

    host: str
    port: int
    address: str
    ca_file: str

    @classmethod
    def of(cls, url: str, ca_file: str | Path, resolve: Mapping[str, str]) -> Self:
        """Read the URL; raises ValueError for anything but https:// on a loopback address."""
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.hostname is None:
            raise ValueError(f"{url} is no https:// URL")
        port = _HTTPS_PORT if parts.port is None else parts.port
        address = resolve.get(parts.hostname, parts.hostname)
        for *_, result in socket.getaddrinfo(address, port, type=socket.SOCK_STREAM):
            if not ipaddress.ip_address(result[0]).is_loopback:
                raise ValueError(f"{url} is at {result[0]}; a load is only put on loopback addresses of this machine")
        return cls(parts.hostname, port, address, str(ca_file))

    @property
    def netloc(self) -> str:
        """Host and port as in a Host header."""
        return self.host if self.port == _HTTPS_PORT else f"{self.host}:{self.port}"

    def trust(self, *protocols: str) -> ssl.SSLContext:
        """Return a context that trusts the CA only and offers `protocols` by ALPN."""
        context = ssl.create_default_context(cafile=self.ca_file)
        context.set_alpn_protocols(list(protocols))
        return context

    @contextmanager
    def connection(self, protocol: str) -> Generator[ssl.SSLSocket]:
        """Open a TLS connection that speaks `protocol`."""
        with (
            socket.create_connection((self.address, self.port), SILENCE) as plain,
            self.trust(protocol).wrap_socket(plain, server_hostname=self.host) as connection,
        ):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if (connection.selected_alpn_protocol() or "http/1.1") != protocol:
                raise Broken(f"the server does not speak {protocol}")
            yield connection


@dataclass(frozen=True, kw_only=True)
class Client(ABC):
    """A kind of client."""

    connections: int = 1
    every: float = 0.01
    """Seconds between an answer and the next request on a connection."""

    @property
    def name(self) -> str:
        """What reports call it."""
        return type(self).__name__

    def run(self, target: Target, tally: Tally) -> None:
        """Ask until the load ends, on a new connection after each failure; called in a thread of its own."""
        while tally.goes_on():
            try:
                self.ask(target, tally)
            except (Broken, OSError, aiohttp.ClientError, h2.exceptions.ProtocolError) as error:
                tally.fail(_reason(error))
                tally.pause(max(self.every, _AFTER_FAILURE))
            except BaseException as error:
                tally.fail(f"a fault of the load itself: {error!r}")
                raise

    @abstractmethod
    def ask(self, target: Target, tally: Tally) -> None:
        """Ask over one connection until the load ends or the server announced that it closes; raise what broke."""


@dataclass(frozen=True, kw_only=True)
class Http1(Client):
    """HTTP/1.1 with keep-alive, one request after the other.

    It does not look whether the server hung up before it sends, so a connection that the server closes while it is idle
    costs the next request, unless the last answer said `Connection: close`.
    """

    connections: int = 4
    every: float = 0.005
    path: str = "/health"
    status: int = 200

    def ask(self, target: Target, tally: Tally) -> None:
        """Ask over one connection."""
        request = f"GET {self.path} HTTP/1.1\r\nHost: {target.netloc}\r\nAccept: */*\r\n\r\n".encode()
        with target.connection("http/1.1") as connection, connection.makefile("rb") as answers:
            number = 0
            while tally.goes_on():
                number += 1
                try:
                    connection.sendall(request)
                    status, closes = read_http1(cast("BinaryIO", answers))
                except (OSError, Broken) as error:
                    where = "a new connection" if number == 1 else "a kept-alive connection"
                    raise Broken(f"on {where}: {_reason(error)}") from error
                if status == self.status:
                    tally.succeed()
                else:
                    tally.fail(f"status {status}, not {self.status}")
                if closes:
                    tally.announced_closes += 1
                    return
                tally.pause(self.every)


@dataclass(frozen=True, kw_only=True)
class Handshakes(Client):
    """A new connection for each request, as of browsers that come for the first time."""

    connections: int = 2
    every: float = 0.05
    path: str = "/health"
    status: int = 200

    def ask(self, target: Target, tally: Tally) -> None:
        """Ask over one connection, once."""
        with target.connection("http/1.1") as connection, connection.makefile("rb") as answers:
            head = f"GET {self.path} HTTP/1.1\r\nHost: {target.netloc}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode())
            status, _ = read_http1(cast("BinaryIO", answers))
        if status == self.status:
            tally.succeed()
        else:
            tally.fail(f"status {status}, not {self.status}")
        tally.pause(self.every)


@dataclass(frozen=True, kw_only=True)
class Http2(Client):
    """HTTP/2, several streams at a time.

    On GOAWAY it does what RFC 9113 §6.8 asks of every client: what the server took on is finished on the old
    connection, everything else goes over a new one. A stream reset, or a connection that ends without GOAWAY, is a
    failure.
    """

    connections: int = 2
    every: float = 0.01
    streams: int = 4
    path: str = "/health"
    status: int = 200

    def ask(self, target: Target, tally: Tally) -> None:
        """Ask over one connection."""
        with target.connection("h2") as connection:
            http2 = _Http2Connection(connection)
            headers = [(":method", "GET"), (":scheme", "https"), (":authority", target.netloc), (":path", self.path)]
            while tally.goes_on():
                http2.read_what_is_there()
                if not http2.goes_away:
                    for _ in range(self.streams):
                        http2.send(headers)
                statuses, untouched = http2.read_answers()
                for status in statuses:
                    if status == self.status:
                        tally.succeed()
                    else:
                        tally.fail(f"status {status}, not {self.status}")
                if http2.goes_away:
                    tally.announced_closes += 1
                    tally.untouched += untouched
                    return
                tally.pause(self.every)


@dataclass(frozen=True, kw_only=True)
class WebSocketEcho(Client):
    """A WebSocket to something that echoes text; stays open, and proves it by round trips, one of them at the end."""

    every: float = 0.25
    path: str = "/echo"
    origin: str = ""
    """What a browser would say; "" for the address that is asked."""

    def ask(self, target: Target, tally: Tally) -> None:
        """Hold one WebSocket open."""
        asyncio.run(self._hold(target, tally))

    async def greet(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Begin the conversation; plain WebSockets have nothing to say."""

    async def round_trip(self, websocket: aiohttp.ClientWebSocketResponse, number: int) -> None:
        """Send something that must come back, and wait for it; raise what broke."""
        await websocket.send_str(f"echo {number}")
        while await _next_text(websocket) != f"echo {number}":
            pass

    async def _hold(self, target: Target, tally: Tally) -> None:
        host = f"[{target.address}]" if ":" in target.address else target.address
        url = f"wss://{host}:{target.port}{self.path}"
        origin = {"Host": target.netloc, "Origin": self.origin or f"https://{target.netloc}"}
        trust = target.trust("http/1.1")
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(url, ssl=trust, server_hostname=target.host, headers=origin) as websocket,
        ):
            number = 0
            try:
                async with asyncio.timeout(SILENCE):
                    await self.greet(websocket)
                goes_on = True
                while goes_on:
                    goes_on = tally.goes_on()
                    number += 1
                    async with asyncio.timeout(SILENCE):
                        await self.round_trip(websocket, number)
                    tally.succeed()
                    await asyncio.to_thread(tally.pause, self.every)
            except (OSError, Broken, aiohttp.ClientError) as error:
                raise Broken(f"dropped at round trip {number}: {_reason(error)}") from error


@dataclass(frozen=True, kw_only=True)
class SocketIo(WebSocketEcho):
    """Open WebUI's socket, without signing in: every `user-join` is acknowledged, pings are answered."""

    path: str = "/ws/socket.io/?EIO=4&transport=websocket"

    async def greet(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Open Engine.IO (0) and connect to the default namespace of Socket.IO (40)."""
        if not (opened := await _next_text(websocket)).startswith("0"):
            raise Broken(f"Engine.IO was opened by {opened!r}")
        await websocket.send_str("40")
        if not (connected := await _next_text(websocket)).startswith("40"):
            raise Broken(f"Socket.IO was answered by {connected!r}")

    async def round_trip(self, websocket: aiohttp.ClientWebSocketResponse, number: int) -> None:
        """Emit an event (42) that asks for an acknowledgement (43), answering pings (2) with pongs (3)."""
        await websocket.send_str(f"42{number}{json.dumps(['user-join', {}])}")
        while not (text := await _next_text(websocket)).startswith(f"43{number}["):
            if text == "2":
                await websocket.send_str("3")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {SILENCE:g} s"
    return str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"


async def _next_text(websocket: aiohttp.ClientWebSocketResponse) -> str:
    message = await websocket.receive()
    if message.type is aiohttp.WSMsgType.TEXT:
        return str(message.data)
    what = f"{message.type.name}, close code {websocket.close_code}"
    raise Broken(what)


class _Http2Connection:
    """An HTTP/2 connection that survives a GOAWAY.

    The h2 library takes no frame after a GOAWAY, although the server goes on answering what it took on; so the frames
    are split here, and GOAWAY is kept from it.
    """

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self.goes_away = False
        self._socket = connection
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._received = bytearray()
        self._open: dict[int, int] = {}
        """Stream -> the status of its answer, 0 while there is none."""
        self._answered: list[int] = []
        self._untouched = 0
        self._h2.initiate_connection()
        self._flush()

    def send(self, headers: list[tuple[str, str]]) -> None:
        """Send a GET."""
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, headers, end_stream=True)
        self._open[stream] = 0
        self._flush()

    def read_answers(self) -> tuple[list[int], int]:
        """Wait for every open stream; return the statuses, and how many requests GOAWAY declared untouched."""
        while self._open:
            self._read()
        answered, self._answered = self._answered, []
        return answered, self._untouched

    def read_what_is_there(self) -> None:
        """Take in what the server sent of its own accord, so that a GOAWAY is known before the next request."""
        while not self.goes_away and (self._socket.pending() or select.select([self._socket], [], [], 0)[0]):
            self._read()

    def _read(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise Broken(
                f"closed {'after' if self.goes_away else 'without'} GOAWAY, {len(self._open)} streams unanswered"
            )
        self._received += data
        for frame in self._frames():
            if frame[3] == _H2_GOAWAY:
                self._go_away(frame[_H2_HEAD:])
            else:
                for event in self._h2.receive_data(frame):
                    self._take(event)
        self._flush()

    def _frames(self) -> Iterator[bytes]:
        while len(self._received) >= _H2_HEAD:
            length = _H2_HEAD + int.from_bytes(self._received[:3], "big")
            if len(self._received) < length:
                return
            frame = bytes(self._received[:length])
            del self._received[:length]
            yield frame

    def _go_away(self, payload: bytes) -> None:
        last_stream = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
        error = int.from_bytes(payload[4:8], "big")
        if error:
            raise Broken(f"GOAWAY with error {error}")
        self.goes_away = True
        for stream in [stream for stream in self._open if stream > last_stream]:
            del self._open[stream]
            self._untouched += 1

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self._open[event.stream_id] = int(dict(event.headers)[b":status"])
            case h2.events.DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self._answered.append(self._open.pop(event.stream_id))
            case h2.events.StreamReset():
                raise Broken(f"stream {event.stream_id} was reset with error {event.error_code}")
            case _:
                pass

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._socket.sendall(data)
