"""This project's own Nginx, as it is rendered: nothing is found where all is well, and who is to blame if not."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from open_webui_edge.diagnostics import outside
from open_webui_edge.diagnostics.finding import Hop
from open_webui_edge.diagnostics.question import Diagnosis, diagnose
from open_webui_edge.diagnostics.subject import Expectations, Subject
from tests.diagnostics.conftest import signed_in
from tests.diagnostics.house import NAME, Deployment, House
from tests.diagnostics.test_broken_deployments import summary
from tests.nginx.application import PORT, Application
from tests.nginx.conftest import UPSTREAM, Workshop, workshop_in
from tests.nginx.nginx_under_test import NginxUnderTest, settings_of
from tests.support.certificates import pem

ALB = """
server {
    listen 80;
    server_name NAME;
    return 301 https://NAME$request_uri;
}
server {
    listen 443 ssl;
    http2 on;
    server_name NAME;
    location / {
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        UPGRADE
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Port 443;
        proxy_pass http://APPLICATION;
    }
}
"""
UPGRADE = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"
SITE = {"domain": NAME, "listen": {"address": "0.0.0.0", "http_port": 80, "https_port": 443}}


@pytest.fixture(scope="module")
def workshop(
    image: str, network_and_gateway: tuple[str, str], application: Application, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    """Where the rendered Nginx are made; the application is known in it by its name."""
    for made in workshop_in(image, *network_and_gateway, tmp_path_factory.mktemp("own")):
        made.names.addresses[UPSTREAM] = application.address
        yield made


def address_of(nginx: NginxUnderTest) -> str:
    words = ["docker", "inspect", "--format={{json .NetworkSettings.Networks}}", nginx.name]
    (attached,) = json.loads(subprocess.run(words, capture_output=True, check=True).stdout).values()  # noqa: S603
    return attached["IPAddress"]


def subnet_of(network: str) -> str:
    words = ["docker", "network", "inspect", "--format={{json .IPAM.Config}}", network]
    (addresses, *_) = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)  # noqa: S603
    return addresses["Subnet"]


def expected(*addresses: str, **others: object) -> Expectations:
    return Expectations(
        names=(NAME,),
        addresses=addresses,
        redirects_http=True,
        max_upload=1 << 30,
        read_timeout=1800,
        hsts=False,
        certificate_mode="self-signed",
        **others,  # pyright: ignore[reportArgumentType]
    )


@contextmanager
def with_load_balancer(
    workshop: Workshop, application: Application, upgrade: str
) -> Iterator[tuple[House, NginxUnderTest]]:
    """The rendered Nginx in HTTP mode, and before it what ends TLS as an Application Load Balancer does."""
    inner = workshop.nginx(
        settings_of(
            site=SITE,
            proxy={"trusted_proxies": [subnet_of(workshop.network)]},
            open_webui={"admin": {"email": "a@b.cd"}},
        ),
        port=PORT,
    )
    outer = Deployment("load-balancer", ALB.replace("UPGRADE", upgrade), 0)
    house = House(
        workshop.network,
        workshop.gateway,
        f"{address_of(inner)}:80",
        signed_in(application),
        "127.0.0.1:9",
        deployments=[outer],
    )
    with house.running():
        yield house, inner


def subject_of(house: House, **others: object) -> Subject:
    return Subject(
        f"https://{NAME}",
        trust=pem(house.root.certificate),
        name_servers=house.name_servers,
        expected=expected(house.address, outer_proxy=True),
        **others,  # pyright: ignore[reportArgumentType]
    )


def assert_well(diagnosis: Diagnosis) -> None:
    assert diagnosis.exit_code == 0, summary(diagnosis)
    assert not [finding for finding in diagnosis.findings if finding.severity == "unknown"], summary(diagnosis)


@pytest.fixture(scope="module")
def plain(workshop: Workshop) -> NginxUnderTest:
    """The rendered Nginx, with HTTP/3."""
    settings = settings_of(site=SITE, proxy={"http3": True}, open_webui={"admin": {"email": "a@b.cd"}})
    return workshop.nginx(settings, port=PORT)


def known(nginx: NginxUnderTest, workshop: Workshop, **others: object) -> Subject:
    workshop.names.addresses[NAME] = address_of(nginx)
    return Subject(
        f"https://{NAME}",
        trust=nginx.ca_file.read_text(),
        name_servers=(workshop.names.resolver,),
        **others,  # pyright: ignore[reportArgumentType]
    )


def test_own_nginx_that_is_well_gives_no_trouble(plain: NginxUnderTest, workshop: Workshop) -> None:
    subject = known(plain, workshop, expected=expected(address_of(plain), http3=True))
    diagnosis = diagnose(subject, outside.QUESTIONS)
    assert_well(diagnosis)
    seen = {finding.check: finding.seen for finding in diagnosis.findings}
    assert seen["http.three"] == "HTTP/3 is offered, and UDP port 443 speaks QUIC."
    assert seen["upload.size"] == "A file of 1 GiB passes."
    assert seen["redirect.http"] == f"http://{NAME}/ -> https://{NAME}/."


def test_own_nginx_that_a_stranger_asks_about_gives_no_trouble(plain: NginxUnderTest, workshop: Workshop) -> None:
    assert_well(diagnose(known(plain, workshop), outside.QUESTIONS))


def test_own_nginx_behind_a_load_balancer_that_is_well_gives_no_trouble(
    workshop: Workshop, application: Application
) -> None:
    with with_load_balancer(workshop, application, UPGRADE) as (house, _):
        assert_well(diagnose(subject_of(house), outside.QUESTIONS))


def test_load_balancer_that_drops_upgrade_is_blamed_and_not_the_nginx_behind_it(
    workshop: Workshop, application: Application
) -> None:
    with with_load_balancer(workshop, application, "") as (house, _):
        first, *_ = diagnose(subject_of(house), outside.QUESTIONS).ranked
    assert (first.finding.check, first.finding.hop) == ("websocket.upgrade", Hop.OUTER_PROXY)
    assert "a hop in front of it dropped the header" in first.finding.seen
    assert "load balancer in front of this stack" in first.finding.fix
    assert (first.finding.setting, first.finding.value) == ("proxy.websocket.enabled", "false")


@pytest.mark.parametrize("spare", [(), ("192.0.2.9",)], ids=["all", "some"])
def test_name_that_leads_elsewhere_comes_first(plain: NginxUnderTest, workshop: Workshop, spare: Sequence[str]) -> None:
    workshop.names.addresses["elsewhere.example.com"] = "192.0.2.9"
    subject = known(plain, workshop, address=address_of(plain), expected=expected("elsewhere.example.com"))
    subject.expected = expected("192.0.2.9") if spare else subject.expected
    first, *others = diagnose(subject, outside.QUESTIONS).ranked
    assert first.finding.check == "name.elsewhere"
    assert f"{NAME} leads to {address_of(plain)}, and the deployment is at 192.0.2.9." == first.finding.seen
    assert f"Change the A record of {NAME} to 192.0.2.9" in first.finding.fix
    assert not any(one.finding.is_trouble for one in others)


def test_name_that_nobody_knows_comes_first(plain: NginxUnderTest, workshop: Workshop) -> None:
    subject = known(plain, workshop)
    del workshop.names.addresses[NAME]
    first, *others = diagnose(subject, outside.QUESTIONS).ranked
    assert first.finding.check == "name.resolves"
    assert f"Make a record for {NAME}" in first.finding.fix
    assert not any(one.finding.is_trouble for one in others)


def test_promised_http_3_that_no_datagram_reaches_is_a_warning(plain: NginxUnderTest, workshop: Workshop) -> None:
    settings = settings_of(site=SITE, open_webui={"admin": {"email": "a@b.cd"}})
    without = workshop.nginx(settings, port=PORT)
    subject = known(without, workshop, expected=expected(address_of(without), http3=True))
    del plain
    first, *_ = diagnose(subject, outside.QUESTIONS).ranked
    assert (first.finding.check, first.finding.setting) == ("http.three", "proxy.http3")


def test_report_of_a_real_deployment_holds_nothing_secret(
    plain: NginxUnderTest, workshop: Workshop, tmp_path: Path
) -> None:
    from open_webui_edge.diagnostics.command_line import report  # noqa: PLC0415 - it alone is asked here

    subject = known(plain, workshop, token="a token that no report may show")
    file = tmp_path / "doctor.html"
    report(diagnose(subject, outside.QUESTIONS), as_json=False, html=file)
    assert "a token that no report may show" not in file.read_text()
