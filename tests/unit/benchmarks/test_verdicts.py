"""A target is judged by the rounds, in the direction that is better."""

import pytest

from open_webui_edge.benchmarks.contenders import BARE, CADDY, DIRECT, HAPROXY, OURS
from open_webui_edge.benchmarks.lines import LINES, Standing, Verdict
from open_webui_edge.benchmarks.results import Results, quartiles

BY_KEY = {line.key: line for line in LINES}


def results(line: str, **values: list[float]) -> Results:
    return Results(series={line: values})


@pytest.mark.parametrize(
    ("ours", "verdict"), [([90.0, 91.0, 200.0], Verdict.MET), ([89.0, 80.0, 200.0], Verdict.MISSED)]
)
def test_a_rate_reaches_a_part_of_the_limit(ours: list[float], verdict: Verdict) -> None:
    line = BY_KEY["chunk-h1"]
    assert line.targets[0].verdict(line, results(line.key, ours=ours, bare=[100.0, 100.0, 100.0])) is verdict


def test_a_round_is_compared_with_itself_and_no_other() -> None:
    line = BY_KEY["chunk-h1"]
    # The machine was busy in two rounds of three, for both.
    measured = results(line.key, ours=[95.0, 9.5, 19.0], bare=[100.0, 10.0, 20.0])
    assert line.targets[0].reached(line, measured) == pytest.approx(0.95)


@pytest.mark.parametrize(("ours", "verdict"), [(5.29, Verdict.MET), (5.31, Verdict.MISSED)])
def test_a_delay_stays_within_a_margin(ours: float, verdict: Verdict) -> None:
    line = BY_KEY["config"]
    assert line.targets[0].verdict(line, results(line.key, ours=[ours], direct=[5.0])) is verdict


@pytest.mark.parametrize(("ours", "verdict"), [(102.0, Verdict.MET), (104.0, Verdict.MISSED)])
def test_a_cost_is_no_worse_within_the_noise(ours: float, verdict: Verdict) -> None:
    line = BY_KEY["websocket"]
    assert line.targets[0].verdict(line, results(line.key, ours=[ours], bare=[100.0])) is verdict


@pytest.mark.parametrize(("ours", "verdict"), [(98.0, Verdict.MET), (96.0, Verdict.MISSED)])
def test_a_rate_is_no_worse_within_the_noise(ours: float, verdict: Verdict) -> None:
    line = BY_KEY["handshake"]
    assert line.targets[0].verdict(line, results(line.key, ours=[ours], bare=[100.0])) is verdict


def test_what_was_not_measured_is_not_judged() -> None:
    line = BY_KEY["chunk-h1"]
    assert line.targets[0].verdict(line, results(line.key, ours=[1.0])) is None
    assert line.standing(CADDY, results(line.key, ours=[1.0])) is None


@pytest.mark.parametrize(
    ("ours", "standing"),
    [
        ([120.0, 121.0, 122.0], Standing.AHEAD),
        ([101.0, 102.0, 101.0], Standing.LEVEL),
        ([80.0, 85.0, 130.0, 131.0], Standing.LEVEL),
        ([80.0, 81.0, 82.0], Standing.LAGGING),
    ],
    ids=["more in each round", "below the noise", "rounds disagree", "less in each round"],
)
def test_a_peer_is_ahead_only_if_the_rounds_say_so(ours: list[float], standing: Standing) -> None:
    line = BY_KEY["image-h2"]
    assert line.standing(HAPROXY, results(line.key, ours=ours, haproxy=[100.0] * len(ours))) is standing


def test_less_memory_is_ahead() -> None:
    line = BY_KEY["websocket"]
    assert line.standing(CADDY, results(line.key, ours=[20.0], caddy=[60.0])) is Standing.AHEAD


def test_every_line_has_a_target_against_a_contender_of_its_own() -> None:
    for line in LINES:
        assert OURS in line.contenders
        assert line.targets
        assert {target.against for target in line.targets} <= {BARE, DIRECT} & set(line.contenders)


def test_quartiles_of_one_round_are_that_round() -> None:
    assert quartiles([3.0]) == (3.0, 3.0, 3.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)
