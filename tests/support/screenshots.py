"""Takes the screenshots of the documentation: `make screenshots` writes docs/images/*.png.

It brings up a stack of its own on this machine's Docker engine, with an OpenAI-compatible model server that stands in
for a language model, photographs it in Chromium, and removes it. It is here because the browser, the stack and the
model server are the tests', and no other folder may import them. Take them while nothing else runs: a network that
another stack makes costs the browser its requests, and a busy machine costs the doctor answers.
"""

import ipaddress
import os
import sys
import tempfile
from pathlib import Path

import docker
from playwright.sync_api import sync_playwright

from open_webui_edge.benchmarks.browser import chromium
from open_webui_edge.benchmarks.model_server import ModelServer
from open_webui_edge.cli.arguments import reported
from tests.support import run
from tests.support.browser import open_webui_page
from tests.support.machine import pulumi_environment
from tests.support.stack import StackUnderTest, Workshop

IMAGES = Path(__file__).parents[2] / "docs/images"
_STACK = "screenshots"
_KEY = "sk-of-the-screenshots"
_PASSWORD = "correct horse battery staple"
_PROMPT = "Which part of this chat travels over a WebSocket?"
_ANSWER = """\
**This answer does.** Your message went to Open WebUI as an ordinary HTTPS request. The answer comes back token by \
token over one WebSocket at `/ws/`:

1. Your browser asks for the upgrade over HTTP/1.1.
2. Nginx passes it on unbuffered and keeps the socket open while you think.
3. Open WebUI sends each token as soon as the model writes it.
"""
_WIDTH, _HEIGHT, _MARGIN = 1120, 560, 12


def main() -> int:
    """Prepare what the tests need, and take all screenshots."""
    os.environ.update(run.pulumi_for_tests())
    with run.engine_for_tests(recent=False) as surroundings:
        os.environ.update(surroundings.environment)
        _take_all()
    return 0


def _take_all() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    engine = docker.from_env()
    with (
        tempfile.TemporaryDirectory(prefix="screenshots-") as folder,
        ModelServer(_bridge_address(engine), keys=[_KEY], models=["demo-model"], answers={_PROMPT: _ANSWER}) as model,
    ):
        stack = StackUnderTest(
            Workshop.at(Path(folder), pulumi_environment()),
            _STACK,
            {
                "open_webui": {"admin": {"email": "ada@example.com", "name": "Ada"}},
                "models": {
                    "providers": [{"url": f"http://host.docker.internal:{model.port}/v1"}],
                    "ollama": {"mode": "none"},
                },
            },
            secrets={"models.providers[0].api_key": _KEY, "open_webui.admin.password": _PASSWORD},
            engine=engine,
        )
        with stack.running():
            stack.wait_until_ready()
            _take_chat(stack)
            # A provider that refuses its key: something that happens to people, and that the page explains.
            model.keys = {"another key"}
            _take_doctor(stack)


def _take_chat(stack: StackUnderTest) -> None:
    with open_webui_page(stack.url, ca_file=stack.ca_file, width=_WIDTH, height=_HEIGHT) as tab:
        tab.sign_in("ada@example.com", _PASSWORD)
        tab.page.get_by_role("button", name="Okay, Let's Go!").click()  # the release notes, at the first visit
        tab.choose_model("demo-model")
        tab.send(_PROMPT)
        tab.page.get_by_text("as soon as the model writes it.").wait_for()
        tab.page.get_by_role("button", name="Voice mode").wait_for()  # in place of the button that stops an answer
        tab.page.mouse.move(0, 0)  # what is below it shows more than the rest
        tab.page.screenshot(path=IMAGES / "chat.png")


def _take_doctor(stack: StackUnderTest) -> None:
    # Exit code 2 of make: the doctor found a failure, which is what the picture is about.
    stack.workshop.run("make", "doctor", f"STACK={stack.name}")
    report = stack.workshop.directory / f"build/doctor-{stack.name}.html"
    with sync_playwright() as playwright, chromium(playwright, ca_file=None) as browser:
        page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        page.goto(report.as_uri())
        finding = page.locator("article.failure").first.bounding_box()
        assert finding is not None, "the doctor found no failure"
        height = finding["y"] + finding["height"] + _MARGIN
        page.screenshot(
            path=IMAGES / "doctor.png", full_page=True, clip={"x": 0, "y": 0, "width": _WIDTH, "height": height}
        )


def _bridge_address(engine: docker.DockerClient) -> str:
    """Return the address of this machine that containers know as host.docker.internal."""
    (network, *_) = engine.networks.get("bridge").attrs["IPAM"]["Config"]
    # Older engines report the gateway only where it was configured; otherwise it is the network's first address.
    return network.get("Gateway") or str(next(ipaddress.ip_network(network["Subnet"]).hosts()))


if __name__ == "__main__":
    sys.exit(reported(main))
