"""A network of the run's own with containers in it, all of them gone when the run ends."""

import io
import secrets
import tarfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types
from docker.models.containers import Container

_LABEL = "open-webui-edge-bench"
# As a deployment's containers have it: what goes to standard output is work for the engine too.
_LOG = docker.types.LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"})


class TestbedError(Exception):
    """A container did not do what the run needs; the text holds its last words."""

    __test__ = False


@dataclass(frozen=True)
class Running:
    """A container that runs."""

    container: Container
    address: str
    """In the run's network."""

    def execute(self, *command: str) -> str:
        """Run a command in it and return what it wrote; raises TestbedError if it failed."""
        ended = self.container.exec_run(list(command))
        output = ended.output.decode(errors="replace") if isinstance(ended.output, bytes) else ""
        if ended.exit_code != 0:
            raise TestbedError(f"{' '.join(command)}: exit code {ended.exit_code}\n{output[-2000:]}")
        return output

    @property
    def process(self) -> int:
        """Its first process, as this machine knows it."""
        return self.container.attrs["State"]["Pid"]

    def cpu_seconds(self) -> float:
        """Return the processor time that it has taken so far.

        From the control group's own file: the engine's statistics come once a second, and a command in the container
        would take as much time there as what is measured.
        """
        groups = Path(f"/proc/{self.process}/cgroup").read_text(encoding="utf-8")
        for line in groups.splitlines():
            _, controllers, path = line.split(":", 2)
            if "cpuacct" in controllers.split(","):
                usage = Path(f"/sys/fs/cgroup/cpuacct{path}/cpuacct.usage").read_text(encoding="utf-8")
                return int(usage) / 1e9
        unified = Path(f"/sys/fs/cgroup{groups.strip().rpartition('::')[2]}/cpu.stat").read_text(encoding="utf-8")
        return next(int(line.split()[1]) / 1e6 for line in unified.splitlines() if line.startswith("usage_usec"))

    def memory(self) -> int:
        """Return the bytes that its processes have for themselves (RssAnon of all of them)."""
        # One may end between the listing and the reading.
        report = self.execute("sh", "-c", "cat /proc/[0-9]*/status 2>/dev/null || true")
        return sum(int(line.split()[1]) * 1024 for line in report.splitlines() if line.startswith("RssAnon:"))

    def remove(self) -> None:
        """End it, with its volumes."""
        self.container.remove(force=True, v=True)


@dataclass(frozen=True)
class Testbed:
    """The network, and how a container gets into it."""

    __test__ = False

    engine: docker.DockerClient
    name: str
    gateway: str
    """This machine's address in it."""

    def run(  # noqa: PLR0913 - keywords, each a thing of its own
        self,
        role: str,
        image: str,
        command: Sequence[str] | None = None,
        *,
        files: Mapping[str, bytes] | None = None,
        folder: str = "/",
        aliases: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Running:
        """Start a container with these files below `folder`; `aliases` are its names in the network."""
        attached = self.engine.api.create_endpoint_config(aliases=[role, *aliases])
        container = self.engine.containers.create(
            image,
            list(command) if command is not None else None,
            name=f"{self.name}-{role}",
            labels={"app": _LABEL},
            network=self.name,
            networking_config={self.name: attached},
            environment=dict(environment or {}),
            log_config=_LOG,
            ulimits=[docker.types.Ulimit(name="nofile", soft=16384, hard=16384)],
            **more,
        )
        try:
            if files:
                container.put_archive(folder, _archive(files))
            container.start()
            container.reload()
            address = container.attrs["NetworkSettings"]["Networks"][self.name]["IPAddress"]
        except BaseException:
            container.remove(force=True, v=True)
            raise
        return Running(container, address)


@contextmanager
def testbed(engine: docker.DockerClient) -> Generator[Testbed]:
    """Make the network; remove it with everything in it when the block ends, whatever ends it."""
    name = f"bn-{secrets.token_hex(3)}"
    network = engine.networks.create(name, driver="bridge", labels={"app": _LABEL})
    try:
        network.reload()
        addresses: Any = network.attrs["IPAM"]["Config"][0]
        yield Testbed(engine, name, addresses["Gateway"])
    finally:
        # One that never started is in no network yet.
        for kind, value in (("network", name), ("name", f"{name}-")):
            for container in engine.containers.list(all=True, filters={kind: value}, ignore_removed=True):
                container.remove(force=True, v=True)
        network.remove()


def _archive(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            # Readable for whatever user the program runs as; keys of a run protect nothing.
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()
