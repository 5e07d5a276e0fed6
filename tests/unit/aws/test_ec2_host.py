"""The instance, what it may do, and what outlives it."""

import json

import pulumi
import pytest
import yaml

from open_webui_edge.components.aws.ec2_host import Architecture, Ec2Host, Ec2HostArgs, MachineImage, instance_policy
from tests.unit.graph import UNKNOWN, Graph, graph_of


def host(
    image: MachineImage = MachineImage.DEBIAN,
    architecture: Architecture = Architecture.AMD64,
    *,
    preview: bool = False,
    answers_challenges: bool = False,
) -> Graph:
    def program() -> dict[str, object]:
        zone, network = pulumi.Stash("zones", input="eu-central-1a"), pulumi.Stash("network", input="subnet-0a")
        args = Ec2HostArgs(
            image=image,
            architecture=architecture,
            instance_type="t3.large",
            root_volume=16,
            data_volume=50,
            availability_zone=zone.output,
            subnet_id=network.output,
            security_group_ids=["sg-0a"],
        )
        if answers_challenges:
            args["acme_zone_arn"] = pulumi.Stash("names", input=ZONE).output
        made = Ec2Host("edge-host", args)
        return {
            "address": made.address,
            "instance_id": made.instance_id,
            "volume_id": made.volume_id,
            "volume_arn": made.volume_arn,
            "role_name": made.role_name,
            "user": made.ssh.user,
            "client_private_key": made.ssh.client_private_key,
            "host_key": made.ssh.host_key,
            "ssh_address": made.ssh.address,
        }

    return graph_of(program, preview=preview)


@pytest.fixture(params=[(image, preview) for image in MachineImage for preview in (False, True)], ids=str)
def graph(request: pytest.FixtureRequest) -> Graph:
    image, preview = request.param
    return host(image, preview=preview)


def test_containers_reach_no_keys_of_the_instance(graph: Graph) -> None:
    (instance,) = graph.of("Instance")
    assert instance.inputs["metadataOptions"] == {
        "httpEndpoint": "enabled",
        "httpTokens": "required",
        "httpPutResponseHopLimit": 1,
    }


def test_every_disk_is_encrypted(graph: Graph) -> None:
    (instance,) = graph.of("Instance")
    (volume,) = graph.of("Volume")
    assert instance.inputs["rootBlockDevice"]["encrypted"] is True
    assert volume.inputs["encrypted"] is True


def test_data_and_keys_outlive_the_instance(graph: Graph) -> None:
    retained = {resource.name for resource in graph.resources if resource.protect and resource.retain}
    assert retained == {"edge-host-data", "edge-host-client-key", "edge-host-host-key"}


@pytest.mark.parametrize("answers_challenges", [False, True])
def test_what_is_kept_depends_on_nothing_that_costs(*, answers_challenges: bool) -> None:
    graph = host(answers_challenges=answers_challenges)
    for resource in graph.resources:
        if resource.protect:
            assert resource.after <= {"zones"}, resource.name
            # As `pulumi destroy --exclude-protected` sees it, on what its parent was told too.
            assert graph.named(resource.parent).after <= {"zones"}


def test_the_volume_leaves_one_instance_before_the_next_takes_it() -> None:
    graph = host()
    (instance,), (attachment,), (association,) = map(graph.of, ("Instance", "VolumeAttachment", "EipAssociation"))
    assert instance.removed_first
    assert attachment.removed_first
    assert association.removed_first
    assert attachment.inputs["stopInstanceBeforeDetaching"] is True
    (address,) = graph.of("Eip")
    assert "edge-host-instance" not in address.after


def test_image_and_first_words_are_pinned() -> None:
    graph = host()
    pinned = graph.named("edge-host-debian-amd64")
    assert pinned.ignored == {"input"}
    assert pinned.inputs["input"]["image"] == "ami-0newest"
    (instance,) = graph.of("Instance")
    assert instance.inputs["ami"] == "ami-0newest"
    assert instance.inputs["userDataReplaceOnChange"] is True
    assert {"edge-host-debian-amd64", "edge-host-data", "edge-host-client-key"} <= instance.after


@pytest.mark.parametrize("image", MachineImage)
@pytest.mark.parametrize("architecture", Architecture)
def test_another_image_or_processor_has_a_pin_of_its_own(image: MachineImage, architecture: Architecture) -> None:
    graph = host(image, architecture)
    assert graph.named(f"edge-host-{image}-{architecture}").type == "pulumi:index:Stash"
    assert graph.returned["user"] == {"debian": "admin", "ubuntu": "ubuntu"}[image]


def test_user_data_names_the_parameter_and_holds_no_secret() -> None:
    graph = host()
    (parameter,) = graph.of("Parameter")
    (instance,) = graph.of("Instance")
    assert parameter.inputs["type"] == "SecureString"
    assert parameter.inputs["value"] == "OPENSSH PRIVATE KEY"
    assert "value" in parameter.secret_inputs
    reported = yaml.safe_load(instance.inputs["userData"])
    assert "PRIVATE KEY" not in instance.inputs["userData"]
    (environment,) = (file["content"] for file in reported["write_files"] if file["path"].endswith("/host.env"))
    assert f"HOST_KEY_PARAMETER={parameter.inputs['name']}\n" in environment
    assert "DATA_VOLUME=edge-host-data-id\n" in environment
    assert reported["ssh_authorized_keys"] == ["ssh-ed25519 AAAA"]
    assert "userData" not in instance.secret_inputs


def test_what_a_connection_needs_is_told() -> None:
    graph = host()
    assert graph.returned["ssh_address"] == graph.returned["address"] == "192.0.2.80"
    assert graph.returned["host_key"] == "ssh-ed25519 AAAA"
    assert graph.returned["client_private_key"] == "OPENSSH PRIVATE KEY"
    assert graph.secret_outputs == {"client_private_key"}


def test_a_preview_knows_who_logs_in_and_nothing_that_is_to_come() -> None:
    returned = dict(host(preview=True).returned)
    assert returned.pop("user") == "admin"
    assert set(returned.values()) == {UNKNOWN}


def test_everything_that_can_be_tagged_is(graph: Graph) -> None:
    untagged = {"PrivateKey", "Stash", "RolePolicy", "VolumeAttachment", "EipAssociation", "Ec2Host"}
    for resource in graph.resources:
        if resource.type.rpartition(":")[2] not in untagged:
            tags = resource.inputs["tags"]
            assert (tags["app"], tags["stack"], tags["component"]) == ("open-webui-edge", "unit", "host")


ZONE = "arn:aws-us-gov:route53:::hostedzone/Z0123456789"
_KINDS = ("RecordTypes", "Actions")
PARAMETER = "arn:aws-us-gov:ssm:us-gov-west-1:123456789012:parameter/open-webui-edge/a/edge-host/ssh-host-key"


@pytest.mark.parametrize("image", MachineImage)
def test_the_instance_may_do_what_it_does_and_nothing_else(image: MachineImage) -> None:
    allowed = {
        action: (statement["Resource"], statement.get("Condition"))
        for statement in json.loads(json.dumps(instance_policy(image, PARAMETER)))["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert not [action for action in allowed if "*" in action]
    assert allowed.pop("ssm:GetParameter") == (PARAMETER, None)
    assert allowed.pop("cloudwatch:PutMetricData") == (
        "*",
        {"StringEquals": {"cloudwatch:namespace": "open-webui-edge"}},
    )
    session = {
        "ssm:UpdateInstanceInformation",
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
    }
    assert set(allowed) == (session if image is MachineImage.UBUNTU else set())


def test_it_changes_the_records_of_challenges_in_one_zone_and_no_others() -> None:
    policy = host(answers_challenges=True).named("edge-host-role-policy-challenges")
    assert policy.inputs["role"] == host().named("edge-host-role-policy").inputs["role"]
    find, wait, change = json.loads(policy.inputs["policy"])["Statement"]
    assert (find["Action"], find["Resource"]) == ("route53:ListHostedZones", "*")
    assert (wait["Action"], wait["Resource"]) == ("route53:GetChange", "arn:aws-us-gov:route53:::change/*")
    assert (change["Action"], change["Resource"]) == ("route53:ChangeResourceRecordSets", ZONE)
    names, types, actions = (f"route53:ChangeResourceRecordSets{key}" for key in ("NormalizedRecordNames", *_KINDS))
    assert change["Condition"] == {
        "ForAllValues:StringLike": {names: ["_acme-challenge.*"], types: ["TXT"], actions: ["DELETE", "UPSERT"]},
        # A request without any would fit all of them.
        "Null": {names: "false", types: "false", actions: "false"},
    }


def test_it_changes_no_records_unless_it_is_to() -> None:
    assert [policy.name for policy in host().of("RolePolicy")] == ["edge-host-role-policy"]
    unknown = host(answers_challenges=True, preview=True).named("edge-host-role-policy-challenges")
    assert isinstance(unknown.inputs["policy"], pulumi.output.Unknown)


def test_only_ec2_takes_the_role() -> None:
    (role,) = host().of("Role")
    (statement,) = json.loads(role.inputs["assumeRolePolicy"])["Statement"]
    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert len(role.inputs["namePrefix"]) <= 38


def test_each_resource_has_a_name_of_its_own(graph: Graph) -> None:
    names = [resource.name for resource in graph.resources]
    assert sorted(set(names)) == sorted(names)
