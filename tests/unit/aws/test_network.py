"""The network: what is reachable from where, and what stays when it is created again."""

import ipaddress
import re
from collections.abc import Callable
from functools import partial

import pulumi
import pytest

from open_webui_edge.components.aws.network import Network, NetworkArgs, ipv6_subnet, subnet_cidrs, zone
from tests.unit.graph import UNKNOWN, Graph, Resource, graph_of


def network(args: NetworkArgs, *, preview: bool = False) -> Graph:
    def program() -> dict[str, object]:
        made = Network("edge-network", args)
        return {
            "vpc_id": made.vpc_id,
            **{f"public {number}": subnet for number, subnet in enumerate(made.public_subnet_ids, 1)},
            **{f"private {number}": subnet for number, subnet in enumerate(made.private_subnet_ids, 1)},
            "zone": made.availability_zone,
        }

    return graph_of(program, preview=preview)


NEW = NetworkArgs(cidr="10.20.0.0/16", availability_zones=2)
EXISTING = NetworkArgs(vpc_id="vpc-0a", public_subnet_ids=["subnet-0b", "subnet-0c"])


def test_a_new_network_has_subnets_of_both_kinds_in_every_zone() -> None:
    graph = network(NEW)
    assert {
        subnet.name: (subnet.inputs["availabilityZone"], subnet.inputs["cidrBlock"], subnet.inputs["ipv6CidrBlock"])
        for subnet in graph.of("Subnet")
    } == {
        "edge-network-public-1": ("eu-central-1a", "10.20.0.0/19", "2001:db8:1234:5600::/64"),
        "edge-network-public-2": ("eu-central-1b", "10.20.32.0/19", "2001:db8:1234:5601::/64"),
        "edge-network-private-1": ("eu-central-1a", "10.20.128.0/19", "2001:db8:1234:5610::/64"),
        "edge-network-private-2": ("eu-central-1b", "10.20.160.0/19", "2001:db8:1234:5611::/64"),
    }
    assert graph.returned == {
        "vpc_id": "edge-network-vpc-id",
        "public 1": "edge-network-public-1-id",
        "public 2": "edge-network-public-2-id",
        "private 1": "edge-network-private-1-id",
        "private 2": "edge-network-private-2-id",
        "zone": "eu-central-1a",
    }


def test_only_public_subnets_have_a_way_to_the_internet() -> None:
    graph = network(NEW)
    assert {route.inputs["routeTableId"] for route in graph.of("Route")} == {"edge-network-public-id"}
    tables = {
        association.inputs["subnetId"]: association.inputs["routeTableId"]
        for association in graph.of("RouteTableAssociation")
    }
    assert tables == {
        f"edge-network-{kind}-{number}-id": f"edge-network-{kind}-id"
        for kind in ("public", "private")
        for number in (1, 2)
    }


def test_nothing_gets_a_public_address_by_being_there() -> None:
    assert {subnet.inputs["mapPublicIpOnLaunch"] for subnet in network(NEW).of("Subnet")} == {False}


def test_the_group_that_nobody_chose_lets_nothing_through() -> None:
    (group,) = network(NEW).of("DefaultSecurityGroup")
    assert (group.inputs["ingress"], group.inputs["egress"]) == ([], [])


def test_what_goes_to_s3_stays_inside() -> None:
    (endpoint,) = network(NEW).of("VpcEndpoint")
    assert endpoint.inputs["vpcEndpointType"] == "Gateway"
    assert set(endpoint.inputs["routeTableIds"]) == {"edge-network-public-id", "edge-network-private-id"}


def test_the_zone_of_the_data_needs_no_network() -> None:
    def program() -> None:
        made = Network("edge-network", NEW)
        pulumi.Stash("data", input=made.availability_zone)

    data = graph_of(program).named("data")
    assert data.after == {"edge-network-zones"}


def test_what_is_in_a_public_subnet_has_its_way_out_first() -> None:
    def program() -> None:
        made = Network("edge-network", NEW)
        pulumi.Stash("inside", input=made.public_subnet_ids[0])

    inside = graph_of(program).named("inside")
    assert inside.after == {
        "edge-network-public-1",
        "edge-network-public-1-routes",
        "edge-network-public-ipv4",
        "edge-network-public-ipv6",
    }


def test_an_existing_network_is_used_as_it_is() -> None:
    graph = network(EXISTING)
    assert [resource.name for resource in graph.resources] == ["edge-network"]
    assert graph.returned == {
        "vpc_id": "vpc-0a",
        "public 1": "subnet-0b",
        "public 2": "subnet-0c",
        "zone": "eu-central-1b",
    }


@pytest.mark.parametrize("preview", [False, True])
def test_subnets_are_asked_for_ipv6_where_a_load_balancer_wants_it(*, preview: bool) -> None:
    graph = network({**EXISTING, "wants_ipv6": True}, preview=preview)
    assert graph.returned == network(EXISTING).returned


def test_subnets_without_ipv6_are_named_and_nothing_is_made_in_them() -> None:
    without = {"aws:ec2/getSubnet:getSubnet": {"ipv6CidrBlock": ""}}
    said = re.escape(
        "site.listen.ipv6: is not false, so the load balancer has IPv6 addresses in each subnet of"
        " platform.aws.vpc.public_subnets, but AWS knows no IPv6 network of subnet-0b, subnet-0c; write"
        " site.listen.ipv6: false, or give each of them one"
    )

    def program(what: Callable[[Network], pulumi.Output[str]]) -> None:
        pulumi.Stash("inside", input=what(Network("edge-network", {**EXISTING, "wants_ipv6": True})))

    for what in (lambda made: made.vpc_id, lambda made: made.public_subnet_ids[1], lambda made: made.availability_zone):
        registered: list[Resource] = []
        with pytest.raises(pulumi.RunError, match=said):
            graph_of(partial(program, what), computed=without, registered=registered)
        assert [one.name for one in registered] == ["edge-network"]


def test_a_preview_of_a_new_network_knows_its_plan() -> None:
    graph = network(NEW, preview=True)
    assert graph.returned["vpc_id"] == UNKNOWN
    assert {subnet.inputs["cidrBlock"] for subnet in graph.of("Subnet")} == {
        "10.20.0.0/19",
        "10.20.32.0/19",
        "10.20.128.0/19",
        "10.20.160.0/19",
    }


@pytest.mark.parametrize("cidr", ["10.0.0.0/16", "172.31.240.0/20", "192.168.7.0/24"])
@pytest.mark.parametrize("zones", [1, 2, 3, 4])
def test_subnets_are_apart_and_within(cidr: str, zones: int) -> None:
    public, private = subnet_cidrs(cidr, zones)
    networks = [ipaddress.IPv4Network(block) for block in (*public, *private)]
    assert len(networks) == 2 * zones
    assert all(network.subnet_of(ipaddress.IPv4Network(cidr)) for network in networks)
    # A load balancer wants a /27 at least.
    assert all(network.prefixlen <= 27 for network in networks)
    assert not [(one, other) for one in networks for other in networks if one is not other and one.overlaps(other)]


def test_one_more_zone_renumbers_nothing() -> None:
    for fewer, more in ((1, 2), (2, 3), (3, 4)):
        for before, after in zip(subnet_cidrs("10.0.0.0/16", fewer), subnet_cidrs("10.0.0.0/16", more), strict=True):
            assert after[:fewer] == before


@pytest.mark.parametrize("zones", [0, 5])
def test_more_zones_than_parts_are_refused(zones: int) -> None:
    with pytest.raises(ValueError, match=f"{zones} availability zones; there are subnets for 1 to 4"):
        subnet_cidrs("10.0.0.0/16", zones)


def test_ipv6_subnets_are_counted_within_the_block() -> None:
    assert ipv6_subnet("2001:db8:1234:5600::/56", 255) == "2001:db8:1234:56ff::/64"


def test_a_region_with_too_few_zones_is_said() -> None:
    with pytest.raises(pulumi.RunError) as refused:
        zone(["us-west-1a", "us-west-1c"], 2)
    assert str(refused.value) == (
        "platform.aws.vpc.availability_zones: is 3, but the region offers 2 (us-west-1a, us-west-1c); write a"
        " smaller number"
    )
