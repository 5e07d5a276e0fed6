"""An instance's user data for its first start, in cloud-init's format and without secrets."""

import base64
import gzip
import json
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from open_webui_edge.runtime import delivery

DEVICE_NAME = "/dev/sdf"
"""Device name of the data volume."""
MOUNT = "/srv/open-webui-edge"
"""Mount point of the data volume, which holds Docker's data-root and containerd's root."""
LIMIT = 16384
"""Bytes of user data that EC2 accepts."""
_LIBRARY = "/usr/local/lib/open-webui-edge"
_SCRIPTS = ("boot.sh", "aws_request.py", "host_key.py", "metrics.py")
_VOLUME_ID, _PUBLIC_KEY = "@VOLUME_ID@", "@PUBLIC_KEY@"

# Read before the image's own files: the first value of an option counts.
_SSHD = """\
# The only host key; until boot.sh has fetched it, sshd accepts no connection.
HostKey /etc/ssh/open-webui-edge_host_ed25519_key
# An update opens a connection for each of many resources at once (10:30:100).
MaxStartups 100:30:200
MaxSessions 100
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
"""
# If the volume attaches late, Docker must not start with empty data on the root volume.
_ON_THE_VOLUME = f"""\
[Unit]
RequiresMountsFor={MOUNT}
AssertPathIsMountPoint={MOUNT}
"""
_DOCKER = {
    "data-root": f"{MOUNT}/docker",
    # Security updates restart the engine; containers keep running.
    "live-restore": True,
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "3"},
}
_CONTAINERD = f"""\
[Service]
ExecStart=
ExecStart=/usr/bin/containerd --root {MOUNT}/containerd
"""
_UPGRADES = """\
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
"""
_BOOT_UNIT = f"""\
[Unit]
Description=Open WebUI edge: make this instance a container host
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh {_LIBRARY}/boot.sh
StandardOutput=journal+console
StandardError=journal+console
Restart=on-failure
RestartSec=60

[Install]
WantedBy=multi-user.target
"""
_METRICS_UNIT = f"""\
[Unit]
Description=Open WebUI edge: publish how full the disk is and how long the certificate lasts
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
DynamicUser=yes
EnvironmentFile=/etc/open-webui-edge/host.env
# The file system follows a volume that has grown.
ExecStartPre=+-/usr/lib/systemd/systemd-growfs {MOUNT}
ExecStart=/usr/bin/python3 -B {_LIBRARY}/metrics.py
"""
_METRICS_TIMER = """\
[Unit]
Description=Open WebUI edge: publish metrics every five minutes

[Timer]
OnActiveSec=1min
OnUnitActiveSec=5min

[Install]
WantedBy=timers.target
"""
# Without systemd (in a container, in a test) the script runs directly.
_RUN = (
    "if [ -d /run/systemd/system ]; then"
    " systemctl daemon-reload && systemctl enable --now open-webui-edge-boot.service;"
    f" else sh {_LIBRARY}/boot.sh; fi"
)


def template(*, login_user: str, stack: str, host_key_parameter: str) -> str:
    """Return the user data with placeholders for the volume and the key, which `filled` replaces.

    Args:
        login_user: the image's default user.
        stack: the dimension of the metrics.
        host_key_parameter: name of the SSM parameter with sshd's private key.

    """
    environment = {
        "STACK": stack,
        "LOGIN_USER": login_user,
        "HOST_KEY_PARAMETER": host_key_parameter,
        "DATA_VOLUME": _VOLUME_ID,
        "DATA_DEVICE_NAME": DEVICE_NAME,
        "DATA_MOUNT": MOUNT,
    }
    system = "/etc/systemd/system"
    files = {
        "/etc/open-webui-edge/host.env": "".join(f"{key}={_word(value)}\n" for key, value in environment.items()),
        "/etc/ssh/sshd_config.d/00-open-webui-edge.conf": _SSHD,
        "/etc/docker/daemon.json": json.dumps(_DOCKER, indent=2) + "\n",
        f"{system}/docker.service.d/open-webui-edge.conf": _ON_THE_VOLUME,
        f"{system}/containerd.service.d/open-webui-edge.conf": _ON_THE_VOLUME + _CONTAINERD,
        "/etc/apt/apt.conf.d/52open-webui-edge": _UPGRADES,
        f"{system}/open-webui-edge-boot.service": _BOOT_UNIT,
        f"{system}/open-webui-edge-metrics.service": _METRICS_UNIT,
        f"{system}/open-webui-edge-metrics.timer": _METRICS_TIMER,
    }
    document = {
        "ssh_authorized_keys": [_PUBLIC_KEY],
        "write_files": [
            *map(_script, _SCRIPTS),
            *({"path": path, "content": content} for path, content in files.items()),
        ],
        "runcmd": [["sh", "-c", _RUN]],
    }
    return "#cloud-config\n" + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000)


def filled(user_data: str, volume_id: str, public_key: str) -> str:
    """Return the user data of one instance."""
    return user_data.replace(_VOLUME_ID, volume_id).replace(_PUBLIC_KEY, public_key.strip())


def _word(value: str) -> str:
    """Return a value that needs no quoting in a shell or a systemd unit."""
    if value not in {shlex.quote(value), _VOLUME_ID}:
        raise ValueError(f"{value!r} is no plain word")
    return value


def _script(name: str) -> Mapping[str, Any]:
    """Compress it: uncompressed, the scripts alone would exceed EC2's limit."""
    packed = gzip.compress(delivery.program(f"instance/{name}").encode(), mtime=0)
    return {
        "path": f"{_LIBRARY}/{name}",
        "permissions": "0755" if name.endswith(".sh") else "0644",
        "encoding": "gz+b64",
        "content": base64.b64encode(packed).decode(),
    }


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a literal block."""


def _text(_: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
