"""Waiting that gives up has to say for what."""

import pytest

from open_webui_edge.benchmarks.waiting import wait_until


def test_wait_returns_the_first_true_answer() -> None:
    answers = iter([None, 0, "here", "later"])
    assert wait_until(lambda: next(answers), what="an answer", every=0) == "here"


def test_wait_that_gives_up_names_what_was_awaited_and_the_last_answer() -> None:
    with pytest.raises(TimeoutError, match=r"^waited 0\.01 s for the moon; the last try came to ''$"):
        wait_until(lambda: "", what="the moon", deadline=0.01, every=0.001)


def test_wait_passes_an_unexpected_exception_through() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0, what="infinity", ignoring=(OSError,))
