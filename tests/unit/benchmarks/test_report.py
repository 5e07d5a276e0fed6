"""What is written and drawn says what was measured."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from open_webui_edge.benchmarks import report
from open_webui_edge.benchmarks.contenders import OURS, TITLES
from open_webui_edge.benchmarks.drawing import Bar, Panel, draw, length
from open_webui_edge.benchmarks.lines import LINES
from open_webui_edge.benchmarks.results import Results

_SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def results() -> Results:
    """A run in which ours is as good as the limit, and everybody else half as good."""
    made = Results(
        circumstances={
            "date": "2026-11-24",
            "machine": "2 × a processor",
            "engine": "28",
            "load_before": 0.25,
            "openssl": "3.5.0",
            "versions": dict.fromkeys(TITLES, "1.0"),
            "assets": {"chunk": {OURS: {"path": "/a.js", "encoding": "br", "bytes": 1234}}},
        }
    )
    for line in LINES:
        for name in line.contenders:
            good = name in {OURS, "bare"}
            for _ in range(3):
                rate, cost = (2000.0, 1.0) if good else (10.0, 1.2)
                made.add(line.key, name, rate if line.more_is_better else cost)
    for page in ("sign-in", "chat"):
        for network in ("near", "far"):
            for cache in ("cold", "warm"):
                for what in ("first_paint", "load", "visible", "requests", "from_cache", "revalidated", "kibibytes"):
                    for name in ("direct", OURS):
                        made.add(f"page-{page}-{network}-{cache}-{what}", name, 100.0)
    return made


def test_results_survive_the_way_through_a_file(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results


def test_the_page_has_a_row_for_every_line_and_every_target(results: Results) -> None:
    page = report.page(results)
    for line in LINES:
        assert f"| {line.title} ({line.unit}) |" in page
        for target in line.targets:
            assert f"| {line.title}: {target.words(line)} |" in page
    assert "| met |" in page
    assert "missed" not in page


def test_a_missed_target_is_named_at_the_end_of_a_run(results: Results) -> None:
    results.series["chunk-h1"][OURS] = [100.0, 100.0, 100.0]
    said = report.summary(results)
    assert "missed: script of 450 KB, h1: ≥ 0.9 × bare Nginx" in said
    assert "missed: script of 450 KB, h1: ≥ 70 × direct" in said


def test_a_peer_that_is_ahead_stands_out(results: Results) -> None:
    results.series["websocket"]["haproxy"] = [0.5, 0.5, 0.5]
    page = report.page(results)
    assert "| memory of an idle WebSocket | ahead | **behind** |" in page
    assert "it releases their buffers" in page


def test_nobody_is_excused_who_is_not_behind(results: Results) -> None:
    page = report.page(results)
    assert "HAProxy needs less memory" not in page
    assert "HAProxy serves some files faster" not in page


def test_a_run_of_a_part_is_a_page_too(results: Results) -> None:
    results.series = {"config": results.series["config"]}
    assert "Loading a page" not in report.page(results)


def test_page_and_drawings_are_written(results: Results, tmp_path: Path) -> None:
    written = report.write(results, tmp_path)
    assert [file.name for file in written] == ["benchmarks.md", "benchmarks.svg", "page-load.svg"]
    for file in written[1:]:
        assert ET.fromstring(file.read_text()).tag == f"{_SVG}svg"  # noqa: S314 - our own text


def test_a_drawing_escapes_what_it_is_told() -> None:
    drawn = ET.fromstring(draw("a < b & 'c'", [Panel("p", [Bar("<x>", 1, "1 & 2")])]))  # noqa: S314 - our own text
    assert drawn.attrib["aria-label"] == "a < b & 'c'"
    assert "<x>" in [text.text for text in drawn.iter(f"{_SVG}text")]


def test_bars_are_as_long_as_they_say() -> None:
    assert length(50, [100, 50], logarithmic=False) == 0.5
    assert length(100, [100, 1], logarithmic=True) == pytest.approx(1.0)
    assert length(1, [100, 1], logarithmic=True) == pytest.approx(0.1)
    assert length(10, [100, 1], logarithmic=True) == pytest.approx(0.55)
    assert length(0, [0, 0], logarithmic=False) == 0


def test_the_limits_stand_beside_the_targets(results: Results) -> None:
    page = report.page(results)
    assert "| image of 21 KB, h2: ≥ 0.9 × bare Nginx | 1.00 × (with the same headers: 0.01 ×) | met |" in page
    assert "| image of 21 KB, h2: ≥ 70 × direct | 200.00 × (bare Nginx: 200 ×) | met |" in page
