"""A deployment for the browser: it has no account yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from open_webui_edge.benchmarks.model_server import ModelServer
from tests.integration.conftest import (
    FIRST_KEY,
    answered_by,
    bare_engine,
    bridge_address,
    engine,
    model_server,
    workshop,
)
from tests.support.stack import StackUnderTest, Workshop

__all__ = ["bare_engine", "bridge_address", "engine", "model_server", "workshop"]


@dataclass(frozen=True)
class RunningDeployment:
    """What a person with a browser knows of it."""

    url: str
    ca_file: Path
    model_server: ModelServer
    stack: StackUnderTest


@pytest.fixture(scope="session")
def deployment(workshop: Workshop, model_server: ModelServer) -> Iterator[RunningDeployment]:
    stack = StackUnderTest(
        workshop,
        "it-browser",
        {"models": answered_by(model_server)},
        secrets={"models.providers[0].api_key": FIRST_KEY},
    )
    with stack.running():
        yield RunningDeployment(stack.url, stack.ca_file, model_server, stack)
