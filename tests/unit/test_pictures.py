"""The pictures are what the program makes of the example stacks."""

import json
from pathlib import Path

import yaml

from open_webui_edge.components.deployment import OpenWebUIDeployment
from open_webui_edge.settings.stack import StackSettings
from tests.unit.graph import Graph, graph_of
from tests.unit.pictures import document

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/resources.md"
EXAMPLES = ("local", "staging", "production")


def _graph(stack: str) -> Graph:
    config = yaml.safe_load((ROOT / f"stacks/examples/{stack}.yaml").read_text(encoding="utf-8"))["config"]
    settings = StackSettings.model_validate_json(
        json.dumps({key.partition(":")[2]: value for key, value in config.items()})
    )
    return graph_of(lambda: OpenWebUIDeployment("edge", settings).outputs)


def test_the_pictures_show_what_is_made(*, update: bool) -> None:
    result = document({stack: _graph(stack) for stack in EXAMPLES})
    if update:
        PAGE.write_text(result, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == result, "run: make docs"
