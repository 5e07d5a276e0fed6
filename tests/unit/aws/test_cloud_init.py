"""What an instance is told at its first start."""

import base64
import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from open_webui_edge.components.aws import cloud_init
from open_webui_edge.runtime import delivery, instance
from tests.support.machine import lacks

SCRIPTS = Path(instance.__file__).parent
LIBRARY = "/usr/local/lib/open-webui-edge"


@pytest.fixture(name="document")
def parsed_document() -> dict[str, Any]:
    return yaml.safe_load(user_data())


def user_data(stack: str = "production") -> str:
    template = cloud_init.template(login_user="admin", stack=stack, host_key_parameter="/a/host-key")
    return cloud_init.filled(template, "vol-0a1b", "ssh-ed25519 AAAA\n")


def files(document: dict[str, Any]) -> dict[str, str]:
    """Unpack what is written, as cloud-init does."""
    return {
        file["path"]: gzip.decompress(base64.b64decode(file["content"])).decode()
        if file.get("encoding") == "gz+b64"
        else file["content"]
        for file in document["write_files"]
    }


def test_it_is_a_cloud_config_that_ec2_takes() -> None:
    assert user_data().startswith("#cloud-config\n")
    # With room for a stack's name, and for what scripts come to be.
    assert len(user_data("s" * 100).encode()) < cloud_init.LIMIT - 1000


def test_every_script_is_there(document: dict[str, Any]) -> None:
    written = files(document)
    sources = {
        path.name: delivery.program(f"instance/{path.name}")
        for path in SCRIPTS.iterdir()
        if path.suffix in {".py", ".sh"}
    }
    del sources["__init__.py"]
    assert {path: text for path, text in written.items() if path.startswith(LIBRARY)} == {
        f"{LIBRARY}/{name}": text for name, text in sources.items()
    }


def test_it_is_the_same_each_time() -> None:
    assert user_data() == user_data()


def test_what_differs_between_instances_is_one_file_of_plain_words(document: dict[str, Any]) -> None:
    assert files(document)["/etc/open-webui-edge/host.env"] == (
        "STACK=production\nLOGIN_USER=admin\nHOST_KEY_PARAMETER=/a/host-key\nDATA_VOLUME=vol-0a1b\n"
        "DATA_DEVICE_NAME=/dev/sdf\nDATA_MOUNT=/srv/open-webui-edge\n"
    )
    assert document["ssh_authorized_keys"] == ["ssh-ed25519 AAAA"]


@pytest.mark.parametrize("stack", ["two words", "$(reboot)", "a\nb", "'"])
def test_what_a_shell_would_read_otherwise_is_refused(stack: str) -> None:
    with pytest.raises(ValueError, match="is no plain word"):
        user_data(stack)


def test_sshd_shows_one_key_and_takes_many_connections(document: dict[str, Any]) -> None:
    sshd = files(document)["/etc/ssh/sshd_config.d/00-open-webui-edge.conf"]
    for line in (
        "HostKey /etc/ssh/open-webui-edge_host_ed25519_key",
        "MaxStartups 100:30:200",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin no",
    ):
        assert f"\n{line}\n" in sshd


def test_the_engine_keeps_everything_on_the_volume(document: dict[str, Any]) -> None:
    written = files(document)
    daemon = json.loads(written["/etc/docker/daemon.json"])
    assert daemon["data-root"] == "/srv/open-webui-edge/docker"
    assert daemon["live-restore"] is True
    assert daemon["log-opts"] == {"max-size": "10m", "max-file": "3"}
    for unit in ("docker", "containerd"):
        beside = written[f"/etc/systemd/system/{unit}.service.d/open-webui-edge.conf"]
        assert "AssertPathIsMountPoint=/srv/open-webui-edge\n" in beside
    assert (
        "ExecStart=/usr/bin/containerd --root /srv/open-webui-edge/containerd\n"
        in written["/etc/systemd/system/containerd.service.d/open-webui-edge.conf"]
    )


def test_security_updates_come_by_themselves(document: dict[str, Any]) -> None:
    assert 'APT::Periodic::Unattended-Upgrade "1";' in files(document)["/etc/apt/apt.conf.d/52open-webui-edge"]


def test_a_failure_is_in_the_console_and_tried_again(document: dict[str, Any]) -> None:
    unit = files(document)["/etc/systemd/system/open-webui-edge-boot.service"]
    assert "StandardOutput=journal+console\n" in unit
    assert "Restart=on-failure\n" in unit


def test_nothing_is_found_in_the_script() -> None:
    if shutil.which("shellcheck") is None:
        lacks("no shellcheck")
    words = ["shellcheck", "--shell=dash", str(SCRIPTS / "boot.sh")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert ended.returncode == 0, ended.stdout


def test_nothing_is_found_in_the_command_that_starts_it(document: dict[str, Any]) -> None:
    if shutil.which("shellcheck") is None:
        lacks("no shellcheck")
    (command,) = document["runcmd"]
    assert command[:2] == ["sh", "-c"]
    words = ["shellcheck", "--shell=dash", "-"]
    ended = subprocess.run(words, input=command[2], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert ended.returncode == 0, ended.stdout
