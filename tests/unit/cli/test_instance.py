"""The instance of a stack, as its state knows it."""

import json
from typing import Any

from open_webui_edge.cli import instance, site
from open_webui_edge.engine.ssh import SshAccess

SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "plaintext": json.dumps("a key")}


def state(**outputs: Any) -> list[dict[str, Any]]:
    return [
        {"type": "pulumi:pulumi:Stack", "urn": "urn:stack"},
        {"type": "open-webui-edge:index:Ec2Host", "urn": "urn:host", "outputs": outputs},
        {"type": "aws:ec2/instance:Instance", "urn": "urn:instance", "outputs": {}},
        {"type": "docker:index/container:Container", "urn": "urn:container", "outputs": {}},
    ]


def test_the_state_says_how_the_instance_is_reached() -> None:
    ssh = {"host": "ssh://admin@192.0.2.7", "host_key": "ssh-ed25519 AAAA", "client_key": SECRET}
    expected = SshAccess("prod", "ssh://admin@192.0.2.7", "ssh-ed25519 AAAA", "a key")
    assert instance.access("prod", state(ssh=ssh)) == expected
    # Pulumi may mark the whole instead of the part.
    whole = {**SECRET, "plaintext": json.dumps({**ssh, "client_key": "a key"})}
    assert instance.access("prod", state(ssh=whole)) == expected


def test_before_there_is_an_instance_there_is_no_way_to_it() -> None:
    assert instance.access("prod", []) is None
    assert instance.access("prod", state()) is None
    unknown = {"host": "04da6b54-80e4-46f7-96ec-b56ff0331ba9", "host_key": None, "client_key": None}
    assert instance.access("prod", state(ssh=unknown)) is None


def test_aws_is_asked_about_its_own_alone() -> None:
    assert instance.aws_urns(state()) == ["urn:instance"]


def test_what_ended_with_a_gone_instance_is_asked_about_before_it_is_removed() -> None:
    attachment = {"type": "aws:ec2/volumeAttachment:VolumeAttachment", "urn": "urn:attachment"}
    assert instance.attachment_urns([*state(), attachment]) == ["urn:attachment"]


def test_an_instance_is_wanted_where_the_settings_say_so() -> None:
    assert instance.is_used({"platform": {"kind": "aws-vm"}})
    assert not instance.is_used({})
    assert not instance.is_used({"platform": {"kind": "docker"}})


def test_status_page_is_named_with_the_way_to_it() -> None:
    outputs = {"status_page": "http://127.0.0.1:9091/consoles/status.html"}
    assert site.status_page(outputs, here=True) == [
        "Its status page, reachable from this machine only, is http://127.0.0.1:9091/consoles/status.html"
    ]
    assert site.status_page(outputs, here=False) == [
        "Its status page, reachable from the container host only, is http://127.0.0.1:9091/consoles/status.html",
        "(forward it with ssh -L 9091:127.0.0.1:9091: docs/operations.md)",
    ]
    assert site.status_page({"url": "https://localhost:8443"}, here=True) == []


def test_what_is_left_to_do_is_said() -> None:
    records = [{"name": "chat.example.com", "type": "A", "value": "192.0.2.7"}]
    assert site.pending_dns({"dns_records": records}) == [
        "Create these records at your DNS provider (at the top of a zone, an ALIAS):",
        "  chat.example.com  A  192.0.2.7",
    ]
    assert site.pending_dns({"name_servers": ["ns-1.example.net", "ns-2.example.net"]}) == [
        "Your domain's registrar must know the name servers of its zone: ns-1.example.net, ns-2.example.net"
    ]
    assert site.pending_dns({"host": None}) == []
