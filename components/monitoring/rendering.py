"""Renders the configuration of Prometheus and the request counter: pure functions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from open_webui_edge.runtime import delivery

HERE = Path(__file__).parent
PAGE = "status.html"


def render_prometheus(  # noqa: PLR0913 - keywords
    *,
    stack: str,
    seconds: int,
    proxy: str,
    counter: str,
    replicas: Mapping[str, str],
    alertmanagers: Sequence[str],
) -> str:
    """Render prometheus.yml.

    Args:
        stack: name of the stack, a label of every alert.
        seconds: scrape interval.
        proxy: host:port of Nginx's own metrics.
        counter: host:port of the request counter.
        replicas: name of each -> host:port of its launcher.
        alertmanagers: their URLs.

    """
    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - no HTML is made from values
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rendered = environment.get_template("prometheus.yml.j2").render(
        stack=stack,
        seconds=seconds,
        proxy=proxy,
        counter=counter,
        # By name: the folder may contain files of an earlier version.
        rule_files=list(rules()),
        replicas=list(replicas.items()),
        alertmanagers=[urlsplit(url) for url in alertmanagers],
    )
    return delivery.configuration(rendered)


def rules() -> dict[str, str]:
    """Return the rule files, by name."""
    return {
        file.name: delivery.configuration(file.read_text(encoding="utf-8"))
        for file in sorted((HERE / "rules").glob("*.yaml"))
    }


def page() -> str:
    """Return the status page, which Prometheus serves."""
    return delivery.page((HERE / PAGE).read_text(encoding="utf-8"))
