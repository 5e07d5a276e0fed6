"""Who may speak with whom."""

import re
from collections.abc import Sequence

import pytest

from open_webui_edge.components.aws.load_balancer import LoadBalancerKind
from open_webui_edge.components.aws.security_groups import SecurityGroups, SecurityGroupsArgs
from tests.unit.graph import Graph, graph_of

EVERYBODY = {"0.0.0.0/0", "::/0"}
SSH_FROM = ["203.0.113.0/24", "2001:db8::/32"]


def groups(
    load_balancer: LoadBalancerKind, *, http3: bool = False, egress_ports: Sequence[int] = (), preview: bool = False
) -> Graph:
    def program() -> dict[str, object]:
        made = SecurityGroups(
            "edge-groups",
            SecurityGroupsArgs(
                vpc_id="vpc-0a", load_balancer=load_balancer, ssh_from=SSH_FROM, http3=http3, egress_ports=egress_ports
            ),
        )
        return {"instance": made.instance, "load_balancer": made.load_balancer}

    return graph_of(program, preview=preview)


@pytest.fixture(
    params=[(load_balancer, preview) for load_balancer in LoadBalancerKind for preview in (False, True)], ids=str
)
def graph(request: pytest.FixtureRequest) -> Graph:
    load_balancer, preview = request.param
    return groups(load_balancer, preview=preview)


def _peer(rule: dict[str, object]) -> object:
    return rule.get("cidrIpv4") or rule.get("cidrIpv6") or rule["referencedSecurityGroupId"]


def _let_in(graph: Graph, group: str) -> set[tuple[object, object, object]]:
    return {
        (_peer(dict(rule.inputs)), rule.inputs["fromPort"], rule.inputs["ipProtocol"])
        for rule in graph.of("SecurityGroupIngressRule")
        if rule.inputs["securityGroupId"] == f"edge-groups-{group}-id"
    }


SSH = {(network, 22, "tcp") for network in SSH_FROM}
WORLD = {(network, port, "tcp") for network in EVERYBODY for port in (80, 443)}


def test_without_a_load_balancer_everybody_reaches_the_instance() -> None:
    graph = groups(LoadBalancerKind.NONE)
    assert _let_in(graph, "instance") == WORLD | SSH
    assert graph.returned["load_balancer"] is None


def test_http_3_is_let_in_where_it_is_spoken() -> None:
    assert _let_in(groups(LoadBalancerKind.NONE, http3=True), "instance") == WORLD | SSH | {
        (network, 443, "udp") for network in EVERYBODY
    }


@pytest.mark.parametrize(("load_balancer", "ports"), [(LoadBalancerKind.ALB, {443}), (LoadBalancerKind.NLB, {80, 443})])
def test_with_a_load_balancer_only_that_reaches_the_instance(load_balancer: LoadBalancerKind, ports: set[int]) -> None:
    graph = groups(load_balancer)
    balancer = "edge-groups-load-balancer-id"
    assert _let_in(graph, "instance") == {(balancer, port, "tcp") for port in ports} | SSH
    assert _let_in(graph, "load-balancer") == WORLD
    sent = {
        (_peer(dict(rule.inputs)), rule.inputs["fromPort"])
        for rule in graph.of("SecurityGroupEgressRule")
        if rule.inputs["securityGroupId"] == balancer
    }
    assert sent == {("edge-groups-instance-id", port) for port in ports}
    assert graph.returned["load_balancer"] == balancer


def test_everybody_is_let_in_and_sought_on_80_and_443_alone(graph: Graph) -> None:
    rules = [*graph.of("SecurityGroupIngressRule"), *graph.of("SecurityGroupEgressRule")]
    for rule in rules:
        if _peer(dict(rule.inputs)) in EVERYBODY:
            assert rule.inputs["fromPort"] == rule.inputs["toPort"]
            assert rule.inputs["toPort"] in {80, 443}, rule.name


def test_a_service_elsewhere_is_reached_on_the_port_that_is_named() -> None:
    graph = groups(LoadBalancerKind.NONE, egress_ports=[5432, 443])
    named = {
        (_peer(dict(rule.inputs)), rule.inputs["toPort"])
        for rule in graph.of("SecurityGroupEgressRule")
        if rule.inputs["fromPort"] == 5432
    }
    assert named == {(network, 5432) for network in EVERYBODY}


def test_a_rule_says_its_purpose_in_signs_that_aws_takes(graph: Graph) -> None:
    for resource in graph.resources:
        if "description" in resource.inputs:
            assert re.fullmatch(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{1,255}", resource.inputs["description"])


def test_a_group_s_rules_are_its_own_resources(graph: Graph) -> None:
    for group in graph.of("SecurityGroup"):
        assert not {"ingress", "egress"} & set(group.inputs)


def test_a_network_is_part_of_a_rule_s_name() -> None:
    names = {rule.name for rule in groups(LoadBalancerKind.NONE).of("SecurityGroupIngressRule")}
    assert {"edge-groups-instance-ssh-203.0.113.0-24", "edge-groups-instance-ssh-2001-db8---32"} <= names
