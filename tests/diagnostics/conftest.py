"""What every diagnosis of a broken deployment needs: one real application, and one Nginx with all deployments."""

import json
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from open_webui_edge.benchmarks.model_server import ModelServer
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from tests.diagnostics.house import House, origins
from tests.diagnostics.stand_in import StandIn
from tests.nginx.application import ADMIN, ADMIN_PASSWORD, PORT, Application
from tests.nginx.conftest import image, network_and_gateway
from tests.nginx.nginx_under_test import PATIENCE
from tests.support.machine import image_here

_UP = 300.0
"""Seconds until the application must be up: all other tests of this folder are lost without it."""

__all__ = ["image", "network_and_gateway"]


@pytest.fixture(scope="session")
def model(network_and_gateway: tuple[str, str]) -> Iterator[ModelServer]:
    """A model that takes its time."""
    with ModelServer(network_and_gateway[1], gap=0.25) as server:
        yield server


@pytest.fixture(scope="session")
def application(network_and_gateway: tuple[str, str], model: ModelServer) -> Iterator[Application]:
    """Open WebUI, with an identity provider that no network is needed for."""
    reference = image_here(images.open_webui(images.OPEN_WEBUI_VERSION).reference(ImageSource.BUILT, None))
    network, _ = network_and_gateway
    words = ["docker", "network", "inspect", "--format={{json .IPAM.Config}}", network]
    (addresses, *_) = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)  # noqa: S603
    listed = origins()
    environment = {
        "CORS_ALLOW_ORIGIN": ";".join(listed),
        "WEBUI_SESSION_COOKIE_SECURE": "true",
        "WEBUI_AUTH_COOKIE_SECURE": "true",
        "GITHUB_CLIENT_ID": "invented",
        "GITHUB_CLIENT_SECRET": "invented too",
        "OPENAI_API_BASE_URL": model.url,
        "OPENAI_API_KEY": "model-key",
        "BYPASS_MODEL_ACCESS_CONTROL": "true",
    }
    made = Application(reference, network, addresses["Subnet"], listed[0], environment)
    try:
        made.start()
        made.wait(_UP)
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session")
def stand_in(network_and_gateway: tuple[str, str], application: Application) -> Iterator[StandIn]:
    """What answers in place of Open WebUI, or alters what it says."""
    with StandIn(network_and_gateway[1], f"{application.address}:{PORT}") as made:
        yield made


@pytest.fixture(scope="session")
def house(network_and_gateway: tuple[str, str], application: Application, stand_in: StandIn) -> Iterator[House]:
    """All deployments."""
    network, gateway = network_and_gateway
    made = House(
        network, gateway, f"{application.address}:{PORT}", signed_in(application), f"{gateway}:{stand_in.port}"
    )
    with made.running():
        yield made


def signed_in(application: Application) -> str:
    """Return the administrator's token."""
    form = {"email": ADMIN, "password": ADMIN_PASSWORD}
    answer = httpx.post(f"http://{application.address}:{PORT}/api/v1/auths/signin", json=form, timeout=PATIENCE)
    return answer.raise_for_status().json()["token"]
