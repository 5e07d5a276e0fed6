"""A person at a browser who uses Open WebUI by what it shows."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path

from playwright.sync_api import (
    ConsoleMessage,
    Error,
    Locator,
    Page,
    Request,
    Response,
    sync_playwright,
)

from open_webui_edge.benchmarks.browser import chromium
from open_webui_edge.benchmarks.waiting import wait_until

ARTEFACTS = Path(__file__).resolve().parents[2] / "build" / "test-artefacts"
"""Where screenshots go, to be looked at after a run."""

DEADLINE = 180.0
"""Seconds that a page may take for one step: the frontend is 800 files, the machine may be small, and busy besides."""

_NETWORKS_CHANGED = "net::ERR_NETWORK_CHANGED"
"""Containers come and go on the same machine; the page asks again."""
_ERROR_PAGE = "chrome-error://chromewebdata/"
"""What comes in the place of a page that a change cost its loading, also in the midst of the next attempt."""


class OpenWebUIPage:
    """Open WebUI in a tab, used by what a person sees: labels, buttons, texts."""

    def __init__(self, page: Page, url: str) -> None:
        """Note from the start what the browser complains of."""
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        """Errors on the console, requests that failed, answers from 400 up."""
        self.websockets: list[str] = []
        """The URLs of the WebSockets that the page opened."""
        self._network_changes = 0
        page.set_default_timeout(DEADLINE * 1000)
        page.on("console", self._note_console)
        page.on("requestfailed", self._note_failed_request)
        page.on("response", self._note_response)
        page.on("websocket", lambda websocket: self.websockets.append(websocket.url))

    def open(self, url: str) -> None:
        """Open a URL; retry if a network came or went meanwhile, as a browser does by itself."""
        for _ in range(5):
            met = self._network_changes
            try:
                self.page.goto(url)
            except Error as error:
                # It may have cost a page that loads itself again its next loading.
                is_of_a_change = _NETWORKS_CHANGED in error.message or _ERROR_PAGE in error.message
                if not is_of_a_change and met == self._network_changes:
                    raise
            else:
                return
        self.page.goto(url)

    def sign_up(self, email: str, password: str, name: str = "Test User") -> None:
        """Create the first account, which is the admin, and read the release notes away."""
        self.open(self.url)
        start = self.page.get_by_role("button", name="Get started")
        self.wait_for(start, what=f"the first page of {self.url}")
        start.click()
        self.page.get_by_label("Name").fill(name)
        self._fill_in_and_submit(email, password, "Create Admin Account")
        self.page.get_by_role("button", name="Okay, Let's Go!").click()

    def sign_in(self, email: str, password: str) -> None:
        """Sign in to an account."""
        self.open(f"{self.url}/auth")
        self.wait_for(self.page.get_by_label("Email"), what=f"the sign-in page of {self.url}")
        self._fill_in_and_submit(email, password, "Sign in")

    def wait_for_chat(self) -> None:
        """Wait until a user is signed in."""
        self.wait_for(self.page.locator("#chat-input"), what=f"the chat at {self.url}")

    def wait_for(self, part: Locator, *, what: str) -> None:
        """Wait until a part of the page is visible; reload if a network that came or went cost the page a response."""
        changes = 0

        def is_visible() -> bool:
            nonlocal changes
            if changes != self._network_changes:
                changes = self._network_changes
                self.open(self.page.url)
            return part.is_visible()

        wait_until(is_visible, what=what, deadline=DEADLINE)

    def choose_model(self, name: str) -> None:
        """Pick a model for the chat."""
        self.page.locator("#model-selector-model-button").click()
        self.page.get_by_role("option", name=f"Select {name} model").click()

    def send(self, prompt: str) -> None:
        """Type a message and send it."""
        self.page.locator("#chat-input").fill(prompt)
        self.page.get_by_role("button", name="Send message").click()

    def answer(self) -> str:
        """Return what can be read of the newest answer at this moment; "" when there is none yet."""
        answers = self.page.locator("#response-content-container")
        return answers.last.inner_text().strip() if answers.count() else ""

    def watch_answer(self, whole: str) -> list[str]:
        """Wait until the newest answer reads `whole`, and return every text that was seen on the way, it included."""
        seen: list[str] = []

        def is_whole() -> bool:
            text = self.answer()
            if text and text not in seen:
                seen.append(text)
            return text == whole

        wait_until(is_whole, what=f"the answer {whole!r} on the page", deadline=DEADLINE, every=0.05)
        return seen

    def screenshot(self, name: str) -> Path:
        """Take a picture for the artefacts, and return its path."""
        path = ARTEFACTS / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def _fill_in_and_submit(self, email: str, password: str, button: str) -> None:
        self.page.get_by_label("Email").fill(email)
        self.page.locator("#password").fill(password)
        self.page.get_by_role("button", name=button, exact=True).click()
        self.page.locator("#chat-input").wait_for()

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and _NETWORKS_CHANGED not in message.text:
            self.complaints.append(f"console: {message.text}")

    def _note_failed_request(self, request: Request) -> None:
        self._network_changes += request.failure == _NETWORKS_CHANGED
        # A request that the page gave up itself, as when it navigates, is no fault.
        if request.failure not in {"net::ERR_ABORTED", _NETWORKS_CHANGED}:
            self.complaints.append(f"{request.method} {request.url}: {request.failure}")

    def _note_response(self, response: Response) -> None:
        if response.status >= HTTPStatus.BAD_REQUEST:
            self.complaints.append(f"{response.request.method} {response.url}: {response.status}")


@contextmanager
def open_webui_page(  # noqa: PLR0913 - keywords, each a thing of its own
    url: str,
    *,
    ca_file: str | Path | None,
    home: Path | None = None,
    arguments: Sequence[str] = (),
    width: int = 1280,
    height: int = 800,
) -> Generator[OpenWebUIPage]:
    """Open a browser of its own that trusts `ca_file` (None: only what Chromium comes with), and a tab in it.

    Or one of the person whose `home` is given, who trusts whom that says.

    When the block fails, a screenshot `failed.png` and the browser's complaints are left among the artefacts.
    """
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    with (
        sync_playwright() as playwright,
        chromium(playwright, ca_file=ca_file, home=home, arguments=arguments) as browser,
    ):
        page = OpenWebUIPage(browser.new_page(viewport={"width": width, "height": height}), url)
        try:
            yield page
        except BaseException:
            # A page that never came cannot always be pictured, and what the test has to say is why it did not.
            with suppress(Error):
                page.screenshot("failed")
            (ARTEFACTS / "failed.txt").write_text("\n".join([page.page.url, *page.complaints]) + "\n", encoding="utf-8")
            raise
