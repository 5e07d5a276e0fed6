"""How long a person waits for a page: Chromium with an empty cache, and once more with a full one."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Playwright
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from open_webui_edge.benchmarks.browser import chromium
from open_webui_edge.benchmarks.waiting import wait_until

SIGN_IN, CHAT = "sign-in", "chat"
PAGES: Mapping[str, str] = {SIGN_IN: "/auth", CHAT: "/"}
# What a person waits for on it.
_VISIBLE: Mapping[str, str] = {SIGN_IN: "#password", CHAT: "#chat-input"}
_DEADLINE = 60.0
_QUIET_SECONDS = 0.5
_TRIES = 6
_INTERFACES_CHANGED = "net::ERR_NETWORK_CHANGED"
_PAINT = """() => {
    const [navigation] = performance.getEntriesByType("navigation");
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    return [paint ? paint.startTime : null, navigation.loadEventEnd];
}"""
_NOW = "() => performance.now()"


@dataclass(frozen=True)
class PageLoad:
    """One load of a page; times in milliseconds since the navigation began."""

    first_paint: float
    load: float
    visible: float
    """Until what a person waits for can be seen: the form's password, or the box to write in."""
    requests: int
    from_cache: int
    """Of the requests: answered without asking the server."""
    revalidated: int
    """Of the requests: answered by 304."""
    kibibytes: float
    """Over the network, headers included."""


class _DisturbedError(Exception):
    """The machine's interfaces changed under the page, and the browser gave its requests up."""


class _Traffic:
    """What a page asked for, as the browser's own protocol tells."""

    def __init__(self, context: BrowserContext, page: Page) -> None:
        """Listen from the start."""
        self.requests = 0
        self.revalidated = 0
        self.received = 0.0
        self.cached: set[str] = set()
        self.last_event = time.monotonic()
        self.is_disturbed = False
        devtools = context.new_cdp_session(page)
        devtools.on("Network.requestWillBeSent", self._note_request)
        devtools.on("Network.requestServedFromCache", self._note_cached)
        devtools.on("Network.responseReceived", self._note_response)
        devtools.on("Network.responseReceivedExtraInfo", self._note_status)
        devtools.on("Network.loadingFinished", self._note_end)
        devtools.on("Network.loadingFailed", self._note_failure)
        devtools.send("Network.enable")

    def _note_request(self, event: dict[str, Any]) -> None:
        self.last_event = time.monotonic()
        self.requests += event["request"]["url"].startswith("http")

    def _note_cached(self, event: dict[str, Any]) -> None:
        self.cached.add(event["requestId"])

    def _note_response(self, event: dict[str, Any]) -> None:
        if event["response"].get("fromDiskCache"):
            self.cached.add(event["requestId"])

    def _note_status(self, event: dict[str, Any]) -> None:
        # What the server only confirmed comes out of the cache as 200.
        self.revalidated += event["statusCode"] == HTTPStatus.NOT_MODIFIED

    def _note_end(self, event: dict[str, Any]) -> None:
        self.last_event = time.monotonic()
        if event["requestId"] not in self.cached:
            self.received += event["encodedDataLength"]

    def _note_failure(self, event: dict[str, Any]) -> None:
        self.is_disturbed |= event["errorText"] == _INTERFACES_CHANGED


class Visitor:
    """A browser whose every visit has an empty cache at first."""

    def __init__(self, browser: Browser, token: str) -> None:
        """Sign in with `token` where a page needs it."""
        self._browser = browser
        self._token = token

    def visit(self, url: str, page_name: str) -> tuple[PageLoad, PageLoad]:
        """Load a page with an empty cache, and once more with what that left in it.

        Raises:
            RuntimeError: the machine's interfaces changed in every try.

        """
        for _ in range(_TRIES):
            context = self._browser.new_context(viewport={"width": 1280, "height": 800})
            if page_name == CHAT:
                context.add_init_script(f"localStorage.token = {self._token!r}")
            try:
                return _load(context, url, page_name), _load(context, url, page_name)
            except _DisturbedError:
                continue
            finally:
                context.close()
        raise RuntimeError(f"network interfaces of this machine came and went in each of {_TRIES} visits to {url}")


@dataclass(frozen=True)
class Surroundings:
    """Where the browsers of a run live."""

    playwright: Playwright
    ca_file: str
    token: str
    insecure: str
    """The origin without TLS: taken as what localhost is to the person beside the machine."""
    executable: Path | None
    """What starts the browser; None: the machine's own."""

    @contextmanager
    def visitor(self, addresses: Mapping[str, str]) -> Iterator[Visitor]:
        """Open a browser that finds each host at its address (ip:port)."""
        rules = ", ".join(f"MAP {host} {address}" for host, address in addresses.items())
        arguments = [f"--host-resolver-rules={rules}", f"--unsafely-treat-insecure-origin-as-secure={self.insecure}"]
        with chromium(
            self.playwright, ca_file=self.ca_file, arguments=arguments, executable=self.executable
        ) as browser:
            yield Visitor(browser, self.token)


def in_network_of(process: int, folder: Path) -> Path | None:
    """Write a program that starts the browser in the network of another process; None where that takes a right.

    Among this machine's own interfaces it would give up its requests whenever a container comes or goes.
    """
    if os.geteuid() != 0:
        return None
    program = folder / "chromium"
    program.write_text(f'#!/bin/sh\nexec nsenter --net=/proc/{process}/ns/net chromium "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program


def _load(context: BrowserContext, url: str, page_name: str) -> PageLoad:
    page = context.new_page()
    traffic = _Traffic(context, page)
    try:
        page.goto(url + PAGES[page_name], wait_until="commit")
    except PlaywrightError as error:
        if _INTERFACES_CHANGED in error.message:
            raise _DisturbedError from None
        raise
    _wait_until_visible(page, traffic, _VISIBLE[page_name])
    visible = page.evaluate(_NOW)
    page.wait_for_load_state("load")

    def is_quiet() -> bool:
        # The browser's events only arrive while it is waited for.
        page.wait_for_timeout(50)
        return time.monotonic() - traffic.last_event > _QUIET_SECONDS

    # A page that is signed in never ends to ask; what it needs at first is there when it is quiet for a moment.
    wait_until(is_quiet, what="the page's first requests to end", deadline=_DEADLINE, every=0)
    first_paint, load = page.evaluate(_PAINT)
    page.close()
    if traffic.is_disturbed:
        raise _DisturbedError
    return PageLoad(
        first_paint, load, visible, traffic.requests, len(traffic.cached), traffic.revalidated, traffic.received / 1024
    )


def _wait_until_visible(page: Page, traffic: _Traffic, selector: str) -> None:
    deadline = time.monotonic() + _DEADLINE
    while True:
        try:
            page.locator(selector).wait_for(state="visible", timeout=2000)
        except PlaywrightTimeoutError:
            if traffic.is_disturbed:
                raise _DisturbedError from None
            if time.monotonic() > deadline:
                raise
        else:
            return
