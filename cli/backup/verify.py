"""`make backup-verify`: restores the newest backup into an isolated scratch deployment and counts its records."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from open_webui_edge.bootstrap import command, console
from open_webui_edge.bootstrap.console import step
from open_webui_edge.bootstrap.problem import ProblemError
from open_webui_edge.cli.backup.deployed import Deployed
from open_webui_edge.cli.backup.one_off_containers import OneOffRunner
from open_webui_edge.cli.backup.snapshots import Snapshot, open_snapshot
from open_webui_edge.runtime.contract import DATA_DIR, PORT
from open_webui_edge.settings.images import POSTGRES_MAJOR

_START_TIMEOUT = 30 * 60
_STAGING = f"{DATA_DIR}/.open-webui-edge-restore"
_URL = "postgresql://open_webui@database:5432/open_webui"
# Trust authentication is safe: the network is isolated, and the database lives for a minute.
_DATABASE = f"""
mkdir -p /data /run/postgresql && chown 999:999 /data /run/postgresql
exec setpriv --reuid=999 --regid=999 --clear-groups /bin/sh -euc '
    PATH=$PATH:/usr/lib/postgresql/{POSTGRES_MAJOR}/bin
    initdb --pgdata=/data/db --username=open_webui --auth=trust --encoding=UTF8 --locale=C.UTF-8
    echo "host all all all trust" >> /data/db/pg_hba.conf
    echo "CREATE DATABASE open_webui;" | postgres --single -D /data/db postgres
    exec postgres -D /data/db -c listen_addresses="*"'
"""
_ENVIRONMENT = {
    "OFFLINE_MODE": "true",
    "HF_HUB_OFFLINE": "1",
    "ENABLE_OLLAMA_API": "false",
    "RAG_EMBEDDING_ENGINE": "openai",
}
_READY = f"http://127.0.0.1:{PORT}/ready"


def verify(deployed: Deployed) -> int:
    """Restore the newest backup into a scratch deployment and compare its record counts with the manifest's."""
    with deployed.lock():
        return _verify(deployed)


def _verify(deployed: Deployed) -> int:
    runner = deployed.runner
    with step("repository"):
        words = ["check"] if deployed.repository.volume is None else ["check", "--read-data"]
        runner.run(deployed.restic_task(deployed.repository, *words), purpose="Checking the repository")
    with (
        open_snapshot(deployed, deployed.repository, "latest") as snapshot,
        runner.volume() as data,
        runner.network() as network,
    ):
        console.say(f"Backup {snapshot}")
        with step("reading the backup"):
            # The application's image first: an empty volume is filled with the image's files at that path.
            runner.run(deployed.files_task("undo", data=data), purpose="Preparing", shown=False)
            fetch = deployed.restic_task(
                snapshot.repository, "fetch", snapshot.identity, volumes={"/data": data}, waits=False
            )
            runner.run(fetch, purpose="Reading the backup")
            runner.run(deployed.files_task("check", data=data), purpose="Comparing the uploads", shown=False)
        counted = _counts_after_start(deployed, snapshot, data, network)
    return _compare(snapshot, counted)


def _counts_after_start(deployed: Deployed, snapshot: Snapshot, data: str, network: str) -> dict[str, int]:
    runner = deployed.runner
    if snapshot.manifest["database"] == "sqlite":
        with step("Open WebUI"):
            runner.run(deployed.files_task("swap", data=data), purpose="Bringing in the data", shown=False)
            with _application(deployed, data, network, {}):
                counted = runner.run(deployed.files_task("counts", data=data), purpose="Counting", shown=False)
        return json.loads(counted)
    with _server(
        runner,
        deployed.postgres_image,
        ["/bin/sh", "-euc", _DATABASE],
        network,
        capabilities=("CHOWN", "SETGID", "SETUID"),
        alias="database",
    ) as database:
        with step("database"):
            _await(runner, database, ["pg_isready", "--host=127.0.0.1", "--username=open_webui"])
            dump = f"{_STAGING}/new/copy/database.dump"
            restore = deployed.pg_task("restore", dump, volumes={DATA_DIR: data}, url=_URL, network=network)
            runner.run(restore, purpose="Bringing in the database", shown=False)
        with step("Open WebUI"):
            runner.run(deployed.files_task("merge", data=data), purpose="Bringing in the files", shown=False)
            variables = {"DATABASE_URL": _URL, "VECTOR_DB": "pgvector"}
            with _application(deployed, data, network, variables):
                count = deployed.pg_task("counts", volumes={}, url=_URL, network=network)
                return json.loads(runner.run(count, purpose="Counting", shown=False))


@contextmanager
def _application(deployed: Deployed, data: str, network: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Run an Open WebUI on an isolated network while the block runs."""
    environment = {**_ENVIRONMENT, **variables}
    with _server(
        deployed.runner,
        deployed.application_image,
        ["bash", "start.sh"],
        network,
        volumes={DATA_DIR: data},
        environment=environment,
    ) as name:
        _await(deployed.runner, name, ["curl", "--fail", "--silent", _READY])
        yield


@contextmanager
def _server(  # noqa: PLR0913 - one place, two callers
    runner: OneOffRunner,
    image: str,
    words: list[str],
    network: str,
    *,
    volumes: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    capabilities: tuple[str, ...] = (),
    alias: str = "application",
) -> Iterator[str]:
    name = runner.name()
    options = [word for path, volume in (volumes or {}).items() for word in ("--volume", f"{volume}:{path}")]
    options += [word for key, value in (environment or {}).items() for word in ("--env", f"{key}={value}")]
    options += [word for capability in capabilities for word in ("--cap-add", capability)]
    started = [
        *runner.engine.client, "run", "--detach", "--init", "--name", name, *runner.labels(),
        "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "4g",
        "--network", network, "--network-alias", alias, *options, "--entrypoint", words[0], image, *words[1:],
    ]  # fmt: skip
    command.output(started, purpose=f"Starting {name}")
    try:
        yield name
    finally:
        runner.engine.ask("rm", "--force", "--volumes", name)


def _await(runner: OneOffRunner, name: str, asked: list[str]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        if runner.engine.ask("exec", name, *asked).returncode == 0:
            return
        if runner.engine.ask("inspect", "--format", "{{.State.Running}}", name).stdout.strip() != "true":
            break
        time.sleep(0.5)
    words = runner.engine.ask("logs", "--tail", "8", name)
    raise runner.failed("Starting the restored deployment", 1, (words.stdout + words.stderr).splitlines())


def _compare(snapshot: Snapshot, counted: Mapping[str, int]) -> int:
    expected: dict[str, int] = snapshot.manifest["counts"]
    console.put(f"{'':10}{'backed up':>12}{'restored':>12}")
    for name, number in expected.items():
        console.put(f"{name:10}{number:>12}{counted.get(name, 0):>12}")
    different = [name for name, number in expected.items() if counted.get(name) != number]
    if different:
        message = f"The backup {snapshot.identity[:8]} is incomplete: the counts of {', '.join(different)} differ."
        raise ProblemError(message)
    console.put(f"The backup {snapshot.identity[:8]} of {snapshot.made} is complete, and Open WebUI starts with it.")
    return 0
