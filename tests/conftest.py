"""What all tests share."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite what the case files below tests/cases expect")


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    """Whether the expectations in case files are to be rewritten."""
    return bool(request.config.getoption("--update"))
