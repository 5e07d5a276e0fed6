"""A person opens the deployment in a browser and chats."""

from pathlib import Path
from typing import Protocol

import pytest
from playwright.sync_api import Error

from open_webui_edge.benchmarks.model_server import ModelServer, count_to
from open_webui_edge.benchmarks.waiting import wait_until
from tests.support.browser import open_webui_page

pytestmark = pytest.mark.alone


class Deployment(Protocol):
    """What these tests need of a running deployment without any account yet."""

    url: str
    ca_file: Path
    model_server: ModelServer


def test_first_visitor_signs_up_and_sees_the_answer_grow(deployment: Deployment) -> None:
    whole = " ".join(str(number) for number in range(1, 21))
    with open_webui_page(deployment.url, ca_file=deployment.ca_file) as page:
        page.sign_up("ada@example.com", "correct horse battery staple", "Ada Lovelace")
        page.choose_model(deployment.model_server.models[0])
        page.screenshot("chat-1-signed-up")
        page.send(count_to(20, every=0.2))
        wait_until(page.answer, what="the beginning of the answer")
        page.screenshot("chat-2-answer-grows")
        seen = page.watch_answer(whole)
        page.screenshot("chat-3-answered")

    partial = [text for text in seen if text != whole]
    assert len(partial) >= 2, seen
    assert all(whole.startswith(text) for text in partial), seen
    assert [url for url in page.websockets if not url.startswith(deployment.url.replace("https://", "wss://", 1))] == []
    assert len(page.websockets) == 1, "the socket was dropped and opened again"
    assert page.complaints == []


def test_browser_without_the_ca_refuses_the_certificate(deployment: Deployment) -> None:
    with (
        open_webui_page(deployment.url, ca_file=None) as page,
        pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"),
    ):
        page.page.goto(deployment.url)
