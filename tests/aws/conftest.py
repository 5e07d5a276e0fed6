"""Clouds, and what deploys to them."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from open_webui_edge.bootstrap.console import ProblemError
from tests.aws import stack_files
from tests.aws.combinations import EXAMPLES
from tests.aws.stacks import AT_ONCE, COMBINATIONS, ByName, Stacks, asked_of
from tests.support.aws_provider import find
from tests.support.cloud import Cloud, CloudStack, Programs, provider_on_path
from tests.support.machine import lacks, pulumi_environment

VM = Path(__file__).parent / "programs" / "vm.py"


@pytest.fixture(scope="session", autouse=True)
def nobodys_account() -> Iterator[None]:
    """Whatever account this person has, no test finds it."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in os.environ:
            if variable.startswith("AWS_"):
                patch.delenv(variable)
        for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(variable, os.devnull)
        yield


@pytest.fixture(scope="session")
def environment(nobodys_account: None) -> Mapping[str, str]:
    """The environment in which `pulumi` works and finds a provider for AWS."""
    del nobodys_account
    engine = pulumi_environment()
    try:
        result = find.find(engine)
    except ProblemError as problem:
        lacks(f"no AWS provider ({problem})")
    first = [Path(result.environment["PATH"])] if "PATH" in result.environment else []
    return provider_on_path({**engine, **result.environment, "PATH": engine["PATH"]}, first)


@pytest.fixture(scope="session")
def programs(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Small programs with the components at hand."""
    return Programs(tmp_path_factory.mktemp("programs"), environment)


@pytest.fixture(scope="session")
def stacks(
    request: pytest.FixtureRequest, programs: Programs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stacks]:
    """Every combination that a test asks for, brought up, each in a cloud of its own."""
    names = sorted({params["name"] for params in asked_of(request)})
    with ExitStack() as clouds, ThreadPoolExecutor(AT_ONCE) as pool:

        def made(name: str) -> CloudStack:
            cloud = clouds.enter_context(Cloud.open(tmp_path_factory.mktemp(name) / "moto.log"))
            example = name in EXAMPLES
            config = (
                stack_files.config_of_example(name, cloud)
                if example
                else stack_files.config_of(COMBINATIONS[name], cloud)
            )
            stack = programs.stack(cloud, VM, name, config)
            stack_files.provide(stack.config, stack.workshop.directory)
            stack.write()
            return stack

        yield Stacks(dict(zip(names, pool.map(made, names), strict=True)))


@pytest.fixture(scope="session")
def again(stacks: Stacks) -> ByName[list[str]]:
    """What another update would do to each."""
    return stacks.each(lambda stack: [str(step) for step in stack.steps()])
