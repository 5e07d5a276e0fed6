"""Rules are checked and tested by promtool, the counting by mtail: the very programs of the image."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from components.images import PROMETHEUS, ImageSource
from components.monitoring.rendering import counting, render_prometheus
from tests.support.machine import image_here

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "components/monitoring/rules"
CASES = ROOT / "tests/cases/alerts"
LINES = """\
pages answer 200 0.012 0.000 0.011 - 1200 400 HTTP/2.0
pages answer 200 0.030 0.001 0.030 - 800 400 HTTP/3.0
frontend answer 200 0.000 - - HIT 1000 40 HTTP/2.0
frontend answer 200 0.002 0.000 0.002 MISS 1000 40 HTTP/2.0
models stream 200 3.100 0.001 0.402 - 5000 900 HTTP/1.1
sockets socket 101 75.000 0.001 0.002 - 9000 600 HTTP/1.1
sockets answer 400 0.000 - - - 607 35 HTTP/1.1
files answer 413 0.000 - - - 300 100 OTHER
"""
NO_LINES = """\
/api/v1/users?token=hunter22 answer 200 0.012 0.000 0.011 - 1200 400 HTTP/2.0
pages answer 200 0.012 0.000 0.011 - 1200 400
pages answer two 0.012 0.000 0.011 - 1200 400 HTTP/2.0

"""


@pytest.fixture(scope="module")
def image() -> str:
    """The image with both programs."""
    return image_here(PROMETHEUS.reference(ImageSource.BUILT, None))


def run(image: str, program: str, *words: str, volumes: Sequence[str]) -> subprocess.CompletedProcess[str]:
    options = ["--rm", "--network=none", "--tmpfs=/tmp", *(f"--volume={volume}:ro" for volume in volumes)]
    command = ["docker", "run", *options, f"--entrypoint={program}", image, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


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
        counter="mtail:3903",
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


def counted(image: str, tmp_path: Path, text: str) -> dict[str, float]:
    """Return what mtail counts, as Prometheus is told: a series, without what all names begin with -> its value."""
    (tmp_path / "requests.mtail").write_text(counting())
    (tmp_path / "requests.log").write_text(text)
    words = ["--progs=/given/requests.mtail", "--logs=/given/requests.log", "--one_shot", "--emit_prog_label=false"]
    ended = run(image, "mtail", *words, "--one_shot_format=prometheus", "--logtostderr", volumes=[f"{tmp_path}:/given"])
    assert ended.returncode == 0, ended.stderr
    series = (line.rsplit(" ", 1) for line in ended.stdout.splitlines() if line.startswith("open_webui_edge_"))
    return {name.removeprefix("open_webui_edge_"): float(value) for name, value in series}


def test_lines_become_counts_by_place_kind_and_status(image: str, tmp_path: Path) -> None:
    found = counted(image, tmp_path, LINES)
    requests = {name: value for name, value in found.items() if name.startswith("requests_total")}
    assert requests == {
        'requests_total{kind="answer",location="pages",status="200"}': 2,
        'requests_total{kind="answer",location="frontend",status="200"}': 2,
        'requests_total{kind="stream",location="models",status="200"}': 1,
        'requests_total{kind="socket",location="sockets",status="101"}': 1,
        'requests_total{kind="answer",location="sockets",status="400"}': 1,
        'requests_total{kind="answer",location="files",status="413"}': 1,
    }
    assert found['sent_bytes_total{location="pages"}'] == 2000
    assert found['received_bytes_total{location="frontend"}'] == 80
    assert [found[f'cache_total{{location="frontend",result="{result}"}}'] for result in ("HIT", "MISS")] == [1, 1]
    assert [found[f'protocol_total{{protocol="{name}"}}'] for name in ("HTTP/1.1", "HTTP/2.0", "OTHER")] == [3, 3, 1]


def test_times_are_counted_by_how_long_they_were(image: str, tmp_path: Path) -> None:
    found = counted(image, tmp_path, LINES)
    # Each bucket holds those below it, too.
    pages = [found[f'request_seconds_bucket{{location="pages",le="{le}"}}'] for le in ("0.01", "0.025", "0.05", "+Inf")]
    assert pages == [0, 1, 2, 2]
    # What waited for nobody has no time of the application.
    assert 'first_byte_seconds_count{location="files"}' not in found
    assert found['first_byte_seconds_count{location="frontend"}'] == 1
    assert found["connect_seconds_count"] == 5
    # A stream and a socket are no whole answers, and have their own.
    assert 'request_seconds_count{location="models"}' not in found
    assert (found["stream_seconds_count"], found["stream_seconds_sum"]) == (1, 3.1)
    assert (found["socket_seconds_count"], found["socket_seconds_sum"]) == (1, 75)


def test_what_is_no_such_line_counts_for_nothing(image: str, tmp_path: Path) -> None:
    found = counted(image, tmp_path, NO_LINES)
    assert not [name for name in found if name.startswith("requests_total")]
