"""What is measured, what is made of it, and that all places mean the same numbers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from open_webui_edge.components.monitoring.rendering import page, render_prometheus, rules
from open_webui_edge.runtime.certbot import state
from open_webui_edge.runtime.open_webui.request_counter import COUNTERS, HISTOGRAMS
from open_webui_edge.settings.stack import StackSettings

ROOT = Path(__file__).parent.parent.parent
PREFIX = "open_webui_edge"
DASHBOARD = ROOT / "docs/grafana/open-webui-edge.json"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(rules()["alerts.yaml"])["groups"] for rule in group["rules"]
}
RECORDED: dict[str, str] = {
    rule["record"]: rule["expr"]
    for group in yaml.safe_load(rules()["recording.yaml"])["groups"]
    for rule in group["rules"]
}
CASES = ROOT / "tests/cases/alerts"


def measured() -> set[str]:
    """Return the names of all that anybody measures, by what measures it."""
    # Of requests; a histogram is three names.
    names = {f"{PREFIX}_{name}" for name in COUNTERS}
    names |= {f"{PREFIX}_{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")}
    # Nginx's own, and those of the scripts beside it.
    nginx = ROOT / "runtime/nginx"
    exporter = ROOT / "components/reverse_proxy/templates/servers/metrics.conf.j2"
    names |= set(re.findall(rf"TYPE ({PREFIX}_\w+)", exporter.read_text()))
    names |= set(re.findall(rf"gauge ({PREFIX}_\w+)", (nginx / "container_metrics.sh").read_text()))
    names |= {
        f"{PREFIX}_certificate_{name}"
        for name in re.findall(r"gauge \"\$\{prefix\}_(\w+)", (nginx / "watch.sh").read_text())
    }
    names |= set(re.findall(rf"TYPE ({PREFIX}_\w+)", state.metrics({"last_attempt": None})))
    # The launcher's.
    replica = (ROOT / "runtime/open_webui/container_metrics.py").read_text()
    return names | {f"{PREFIX}_{name}" for name in re.findall(r'yield "(\w+)", "(?:gauge|counter)"', replica)}


def used(text: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}(?:_|:)[\w:]+", text))


def queries_of_the_dashboard() -> list[str]:
    return re.findall(r'"expr": ("(?:[^"\\]|\\.)*")', DASHBOARD.read_text())


@pytest.mark.parametrize(
    "text",
    [rules()["recording.yaml"], rules()["alerts.yaml"], page(), "\n".join(queries_of_the_dashboard())],
    ids=["recording rules", "alerts", "page", "dashboard"],
)
def test_every_name_that_is_used_is_measured_or_recorded(text: str) -> None:
    result = used(text)
    assert result
    assert result - measured() - set(RECORDED) == set()


def test_every_rule_that_is_recorded_is_used() -> None:
    elsewhere = rules()["alerts.yaml"] + page() + DASHBOARD.read_text()
    assert set(RECORDED) - used(elsewhere) == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_what_it_means_and_what_helps(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "action"}
    # A setting to change, or a command to type.
    action = rule["annotations"]["action"]
    assert "make " in action or re.search(r"\b(?:proxy|open_webui|site|certificate)\.\w+", action)


def test_every_setting_that_an_alert_names_is_one() -> None:
    topics = set(StackSettings.model_fields)
    text = "\n".join(" ".join(rule["annotations"].values()) for rule in ALERTS.values())
    named = [path for path in re.findall(r"\b[a-z_]+(?:\.[a-z_]+)+\b", text) if path.split(".")[0] in topics]
    assert named
    for path in named:
        result: Any = StackSettings()
        for part in path.split("."):
            assert hasattr(result, part), path
            result = getattr(result, part)


def test_every_command_that_an_alert_names_is_one() -> None:
    text = "\n".join(" ".join(rule["annotations"].values()) for rule in ALERTS.values())
    makefile = (ROOT / "Makefile").read_text()
    for command in set(re.findall(r"\bmake ([a-z-]+)", text)):
        assert re.search(rf"\b{command}\b", makefile), command


def test_every_alert_has_a_case_and_every_case_an_alert() -> None:
    tested = {
        expected["alertname"]
        for file in CASES.glob("*.yaml")
        for test in yaml.safe_load(file.read_text())["tests"]
        for expected in test["alert_rule_test"]
        if expected["exp_alerts"]
    }
    quiet = {
        expected["alertname"]
        for file in CASES.glob("*.yaml")
        for test in yaml.safe_load(file.read_text())["tests"]
        for expected in test["alert_rule_test"]
        if not expected["exp_alerts"]
    }
    assert tested == set(ALERTS)
    assert quiet == set(ALERTS)


def test_page_takes_nothing_from_elsewhere() -> None:
    text = page()
    # What it names is a namespace of SVG, which no browser fetches.
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'; connect-src 'self'" in text
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(?!data:)", text)
    # Nothing that Prometheus would take for one of its own templates but the stack's name.
    assert set(re.findall(r"\{\{.*?\}\}", text)) == {"{{ $externalLabels.stack }}"}


def test_nothing_of_a_client_s_becomes_a_label() -> None:
    labels = {label for names, *_ in (*COUNTERS.values(), *HISTOGRAMS.values()) for label in names}
    assert labels == {"location", "kind", "status", "result", "protocol"}


def test_dashboard_is_one_that_grafana_can_import() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["uid"] == "open-webui-edge"
    assert dashboard["id"] is None
    (variable,) = [one for one in dashboard["templating"]["list"] if one["type"] == "datasource"]
    assert variable["query"] == "prometheus"
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": f"${{{variable['name']}}}"}, panel["title"]
        assert panel["targets"], panel["title"]


def test_configuration_says_what_it_was_given() -> None:
    text = render_prometheus(
        stack="chat's",
        seconds=5,
        proxy="nginx:1",
        counter="request-counter:2",
        replicas={"a": "a:3", "b": "b:3"},
        alertmanagers=["http://one:9093", "https://two.example.com/team/"],
    )
    reported = yaml.safe_load(text)
    assert reported["global"] == {
        "scrape_interval": "5s",
        "scrape_timeout": "5s",
        "evaluation_interval": "5s",
        "external_labels": {"stack": "chat's"},
    }
    assert reported["alerting"]["alertmanagers"] == [
        {"scheme": "http", "static_configs": [{"targets": ["one:9093"]}]},
        {
            "scheme": "https",
            "path_prefix": "/team/",
            "static_configs": [{"targets": ["two.example.com"]}],
        },
    ]
    assert [job["job_name"] for job in reported["scrape_configs"]] == ["proxy", "requests", "replica"]


def test_without_an_alertmanager_nobody_is_told() -> None:
    text = render_prometheus(
        stack="local", seconds=60, proxy="nginx:1", counter="request-counter:2", replicas={"a": "a:3"}, alertmanagers=[]
    )
    reported = yaml.safe_load(text)
    assert "alerting" not in reported
    assert reported["global"]["scrape_timeout"] == "10s"


@pytest.mark.parametrize(
    ("last", "failing"),
    [(None, 0), ({"error": None}, 0), ({"error": "the issuer's limit is reached"}, 1)],
    ids=["nothing attempted", "succeeded", "failed"],
)
def test_renewal_fails_when_its_last_attempt_did(last: dict[str, Any] | None, failing: int) -> None:
    assert state.metrics({"last_attempt": last}).endswith(f"\n{PREFIX}_renewal_failing {failing}\n")
