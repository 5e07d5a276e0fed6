"""Clouds, and what deploys to them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bootstrap import aws_provider
from bootstrap.problem import ProblemError
from tests.support.cloud import Cloud, Programs, provider_on_path
from tests.support.machine import lacks, pulumi_environment


@pytest.fixture(scope="session")
def environment() -> Mapping[str, str]:
    """The environment in which `pulumi` works and finds a provider for AWS."""
    engine = pulumi_environment()
    try:
        found = aws_provider.find(engine)
    except ProblemError as problem:
        lacks(f"no AWS provider ({problem})")
    first = [Path(found.environment["PATH"])] if "PATH" in found.environment else []
    return provider_on_path({**engine, **found.environment, "PATH": engine["PATH"]}, first)


@pytest.fixture(scope="session")
def programs(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Small programs with the components at hand."""
    return Programs(tmp_path_factory.mktemp("programs"), environment)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A cloud that is as empty as a new account."""
    with Cloud.open(tmp_path / "moto.log") as opened:
        yield opened
