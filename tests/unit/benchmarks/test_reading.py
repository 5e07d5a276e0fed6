"""What the tools report is read as it is meant, and a report of failures is no figure."""

import pytest

from open_webui_edge.benchmarks.load import LoadError, read_h2load, read_s_time

_H2LOAD = """\
starting benchmark...
finished in 1.50s, {rate} req/s, 1.06GB/s
requests: 10170 total, 10178 started, 10170 done, {good} succeeded, {failed} failed, {failed} errored, 0 timeout
status codes: {good} 2xx, 0 3xx, {wrong} 4xx, 0 5xx
"""
_S_TIME = """\
Collecting connection statistics for 2 seconds
1191 connections in 0.89s; 1338.20 connections/user sec, bytes read 0
1191 connections in 3 real seconds, 0 bytes read per connection
Collecting connection statistics for 2 seconds
1171 connections in 0.81s; 1445.68 connections/user sec, bytes read 0
elapsed 2004000000
"""


def test_requests_a_second_are_what_h2load_says() -> None:
    assert read_h2load(_H2LOAD.format(rate="6780.00", good=10170, failed=0, wrong=0)) == 6780.0


@pytest.mark.parametrize(
    ("failed", "wrong", "good"),
    [(62, 0, 8000), (0, 3, 10167), (0, 0, 0)],
    ids=["connections broke", "answers were errors", "nothing came"],
)
def test_a_run_with_failures_is_no_figure(failed: int, wrong: int, good: int) -> None:
    with pytest.raises(LoadError):
        read_h2load(_H2LOAD.format(rate="6780.00", good=good, failed=failed, wrong=wrong))


def test_a_report_of_something_else_is_no_figure() -> None:
    with pytest.raises(LoadError, match="measured nothing"):
        read_h2load("could not resolve the host")


def test_handshakes_of_both_clients_count() -> None:
    assert read_s_time(_S_TIME) == (2362, 2.004)


def test_clients_that_were_refused_are_no_figure() -> None:
    with pytest.raises(LoadError, match="no handshake"):
        read_s_time("ERROR\nelapsed 21799365\n")
