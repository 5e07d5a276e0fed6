"""What Prometheus and mtail are given: pure functions, and files that their own tools read as they are."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
PAGE = "status.html"
COUNTER_PORT = 3903
"""Where mtail shows what it counted."""


def render_prometheus(  # noqa: PLR0913 - keywords, each a thing of its own
    *,
    stack: str,
    seconds: int,
    proxy: str,
    counter: str,
    replicas: Mapping[str, str],
    alertmanagers: Sequence[str],
) -> str:
    """Write prometheus.yml.

    Args:
        stack: named in every alert.
        seconds: between two questions to everybody.
        proxy: host:port of what Nginx knows.
        counter: host:port of mtail.
        replicas: name of each -> host:port of its launcher.
        alertmanagers: their URLs.

    """
    rendered = (
        _environment()
        .get_template("prometheus.yml.j2")
        .render(
            stack=stack,
            seconds=seconds,
            proxy=proxy,
            counter=counter,
            # By name: the folder may hold a file of an earlier version.
            rule_files=list(rules()),
            replicas=list(replicas.items()),
            alertmanagers=[urlsplit(url) for url in alertmanagers],
        )
    )
    return f"{rendered.strip()}\n"


def rules() -> dict[str, str]:
    """Return the files with rules, by name."""
    return {file.name: file.read_text() for file in sorted((HERE / "rules").glob("*.yaml"))}


def page() -> str:
    """Return the status page, which Prometheus serves."""
    return (HERE / PAGE).read_text()


def counting() -> str:
    """Return mtail's program."""
    return (HERE / "requests.mtail").read_text()


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - no HTML is made from values
        trim_blocks=True,
        lstrip_blocks=True,
    )
