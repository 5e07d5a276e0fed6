"""What all tests share."""

import os
import secrets
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.lanes import PROXY
from tests.support.turns import turn

_SEED = "--seed"
_ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite what the case files below tests/cases expect")
    parser.addoption(_SEED, type=int, help="of generated settings; default: 0 in CI, elsewhere another in each run")


def pytest_configure(config: pytest.Config) -> None:
    """Draw a seed where none is given."""
    if config.getoption(_SEED) is None:
        config.option.seed = 0 if os.environ.get("CI") else secrets.randbelow(1 << 32)


def pytest_report_header(config: pytest.Config) -> str:
    """Report the seed, with which a run can be repeated."""
    return f"generated settings: {_SEED}={config.option.seed}"


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """What generated settings are drawn with."""
    return request.config.option.seed


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    """Whether the expectations in case files are to be rewritten."""
    return bool(request.config.getoption("--update"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have each test of the proxy's lane take a turn, with what it makes and removes."""
    if not any(item.path.is_relative_to(_ROOT / path) for path in PROXY.paths):
        return (yield)
    with turn():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Have a test of another lane take one, once its stack is up, where it cannot bear what those make."""
    if item.get_closest_marker("alone") is None or any(item.path.is_relative_to(_ROOT / path) for path in PROXY.paths):
        return (yield)
    with turn():
        return (yield)
