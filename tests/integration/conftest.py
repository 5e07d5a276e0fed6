"""Stacks that several tests look at, each made once."""

import ipaddress
from collections.abc import Iterator
from typing import Any

import docker
import docker.errors
import pytest

from open_webui_edge.benchmarks.model_server import ModelServer
from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from tests.support.machine import lacks, pulumi_environment
from tests.support.stack import StackUnderTest, Workshop


@pytest.fixture(scope="session")
def bare_engine() -> docker.DockerClient:
    """The Docker engine of this machine, whatever images it has."""
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException:
        lacks("no Docker engine that answers")
    return client


@pytest.fixture(scope="session")
def engine(bare_engine: docker.DockerClient) -> docker.DockerClient:
    """The Docker engine of this machine, with the images built."""
    for image in (images.NGINX, images.open_webui(images.OPEN_WEBUI_VERSION)):
        name = image.reference(ImageSource.BUILT, None)
        try:
            bare_engine.images.get(name)
        except docker.errors.ImageNotFound:
            lacks(f"no image {name}")
    return bare_engine


@pytest.fixture(scope="session")
def workshop(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A copy of the program with a state of its own."""
    del engine
    return Workshop.at(tmp_path_factory.mktemp("workshop"), pulumi_environment())


@pytest.fixture(scope="session")
def bridge_address(bare_engine: docker.DockerClient) -> str:
    """The address of this machine that containers know as host.docker.internal."""
    (network, *_) = bare_engine.networks.get("bridge").attrs["IPAM"]["Config"]
    # Older engines name the gateway only where the user chose it; it is the network's first address then.
    return network.get("Gateway") or str(next(ipaddress.ip_network(network["Subnet"]).hosts()))


@pytest.fixture(scope="session")
def model_server(bridge_address: str) -> Iterator[ModelServer]:
    """An OpenAI-compatible server that containers can reach."""
    with ModelServer(bridge_address, keys=[FIRST_KEY]) as server:
        yield server


FIRST_KEY = "sk-MARK7f3a-first \"key\"; with $all {of} 'it' \\ % & <>|`~"
"""Every printable character that has a meaning somewhere, and none may."""


def answered_by(model_server: ModelServer) -> dict[str, Any]:
    """Return the `models` of a stack whose one provider is the test's own server; its key is a secret of the stack."""
    provider = {"url": f"http://host.docker.internal:{model_server.port}/v1"}
    return {"providers": [provider], "ollama": {"mode": "none"}}


@pytest.fixture(scope="session")
def chat(workshop: Workshop, model_server: ModelServer) -> Iterator[StackUnderTest]:
    """A stack with an administrator and a provider, up and running."""
    stack = StackUnderTest(
        workshop,
        "it-chat",
        {
            "open_webui": {"admin": {"email": "admin@example.com"}},
            "models": answered_by(model_server),
        },
        secrets={"models.providers[0].api_key": FIRST_KEY, "open_webui.admin.password": ADMIN_PASSWORD},
    )
    with stack.running():
        yield stack


ADMIN_PASSWORD = "MARK9c1e-p'a\"s;s $w{o}r\\d% ü€"


@pytest.fixture
def admin(chat: StackUnderTest) -> Iterator[OpenWebUIClient]:
    """The administrator of that stack, signed in."""
    with chat.client() as client:
        client.sign_in("admin@example.com", ADMIN_PASSWORD)
        yield client


@pytest.fixture(scope="session")
def side(workshop: Workshop, model_server: ModelServer) -> Iterator[StackUnderTest]:
    """A second stack next to the first, without any account."""
    stack = StackUnderTest(
        workshop,
        "it-side",
        {
            "models": answered_by(model_server),
        },
        secrets={"models.providers[0].api_key": FIRST_KEY},
    )
    with stack.running():
        yield stack
