"""A client that speaks HTTP/3 over UDP, one request a connection."""

import asyncio
import ssl
from collections.abc import Sequence

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

from tests.nginx.nginx_under_test import PATIENCE, Answer, NginxUnderTest

Headers = Sequence[tuple[str, str]]


def ask_over_http3(  # noqa: PLR0913 - keywords, each a part of a request
    nginx: NginxUnderTest,
    path: str,
    *,
    method: str = "GET",
    authority: str | None = None,
    headers: Headers = (),
    body: bytes = b"",
) -> Answer:
    """Ask once over a new connection; raises TimeoutError without an answer."""
    head = [(":method", method), (":scheme", "https"), (":authority", authority or nginx.domain), (":path", path)]
    return asyncio.run(_ask(nginx, [*head, *headers], body))


async def _ask(nginx: NginxUnderTest, headers: Headers, body: bytes) -> Answer:
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN,
        server_name=nginx.domain,
        verify_mode=ssl.CERT_REQUIRED,
        cafile=str(nginx.ca_file),
    )
    async with asyncio.timeout(PATIENCE):
        async with connect(
            "127.0.0.1", nginx.quic_port, configuration=configuration, create_protocol=_Exchange
        ) as connected:
            assert isinstance(connected, _Exchange)
            return await connected.ask(headers, body)


class _Exchange(QuicConnectionProtocol):
    """One request and its answer."""

    _http: H3Connection
    _headers: list[tuple[str, str]]
    _body: bytes
    _ended: asyncio.Future[None]

    async def ask(self, headers: Headers, body: bytes) -> Answer:
        self._http, self._headers, self._body = H3Connection(self._quic), [], b""
        self._ended = self._loop.create_future()
        stream = self._quic.get_next_available_stream_id()
        head = [(name.lower().encode(), value.encode()) for name, value in headers]
        self._http.send_headers(stream, head, end_stream=not body)
        if body:
            self._http.send_data(stream, body, end_stream=True)
        self.transmit()
        await self._ended
        status, *further = self._headers
        assert status[0] == ":status"
        return Answer(int(status[1]), further, self._body)

    def quic_event_received(self, event: QuicEvent) -> None:
        if not hasattr(self, "_http"):
            return
        for received in self._http.handle_event(event):
            if isinstance(received, HeadersReceived):
                self._headers += [(name.decode(), value.decode()) for name, value in received.headers]
            if isinstance(received, DataReceived):
                self._body += received.data
            if isinstance(received, HeadersReceived | DataReceived) and received.stream_ended:
                self._ended.set_result(None)
