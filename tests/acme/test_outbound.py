"""A company's network: the only way out is a proxy that wants a password, and that may inspect TLS."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from open_webui_edge.components.backup import CAPABILITIES
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.contract import CONFIG_DIR
from open_webui_edge.settings.images import CERTBOT, RESTIC, ImageSource
from open_webui_edge.settings.outbound import OutboundSettings
from tests.acme.conftest import World
from tests.acme.engine import bring, docker, inside, log_of, remove
from tests.acme.site import Site
from tests.support import forward_proxy
from tests.support.certificates import authority, server
from tests.support.machine import image_here

_USER, _PASSWORD = "chat", "p@ss:/ word'"
_PROGRAM = Path(forward_proxy.__file__).read_text(encoding="utf-8")
_BUCKET = "s3.example.test"


@dataclass
class Company:
    """A network without a way out, but for its proxy."""

    network: str
    proxy: str
    """Its container."""

    def settings(self, *, authorities: str | None = None) -> OutboundSettings:
        proxy = {"url": f"http://proxy:{forward_proxy.PORT}", "username": _USER, "password": _PASSWORD}
        return OutboundSettings.model_validate({"proxy": proxy, "certificate_authorities": authorities})

    def start_proxy(self, *words: str, files: dict[str, str] | None = None, outside: str | None = None) -> None:
        docker(
            *("create", f"--name={self.proxy}", f"--network={self.network}", "--network-alias=proxy", "--entrypoint"),
            *("python3", CERTBOT.reference(ImageSource.BUILT, None), "/proxy.py", f"{_USER}:{_PASSWORD}", *words),
        )
        bring(self.proxy, {"/proxy.py": _PROGRAM, **(files or {})})
        if outside is not None:
            docker("network", "connect", outside, self.proxy)
        docker("start", self.proxy)


@pytest.fixture
def company() -> Iterator[Company]:
    name = f"ac-company-{secrets.token_hex(3)}"
    made = Company(name, f"{name}-proxy")
    docker("network", "create", "--internal", name)
    try:
        yield made
    finally:
        remove(made.proxy)
        docker("network", "rm", name)


@pytest.fixture
def enclosed(site: Site, company: Company, world: World) -> Iterator[Site]:
    """A site whose certbot has only the company's network; its Nginx is reached from the internet, too."""
    company.start_proxy(outside=world.network)
    docker("network", "connect", "--alias=nginx", company.network, site.nginx)
    site.network = company.network
    yield site
    remove(site.certbot)
    docker("network", "disconnect", company.network, site.nginx)


def test_a_certificate_is_obtained_through_the_proxy_and_nothing_else_of_it(
    enclosed: Site, company: Company, world: World
) -> None:
    outbound = company.settings(authorities=world.authority_pem)
    enclosed.wants(
        "company.example.test",
        issuers=[{"directory": world.first.directory}],
        outbound={"environment": outbound.environment(), "certificate_authorities": outbound.certificate_authorities},
    )
    enclosed.start()
    enclosed.wait_until_well()
    enclosed.assert_trusted(world.first, "company.example.test")
    seen = set(log_of(company.proxy).splitlines())
    assert seen == {f"CONNECT {world.first.directory.removeprefix('https://').partition('/')[0]}"}


def test_without_the_setting_the_failure_names_it(enclosed: Site, world: World) -> None:
    enclosed.wants("enclosed.example.test", issuers=[world.asked(world.first)])
    enclosed.start()
    enclosed.wait_for_failure("behind a company's proxy, set outbound.proxy")


@pytest.mark.parametrize("trusts", [True, False], ids=["its CA is in the settings", "its CA is unknown"])
def test_a_backup_goes_to_a_bucket_through_a_proxy_that_inspects(company: Company, *, trusts: bool) -> None:
    image = RESTIC.reference(ImageSource.BUILT, None)
    image_here(image)
    root = authority("the inspecting proxy's", days=(-1, 1))
    forged = server([_BUCKET], root, days=(-1, 1))
    company.start_proxy("/forged.pem", "/forged.key", files={"/forged.pem": forged.pem, "/forged.key": forged.key_pem})
    settings = company.settings(authorities=root.pem if trusts else None)
    address = f"https://{_BUCKET}/chat"
    files = {
        "keep.sh": delivery.program("backup/restic.sh"),
        "repository": f"s3:{address}",
        "password": "correct horse battery",
        "access_key_id": "AKIA",
        "secret_access_key": "secret",
        "region": "us-east-1",
        **settings.files([address]),
    }
    restic = f"{company.network}-restic"
    docker(
        *("create", f"--name={restic}", f"--network={company.network}", "--cap-drop=ALL", "--entrypoint=/bin/sleep"),
        *(f"--cap-add={capability}" for capability in CAPABILITIES),
        *("--tmpfs=/work", image, "300"),
    )
    try:
        bring(restic, {f"{CONFIG_DIR}/{name}": content for name, content in files.items()})
        docker("start", restic)
        code, words = inside(restic, "timeout", "60", "/bin/sh", "-eu", f"{CONFIG_DIR}/keep.sh", "snapshots")
    finally:
        remove(restic)
    assert f"CONNECT {_BUCKET}:443" in log_of(company.proxy)
    if trusts:
        assert "there is no backup at" in words, words
        assert "inside: GET /chat" in log_of(company.proxy)
    else:
        assert code != 0
        assert "signed by unknown authority" in words or code == 124, words
        assert "inside: GET" not in log_of(company.proxy)
