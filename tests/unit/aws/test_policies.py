"""Rules that hold for every resource of every stack on AWS, whatever it is."""

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest

from tests.unit import graph as graphs
from tests.unit.aws.deployments import BY_ROLE, COMBINATIONS, MADE, SECRETS, STACKS, deployed, texts_in
from tests.unit.aws_rules import faults, leaks
from tests.unit.graph import Graph, Resource

IDENTITIES = Path(__file__).parents[1] / "identities"
EVERYBODY = {"0.0.0.0/0", "::/0"}


@pytest.fixture(params=STACKS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return deployed(request.param)


def of_aws(graph: Graph) -> list[Resource]:
    result = [one for one in graph.resources if one.type.startswith("aws:")]
    assert result
    return result


def below(value: Any) -> Iterator[tuple[str, Any]]:
    """Return every key below a value, with what it says."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key), item
            yield from below(item)
    elif isinstance(value, list):
        for item in value:
            yield from below(item)


def test_everything_keeps_the_rules(graph: Graph) -> None:
    assert faults(graph) == []


@pytest.mark.parametrize("stack", ["staging", "production"])
def test_identities_are_a_contract(stack: str, *, update: bool) -> None:
    expected = IDENTITIES / f"{stack}.txt"
    result = deployed(stack).identities()
    if update:
        expected.write_text(result)
    assert result == expected.read_text()


@pytest.mark.parametrize("stack", ["staging", "production", *BY_ROLE, *STACKS[4::5]])
def test_a_preview_of_what_is_not_there_yet_has_the_same_resources(stack: str) -> None:
    assert deployed(stack, preview=True).identities() == deployed(stack).identities()


def test_every_resource_has_a_component_above_it(graph: Graph) -> None:
    assert [resource.name for resource in graph.resources if not resource.parent] == ["edge"]


def test_everything_on_aws_is_made_by_the_provider_of_its_region(graph: Graph) -> None:
    (provider,) = (one for one in graph.resources if one.type == "pulumi:providers:aws")
    assert provider.inputs["region"] == "eu-central-1"
    assert {one.provider.rpartition("::")[0].rpartition("::")[2] for one in of_aws(graph)} == {provider.name}


@pytest.mark.parametrize("stack", [stack for stack in STACKS if stack == "production" or stack[:3] in {"alb", "nlb"}])
def test_behind_a_load_balancer_the_instance_is_reached_from_there_and_by_whom_may_log_in(stack: str) -> None:
    graph = deployed(stack)
    rules = [one for one in graph.of("SecurityGroupIngressRule") if "-security-groups-instance-" in one.name]
    assert rules
    for rule in rules:
        if rule.inputs["fromPort"] == 22:
            assert not EVERYBODY & {text for _, text in texts_in(rule.inputs)}
        else:
            assert rule.inputs["referencedSecurityGroupId"].startswith("edge-vm-security-groups-load-balancer")


def test_nothing_is_public_by_a_switch(graph: Graph) -> None:
    for one in of_aws(graph):
        for key, value in below(one.inputs):
            lowered = key.lower()
            if lowered.startswith(("block", "ignore", "restrict")) and "public" in lowered:
                assert value is True, f"{one.name}: {key}"
            elif "public" in lowered and isinstance(value, bool):
                assert value is False, f"{one.name}: {key}"
            assert not (lowered == "acl" and "public" in str(value)), one.name
        if one.type == "aws:s3/bucket:Bucket":
            for needed in ("PublicAccessBlock", "ServerSideEncryptionConfiguration", "Policy"):
                assert _beside(graph, one, f"aws:s3/bucket{needed}"), needed


def test_only_load_balancers_face_the_internet(graph: Graph) -> None:
    for one in of_aws(graph):
        if one.inputs.get("internal") is False:
            assert one.type == "aws:lb/loadBalancer:LoadBalancer"
            assert one.inputs["securityGroups"]


def test_no_secret_is_in_clear_anywhere(graph: Graph) -> None:
    assert leaks(graph, MADE, *SECRETS.values()) == []
    assert graph.secret_outputs <= {"admin_password", "backup_password"}


def test_no_secret_is_where_others_read_it_even_if_pulumi_keeps_it_secret(graph: Graph) -> None:
    for one in graph.resources:
        shown = {key: one.inputs.get(key) for key in ("tags", "labels", "description", "name")}
        user_data = _unpacked(one.inputs.get("userData"))
        for path, text in texts_in({**shown, "userData": user_data}):
            assert not any(secret in text for secret in (MADE, *SECRETS.values())), f"{one.name}: {path}"


MANAGED = {"AWSBackupServiceRolePolicyForBackup", "AWSBackupServiceRolePolicyForRestores"}
"""Policies of AWS's own that are what their service needs."""


def test_no_role_has_more_of_aws_s_own_policies_than_its_service_needs(graph: Graph) -> None:
    for one in graph.of("RolePolicyAttachment"):
        assert one.inputs["policyArn"].rpartition("/")[2] in MANAGED


# Whether there is data in it. A type that is new here is decided about here.
HOLDS_DATA = {
    "aws:backup/vault:Vault",
    "aws:ebs/volume:Volume",
    "aws:route53/zone:Zone",
}
DELETES_COPIES = {"edge-vm-backup-role", "edge-vm-backup-role-back-up", "edge-vm-backup-role-restore"}
"""In the name of these AWS Backup deletes what is in the vault, as long as there is something; they cost nothing."""
HOLDS_NONE = {
    "aws:acm/certificate:Certificate",
    "aws:acm/certificateValidation:CertificateValidation",
    "aws:backup/plan:Plan",
    "aws:backup/selection:Selection",
    "aws:cloudwatch/metricAlarm:MetricAlarm",
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
    "aws:ec2/eip:Eip",
    "aws:ec2/eipAssociation:EipAssociation",
    "aws:ec2/instance:Instance",
    "aws:ec2/internetGateway:InternetGateway",
    "aws:ec2/route:Route",
    "aws:ec2/routeTable:RouteTable",
    "aws:ec2/routeTableAssociation:RouteTableAssociation",
    "aws:ec2/securityGroup:SecurityGroup",
    "aws:ec2/subnet:Subnet",
    "aws:ec2/volumeAttachment:VolumeAttachment",
    "aws:ec2/vpc:Vpc",
    "aws:ec2/vpcEndpoint:VpcEndpoint",
    "aws:iam/instanceProfile:InstanceProfile",
    "aws:iam/role:Role",
    "aws:iam/rolePolicy:RolePolicy",
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
    "aws:lb/listener:Listener",
    "aws:lb/loadBalancer:LoadBalancer",
    "aws:lb/targetGroup:TargetGroup",
    "aws:lb/targetGroupAttachment:TargetGroupAttachment",
    "aws:route53/record:Record",
    # What is logged says who asked for what, and goes with what it is about.
    "aws:s3/bucket:Bucket",
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls",
    "aws:s3/bucketPolicy:BucketPolicy",
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
    "aws:sns/topic:Topic",
    "aws:sns/topicPolicy:TopicPolicy",
    "aws:sns/topicSubscription:TopicSubscription",
    # The key in it is in the state as well, which keeps it.
    "aws:ssm/parameter:Parameter",
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    "aws:wafv2/webAclAssociation:WebAclAssociation",
}


def test_of_everything_is_known_whether_it_holds_data(graph: Graph) -> None:
    assert {one.type for one in of_aws(graph)} <= HOLDS_DATA | HOLDS_NONE


def test_what_holds_data_is_protected_and_retained(graph: Graph) -> None:
    for one in of_aws(graph):
        is_kept = one.type in HOLDS_DATA or one.name in DELETES_COPIES
        assert (one.protect, one.retain) == (is_kept, is_kept), one.name


def test_keys_that_log_in_and_prove_the_instance_are_kept(graph: Graph) -> None:
    for whose in ("client", "host"):
        key = graph.named(f"edge-vm-host-{whose}-key")
        assert (key.protect, key.retain) == (True, True)


def test_what_the_engine_holds_goes_with_the_instance_and_is_not_deleted(graph: Graph) -> None:
    inside = [one for one in graph.resources if one.type.startswith("docker:")]
    assert inside
    for one in inside:
        assert not one.protect, one.name
        assert one.deleted_with == "edge-vm-host-instance", one.name
    retained = {"edge-letsencrypt", "edge-open-webui-data"}
    assert retained <= {one.name for one in graph.of("Volume") if one.retain}


# What is in the state alone, or costs nothing and is not counted.
COSTS_NOTHING = {"pulumi:index:Stash", "pulumi:providers:aws"}


def test_what_make_down_keeps_needs_nothing_else_on_aws(graph: Graph) -> None:
    for one in graph.resources:
        if not one.protect:
            continue
        for needed in graph.needed_by(one):
            fine = needed.type in HOLDS_DATA | COSTS_NOTHING or needed.name in DELETES_COPIES
            fine = fine or needed.type.startswith(("open-webui-edge:", "tls:"))
            assert fine, f"{one.name} keeps {needed.name}"


def test_everything_on_the_engine_comes_after_the_instance_is_complete(graph: Graph) -> None:
    (provider,) = (one for one in graph.resources if one.type == "pulumi:providers:docker")
    before = {one.name for one in graph.needed_by(provider)}
    assert {"edge-vm-host-instance", "edge-vm-host-data", "edge-vm-host-address"} <= before
    for one in graph.resources:
        if one.type.startswith("docker:"):
            assert one.provider.rpartition("::")[0].rpartition("::")[2] == provider.name


@pytest.mark.parametrize("stack", [s for s in STACKS if "lets-encrypt" in s or s == "staging" or s in BY_ROLE])
def test_no_issuer_is_asked_before_the_site_is_found_by_its_names(stack: str) -> None:
    graph = deployed(stack)
    before = {one.name for one in graph.needed_by(graph.named("edge-certbot-server"))}
    # All records, and whatever the site stands behind.
    required = {one.name for one in graph.of("Record")} | {one.name for one in graph.of("Listener")}
    assert required <= before


def test_no_container_has_the_host_s_network_but_certbot_s_where_it_needs_the_role(graph: Graph) -> None:
    """There, the metadata service answers."""
    result = {one.name for one in graph.of("Container") if one.inputs.get("networkMode") == "host"}
    by_role = any(policy.name == "edge-vm-host-role-policy-challenges" for policy in graph.of("RolePolicy"))
    assert result == ({"edge-certbot-server"} if by_role else set())
    certbot = [one for one in graph.of("Container") if one.name == "edge-certbot-server"]
    assert by_role == any("AKIA" not in json.dumps(one.inputs["uploads"]) and _by_dns(one) for one in certbot)


def _by_dns(certbot: Resource) -> bool:
    (reported,) = (file["content"] for file in certbot.inputs["uploads"] if file["file"].endswith("/settings.json"))
    return json.loads(reported)["challenge"] == "dns-01"


@pytest.mark.parametrize("stack", BY_ROLE)
def test_certbot_begins_once_the_role_may_answer_challenges_in_the_site_s_zone(stack: str) -> None:
    graph = deployed(stack)
    certbot = graph.named("edge-certbot-server")
    assert "edge-vm-host-role-policy-challenges" in {one.name for one in graph.needed_by(certbot)}
    policy = json.loads(graph.named("edge-vm-host-role-policy-challenges").inputs["policy"])
    zone = "Z-MADE" if "created" in stack else "Z-FOUND"
    assert policy["Statement"][-1]["Resource"] == f"arn:aws:route53:::hostedzone/{zone}"
    # Nor does what outlives the instance wait for it.
    for retained in graph.resources:
        if retained.protect and retained.name.startswith("edge-vm-host"):
            assert "edge-vm-zone-zone" not in {one.name for one in graph.needed_by(retained)}


@pytest.mark.parametrize("mode", ["acm", "acm-arn"])
def test_browsers_meet_the_certificate_of_acm_and_the_load_balancer_nginx_s_own(mode: str) -> None:
    graph = deployed(f"alb-new-existing-{mode}")
    assert graph.returned["certificate"]["mode"] == "acm"
    assert graph.returned["ca_certificate"] is None
    (listener,) = (one for one in graph.of("Listener") if one.inputs["protocol"] == "HTTPS")
    assert listener.inputs["certificateArn"].startswith("arn:")
    installer = graph.named("edge-nginx-installer").inputs["uploads"]
    assert {upload["content"] for upload in installer if upload["file"].endswith("certificate.pem")} == {"CERTIFICATE"}


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_outputs_say_where_the_site_is_and_what_is_left_to_do(combination: tuple[str, str, str, str]) -> None:
    balancer, _, dns, _ = combination
    said = deployed("-".join(combination)).returned
    assert said["host"] == "192.0.2.80"
    assert ("load_balancer" in said) == (balancer != "none")
    assert ("name_servers" in said) == (dns == "created")
    if dns == "none":
        kind, value = ("A", "192.0.2.80") if balancer == "none" else ("CNAME", "edge.elb.example.net")
        assert said["dns_records"] == [
            {"name": name, "type": kind, "value": value} for name in ("chat.example.com", "www.example.com")
        ]
    else:
        assert "dns_records" not in said


def test_what_is_left_to_do_is_said_while_the_update_may_be_waiting_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "info", said.append)
    deployed.__wrapped__("none-new-none-lets-encrypt")
    deployed.__wrapped__("nlb-new-created-lets-encrypt")
    deployed.__wrapped__("none-new-none-lets-encrypt", preview=True)
    assert said == [
        (
            "Create these records at your DNS provider (at the apex of a zone, an ALIAS):"
            " chat.example.com A 192.0.2.80; www.example.com A 192.0.2.80"
        ),
        "Set the zone's name servers at your domain's registrar: ns-2.example.net",
    ]


# Characters, as each service's API reference has them; of a prefix, what the provider leaves room for.
LIMITS = {
    ("aws:backup/plan:Plan", "name"): 50,
    ("aws:backup/selection:Selection", "name"): 50,
    ("aws:backup/vault:Vault", "name"): 50,
    ("aws:cloudwatch/metricAlarm:MetricAlarm", "name"): 255,
    ("aws:ec2/securityGroup:SecurityGroup", "namePrefix"): 255 - 26,
    ("aws:iam/instanceProfile:InstanceProfile", "namePrefix"): 38,
    ("aws:iam/role:Role", "namePrefix"): 38,
    ("aws:iam/rolePolicy:RolePolicy", "name"): 128,
    ("aws:lb/loadBalancer:LoadBalancer", "name"): 32,
    ("aws:lb/targetGroup:TargetGroup", "name"): 32,
    ("aws:s3/bucket:Bucket", "bucketPrefix"): 37,
    ("aws:sns/topic:Topic", "name"): 256,
    ("aws:ssm/parameter:Parameter", "name"): 1011,
}
NAMED_BY_THE_SETTINGS = {"aws:route53/record:Record", "aws:route53/zone:Zone"}


@pytest.mark.parametrize("name", ["x", "a.b_c-d", "long-" * 19 + "stack"], ids=["short", "signs", "long"])
@pytest.mark.parametrize("stack", ["staging", "production", "nlb-new-created-self-signed"])
def test_names_fit_whatever_the_stack_is_called(stack: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "STACK", name)
    for one in of_aws(deployed.__wrapped__(stack)):
        for key in ("name", "namePrefix", "bucketPrefix"):
            if key in one.inputs and one.type not in NAMED_BY_THE_SETTINGS:
                assert len(one.inputs[key]) <= LIMITS[one.type, key], f"{one.name}: {one.inputs[key]}"
        for value in one.inputs.get("tags", {}).values():
            assert len(value) <= 256


def test_the_example_for_production_cannot_be_deleted_by_mistake() -> None:
    (balancer,) = deployed("production").of("LoadBalancer")
    assert balancer.inputs["enableDeletionProtection"] is True


def _beside(graph: Graph, one: Resource, kind: str) -> bool:
    return any(other.type.startswith(kind) and other.parent == one.parent for other in graph.resources)


def _unpacked(user_data: str | None) -> str:
    """Return user data with all that is packed into it."""
    text = user_data or ""
    for word in text.split():
        try:
            packed = base64.b64decode(word.strip("'\""), validate=True)
            text += "\n" + (gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed).decode()
        except (ValueError, UnicodeDecodeError):
            continue
    return text
