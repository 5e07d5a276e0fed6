"""What is measured is what is said to be measured."""

import pytest

from open_webui_edge.benchmarks.application import nearest
from open_webui_edge.benchmarks.contenders import with_endless_connections
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
