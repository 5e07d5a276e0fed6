"""Load balancers: what reaches the instance, how, and what is written down."""

import json
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest

from open_webui_edge.components.aws.load_balancer import (
    ApplicationLoadBalancer,
    ApplicationLoadBalancerArgs,
    NetworkLoadBalancer,
    NetworkLoadBalancerArgs,
)
from tests.unit.graph import UNKNOWN, Graph, graph_of

SUFFIXES = {"arn_suffix": "app/edge/0123", "target_group_arn_suffix": "targetgroup/edge/0123"}
OUTPUTS = {"dns_name": "edge.elb.example.net", "zone_id": "Z-ELB", **SUFFIXES}


def outputs(balancer: ApplicationLoadBalancer | NetworkLoadBalancer) -> dict[str, Any]:
    return {name: getattr(balancer, name) for name in OUTPUTS}


def alb(*, preview: bool = False, **changes: Any) -> Graph:
    def program() -> dict[str, Any]:
        args = ApplicationLoadBalancerArgs(
            vpc_id="vpc-1",
            subnet_ids=["subnet-1", "subnet-2"],
            ipv6=True,
            security_group_id="sg-1",
            instance_id="i-1",
            certificate_arn="arn:issued",
            tls_policy="ELBSecurityPolicy-TLS13-1-2-2021-06",
            idle_timeout=3600,
            health_check_path="/health",
            access_logs=True,
            deletion_protection=False,
        )
        return outputs(ApplicationLoadBalancer("edge", ApplicationLoadBalancerArgs(**{**args, **changes})))

    return graph_of(program, preview=preview)


def nlb(*, preview: bool = False, **changes: Any) -> Graph:
    def program() -> dict[str, Any]:
        args = NetworkLoadBalancerArgs(
            vpc_id="vpc-1",
            subnet_ids=["subnet-1", "subnet-2"],
            ipv6=True,
            security_group_id="sg-1",
            instance_id="i-1",
            idle_timeout=3600,
            health_check_path="/health",
            deletion_protection=False,
        )
        return outputs(NetworkLoadBalancer("edge", NetworkLoadBalancerArgs(**{**args, **changes})))

    return graph_of(program, preview=preview)


@pytest.mark.parametrize("make", [alb, nlb])
def test_it_is_public_in_both_families_with_the_group_it_is_given(make: Any) -> None:
    (balancer,) = make().of("LoadBalancer")
    assert balancer.inputs["internal"] is False
    assert balancer.inputs["ipAddressType"] == "dualstack"
    assert balancer.inputs["subnets"] == ["subnet-1", "subnet-2"]
    assert balancer.inputs["securityGroups"] == ["sg-1"]


@pytest.mark.parametrize("make", [alb, nlb])
def test_subnets_without_ipv6_will_do(make: Any) -> None:
    (balancer,) = make(ipv6=False).of("LoadBalancer")
    assert balancer.inputs["ipAddressType"] == "ipv4"


@pytest.mark.parametrize("make", [alb, nlb])
@pytest.mark.parametrize("protected", [True, False])
def test_deletion_protection_is_as_asked(make: Any, *, protected: bool) -> None:
    (balancer,) = make(deletion_protection=protected).of("LoadBalancer")
    assert balancer.inputs["enableDeletionProtection"] is protected
    # Pulumi's own is for what holds data.
    assert not balancer.protect


@pytest.mark.parametrize("make", [alb, nlb])
def test_others_are_told_where_it_is_and_what_its_metrics_are_called(make: Any) -> None:
    assert make().returned == OUTPUTS


@pytest.mark.parametrize("make", [alb, nlb])
def test_a_preview_is_the_same_but_for_what_aws_says(make: Any) -> None:
    graph = make(preview=True)
    assert graph.identities() == make().identities()
    assert set(graph.returned.values()) == {UNKNOWN}


@pytest.mark.parametrize("make", [alb, nlb])
def test_names_fit_and_are_others_in_another_network(make: Any) -> None:
    def names(vpc: str) -> set[str]:
        graph = make(vpc_id=vpc)
        return {one.inputs["name"] for one in (*graph.of("LoadBalancer"), *graph.of("TargetGroup"))}

    here, there = names("vpc-0a1b2c3d4e5f67890"), names("vpc-0a1b2c3d4e5f67891")
    assert not here & there
    assert len(here) == len(make().of("LoadBalancer")) + len(make().of("TargetGroup"))
    assert all(len(name) <= 32 and name.startswith("edge-unit-") for name in here | there)


def test_in_a_network_yet_to_be_made_their_names_are_not_known_either() -> None:
    def program() -> None:
        vpc = aws.ec2.Vpc("vpc", cidr_block="10.0.0.0/16")
        args = NetworkLoadBalancerArgs(
            vpc_id=vpc.id,
            subnet_ids=["subnet-1"],
            ipv6=False,
            security_group_id="sg-1",
            instance_id="i-1",
            idle_timeout=350,
            health_check_path="/health",
            deletion_protection=False,
        )
        NetworkLoadBalancer("edge", args)

    graph = graph_of(program, preview=True)
    # So a preview says that they are replaced.
    for one in (*graph.of("LoadBalancer"), *graph.of("TargetGroup")):
        assert isinstance(one.inputs["name"], pulumi.output.Unknown), one.name


def test_the_application_load_balancer_ends_tls() -> None:
    graph = alb()
    https = graph.named("edge-listener-https").inputs
    assert (https["protocol"], https["port"]) == ("HTTPS", 443)
    assert https["sslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    assert https["certificateArn"] == "arn:issued"
    assert https["defaultActions"] == [{"type": "forward", "targetGroupArn": "arn:target-group"}]


def test_plain_http_is_redirected_with_host_path_and_query() -> None:
    http = alb().named("edge-listener-http").inputs
    assert (http["protocol"], http["port"]) == ("HTTP", 80)
    assert http["defaultActions"] == [
        {
            "type": "redirect",
            "redirect": {
                "protocol": "HTTPS",
                "host": "#{host}",
                "port": "443",
                "path": "/#{path}",
                "query": "#{query}",
                "statusCode": "HTTP_301",
            },
        }
    ]


def test_the_instance_is_spoken_to_over_https() -> None:
    graph = alb()
    (targets,) = graph.of("TargetGroup")
    assert (targets.inputs["protocol"], targets.inputs["protocolVersion"], targets.inputs["port"]) == (
        "HTTPS",
        "HTTP1",
        443,
    )
    assert targets.inputs["healthCheck"] == {
        "protocol": "HTTPS",
        "path": "/health",
        "port": "traffic-port",
        "matcher": "200",
        "interval": 10,
        "timeout": 5,
        "healthyThreshold": 2,
        "unhealthyThreshold": 3,
    }
    assert targets.inputs["stickiness"] == {"type": "lb_cookie", "enabled": True, "cookieDuration": 86400}
    (attached,) = graph.of("TargetGroupAttachment")
    assert (attached.inputs["targetId"], attached.inputs["port"]) == ("i-1", 443)


def test_the_application_load_balancer_keeps_what_the_proxy_relies_on() -> None:
    (balancer,) = alb().of("LoadBalancer")
    assert {
        name: balancer.inputs[name]
        for name in (
            "idleTimeout",
            "dropInvalidHeaderFields",
            "desyncMitigationMode",
            "xffHeaderProcessingMode",
            "preserveHostHeader",
        )
    } == {
        "idleTimeout": 3600,
        "dropInvalidHeaderFields": True,
        "desyncMitigationMode": "defensive",
        "xffHeaderProcessingMode": "append",
        "preserveHostHeader": True,
    }


@pytest.mark.parametrize("preview", [False, True])
def test_a_firewall_is_associated_when_there_is_one(*, preview: bool) -> None:
    assert not alb(preview=preview).of("WebAclAssociation")
    (association,) = alb(preview=preview, web_acl="arn:acl").of("WebAclAssociation")
    assert association.inputs["webAclArn"] == "arn:acl"


def test_without_access_logs_there_is_no_bucket() -> None:
    graph = alb(access_logs=False)
    assert not graph.of("Bucket")
    assert "accessLogs" not in graph.named("edge-alb").inputs


def test_logs_go_into_a_bucket_that_is_ready_for_them() -> None:
    graph = alb()
    balancer = graph.named("edge-alb")
    assert balancer.inputs["accessLogs"] == {"bucket": "logs", "enabled": True}
    assert "edge-access-logs-policy" in balancer.after


def test_the_bucket_of_logs_is_closed_encrypted_and_emptied() -> None:
    graph = alb()
    (closed,) = graph.of("BucketPublicAccessBlock")
    assert {key: value for key, value in closed.inputs.items() if key != "bucket"} == {
        "blockPublicAcls": True,
        "blockPublicPolicy": True,
        "ignorePublicAcls": True,
        "restrictPublicBuckets": True,
    }
    (encrypted,) = graph.of("BucketServerSideEncryptionConfiguration")
    assert encrypted.inputs["rules"] == [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}]
    (lifecycle,) = graph.of("BucketLifecycleConfiguration")
    (rule,) = lifecycle.inputs["rules"]
    assert (rule["status"], rule["expiration"]) == ("Enabled", {"days": 90})
    (owned,) = graph.of("BucketOwnershipControls")
    assert owned.inputs["rule"] == {"objectOwnership": "BucketOwnerEnforced"}


def test_logs_are_no_data_and_go_with_the_stack() -> None:
    (bucket,) = alb().of("Bucket")
    assert bucket.inputs["forceDestroy"] is True
    assert (bucket.protect, bucket.retain) == (False, False)
    assert bucket.inputs["bucketPrefix"] == "edge-unit-logs-"


def test_only_load_balancers_of_this_account_write_and_only_over_tls() -> None:
    (policy,) = alb().of("BucketPolicy")
    assert json.loads(policy.inputs["policy"])["Statement"] == [
        {
            "Sid": "LoadBalancersOfThisAccount",
            "Effect": "Allow",
            "Principal": {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
            "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::logs/AWSLogs/123456789012/*",
        },
        {
            "Sid": "EncryptedConnectionsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": ["arn:aws:s3:::logs", "arn:aws:s3:::logs/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    ]


def test_the_network_load_balancer_passes_both_ports_on() -> None:
    graph = nlb()
    listeners = {
        (one.inputs["protocol"], one.inputs["port"], one.inputs["tcpIdleTimeoutSeconds"])
        for one in graph.of("Listener")
    }
    assert listeners == {("TCP", 80, 3600), ("TCP", 443, 3600)}
    attached = {(one.inputs["targetId"], one.inputs["port"]) for one in graph.of("TargetGroupAttachment")}
    assert attached == {("i-1", 80), ("i-1", 443)}
    (balancer,) = graph.of("LoadBalancer")
    assert balancer.inputs["enableCrossZoneLoadBalancing"] is True


@pytest.mark.parametrize("role", ["http", "https"])
def test_clients_are_known_by_the_proxy_protocol_alone(role: str) -> None:
    targets = nlb().named(f"edge-{role}").inputs
    assert targets["protocol"] == "TCP"
    assert targets["proxyProtocolV2"] is True
    assert targets["preserveClientIp"] == "false"
    assert targets["connectionTermination"] is True


@pytest.mark.parametrize("role", ["http", "https"])
def test_the_check_of_the_network_load_balancer_is_answered_by_nginx(role: str) -> None:
    check = nlb().named(f"edge-{role}").inputs["healthCheck"]
    assert (check["protocol"], check["port"], check["path"], check["matcher"]) == ("HTTP", "80", "/health", "200")
