"""From nothing to a chat on an instance: the real provider, a machine that boots, and ssh as the only way there.

Marked long: it boots an instance. tests/aws runs the provider, and tests/integration/test_ssh.py a stack over ssh.
"""

import json
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from tests.end_to_end.instance.machine import Machine
from tests.end_to_end.site import DOMAIN, EMAIL, READY, Site
from tests.support.stack import NO_CHANGE, StackUnderTest

pytestmark = pytest.mark.long

TOKEN = "curl -sS -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token"
HOST_KEY = "/etc/ssh/open-webui-edge_host_ed25519_key"
NEVER_ANSWERED = 28
"""curl's word for: the connection was made, and nothing came."""


@pytest.fixture(scope="module")
def site(deployable: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that is up."""
    with Site.open(tmp_path_factory.mktemp("site"), deployable, "e2e-site") as site:
        site.made = site.up().succeeded().output
        yield site


def test_one_update_leads_from_nothing_to_a_chat(site: Site) -> None:
    name = images.open_webui(images.OPEN_WEBUI_VERSION).reference(ImageSource.BUILT, None)
    assert f"sent the image {name} to ssh://admin@{site.address}" in site.made
    assert site.chat().chat_id in site.chats()
    assert NO_CHANGE.search(site.up().succeeded().output)


def test_the_host_is_known_before_the_first_connection(site: Site) -> None:
    folder = site.folder / ".ssh" / site.stack.name
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {
        "config": 0o600,
        "known_hosts": 0o600,
        "id_ed25519": 0o600,
    }
    public = site.machine.do(f"ssh-keygen -y -f {HOST_KEY}").split()[:2]
    assert (folder / "known_hosts").read_text().split() == [site.address, *public]
    look_up = ["ssh-keygen", "-F", site.address, "-f", str(Path("~/.ssh/known_hosts").expanduser())]
    assert subprocess.run(look_up, capture_output=True, check=False).stdout == b"", "the user's own file was written"  # noqa: S603


def test_no_container_reaches_the_metadata_service(site: Site) -> None:
    machine = site.machine
    assert machine.do(TOKEN)
    result = json.loads(machine.do("docker inspect $(docker ps --quiet)"))
    networks = {network for container in result for network in container["NetworkSettings"]["Networks"]}
    assert networks == {f"edge-{site.stack.name}-network"}
    for container in result:
        code, said = machine.attempt(f"nsenter --target {container['State']['Pid']} --net {TOKEN}")
        assert code == NEVER_ANSWERED, f"{container['Name']}: {said}"


def test_user_data_that_runs_again_keeps_the_chats(site: Site) -> None:
    machine = site.machine
    chat = site.chat().chat_id
    before = file_system(machine)
    machine.do("cloud-init clean --logs --machine-id")
    machine.reboot()
    wait_until(lambda: ready(machine), what="the instance to be ready again", deadline=900, every=1)
    assert file_system(machine) == before
    assert machine.do("grep -c /srv/open-webui-edge /etc/fstab").strip() == "1"
    assert chat in site.chats()
    assert NO_CHANGE.search(site.up().succeeded().output)


def test_a_larger_instance_has_the_same_chats(site: Site) -> None:
    chat, address = site.chat().chat_id, site.address
    site.set("platform.aws.instance.type", "t3.xlarge")
    site.up().succeeded()
    assert site.address == address
    assert chat in site.chats()
    assert NO_CHANGE.search(site.up().succeeded().output)


def test_another_instance_has_the_same_volume_and_chats(site: Site) -> None:
    chat, address, before = site.chat().chat_id, site.address, site.machine
    identity = file_system(before)
    site.up("--replace", site.urn("aws:ec2/instance:Instance")).succeeded()
    assert site.machine.instance_id != before.instance_id
    assert file_system(site.machine) == identity
    assert site.address == address
    assert chat in site.chats()
    assert NO_CHANGE.search(site.up().succeeded().output)


@pytest.mark.parametrize(("fault", "memory"), [("cables pulled", "3GiB"), ("instance frozen", "3500MiB")])
def test_an_update_that_lost_its_connection_is_finished_by_the_next(site: Site, fault: str, memory: str) -> None:
    chat, machine = site.chat().chat_id, site.machine
    site.set("open_webui.memory", memory)
    with site.updating(r"docker:index:Container edge-open-webui\S* (replacing|creating|updating|deleting)") as update:
        with machine.frozen() if fault == "instance frozen" else site.hardware.cables_pulled():
            output, _ = update.communicate(timeout=1800)
        assert update.returncode != 0, output
        assert "Traceback" not in output
    site.up().succeeded()
    assert chat in site.chats()
    assert NO_CHANGE.search(site.up().succeeded().output)


def test_what_is_done_day_by_day_works_on_an_instance(site: Site, tmp_path: Path) -> None:
    retained, folder = {site.chat().chat_id, *site.chats()}, tmp_path / "backups"
    site.make("backup", TO=str(folder)).succeeded()
    later = site.chat().chat_id
    assert later in site.chats()
    site.make("restore", FROM="latest", YES="1").succeeded()
    assert set(site.chats()) == retained
    assert "is complete, and Open WebUI starts with it" in site.make("backup-verify").succeeded().output

    # What it says first, of a name that nobody's DNS knows, is true.
    said = site.make("doctor", JSON="yes").failed().output
    findings = json.loads(said[said.index("{") : said.rindex("}") + 1])["findings"]
    assert findings[0]["hop"] == "name", findings[0]
    assert [(one["check"], one["seen"]) for one in findings[1:] if one["severity"] == "failure"] == []
    assert {"engine", "application"} <= {one["hop"] for one in findings if one["severity"] == "ok"}


def test_a_backup_of_an_instance_is_restored_on_another_platform(site: Site, tmp_path: Path) -> None:
    retained, folder, key = {site.chat().chat_id, *site.chats()}, tmp_path / "backups", tmp_path / "key"
    site.make("backup", TO=str(folder)).succeeded()
    outputs = site.stack.outputs()
    key.touch(0o600)
    key.write_text(outputs["backup_password"])
    config = {"open_webui": {"admin": {"email": EMAIL}}, "models": {"ollama": {"mode": "none"}}}
    home = StackUnderTest(site.stack.workshop, "e2e-home", config)
    with home.running():
        words = ["make", "restore", "STACK=e2e-home", f"FROM={folder}", f"KEY_FILE={key}", "YES=1"]
        home.workshop.run(*words).succeeded()
        with home.client() as client:
            client.sign_in(EMAIL, outputs["admin_password"])
            assert {chat["id"] for chat in client.chats()} == retained


def test_what_is_down_comes_back_with_its_chats(site: Site) -> None:
    chat, before = site.chat().chat_id, site.machine
    volumes = set(site.hardware.disks)
    down = site.make("down").succeeded()
    assert "Still there, and billed: the data volume" in down.output
    ec2 = site.stack.cloud.client("ec2")
    assert ec2.describe_addresses()["Addresses"] == []
    retained = {volume["VolumeId"] for volume in ec2.describe_volumes()["Volumes"]}
    assert retained == {volume for volume in volumes if site.hardware.disks[volume].file_system}
    wait_until(lambda: not before.running, what="the instance to be switched off", deadline=600)
    site.make("up").succeeded()
    assert site.machine.instance_id != before.instance_id
    assert chat in site.chats()


def test_an_instance_that_is_gone_is_made_anew_and_has_the_chats(site: Site) -> None:
    chat, before = site.chat().chat_id, site.machine
    site.stack.cloud.client("ec2").terminate_instances(InstanceIds=[before.instance_id])
    wait_until(lambda: not before.running, what="the instance to be gone", deadline=600)
    made = site.make("up").succeeded()
    assert "does not answer" in made.output
    assert site.machine.instance_id != before.instance_id
    assert chat in site.chats()
    assert NO_CHANGE.search(site.up().succeeded().output)


def test_who_removes_the_data_too_leaves_nothing_even_if_the_instance_is_gone(site: Site) -> None:
    before = site.machine
    cloud = site.stack.cloud
    cloud.client("ec2").terminate_instances(InstanceIds=[before.instance_id])
    wait_until(lambda: not before.running, what="the instance to be gone", deadline=600)
    site.make("down", DATA="delete", YES="1").succeeded()
    assert site.stack.state() == []
    assert cloud.client("ec2").describe_volumes()["Volumes"] == []
    parameters = [result["Name"] for result in cloud.client("ssm").describe_parameters()["Parameters"]]
    assert [name for name in parameters if not name.startswith("/aws/")] == []


def test_a_new_instance_is_waited_for_whatever_is_wrong_with_it(deployable: Mapping[str, str], tmp_path: Path) -> None:
    with Site.open(tmp_path, deployable, "e2e-late") as site:
        site.hardware.held = True
        output = site.up_failing(within=5).output
        assert "Timed out after 5 s: TCP port 22 of" in output

        # Another machine answers at its address.
        site.hardware.held = False
        (instance_id,) = site.hardware.machines
        machine = site.hardware.machine(instance_id)
        wait_until(lambda: ready(machine), what="the instance to be ready", deadline=900, every=1)
        machine.do(f"rm {HOST_KEY}; ssh-keygen -q -t ed25519 -N '' -f {HOST_KEY}; systemctl restart ssh")
        output = site.up_failing(within=30).output
        assert "Timed out after 30 s: the SSH login of" in output
        assert "has another host key than" in output
        machine.do("systemctl stop docker.socket docker.service && systemctl restart open-webui-edge-boot.service")
        wait_until(lambda: ready(machine), what="the instance to be ready", deadline=900, every=1)

        machine.do("systemctl stop docker.socket docker.service")
        output = site.up_failing(within=30).output
        assert "Timed out after 30 s: the Docker engine of" in output

        with site.updating(r"waiting for the Docker engine of ssh://admin@") as update:
            machine.do("systemctl start docker.socket docker.service")
            assert update.stdout is not None
            for line in update.stdout:
                if "sending the image open-webui-edge/open-webui" in line:
                    break
            with site.hardware.cables_pulled():
                output, _ = update.communicate(timeout=1800)
            assert update.returncode != 0, output
            assert "Traceback" not in output
        site.up().succeeded()
        assert site.chat().text
        assert DOMAIN in site.stack.outputs()["url"]


def ready(machine: Machine) -> bool:
    return machine.attempt(f"test -e {READY}")[0] == 0


def file_system(machine: Machine) -> str:
    """Return the identity of the file system with Docker's data."""
    return machine.do("blkid --probe --match-tag UUID --output value $(findmnt -no SOURCE /srv/open-webui-edge)")
