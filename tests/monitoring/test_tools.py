"""Rules and counts are read by promtool, the very program of the image."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from open_webui_edge.components.monitoring.rendering import render_prometheus
from open_webui_edge.runtime.open_webui.request_counter import Counts
from open_webui_edge.settings.images import PROMETHEUS, ImageSource
from tests.support.machine import image_here

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "components/monitoring/rules"
CASES = ROOT / "tests/cases/alerts"
LINES = (
    "pages answer 200 0.012 0.000 0.011 HIT 1200 400 HTTP/2.0",
    "models stream 200 3.100 0.001 0.402 - 5000 900 HTTP/1.1",
    "sockets socket 101 75.000 0.001 0.002 - 9000 600 HTTP/1.1",
)


@pytest.fixture(scope="module")
def image() -> str:
    """Prometheus' own image."""
    return image_here(PROMETHEUS.reference(ImageSource.BUILT, None))


def run(
    image: str, program: str, *words: str, volumes: Sequence[str] = (), given: str | None = None
) -> subprocess.CompletedProcess[str]:
    options = [
        "--rm",
        "--interactive",
        "--network=none",
        "--tmpfs=/tmp",
        *(f"--volume={volume}:ro" for volume in volumes),
    ]
    command = ["docker", "run", *options, f"--entrypoint={program}", image, *words]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)  # noqa: S603


def test_every_alert_is_raised_when_it_should_be_and_only_then(image: str) -> None:
    cases = sorted(CASES.glob("*.yaml"))
    # They name the rules by the way from where they lie in this repository.
    volumes = [f"{folder}:/repository/{folder.relative_to(ROOT)}" for folder in (RULES, CASES)]
    words = [f"/repository/{case.relative_to(ROOT)}" for case in cases]
    ended = run(image, "promtool", "test", "rules", *words, volumes=volumes)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (ended.stdout + ended.stderr).count("SUCCESS") == len(cases)


def test_configuration_with_its_rules_is_one_that_prometheus_takes(image: str, tmp_path: Path) -> None:
    configuration = render_prometheus(
        stack="chat's",
        seconds=15,
        proxy="nginx:9145",
        counter="request-counter:3903",
        replicas={"open-webui-1": "open-webui-1:8079"},
        alertmanagers=["http://one:9093", "https://two.example.com/team/"],
    )
    (tmp_path / "prometheus.yml").write_text(configuration)
    volumes = [f"{tmp_path}/prometheus.yml:/given/prometheus.yml", f"{RULES}:/given/rules"]
    ended = run(
        image, "promtool", "check", "config", "--lint=all", "--lint-fatal", "/given/prometheus.yml", volumes=volumes
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rules = sum(
        len(group["rules"]) for file in RULES.glob("*.yaml") for group in yaml.safe_load(file.read_text())["groups"]
    )
    assert sum(int(line.split()[1]) for line in ended.stdout.splitlines() if "rules found" in line) == rules


def test_counts_are_in_the_format_that_prometheus_reads(image: str) -> None:
    counts = Counts()
    for line in LINES:
        counts.add(line)
    ended = run(image, "promtool", "check", "metrics", "--extended", given=counts.text())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "open_webui_edge_request_seconds" in ended.stdout
