"""The component that runs certbot: what it makes, and where its secrets are."""

import json

import pulumi
import pytest

from open_webui_edge.components.certificates.certbot import (
    HOME,
    Certbot,
    CertbotArgs,
    ExternalAccountArgs,
    IssuerArgs,
    Route53Args,
)
from open_webui_edge.runtime.certbot import settings
from open_webui_edge.runtime.contract import CONFIG_DIR
from tests.unit.graph import UNKNOWN, Graph, Resource, graph_of


def program(*, on_host: bool = False) -> dict[str, object]:
    keys = Route53Args(
        access_key_id="AKIA", secret_access_key=pulumi.Output.secret("aws-secret"), region="eu-central-1"
    )
    account = ExternalAccountArgs(key_id="kid", hmac_key=pulumi.Output.secret("mac-secret"))
    args = CertbotArgs(
        image="sha256:0123",
        home="edge-unit-letsencrypt",
        certificates="edge-unit-certificates",
        names=["chat.example.com", "*.example.com"],
        challenge="dns-01",
        issuers=[
            IssuerArgs(directory="https://first/dir", email="me@example.com"),
            IssuerArgs(directory="https://second/dir", external_account=account, profile="classic"),
        ],
        wait=90,
        memory=256 << 20,
    )
    if not on_host:
        args["network"], args["route53"] = "network-id", keys
    made = Certbot("edge-certbot", args)
    return {"containers": made.containers, "ids": made.container_ids}


@pytest.fixture(scope="module", name="up")
def fixture_up() -> Graph:
    return graph_of(program)


def test_nothing_that_it_makes_is_kept(up: Graph) -> None:
    assert {(volume.name, volume.protect, volume.retain) for volume in up.of("Volume")} == {
        ("edge-certbot-given", False, False)
    }
    (server,) = up.of("Container")
    mounted = {mount["containerPath"]: mount["volumeName"] for mount in server.inputs["volumes"]}
    assert mounted == {
        HOME: "edge-unit-letsencrypt",
        CONFIG_DIR: "edge-unit-certbot-given",
        "/var/lib/open-webui-edge": "edge-unit-certificates",
    }


def test_the_container_has_no_rights_and_waits_as_long_as_it_is_told(up: Graph) -> None:
    (server,) = up.of("Container")
    assert server.inputs["capabilities"] == {"drops": ["ALL"], "adds": []}
    assert server.inputs["healthcheck"]["startPeriod"] == "1m30s"
    assert server.labels["role"] == "certbot"
    assert server.inputs["init"] is True


def test_what_it_is_told_is_what_the_program_in_it_reads_and_secret(up: Graph) -> None:
    (server,) = up.of("Container")
    assert "uploads" in server.secret_inputs
    files = {upload["file"]: upload for upload in server.inputs["uploads"]}
    assert all(upload["permissions"] == "0600" for upload in files.values())
    read = settings.parse(json.loads(files.pop(f"{CONFIG_DIR}/settings.json")["content"]))
    assert read.names == ("*.example.com",)
    assert [(issuer.directory, issuer.external_account) for issuer in read.issuers] == [
        ("https://first/dir", None),
        ("https://second/dir", {"key_id": "kid", "hmac_key": "mac-secret"}),
    ]
    assert read.issuers[1].profile == "classic"
    assert read.route53 == settings.Route53("AKIA", "aws-secret", "eu-central-1", None)
    assert f"{CONFIG_DIR}/obtain/__main__.py" in files
    elsewhere = {key: value for key, value in server.inputs.items() if key != "uploads"}
    assert "secret" not in json.dumps(elsewhere)


def test_it_finds_the_proxy_by_its_name(up: Graph) -> None:
    (server,) = up.of("Container")
    assert [attached["name"] for attached in server.inputs["networksAdvanced"]] == ["network-id"]
    assert "networkMode" not in server.inputs
    assert str(settings_of(server).proxy) == "nginx:443"


@pytest.mark.parametrize("preview", [False, True], ids=["up", "preview"])
def test_on_the_host_s_network_it_has_no_more_rights_and_asks_the_published_port(*, preview: bool) -> None:
    (server,) = graph_of(lambda: program(on_host=True), preview=preview).of("Container")
    assert server.inputs["networkMode"] == "host"
    assert {"networksAdvanced", "ports", "pidMode"} & set(server.inputs) == set()
    assert server.inputs["capabilities"] == {"drops": ["ALL"], "adds": []}
    assert server.inputs["securityOpts"] == ["no-new-privileges:true"]
    read = settings_of(server)
    assert str(read.proxy) == "127.0.0.1:443"
    assert read.route53 is None


def settings_of(server: Resource) -> settings.Settings:
    """Return what the program in the container reads."""
    files = {upload["file"]: upload["content"] for upload in server.inputs["uploads"]}
    return settings.parse(json.loads(files[f"{CONFIG_DIR}/settings.json"]))


def test_a_preview_knows_no_id() -> None:
    assert graph_of(program, preview=True).returned["ids"] == UNKNOWN
