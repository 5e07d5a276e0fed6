"""`make backup-verify`: the newest backup brought up beside the stack, where nobody reaches it, and counted."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bootstrap import command, console
from bootstrap.backup.deployed import Deployed
from bootstrap.backup.found import Found, chosen
from bootstrap.backup.tasks import Tasks
from bootstrap.console import step
from bootstrap.problem import ProblemError
from components.backup.component import DATA
from components.images import POSTGRES_MAJOR
from components.open_webui import PORT

_LONGEST_START = 30 * 60
_STAGING = f"{DATA}/.open-webui-edge-restore"
_URL = "postgresql://open_webui@database:5432/open_webui"
# Nobody else is on its network, and it is gone in a minute.
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
    """Restore the newest backup into a scratch stack and compare what is in it with what was counted then."""
    with deployed.turn():
        return _verify(deployed)


def _verify(deployed: Deployed) -> int:
    tasks = deployed.tasks
    with step("repository"):
        words = ["check"] if deployed.repository.volume is None else ["check", "--read-data"]
        tasks.run(deployed.keeper(deployed.repository, *words), purpose="Checking the repository")
    with (
        chosen(deployed, deployed.repository, "latest") as found,
        tasks.volume() as data,
        tasks.network() as network,
    ):
        console.say(f"Backup {found}")
        with step("reading the backup"):
            # First the image's own: an empty volume takes over what it has at that place.
            tasks.run(deployed.filer("undo", data=data), purpose="Preparing", shown=False)
            fetch = deployed.keeper(found.repository, "fetch", found.identity, volumes={"/data": data}, waits=False)
            tasks.run(fetch, purpose="Reading the backup")
            tasks.run(deployed.filer("check", data=data), purpose="Comparing the uploads", shown=False)
        counted = _brought_up(deployed, found, data, network)
    return _compare(found, counted)


def _brought_up(deployed: Deployed, found: Found, data: str, network: str) -> dict[str, int]:
    tasks = deployed.tasks
    if found.manifest["database"] == "sqlite":
        with step("Open WebUI"):
            tasks.run(deployed.filer("swap", data=data), purpose="Bringing in the data", shown=False)
            with _application(deployed, data, network, {}):
                counted = tasks.run(deployed.filer("counts", data=data), purpose="Counting", shown=False)
        return json.loads(counted)
    with _server(
        tasks,
        deployed.postgres_image,
        ["/bin/sh", "-euc", _DATABASE],
        network,
        capabilities=("CHOWN", "SETGID", "SETUID"),
        alias="database",
    ) as database:
        with step("database"):
            _await(tasks, database, ["pg_isready", "--host=127.0.0.1", "--username=open_webui"])
            dump = f"{_STAGING}/new/copy/database.dump"
            restore = deployed.dumper("restore", dump, volumes={DATA: data}, url=_URL, network=network)
            tasks.run(restore, purpose="Bringing in the database", shown=False)
        with step("Open WebUI"):
            tasks.run(deployed.filer("merge", data=data), purpose="Bringing in the files", shown=False)
            variables = {"DATABASE_URL": _URL, "VECTOR_DB": "pgvector"}
            with _application(deployed, data, network, variables):
                count = deployed.dumper("counts", volumes={}, url=_URL, network=network)
                return json.loads(tasks.run(count, purpose="Counting", shown=False))


@contextmanager
def _application(deployed: Deployed, data: str, network: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Lend a running Open WebUI that reaches nobody, and that nobody reaches."""
    environment = {**_ENVIRONMENT, **variables}
    with _server(
        deployed.tasks,
        deployed.application_image,
        ["bash", "start.sh"],
        network,
        volumes={DATA: data},
        environment=environment,
    ) as name:
        _await(deployed.tasks, name, ["curl", "--fail", "--silent", _READY])
        yield


@contextmanager
def _server(  # noqa: PLR0913 - one place, two callers
    tasks: Tasks,
    image: str,
    words: list[str],
    network: str,
    *,
    volumes: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    capabilities: tuple[str, ...] = (),
    alias: str = "application",
) -> Iterator[str]:
    name = tasks.name()
    options = [word for path, volume in (volumes or {}).items() for word in ("--volume", f"{volume}:{path}")]
    options += [word for key, value in (environment or {}).items() for word in ("--env", f"{key}={value}")]
    options += [word for capability in capabilities for word in ("--cap-add", capability)]
    started = [
        *tasks.engine.client, "run", "--detach", "--init", "--name", name, *tasks.labels(),
        "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "4g",
        "--network", network, "--network-alias", alias, *options, "--entrypoint", words[0], image, *words[1:],
    ]  # fmt: skip
    command.output(started, purpose=f"Starting {name}")
    try:
        yield name
    finally:
        tasks.engine.ask("rm", "--force", "--volumes", name)


def _await(tasks: Tasks, name: str, asked: list[str]) -> None:
    deadline = time.monotonic() + _LONGEST_START
    while time.monotonic() < deadline:
        if tasks.engine.ask("exec", name, *asked).returncode == 0:
            return
        if tasks.engine.ask("inspect", "--format", "{{.State.Running}}", name).stdout.strip() != "true":
            break
        time.sleep(0.5)
    words = tasks.engine.ask("logs", "--tail", "8", name)
    raise tasks.failed("What was restored does not come up:", 1, (words.stdout + words.stderr).splitlines())


def _compare(found: Found, counted: Mapping[str, int]) -> int:
    expected: dict[str, int] = found.manifest["counts"]
    console.put(f"{'':10}{'backed up':>12}{'restored':>12}")
    for name, number in expected.items():
        console.put(f"{name:10}{number:>12}{counted.get(name, 0):>12}")
    different = [name for name, number in expected.items() if counted.get(name) != number]
    if different:
        message = f"The backup {found.identity[:8]} does not hold what it was made of: {', '.join(different)} differ."
        raise ProblemError(message)
    console.put(f"The backup {found.identity[:8]} of {found.made} is whole, and Open WebUI comes up with it.")
    return 0
