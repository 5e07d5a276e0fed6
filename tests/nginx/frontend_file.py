"""A file of the application's frontend, as it answers it: one tag for all encodings, and another body for each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from aiohttp import web
from multidict import CIMultiDict

from tests.support.echo_backend import Handler

TAG = '"a-tag"'
ENCODINGS = ("br", "zstd", "gzip")


@dataclass
class FrontendFile:
    """Answers at a path of the backend; `asked` is what it was asked with."""

    content: str = "content"
    type_: str = "text/javascript"
    status: int = 200
    tag: str = TAG
    headers: Sequence[tuple[str, str]] = ()
    instead: Handler | None = None
    """What answers in its place."""
    asked: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    """The headers of each request, names in lower case."""

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer."""
        self.asked.append({name.lower(): value for name, value in request.headers.items()})
        if self.instead is not None:
            return await self.instead(request)
        headers = CIMultiDict(
            [
                ("Content-Type", self.type_),
                ("ETag", self.tag),
                ("Vary", "Accept-Encoding, Origin"),
                ("Accept-Ranges", "bytes"),
            ]
        )
        for name, value in self.headers:
            headers.add(name, value)
        if self.status == 200 and request.headers.get("If-None-Match") == self.tag:
            return web.Response(status=304, headers=headers)
        encoding = request.headers.get("Accept-Encoding", "")
        if encoding in ENCODINGS:
            headers["Content-Encoding"] = encoding
        return web.Response(status=self.status, headers=headers, body=self.body(encoding))

    def body(self, encoding: str) -> bytes:
        """Return what it answers in an encoding, "" for none; it is not decoded."""
        return f"{self.content} in {encoding or 'no'} encoding".encode()
