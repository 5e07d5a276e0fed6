"""What it takes to have an instance: a cloud's provider, an engine, and the images."""

from collections.abc import Mapping
from pathlib import Path

import docker
import docker.errors
import pytest

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.settings import images
from open_webui_edge.settings.images import INSTANCE, ImageSource
from tests.support.aws_provider import find
from tests.support.cloud import provider_on_path
from tests.support.machine import lacks, pulumi_environment


@pytest.fixture(scope="session")
def bootable() -> None:
    """An engine on this machine that has what an instance boots from."""
    engine_with(INSTANCE)


@pytest.fixture(scope="session")
def deployable(bootable: None) -> Mapping[str, str]:
    """The environment of a `pulumi` that deploys to a cloud, on a machine that has all images."""
    del bootable
    return environment_of_deployments()


def environment_of_deployments() -> Mapping[str, str]:
    """Return the environment of such a `pulumi`; skip a test on a machine that has not all it takes."""
    built = (images.NGINX, images.open_webui(images.OPEN_WEBUI_VERSION))
    engine_with(*(image.reference(ImageSource.BUILT, None) for image in built))
    environment = pulumi_environment()
    try:
        result = find.find(environment)
    except ProblemError as problem:
        lacks(f"no AWS provider ({problem})")
    first = [Path(result.environment["PATH"])] if "PATH" in result.environment else []
    with_provider = provider_on_path({**environment, **result.environment, "PATH": environment["PATH"]}, first)
    # Whatever account this person has, no test finds it.
    return {name: value for name, value in with_provider.items() if not name.startswith("AWS_")}


def engine_with(*names: str) -> None:
    """Skip a test on a machine whose engine lacks an image."""
    try:
        engine = docker.from_env()
        for name in names:
            engine.images.get(name)
    except docker.errors.DockerException as error:
        lacks(f"no Docker engine with {', '.join(names)} ({error})")
