"""What a cloud's staff and cables do: whatever the cloud says there is, is there."""

import base64
import secrets
import subprocess
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.settings.images import INSTANCE
from tests.acme.engine import bring, docker, remove
from tests.end_to_end.instance.address import Address, Door
from tests.end_to_end.instance.disk import Disk
from tests.end_to_end.instance.machine import Machine
from tests.end_to_end.instance.metadata import ADDRESS, Facts, MetadataService, credentials
from tests.support.cloud import REGION, Cloud

_EVERY = 0.3
"""Seconds between two looks at the cloud."""
_MAC = "02:00:00:00:00:01"


class Hardware:
    """Runs the instances of one cloud, until the block ends; then nothing of it is left but what the cloud's own is."""

    def __init__(self, cloud: Cloud, folder: Path, addresses: str | None = None) -> None:
        """Look at a cloud; the disks are files in a folder, and the network has those addresses or any."""
        self.cloud = cloud
        # An engine says which gateway it chose, but not which one it chose in a network that was given.
        self._range = [] if addresses is None else [f"--subnet={addresses}", f"--gateway={IPv4Network(addresses)[1]}"]
        self.folder = folder
        self.network = f"edge-cloud-{secrets.token_hex(3)}"
        self.machines: dict[str, Machine] = {}
        """By the instances' ids."""
        self.disks: dict[str, Disk] = {}
        """By the volumes' ids."""
        self.addresses: dict[str, Address] = {}
        """By the elastic IPs."""
        self.held = False
        """Whether no further instance is switched on for now."""
        self.failure: BaseException | None = None
        """Why it stopped to look."""
        self._facts: dict[str, Facts] = {}
        self._ec2 = cloud.client("ec2")
        self._iam = cloud.client("iam")
        self._over = threading.Event()
        self._cables = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="hardware", daemon=True)

    def __enter__(self) -> Self:
        """Start to look."""
        docker("network", "create", *self._range, self.network)
        try:
            self.gateway = docker(
                "network", "inspect", "--format={{(index .IPAM.Config 0).Gateway}}", self.network
            ).strip()
            self._endpoint = Door((self.gateway, 0), ("127.0.0.1", self.cloud.port))
            self.endpoint = f"http://{self.gateway}:{self._endpoint.port}"
            docker(
                *("run", "--detach", f"--name={self._hop}", f"--network={self.network}", "--cap-add=NET_ADMIN"),
                *(INSTANCE, "sleep", "infinity"),
            )
            docker("exec", self._hop, "ip", "address", "add", f"{ADDRESS}/32", "dev", "eth0")
            process = docker("inspect", "--format={{.State.Pid}}", self._hop).strip()
            self.metadata = MetadataService(Path(f"/proc/{process}/ns/net"), self._reported)
            self.metadata.__enter__()
        except BaseException:
            self._clear_away()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Switch everything off, whatever state it is in."""
        self._over.set()
        self._thread.join()
        self.metadata.__exit__(kind, error, trace)
        self._clear_away()
        if error is None and self.failure is not None:
            raise self.failure

    def _clear_away(self) -> None:
        for address in self.addresses.values():
            address.close()
        for machine in self.machines.values():
            machine.scrap()
        for disk in self.disks.values():
            with suppress(AssertionError):
                disk.spin_down()
            disk.file.unlink(missing_ok=True)
        remove(self._hop)
        if hasattr(self, "_endpoint"):
            self._endpoint.close()
        subprocess.run(["docker", "network", "rm", self.network], capture_output=True, check=False)  # noqa: S603, S607

    @property
    def _hop(self) -> str:
        return f"{self.network}-metadata"

    def machine(self, instance_id: str, deadline: float = 300) -> Machine:
        """Return the machine of an instance; wait until it is on."""
        wait_until(
            lambda: self._alive() and instance_id in self.machines and self.machines[instance_id].running,
            what=f"{instance_id} to be switched on",
            deadline=deadline,
        )
        return self.machines[instance_id]

    def only_machine(self) -> Machine:
        """Return the one that runs."""
        (machine,) = (machine for machine in self.machines.values() if machine.running)
        return machine

    @contextmanager
    def cables_pulled(self) -> Generator[None]:
        """Have no connection to any instance, while the block lasts; those that there are end at once."""
        with self._cables:
            for address in self.addresses.values():
                address.close()
            yield

    def _alive(self) -> bool:
        if self.failure is not None:
            raise self.failure
        return True

    def _watch(self) -> None:
        while not self._over.wait(_EVERY):
            try:
                self._do_what_the_cloud_says()
            except Exception as failure:  # noqa: BLE001 - the test that waits for a machine raises it
                self.failure = failure
                return

    def _do_what_the_cloud_says(self) -> None:
        instances = {
            instance["InstanceId"]: instance
            for reservation in self._ec2.describe_instances()["Reservations"]
            for instance in reservation["Instances"]
        }
        volumes = {volume["VolumeId"]: volume for volume in self._ec2.describe_volumes()["Volumes"]}
        # Whatever is switched off first lets go of what others wait for.
        for instance_id, machine in self.machines.items():
            state = _state(instances.get(instance_id))
            if state != "running":
                machine.power_off()
            if state == "terminated":
                machine.scrap()
        self._plug(instances, volumes)
        for instance_id, instance in instances.items():
            self._facts[instance_id] = self._facts_about(instance)
            if _state(instance) == "running":
                self._switch_on(instance_id)
        self._lead()

    def _plug(self, instances: Mapping[str, Any], volumes: Mapping[str, Any]) -> None:
        expected = {
            volume_id: attachment["InstanceId"]
            for volume_id, volume in volumes.items()
            for attachment in volume["Attachments"]
            if not _is_root(instances.get(attachment["InstanceId"]), volume_id)
        }
        for instance_id, machine in self.machines.items():
            for volume_id in list(machine.plugged):
                if expected.get(volume_id) != instance_id:
                    machine.unplug(volume_id)
        for volume_id, instance_id in expected.items():
            disk = self.disks.setdefault(volume_id, Disk(volume_id, self.folder / f"{volume_id}.img"))
            disk.have(volumes[volume_id]["Size"])
            machine = self.machines.get(instance_id)
            if machine is not None and volume_id not in machine.plugged:
                machine.plug(disk)

    def _switch_on(self, instance_id: str) -> None:
        machine = self.machines.get(instance_id)
        if machine is None:
            machine = Machine(instance_id, self.network)
            machine.build()
            # What AWS's clients call there is not AWS.
            manager = f"[Manager]\nDefaultEnvironment=AWS_ENDPOINT_URL={self.endpoint}\n"
            bring(machine.name, {"/etc/systemd/system.conf.d/endpoint.conf": manager})
            self.machines[instance_id] = machine
        if not self.held:
            machine.power_on()

    def _lead(self) -> None:
        if not self._cables.acquire(blocking=False):
            return
        try:
            self._lead_each()
        finally:
            self._cables.release()

    def _lead_each(self) -> None:
        for result in self._ec2.describe_addresses()["Addresses"]:
            address = self.addresses.setdefault(result["PublicIp"], Address(result["PublicIp"]))
            machine = self.machines.get(result.get("InstanceId", ""))
            address.lead_to(None if machine is None else machine.address)

    def _reported(self, address: str) -> Facts | None:
        for instance_id, machine in list(self.machines.items()):
            if machine.address == address:
                return self._facts.get(instance_id)
        return None

    def _facts_about(self, instance: Mapping[str, Any]) -> Facts:
        hops = instance.get("MetadataOptions", {}).get("HttpPutResponseHopLimit", 1)
        if (known := self._facts.get(instance["InstanceId"])) is not None:
            return replace(known, hop_limit=hops)
        instance_id, zone = instance["InstanceId"], instance["Placement"]["AvailabilityZone"]
        given = self._ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="userData")
        text = given.get("UserData", {}).get("Value")
        profile = instance.get("IamInstanceProfile", {}).get("Arn", "").rpartition("/")[2]
        roles = (
            self._iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"] if profile else []
        )
        data = {
            "ami-id": instance["ImageId"],
            "instance-id": instance_id,
            "instance-type": instance["InstanceType"],
            "hostname": instance["PrivateDnsName"],
            "local-hostname": instance["PrivateDnsName"],
            "local-ipv4": instance["PrivateIpAddress"],
            "network": {"interfaces": {"macs": {_MAC: {"device-number": "0", "mac": _MAC}}}},
            "placement": {"availability-zone": zone, "region": REGION},
            "services": {"domain": "amazonaws.com", "partition": "aws"},
            "iam": {"security-credentials": {role["RoleName"]: credentials() for role in roles}},
        }
        identity = {"instanceId": instance_id, "region": REGION, "availabilityZone": zone, "accountId": "123456789012"}
        return Facts(data, identity, None if text is None else base64.b64decode(text), hops)


def _state(instance: Mapping[str, Any] | None) -> str:
    return "terminated" if instance is None else instance["State"]["Name"]


def _is_root(instance: Mapping[str, Any] | None, volume_id: str) -> bool:
    """Tell whether a volume is the one that the machine boots from, which its container has anyway."""
    if instance is None:
        return False
    devices = {device["DeviceName"]: device["Ebs"]["VolumeId"] for device in instance["BlockDeviceMappings"]}
    return devices.get(instance["RootDeviceName"]) == volume_id
