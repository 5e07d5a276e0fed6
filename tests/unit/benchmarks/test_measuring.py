"""What is measured is what is said to be measured."""

import pytest

from open_webui_edge.benchmarks.application import nearest
from open_webui_edge.benchmarks.contenders import with_endless_connections
from open_webui_edge.benchmarks.early_hints import links_of, with_early_hints, with_link_header
from open_webui_edge.benchmarks.model_server import Token
from open_webui_edge.benchmarks.open_webui_client import Answer, Delta
from open_webui_edge.benchmarks.streams import arrivals, delays

_CONFIGURATION = """\
events {
}

http {
    server {
        location / {
            proxy_pass http://open_webui;
        }
    }
}
"""


def test_the_script_nearest_to_the_size_is_chosen() -> None:
    assert nearest([(100, "/a.js"), (460, "/c.js"), (440, "/b.js"), (900, "/d.js")], 450) == "/b.js"


def test_a_token_has_arrived_when_its_last_character_has() -> None:
    sent = [Token(0.0, "1"), Token(1.0, " 2"), Token(2.0, " 3")]
    assert arrivals([Delta(0.5, "1 "), Delta(1.5, "2 3")], sent) == [0.5, 1.5, 1.5]


def test_a_delay_is_from_sending_to_receiving_and_the_first_is_from_the_question() -> None:
    sent = [Token(10.0, "1"), Token(10.5, " 2")]
    answer = Answer(9.0, [Delta(10.002, "1"), Delta(10.503, " 2")])
    measured = delays(answer, sent)
    assert measured.first == pytest.approx(1002)
    assert list(measured.tokens) == pytest.approx([3.0])


def test_an_answer_that_was_not_sent_is_no_figure() -> None:
    with pytest.raises(ValueError, match="arrived"):
        delays(Answer(0.0, [Delta(1.0, "1 3")]), [Token(0.0, "1"), Token(0.5, " 2")])


def test_connections_are_made_endless_once() -> None:
    amended = with_endless_connections(_CONFIGURATION)
    assert amended.count("keepalive_requests") == 1
    with pytest.raises(ValueError, match="endless"):
        with_endless_connections(amended)


def test_links_are_those_that_the_page_preloads() -> None:
    page = '<link href="/_app/immutable/a.js" rel="modulepreload">\n<link href="/x.css" rel="stylesheet">'
    assert links_of(page) == "</_app/immutable/a.js>; rel=modulepreload"
    with pytest.raises(ValueError, match="preloads no module"):
        links_of("<p>nothing</p>")


def test_hints_are_put_into_the_location_of_pages() -> None:
    assert "location / {\n            add_header Link 'x';\n            proxy_pass" in with_link_header(
        _CONFIGURATION, "x"
    )
    hinted = with_early_hints(_CONFIGURATION, "10.0.0.1:80")
    assert "location / {\n            early_hints 1;\n            proxy_pass http://10.0.0.1:80;" in hinted


def test_a_configuration_without_pages_is_refused() -> None:
    with pytest.raises(ValueError, match="0 locations"):
        with_link_header("http {\n}\n", "x")
