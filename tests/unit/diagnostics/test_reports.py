"""The same diagnosis for people at a terminal, for machines, and as a page."""

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from open_webui_edge.diagnostics.finding import Finding, Hop, Remedy, Severity
from open_webui_edge.diagnostics.question import Diagnosis
from open_webui_edge.diagnostics.report import document, page, table
from open_webui_edge.diagnostics.subject import Expectations, Subject

HOSTILE = "<script>alert(1)</script>\"'&\x1b[2J\x9b31m\u202e"


def diagnosis(*further: Finding, expected: Expectations | None = None) -> Diagnosis:
    findings = (
        Hop.HOST.ok("port.open", "It takes connections."),
        Finding(
            "websocket.upgrade",
            Severity.FAILURE,
            Hop.PROXY,
            "The header Upgrade is lost.",
            "Chats do nothing.",
            "In Nginx `proxy_set_header Upgrade $http_upgrade;`.",
            setting="proxy.websocket.enabled",
            value="false",
            remedy=Remedy("Install the configuration again.", str),
            explains=("websocket.compared",),
        ),
        Finding("websocket.compared", Severity.UNKNOWN, Hop.PROXY, "Not asked.", explained_by=("websocket.upgrade",)),
        Hop.PROXY.note("headers.hsts", "It is not set."),
        *further,
    )
    asked_at = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
    titles = {"websocket.upgrade": "WebSocket"}
    return Diagnosis(Subject("https://chat.example.com", expected=expected), findings, titles, 3.21, asked_at)


def test_table_says_first_what_to_do_first() -> None:
    assert table(diagnosis()) == (
        "https://chat.example.com: 1 failure, 1 passed, 1 note (3 s)\n"
        "\n"
        "FAILURE  websocket.upgrade (proxy)\n"
        "         Seen: The header Upgrade is lost.\n"
        "         Why: Chats do nothing.\n"
        "         Fix: In Nginx `proxy_set_header Upgrade $http_upgrade;`.\n"
        "         Setting: proxy.websocket.enabled: false\n"
        "         FIX=yes: Install the configuration again.\n"
        "         so not asked: websocket.compared\n"
        "\n"
        "NOTE     headers.hsts (proxy)\n"
        "         Seen: It is not set.\n"
        "\n"
        "OK       port.open"
    )


def test_table_is_coloured_only_where_that_is_wanted() -> None:
    assert "\x1b" not in table(diagnosis())
    assert "\x1b[1;31mFAILURE\x1b[0m" in table(diagnosis(), colour=True)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_table_is_as_wide_as_it_may_be(width: int) -> None:
    words = Hop.PROXY.note("a", "word " * 60)
    assert max(map(len, table(diagnosis(words), width=width).splitlines()[1:])) <= max(width, 60)


def test_nothing_that_a_stranger_wrote_moves_the_cursor() -> None:
    shown = table(diagnosis(Hop.PROXY.note("a", HOSTILE)))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert "<script>alert(1)</script>" in shown


def test_document_has_a_version_and_every_word() -> None:
    (upgrade, note, port) = document(diagnosis())["findings"]
    assert {key: value for key, value in document(diagnosis()).items() if key != "findings"} == {
        "version": 1,
        "url": "https://chat.example.com",
        "asked_at": "2026-11-25T12:00:00+00:00",
        "seconds": 3.2,
        "verdict": "failure",
        "exit_code": 2,
    }
    assert upgrade == {
        "check": "websocket.upgrade",
        "severity": "failure",
        "hop": "proxy",
        "question": "WebSocket",
        "seen": "The header Upgrade is lost.",
        "why": "Chats do nothing.",
        "fix": "In Nginx `proxy_set_header Upgrade $http_upgrade;`.",
        "setting": "proxy.websocket.enabled",
        "value": "false",
        "remedy": "Install the configuration again.",
        "explains": [upgrade["explains"][0]],
    }
    assert upgrade["explains"][0]["check"] == "websocket.compared"
    assert (note["check"], port["check"]) == ("headers.hsts", "port.open")


def test_document_is_json_whatever_a_stranger_wrote() -> None:
    written = json.dumps(document(diagnosis(Hop.PROXY.note("a", HOSTILE))))
    assert written.isascii()
    assert not re.search(r"[\x00-\x1f]", written)


class Tags(HTMLParser):
    """What a page consists of."""

    def __init__(self) -> None:
        super().__init__()
        self.result: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.result.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    return tags


def test_page_needs_nothing_from_elsewhere() -> None:
    tags = read(page(diagnosis()))
    assert {tag for tag, _ in tags.result}.isdisjoint({"script", "link", "img", "iframe", "object", "base", "form"})
    assert not [attributes for _, attributes in tags.result if {"src", "href", "onload"} & set(attributes)]
    assert "@import" not in page(diagnosis())
    assert "url(" not in page(diagnosis())
    policy = next(attributes for tag, attributes in tags.result if tag == "meta" and "http-equiv" in attributes)
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_page_shows_what_a_stranger_wrote_as_text() -> None:
    hostile = Finding(HOSTILE, Severity.WARNING, Hop.MODELS, HOSTILE, HOSTILE, HOSTILE, setting=HOSTILE, value=HOSTILE)
    tags = read(page(diagnosis(hostile)))
    assert "script" not in {tag for tag, _ in tags.result}
    assert tags.text.count("<script>alert(1)</script>") == 6
    assert "\x1b" not in tags.text


def test_picture_marks_the_hop_that_fails_and_leaves_out_what_is_not_there() -> None:
    drawn = page(diagnosis())
    assert '<g class="failure"><rect' in drawn
    assert ">outer proxy</text>" not in drawn
    assert "From the browser to an answer: name not asked, host ok, proxy fails, Open WebUI not asked" in drawn


def test_picture_has_the_outer_proxy_where_there_is_one() -> None:
    assert ">outer proxy</text>" in page(diagnosis(expected=Expectations(outer_proxy=True)))
    assert ">outer proxy</text>" in page(diagnosis(Hop.OUTER_PROXY.note("silence.hops", "Cloudflare.")))


def test_page_of_a_deployment_that_is_well_says_so() -> None:
    fine = Diagnosis(Subject("https://chat.example.com"), (Hop.PROXY.ok("a", "well"),))
    assert "Nothing to do" in page(fine)
    assert "<title>OK: https://chat.example.com</title>" in page(fine)
