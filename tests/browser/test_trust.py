"""`make trust-ca` has a person's browser take the deployment's certificate, and `make untrust-ca` undoes it."""

from pathlib import Path

import pytest
from playwright.sync_api import Error

from open_webui_edge.bootstrap import paths
from tests.browser.conftest import RunningDeployment
from tests.support.browser import open_webui_page
from tests.support.stack import Ended

pytestmark = pytest.mark.alone


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of a person who has never started a browser."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def make(deployment: RunningDeployment, target: str, home: Path) -> Ended:
    """Run it as that person, and leave the machine itself alone."""
    return deployment.stack.workshop.run(
        *("make", target, f"STACK={deployment.stack.name}", "SYSTEM=0"),
        HOME=str(home),
        XDG_DATA_HOME=str(home / "data"),
        # What takes minutes to make is this machine's.
        XDG_CACHE_HOME=str(paths.cache().parent),
    )


def title(deployment: RunningDeployment, home: Path) -> str:
    with open_webui_page(deployment.url, ca_file=None, home=home) as page:
        page.page.goto(deployment.url)
        return page.page.title()


def test_a_browser_trusts_the_deployment_from_trust_ca_until_untrust_ca(
    deployment: RunningDeployment, home: Path
) -> None:
    with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
        title(deployment, home)
    for words in ("trusts it now", "trusted it already"):
        assert words in make(deployment, "trust-ca", home).succeeded().output
        assert "Open WebUI" in title(deployment, home)
    assert "trusts it no more" in make(deployment, "untrust-ca", home).succeeded().output
    with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
        title(deployment, home)
    assert "did not trust it" in make(deployment, "untrust-ca", home).succeeded().output
