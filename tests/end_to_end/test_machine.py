"""Whether the tests that boot an instance can be believed: what an instance meets is what it meets on EC2."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.components.aws import cloud_init
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from tests.acme.engine import inside
from tests.end_to_end.instance.hardware import Hardware
from tests.end_to_end.instance.machine import Machine
from tests.support.cloud import Cloud

pytestmark = pytest.mark.long
READY = "/run/open-webui-edge/ready"
TOKEN = "curl -sS -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token"
PARAMETER = "/a/tests/own/host-key"


@dataclass
class Rented:
    """An instance with a volume and an address, ordered as a program would."""

    cloud: Cloud
    hardware: Hardware
    keys: Path
    volume_id: str
    address: str
    allocation_id: str
    user_data: str

    def order(self, **further: Any) -> str:
        """Order another instance with these."""
        ec2 = self.cloud.client("ec2")
        (ordered,) = ec2.run_instances(
            **{
                "ImageId": ec2.describe_images()["Images"][0]["ImageId"],
                "MinCount": 1,
                "MaxCount": 1,
                "InstanceType": "t3.large",
                "UserData": self.user_data,
                "IamInstanceProfile": {"Name": "tests-own"},
                "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
                **further,
            }
        )["Instances"]
        instance_id = ordered["InstanceId"]
        ec2.attach_volume(VolumeId=self.volume_id, InstanceId=instance_id, Device=cloud_init.DEVICE_NAME)
        ec2.associate_address(AllocationId=self.allocation_id, InstanceId=instance_id, AllowReassociation=True)
        return instance_id

    def ssh(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Log in by the elastic IP, with nobody's keys and known hosts but the test's."""
        (self.keys / "known_hosts").write_text(f"{self.address} {(self.keys / 'host.pub').read_text()}")
        options = {
            "UserKnownHostsFile": self.keys / "known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentityFile": self.keys / "client",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
        }
        said = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return subprocess.run(  # noqa: S603 - the test's own words
            ["ssh", "-F", "none", *said, f"admin@{self.address}", *words],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )


def ready(machine: Machine) -> bool:
    return machine.attempt(f"test -e {READY}")[0] == 0


@pytest.fixture(scope="module")
def rented(bootable: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rented]:
    folder = tmp_path_factory.mktemp("rented")
    del bootable
    with Cloud.open(folder / "moto.log") as cloud, Hardware(cloud, folder) as hardware:
        for whose in ("host", "client"):
            make_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / whose)]
            subprocess.run(make_key, check=True)  # noqa: S603 - the test's own words
        iam, ec2 = cloud.client("iam"), cloud.client("ec2")
        iam.create_role(RoleName="tests-own", AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName="tests-own")
        iam.add_role_to_instance_profile(InstanceProfileName="tests-own", RoleName="tests-own")
        cloud.client("ssm").put_parameter(Name=PARAMETER, Type="SecureString", Value=(folder / "host").read_text())
        volume_id = ec2.create_volume(AvailabilityZone="eu-central-1a", Size=20, Encrypted=True)["VolumeId"]
        address = ec2.allocate_address(Domain="vpc")
        template = cloud_init.template(login_user="admin", stack="rented", host_key_parameter=PARAMETER)
        user_data = cloud_init.filled(template, volume_id, (folder / "client.pub").read_text())
        yield Rented(cloud, hardware, folder, volume_id, address["PublicIp"], address["AllocationId"], user_data)


@pytest.fixture(scope="module")
def machine(rented: Rented) -> Machine:
    """The first instance, ready."""
    machine = rented.hardware.machine(rented.order())
    wait_until(lambda: ready(machine), what="the instance to be ready", deadline=900, every=1)
    machine.do("docker volume create kept")
    return machine


def test_user_data_makes_a_container_host_of_a_new_machine(machine: Machine) -> None:
    assert machine.do("findmnt --noheadings --output FSTYPE /srv/open-webui-edge").strip() == "ext4"
    said = machine.do("docker info --format '{{.DockerRootDir}} {{.Driver}} {{.LiveRestoreEnabled}}'").strip()
    assert said == "/srv/open-webui-edge/docker overlay2 true"


def test_the_first_connection_meets_the_key_that_is_known_beforehand(machine: Machine, rented: Rented) -> None:
    del machine
    ended = rented.ssh("docker", "version", "--format", "{{.Server.Version}}")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
    assert not ended.stderr


def test_the_instance_has_the_metadata_service_and_no_container_has_it(machine: Machine, rented: Rented) -> None:
    assert machine.do(TOKEN)
    image = images.NGINX.reference(ImageSource.BUILT, None)
    _carry(image, machine)
    started = machine.do(f"docker run --detach --rm --name asks {image} sleep infinity").strip()
    try:
        process = machine.do(f"docker inspect --format '{{{{.State.Pid}}}}' {started}").strip()
        in_container = f"nsenter --target {process} --net {TOKEN}"
        code, said = machine.attempt(in_container)
        # curl's 28: the connection was made, and no answer came.
        assert (code, "timed out" in said) == (28, True), said
        # One hop more, and it would come: it is this limit that keeps the role's keys from containers.
        ec2 = rented.cloud.client("ec2")
        ec2.modify_instance_metadata_options(InstanceId=machine.instance_id, HttpPutResponseHopLimit=2)
        wait_until(lambda: machine.attempt(in_container)[0] == 0, what="an answer that passes the bridge", deadline=120)
    finally:
        machine.do(f"docker rm --force {started}")


def test_user_data_that_runs_again_comes_to_the_same(machine: Machine) -> None:
    before = machine.do("blkid --probe --match-tag UUID --output value $(findmnt -no SOURCE /srv/open-webui-edge)")
    machine.do("cloud-init clean --logs --machine-id")
    machine.reboot()
    wait_until(lambda: ready(machine), what="the instance to be ready again", deadline=900, every=1)
    again = machine.do("blkid --probe --match-tag UUID --output value $(findmnt -no SOURCE /srv/open-webui-edge)")
    assert again == before
    assert machine.do("grep -c /srv/open-webui-edge /etc/fstab").strip() == "1"
    assert machine.do("docker volume ls --quiet").split() == ["kept"]


def test_another_instance_finds_the_volume_as_it_was(machine: Machine, rented: Rented) -> None:
    ec2 = rented.cloud.client("ec2")
    ec2.terminate_instances(InstanceIds=[machine.instance_id])
    other = rented.hardware.machine(rented.order(InstanceType="t3.xlarge"), deadline=600)
    wait_until(lambda: ready(other), what="the other instance to be ready", deadline=900, every=1)
    assert other.do("docker volume ls --quiet").split() == ["kept"]
    assert rented.ssh("true").returncode == 0
    assert inside(machine.name, "true")[0] != 0


def _carry(image: str, machine: Machine) -> None:
    script = 'docker save "$1" | docker exec -i "$2" docker load --quiet'
    subprocess.run(["sh", "-c", script, "sh", image, machine.name], check=True, capture_output=True)  # noqa: S603, S607
