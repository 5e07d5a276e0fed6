"""Recipe of the image that stands in for an instance of a cloud in tests: a whole Debian that boots."""

from pathlib import Path

from open_webui_edge.bootstrap import debian
from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.bootstrap.images import rootfs

HERE = Path(__file__).parent
SUITE = "trixie"
FETCHED = ("docker.io",)
"""What a start installs, and would have to fetch each time."""
_XEN, _SAID = "/sys/hypervisor/uuid", "/etc/hypervisor-uuid"
_SOURCES = Path("etc/apt/sources.list.d/debian.sources")
_WITHOUT = (
    *("console-getty.service", "getty.target"),
    *("dev-hugepages.mount", "proc-sys-fs-binfmt_misc.automount", "sys-fs-fuse-connections.mount"),
    *("sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("systemd-firstboot.service", "systemd-modules-load.service", "systemd-sysctl.service"),
    *("systemd-networkd-wait-online.service", "systemd-networkd.service", "systemd-networkd.socket"),
    *("systemd-udev-trigger.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket"),
    *("systemd-udevd.service",),
)
"""What would set up the machine below: its devices, its kernel, its network."""
_APT = {"DEBIAN_FRONTEND": "noninteractive"}


def fill(root: Path, step: Step) -> None:
    """Make the image's file system in the folder `root`."""
    mirror = debian.mirror()
    if not mirror:
        raise ProblemError(
            "This machine's apt names no mirror of Debian's, which the instance of the tests would install from."
        )
    rootfs.make(SUITE, root, ["ca-certificates"], step)
    # It stays on this machine, so it may know the mirror that this machine uses.
    _write(
        root / _SOURCES,
        f"Types: deb\nURIs: {mirror}\nSuites: {SUITE} {SUITE}-updates\n"
        "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
    )
    if proxy := debian.proxy().get("http_proxy"):
        _write(root / "etc/apt/apt.conf.d/01proxy", f'Acquire::http::Proxy "{proxy}";\n')
    step.now(f"a Debian ({SUITE}) that boots")
    # Nothing is started in a folder.
    _write(root / "usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    _apt(root, "update")
    # Not by debootstrap: it configures packages in an order that some of them do not stand.
    _apt(root, "install", "--no-install-recommends", *rootfs.packages_in(HERE / "packages.txt"))
    _apt(root, "clean")
    _apt(root, "install", "--no-install-recommends", "--download-only", *FETCHED)
    (root / "usr/sbin/policy-rc.d").unlink()
    _be_on_ec2(root)
    # There is no DHCP server here, and the request would take half a minute.
    (root / "usr/sbin/dhcpcd").unlink()
    # Each instance has its own.
    for key in root.glob("etc/ssh/ssh_host_*"):
        key.unlink()
    _write(root / "etc/machine-id", "")
    for unit in _WITHOUT:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    for file in (HERE / "files").rglob("*"):
        if file.is_file():
            _write(root / file.relative_to(HERE / "files"), file.read_text(encoding="utf-8"))


def _be_on_ec2(root: Path) -> None:
    """Let cloud-init know it.

    It asks the virtual machine's firmware, or Xen by way of the kernel. There is neither here; what Xen would say is
    in another file.
    """
    source = root / "usr/lib/python3/dist-packages/cloudinit/sources/DataSourceEc2.py"
    code = source.read_text(encoding="utf-8")
    if code.count(_XEN) != 1:
        raise ProblemError(f"This cloud-init does not read {_XEN}, so nothing can tell it that it is on EC2.")
    source.write_text(code.replace(_XEN, _SAID), encoding="utf-8")
    for compiled in source.parent.glob("__pycache__/DataSourceEc2.*"):
        compiled.unlink()


def _apt(root: Path, *words: str) -> None:
    rootfs.run_inside(root, ["apt-get", "-q", "-y", *words], purpose="Building an instance", environment=_APT)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
