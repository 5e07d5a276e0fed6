"""A virtual machine: a container that boots."""

import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from open_webui_edge.settings.images import INSTANCE
from tests.acme.engine import docker, inside, remove
from tests.end_to_end.instance.disk import Disk
from tests.end_to_end.instance.metadata import ADDRESS

_CAPABILITIES = (
    *("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap"),
    *("linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner"),
    *("sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice"),
    *("sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write"),
)
"""By their numbers."""
_NOT_OURS = {"sys_module", "sys_boot", "sys_time", "sys_rawio"}
"""What belongs to the machine below."""
_POWERED = "/run/powered"
# As firmware does: nothing starts before the disks are there. Groups of processes and the network are the machine's own
# to set up, the kernel is not: init would raise limits that hold for the machine below.
_POWER_ON = f"""
for kernels in dev fs kernel user vm; do
    mount --bind "/proc/sys/$kernels" "/proc/sys/$kernels" && mount -o remount,bind,ro "/proc/sys/$kernels"
done
for mount in /sys/fs/cgroup /sys/fs/cgroup/*; do
    ! mountpoint -q "$mount" || mount -o remount,bind,rw "$mount"
done
until [ -e {_POWERED} ]; do sleep 0.05; done
exec /sbin/init
"""
_STOP_SECONDS = 60


@dataclass
class Machine:
    """An instance of the cloud."""

    instance_id: str
    network: str
    plugged: dict[str, Disk] = field(default_factory=dict[str, Disk])
    """Volume's id -> the disk."""
    running: bool = False
    _switch: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def name(self) -> str:
        """The container's name."""
        return f"{self.network}-{self.instance_id}"

    def build(self) -> None:
        """Make it; it is off."""
        words = [
            *(f"--cap-add={capability}" for capability in _allowed()),
            *(f"--security-opt={unconfined}=unconfined" for unconfined in ("seccomp", "apparmor", "systempaths")),
            "--device-cgroup-rule=b 7:* rwm",
            "--device=/dev/fuse",
            "--cgroupns=private",
            "--tmpfs=/run:exec",
            "--tmpfs=/run/lock",
            f"--hostname=ip-{self.instance_id}",
            *(f"--env={name}={value}" for name, value in _init_environment().items()),
        ]
        docker("create", f"--name={self.name}", f"--network={self.network}", *words, INSTANCE, "sh", "-c", _POWER_ON)

    def power_on(self) -> None:
        """Boot, if it is off."""
        with self._switch:
            if self.running:
                return
            docker("start", self.name)
            self.do(f"ip route add {ADDRESS}/32 dev eth0")
            for disk in self.plugged.values():
                self._show(disk)
            self.do(f"touch {_POWERED}")
            self.running = True

    def power_off(self) -> None:
        """Shut down in good order if it is on, and switch off if that takes too long."""
        with self._switch:
            if self.running:
                docker("stop", f"--time={_STOP_SECONDS}", self.name)
                self.running = False

    def reboot(self) -> None:
        """Do both."""
        with self._switch:
            self.power_off()
            self.power_on()

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Have it do nothing while the block lasts: what is sent to it is taken, and nothing comes of it."""
        docker("pause", self.name)
        try:
            yield
        finally:
            docker("unpause", self.name)

    def scrap(self) -> None:
        """Remove it with its root volume; the disks that were plugged in stay."""
        with self._switch:
            remove(self.name)
            self.running = False
            for volume in list(self.plugged):
                self.unplug(volume)

    def plug(self, disk: Disk) -> None:
        """Attach a disk."""
        disk.spin_up()
        self.plugged[disk.volume_id] = disk
        if self.running:
            self._show(disk)

    def unplug(self, volume_id: str) -> None:
        """Take a disk away, whether it is in use or not."""
        disk = self.plugged.pop(volume_id)
        if self.running:
            self.do(f"rm -f {disk.device} {' '.join(disk.links)}")
        disk.spin_down()

    def _show(self, disk: Disk) -> None:
        """Do what a kernel and udev do for a disk."""
        major, minor = disk.number
        links = "".join(f"; mkdir -p {Path(link).parent}; ln -sf {disk.device} {link}" for link in disk.links)
        self.do(f"set -e; [ -e {disk.device} ] || mknod {disk.device} b {major} {minor}{links}")

    @property
    def address(self) -> str | None:
        """Its address in the network of the instances."""
        if not self.running:
            return None
        path = f'{{{{(index .NetworkSettings.Networks "{self.network}").IPAddress}}}}'
        return docker("inspect", f"--format={path}", self.name).strip() or None

    def do(self, script: str) -> str:
        """Run a script as root on the machine and return what it printed; a failure fails the test."""
        code, output = self.attempt(script)
        assert code == 0, f"{self.instance_id}: {script}: {output}\n{self.reported()}"
        return output

    def attempt(self, script: str) -> tuple[int, str]:
        """Run a script; return its exit code and what it printed."""
        return inside(self.name, "sh", "-c", script)

    def reported(self) -> str:
        """Return what a person would look at when something is wrong with it."""
        looks = (
            "systemctl --failed --no-pager --plain",
            "journalctl --boot --no-pager --lines=200",
            "tail -n 100 /var/log/cloud-init-output.log",
        )
        return "\n".join(f"--- {look}\n{self.attempt(look)[1]}" for look in looks)


def _allowed() -> list[str]:
    """Return the capabilities that a machine needs, as far as the machine below has them."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd:"))
    bounds = int(line.split()[1], 16)
    return [name for number, name in enumerate(_CAPABILITIES) if bounds >> number & 1 and name not in _NOT_OURS]


def _init_environment() -> dict[str, str]:
    """Return what makes init start whichever kind of groups the machine below has."""
    kind = subprocess.run(
        ["stat", "--file-system", "--format=%T", "/sys/fs/cgroup"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    if kind.stdout.strip() == "cgroup2fs":
        return {}
    old = "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 systemd.unified_cgroup_hierarchy=0"
    return {"SYSTEMD_PROC_CMDLINE": old}
