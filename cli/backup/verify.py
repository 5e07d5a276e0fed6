"""`make backup-verify`: restores the newest backup into an isolated scratch deployment and counts its records."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from open_webui_edge.bootstrap import command, console
from open_webui_edge.bootstrap.console import ProblemError, step
from open_webui_edge.cli.backup.deployed import DUMP, Deployed
from open_webui_edge.cli.backup.one_off_containers import OneOff, OneOffRunner
from open_webui_edge.cli.backup.snapshots import Snapshot, open_snapshot
from open_webui_edge.runtime.contract import DATA_DIR, PORT
from open_webui_edge.settings.images import POSTGRES_MAJOR

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
        with step("repository"):
            repository = deployed.repository
            words = ["check"] if repository.volume is None else ["check", "--read-data"]
            deployed.run_restic("Checking the repository", repository, *words, waits=True, shown=True)
        snapshot, runner = open_snapshot(deployed, repository, "latest"), deployed.runner
        with runner.temporary("volume") as data, runner.temporary("network", "--internal") as network:
            console.say(f"Backup {snapshot}")
            with step("reading the backup"):
                # The application's image first: an empty volume is filled with the image's files at that path.
                deployed.run_files("Preparing", "undo", data=data)
                snapshot.fetch(deployed, data, purpose="Reading the backup")
                deployed.run_files("Comparing the uploads", "check", data=data)
            counted = _counts_after_start(deployed, snapshot, data, network)
        return _compare(snapshot, counted)


def _counts_after_start(deployed: Deployed, snapshot: Snapshot, data: str, network: str) -> dict[str, int]:
    if snapshot.manifest["database"] == "sqlite":
        with step("Open WebUI"):
            deployed.run_files("Bringing in the data", "swap", data=data)
            with _application(deployed, data, network, {}):
                return json.loads(deployed.run_files("Counting", "counts", data=data))
    server = ["/bin/sh", "-euc", _DATABASE]
    rights = ("CHOWN", "SETGID", "SETUID")
    task = OneOff(deployed.postgres_image, server, network=network, capabilities=rights)
    with _server(deployed.runner, task, "--network-alias", "database") as database:
        with step("database"):
            _await(deployed.runner, database, ["pg_isready", "--host=127.0.0.1", "--username=open_webui"])
            volumes = {DATA_DIR: data}
            deployed.run_pg("Bringing in the database", "restore", DUMP, volumes=volumes, url=_URL, network=network)
        with step("Open WebUI"):
            deployed.run_files("Bringing in the files", "merge", data=data)
            with _application(deployed, data, network, {"DATABASE_URL": _URL, "VECTOR_DB": "pgvector"}):
                return json.loads(deployed.run_pg("Counting", "counts", url=_URL, network=network))


@contextmanager
def _application(deployed: Deployed, data: str, network: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Run an Open WebUI on an isolated network while the block runs."""
    options = [word for key, value in {**_ENVIRONMENT, **variables}.items() for word in ("--env", f"{key}={value}")]
    words, volumes = ["bash", "start.sh"], {DATA_DIR: data}
    task = OneOff(deployed.application_image, words, volumes=volumes, network=network, capabilities=())
    with _server(deployed.runner, task, "--network-alias", "application", *options) as name:
        _await(deployed.runner, name, ["curl", "--fail", "--silent", _READY])
        yield


@contextmanager
def _server(runner: OneOffRunner, task: OneOff, *options: str) -> Iterator[str]:
    name = runner.name()
    started = [
        *runner.engine.client, "run", "--detach", *runner.options(name, task, memory="4g"), *options,
        "--entrypoint", task.words[0], task.image, *task.words[1:],
    ]  # fmt: skip
    command.output(started, purpose=f"Starting {name}")
    try:
        yield name
    finally:
        runner.engine.ask("rm", "--force", "--volumes", name)


def _await(runner: OneOffRunner, name: str, probe: list[str]) -> None:
    def is_up() -> bool | None:
        if runner.engine.ask("exec", name, *probe).returncode == 0:
            return True
        running = runner.engine.ask("inspect", "--format", "{{.State.Running}}", name).stdout.strip()
        return False if running == "true" else None

    runner.wait_for(name, "Starting the restored deployment", is_up)


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
