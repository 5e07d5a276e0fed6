"""Names: the zone, where they lead to, and who may issue for them."""

from typing import Any

import pytest

from open_webui_edge.components.aws.dns import (
    Alias,
    CaaRecords,
    CaaRecordsArgs,
    DnsRecords,
    DnsRecordsArgs,
    DnsZone,
    DnsZoneArgs,
    caa_values,
)
from tests.unit.graph import UNKNOWN, Graph, graph_of


def zone(*, create: bool, preview: bool = False) -> Graph:
    def program() -> dict[str, Any]:
        made = DnsZone("edge", DnsZoneArgs(zone="example.com", create=create))
        return {"zone_id": made.zone_id, "name_servers": made.name_servers}

    return graph_of(program, preview=preview)


def records(*, preview: bool = False, **target: Any) -> Graph:
    def program() -> None:
        DnsRecords("edge", DnsRecordsArgs(zone_id="Z", names=["chat.example.com", "example.com"], **target))

    return graph_of(program, preview=preview)


@pytest.mark.parametrize("preview", [False, True])
def test_an_existing_zone_is_found_by_its_name_and_left_alone(*, preview: bool) -> None:
    graph = zone(create=False, preview=preview)
    assert not [one for one in graph.resources if one.custom]
    assert graph.returned == {"zone_id": "Z-FOUND", "name_servers": ["ns-1.example.net"]}


def test_a_zone_that_is_made_is_kept() -> None:
    graph = zone(create=True)
    (made,) = graph.of("Zone")
    assert (made.protect, made.retain) == (True, True)
    assert made.inputs["name"] == "example.com"
    # Records of others are never deleted.
    assert "forceDestroy" not in made.inputs
    # What is kept must hang on nothing that costs.
    assert not made.after
    assert graph.returned == {"zone_id": "Z-MADE", "name_servers": ["ns-2.example.net"]}


def test_in_a_preview_nobody_knows_its_name_servers() -> None:
    graph = zone(create=True, preview=True)
    assert graph.identities() == zone(create=True).identities()
    assert graph.returned == {"zone_id": UNKNOWN, "name_servers": UNKNOWN}


@pytest.mark.parametrize("preview", [False, True])
def test_an_address_has_an_a_record_for_each_name(*, preview: bool) -> None:
    graph = records(preview=preview, address="192.0.2.10")
    assert {(one.inputs["name"], one.inputs["type"], *one.inputs["records"]) for one in graph.of("Record")} == {
        ("chat.example.com", "A", "192.0.2.10"),
        ("example.com", "A", "192.0.2.10"),
    }
    assert {one.inputs["ttl"] for one in graph.of("Record")} == {300}


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize(("ipv6", "kinds"), [(True, {"A", "AAAA"}), (False, {"A"})])
def test_a_load_balancer_has_aliases_in_the_families_that_it_answers(
    kinds: set[str], *, preview: bool, ipv6: bool
) -> None:
    graph = records(preview=preview, alias=Alias(dns_name="edge.elb.example.net", zone_id="Z-ELB", ipv6=ipv6))
    result = graph.of("Record")
    assert {(one.inputs["name"], one.inputs["type"]) for one in result} == {
        (name, kind) for name in ("chat.example.com", "example.com") for kind in kinds
    }
    for one in result:
        assert one.inputs["aliases"] == [
            {"name": "edge.elb.example.net", "zoneId": "Z-ELB", "evaluateTargetHealth": False}
        ]


def test_a_name_keeps_its_record_when_a_load_balancer_comes() -> None:
    alias = Alias(dns_name="edge.elb.example.net", zone_id="Z-ELB", ipv6=False)
    assert records(address="192.0.2.10").identities() == records(alias=alias).identities()


@pytest.mark.parametrize("preview", [False, True])
def test_authorities_are_told_at_each_name_that_is_the_stacks_own(*, preview: bool) -> None:
    def program() -> None:
        args = CaaRecordsArgs(
            zone_id="Z",
            names=["example.com", "chat.example.com", "*.chat.example.com"],
            issuers=["letsencrypt.org"],
            certificate_names=["example.com", "chat.example.com", "*.chat.example.com"],
        )
        CaaRecords("edge-caa", args)

    graph = graph_of(program, preview=preview)
    assert {one.inputs["name"]: one.inputs["records"] for one in graph.of("Record")} == {
        "example.com": ['0 issue "letsencrypt.org"', '0 issuewild ";"'],
        "chat.example.com": ['0 issue "letsencrypt.org"', '0 issuewild "letsencrypt.org"'],
    }
    assert {(one.inputs["type"], one.inputs["ttl"]) for one in graph.of("Record")} == {("CAA", 300)}


def test_refusals_are_reported_to_the_given_url() -> None:
    assert caa_values("a.example", ["one.example", "two.example"], ["a.example"], "mailto:security@a.example") == [
        '0 issue "one.example"',
        '0 issue "two.example"',
        '0 issuewild ";"',
        '0 iodef "mailto:security@a.example"',
    ]
