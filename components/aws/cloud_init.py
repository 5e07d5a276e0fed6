"""What an instance is told at its first start: user data in cloud-init's own form, without a secret."""

import base64
import gzip
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DEVICE_NAME = "/dev/sdf"
"""What the data volume is attached as."""
MOUNT = "/srv/open-webui-edge"
"""Where it is mounted; Docker's data-root and containerd's root lie on it."""
LIMIT = 16384
"""Bytes of user data that EC2 takes."""
_LIBRARY = "/usr/local/lib/open-webui-edge"
_SCRIPTS = ("boot.sh", "aws_request.py", "host_key.py", "metrics.py")
_VOLUME_ID, _PUBLIC_KEY = "@VOLUME_ID@", "@PUBLIC_KEY@"

# Read before the image's own files: of two that say the same, the first holds.
_SSHD = """\
# The only key that is ever shown; until boot.sh has fetched it, sshd answers nobody.
HostKey /etc/ssh/open-webui-edge_host_ed25519_key
# An update opens a connection for each of many resources at once (10:30:100).
MaxStartups 100:30:200
MaxSessions 100
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
"""
# A volume that is late must not make Docker begin anew on the root volume.
_ON_THE_VOLUME = f"""\
[Unit]
RequiresMountsFor={MOUNT}
AssertPathIsMountPoint={MOUNT}
"""
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
# Elsewhere than under systemd (a container, a test) the script is run as it is.
_RUN = (
    "if [ -d /run/systemd/system ]; then"
    " systemctl daemon-reload && systemctl enable --now open-webui-edge-boot.service;"
    f" else sh {_LIBRARY}/boot.sh; fi"
)


def template(*, login_user: str, stack: str, host_key_parameter: str) -> str:
    """Return the user data, but for the volume and the key that `filled` puts in.

    Args:
        login_user: the image's own.
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
        "/etc/docker/daemon.json": _daemon(),
        f"{system}/docker.service.d/open-webui-edge.conf": _ON_THE_VOLUME,
        f"{system}/containerd.service.d/open-webui-edge.conf": _ON_THE_VOLUME + _CONTAINERD,
        "/etc/apt/apt.conf.d/52open-webui-edge": _UPGRADES,
        f"{system}/open-webui-edge-boot.service": _BOOT_UNIT,
        f"{system}/open-webui-edge-metrics.service": _METRICS_UNIT,
        f"{system}/open-webui-edge-metrics.timer": _METRICS_TIMER,
    }
    document = {
        "ssh_authorized_keys": [_PUBLIC_KEY],
        "write_files": [*map(_script, _SCRIPTS), *(_file(path, content) for path, content in files.items())],
        "runcmd": [["sh", "-c", _RUN]],
    }
    return "#cloud-config\n" + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000)


def filled(user_data: str, volume_id: str, public_key: str) -> str:
    """Return the user data of one instance."""
    return user_data.replace(_VOLUME_ID, volume_id).replace(_PUBLIC_KEY, public_key.strip())


def _daemon() -> str:
    settings = {
        "data-root": f"{MOUNT}/docker",
        # Security updates restart the engine; containers go on.
        "live-restore": True,
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "3"},
    }
    return json.dumps(settings, indent=2) + "\n"


def _word(value: str) -> str:
    """Return a value as a shell and systemd both read it."""
    if value not in {shlex.quote(value), _VOLUME_ID}:
        raise ValueError(f"{value!r} is no plain word")
    return value


def _file(path: str, content: str) -> Mapping[str, Any]:
    return {"path": path, "content": content}


def _script(name: str) -> Mapping[str, Any]:
    """Pack it: in clear the scripts alone would be more than EC2 takes."""
    packed = gzip.compress((Path(__file__).parent / "host" / name).read_bytes(), mtime=0)
    return {
        "path": f"{_LIBRARY}/{name}",
        "permissions": "0755" if name.endswith(".sh") else "0644",
        "encoding": "gz+b64",
        "content": base64.b64encode(packed).decode(),
    }


class _Dumper(yaml.SafeDumper):
    """Text of several lines reads as it is."""


def _text(_: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
