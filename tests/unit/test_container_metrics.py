"""What a replica's container says of itself, read from control groups of either version."""

from pathlib import Path

import pytest

from open_webui_edge.runtime.open_webui import container_metrics
from open_webui_edge.runtime.open_webui.container_metrics import ContainerMetrics

SECOND = {
    "memory.current": "1000\n",
    "memory.max": "4000\n",
    "memory.stat": "anon 700\ninactive_file 300\n",
    "memory.events": "low 0\noom 3\noom_kill 2\n",
}
FIRST = {
    "memory/memory.usage_in_bytes": "1000\n",
    "memory/memory.limit_in_bytes": "4000\n",
    "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 300\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
}


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_metrics, "is_ready", lambda _application, _patience: True)


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def values(text: str) -> dict[str, float]:
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("open_webui_edge_"): float(value) for name, value in lines}


@pytest.mark.parametrize("files", [FIRST, SECOND], ids=["version 1", "version 2"])
def test_memory_is_what_is_not_given_back_at_once(tmp_path: Path, files: dict[str, str]) -> None:
    said = values(ContainerMetrics(tmp_path / "starts", written(tmp_path / "groups", files)).text(draining=False))
    assert said["container_memory_bytes"] == 700
    assert said["container_memory_limit_bytes"] == 4000
    assert said["container_oom_kills_total"] == 2
    assert (said["replica_ready"], said["replica_draining"]) == (1, 0)


@pytest.mark.parametrize(
    "files",
    [{**SECOND, "memory.max": "max\n"}, {**FIRST, "memory/memory.limit_in_bytes": "9223372036854771712\n"}],
    ids=["version 2", "version 1"],
)
def test_no_limit_is_none(tmp_path: Path, files: dict[str, str]) -> None:
    said = values(ContainerMetrics(tmp_path / "starts", written(tmp_path / "groups", files)).text(draining=True))
    assert "container_memory_limit_bytes" not in said
    assert said["replica_draining"] == 1


@pytest.mark.parametrize("files", [{}, {"memory.current": "1"}, {**SECOND, "memory.stat": "nothing known"}], ids=str)
def test_what_cannot_be_read_is_left_out(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "groups").mkdir()
    said = values(ContainerMetrics(tmp_path / "starts", written(tmp_path / "groups", files)).text(draining=False))
    assert not [name for name in said if "memory" in name]
    assert said["replica_ready"] == 1


def test_starts_are_counted_beyond_the_container_s_end(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    for count in (1, 2, 3):
        assert values(ContainerMetrics(starts, tmp_path).text(draining=False))["container_starts_total"] == count
    starts.write_text("spoilt")
    assert "container_starts_total" not in values(ContainerMetrics(starts, tmp_path).text(draining=False))


def test_it_is_the_text_that_prometheus_reads(tmp_path: Path) -> None:
    text = ContainerMetrics(tmp_path / "starts", written(tmp_path / "groups", SECOND)).text(draining=False)
    assert (
        "# HELP open_webui_edge_container_memory_bytes Memory in use that is not given back at once.\n"
        "# TYPE open_webui_edge_container_memory_bytes gauge\n"
        "open_webui_edge_container_memory_bytes 700\n"
    ) in text
    assert text.endswith("\n")


@pytest.mark.parametrize(("within", "seconds"), [("10", 3), ("1", 0.5), ("soon", 3), (None, 3)], ids=str)
def test_application_has_less_time_to_answer_than_whoever_asks_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within: str | None, seconds: float
) -> None:
    asked: list[float] = []

    def note(_: object, patience: float) -> bool:
        asked.append(patience)
        return False

    monkeypatch.setattr(container_metrics, "is_ready", note)
    said = values(ContainerMetrics(tmp_path / "starts", tmp_path).text(draining=False, within=within))
    assert (asked, said["replica_ready"]) == ([seconds], 0)
