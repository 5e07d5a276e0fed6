"""Open WebUI with something changed on the way, which no Nginx can change, and what never answers."""

import asyncio
import http.client
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Self

from aiohttp import web

from tests.support.echo_backend import EchoBackend

_OWN = {"date", "content-length", "transfer-encoding", "connection", "server"}


class StandIn:
    """A backend: `/…` is passed on to the application, with what a header `X-Doctor` asks for.

    - clock: the time is an hour early.
    - cookies: without Secure.
    - unready: /ready says that the database is gone.
    - unclaimed: there is no account yet.
    """

    def __init__(self, address: str, application: str) -> None:
        """Listen on any port of `address`."""
        self._application = application
        self._backend = EchoBackend(address)
        self._backend.otherwise = self._answer

    def __enter__(self) -> Self:
        """Start."""
        self._backend.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._backend.__exit__(*_)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._backend.port

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        wish = request.headers.get("X-Doctor", "")
        if wish == "silence":
            await asyncio.Event().wait()
        if wish == "unready" and request.path == "/ready":
            return web.json_response({"status": False}, status=503)
        status, headers, body = await asyncio.to_thread(
            self._ask, request.method, request.raw_path, dict(request.headers)
        )
        if wish == "unclaimed" and request.path == "/api/config":
            body = body.replace(b'{"status":true,', b'{"status":true,"onboarding":true,', 1)
        answer = web.Response(status=status, body=body)
        answer.headers.clear()
        for name, value in headers:
            if name.lower() not in _OWN:
                insecure = wish == "cookies" and name == "set-cookie"
                answer.headers.add(name, re.sub(r";\s*secure", "", value, flags=re.IGNORECASE) if insecure else value)
        now = datetime.now(UTC) - (timedelta(hours=1) if wish == "clock" else timedelta())
        answer.headers["Date"] = format_datetime(now, usegmt=True)
        return answer

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        client = http.client.HTTPConnection(self._application, timeout=10)
        try:
            client.request(method, path, headers={**headers, "Connection": "close"})
            response = client.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            client.close()
