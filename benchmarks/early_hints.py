"""Does it help a first page to name what it needs ahead of it? Our proxy twice more, once with each way to say it."""

import asyncio
import re
from contextlib import ExitStack
from dataclasses import replace

from open_webui_edge.benchmarks import application, contenders
from open_webui_edge.benchmarks.application import Application
from open_webui_edge.benchmarks.contenders import OURS, Contender, Setting
from open_webui_edge.benchmarks.serving import Relay

LINK_HEADER, EARLY_HINTS = "link-header", "early-hints"
_PAGES = re.compile(r"(location / \{\n( +))proxy_pass http://open_webui;")
_PRELOADED = re.compile(r'<link href="(?P<path>/_app/immutable/[^"]+\.js)" rel="modulepreload">')


def start(opened: ExitStack, setting: Setting, running: Application) -> dict[str, Contender]:
    """Start both; what they need besides ends with `opened`."""
    with application.client(running.contender.address) as user:
        links = links_of(user.http.get("/auth").text)
    hinter = opened.enter_context(Hinter(setting.testbed.gateway, running, links))
    return {
        LINK_HEADER: contenders.start(
            OURS, replace(setting, suffix="-link"), lambda text: with_link_header(text, links)
        ),
        EARLY_HINTS: contenders.start(
            OURS,
            replace(setting, suffix="-103"),
            lambda text: with_early_hints(text, f"{hinter.address}:{hinter.port}"),
        ),
    }


def links_of(page: str) -> str:
    """Return a Link header with the modules that a page of the frontend preloads; raises ValueError without any."""
    paths = [match["path"] for match in _PRELOADED.finditer(page)]
    if not paths:
        raise ValueError("the page preloads no module")
    return ", ".join(f"<{path}>; rel=modulepreload" for path in paths)


def with_link_header(configuration: str, links: str) -> str:
    """Have the proxy send the links with the page."""
    return _in_pages(configuration, f"add_header Link '{links}';")


def with_early_hints(configuration: str, hinter: str) -> str:
    """Have the proxy pass on what comes from `hinter` (host:port) before the page."""
    return _in_pages(configuration, "early_hints 1;", hinter)


def _in_pages(configuration: str, directive: str, upstream: str = "open_webui") -> str:
    amended, count = _PAGES.subn(
        lambda match: f"{match[1]}{directive}\n{match[2]}proxy_pass http://{upstream};", configuration
    )
    if count != 1:
        raise ValueError(f"the configuration has {count} locations of pages, and one was to be amended")
    return amended


class Hinter(Relay):
    """A server between the proxy and the application that sends early hints (103) for each requested page."""

    def __init__(self, address: str, running: Application, links: str) -> None:
        """Listen on `address`."""
        super().__init__(address, (running.contender.address.ip, running.contender.address.port))
        self._hint = f"HTTP/1.1 103 Early Hints\r\nLink: {links}\r\n\r\n".encode()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"\r\nsec-fetch-mode: navigate\r\n" in head.lower():
            writer.write(self._hint)
            await writer.drain()
        there, to_there = await asyncio.open_connection(*self._target)
        # One request a connection: only the first would be hinted at.
        to_there.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        while data := await there.read(65536):
            writer.write(data)
            await writer.drain()
        to_there.close()
