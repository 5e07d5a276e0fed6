"""`make restore`: a backup put in the place of a stack's data, which stays at hand until all is well."""

import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bootstrap import command, console
from bootstrap.backup.deployed import Deployed
from bootstrap.backup.found import Found, named
from bootstrap.console import Step, step
from bootstrap.problem import ProblemError
from components.backup.component import DATA

_STAGING = f"{DATA}/.open-webui-edge-restore"
_DUMP = f"{_STAGING}/new/copy/database.dump"
_REPLACED_DUMP = f"{_STAGING}/old/database.dump"
_SECRET_KEY = "open_webui.secret_key"  # noqa: S105 - the name of a setting
_FORMER_SECRET_KEYS = "open_webui.former_secret_keys"  # noqa: S105 - likewise
_LONGEST_START = 30 * 60


def restore(deployed: Deployed) -> int:
    """Put a backup in the place of the data of a stack."""
    with deployed.turn(), named(deployed) as found:
        refuse(deployed, found)
        _confirm(deployed, found)
        _restore(deployed, found)
    console.put(f"{deployed.name} is what it was in the backup {found}.")
    console.put("People sign in as they did then.")
    return 0


def refuse(deployed: Deployed, found: Found) -> None:
    """Make sure that a backup fits a stack.

    Raises:
        ProblemError: it does not; the message says what would help.

    """
    theirs, kind = found.manifest["open_webui"], found.manifest["database"]
    if release(theirs) > release(deployed.version):
        message = (
            f"The backup is of Open WebUI {theirs}, and this stack runs {deployed.version}, which cannot read it: write"
            f" open_webui.version: {theirs}, run `make up STACK={deployed.name}`, and then this again."
        )
        raise ProblemError(message)
    if kind != deployed.database:
        modes = {"sqlite": "none", "postgresql": "container or url"}
        names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
        message = (
            f"The backup holds a database of {names[kind]}, and this stack uses {names[deployed.database]}: restore"
            f" into a stack with data.postgres.mode {modes[kind]}. Nothing was changed."
        )
        raise ProblemError(message)


def release(version: str) -> tuple[int, ...]:
    """Return a version as numbers that can be compared."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _confirm(deployed: Deployed, found: Found) -> None:
    console.say(f"Backup {found}")
    if os.environ.get("YES") == "1":
        return
    if sys.stdin is None or not sys.stdin.isatty():
        message = "A restore replaces data: it asks first, and nobody is there to answer; YES=1 answers for automation."
        raise ProblemError(message)
    sys.stderr.write(
        f"It replaces all users, chats and files of {deployed.name} as they are now. Type {deployed.name} to go on: "
    )
    sys.stderr.flush()
    if sys.stdin.readline().strip() != deployed.name:
        message = "That is not its name; nothing was changed."
        raise ProblemError(message)


def _restore(deployed: Deployed, found: Found) -> None:
    tasks = deployed.tasks
    _end_an_earlier_one(deployed)
    with step("reading the backup"):
        fetch = deployed.keeper(
            found.repository, "fetch", found.identity, volumes={"/data": deployed.data}, waits=False
        )
        tasks.run(fetch, purpose="Reading the backup (nothing was changed)")
        tasks.run(deployed.filer("check"), purpose="Looking at what was read (nothing was changed)", shown=False)
    key = _their_key(deployed, found)
    with _stopped(deployed), _undone_on_failure(deployed):
        with step("bringing it in"):
            _bring_in(deployed)
        if key is None:
            _start(deployed)
        else:
            _start_with(deployed, key)
    # The restored is all there is from here on.
    tasks.run(deployed.filer("finish"), purpose="Removing what was replaced", shown=False)


def _end_an_earlier_one(deployed: Deployed) -> None:
    """Bring a restore to its end that was killed: forwards where its database is in place, and back otherwise."""
    tasks = deployed.tasks
    mark = tasks.run(deployed.filer("unfinished"), purpose="Looking for an earlier restore", shown=False).strip()
    if not mark:
        tasks.run(deployed.filer("recover"), purpose="Clearing what an earlier restore left", shown=False)
        return
    console.say("An earlier restore was cut short; it is brought to its end first.")
    with _stopped(deployed):
        with step("ending the earlier restore"):
            if deployed.database != "sqlite":
                task = deployed.dumper("marked", volumes={})
                if tasks.run(task, purpose="Asking the database", shown=False).strip() == mark:
                    tasks.run(deployed.filer("committed"), purpose="Ending the earlier restore", shown=False)
            tasks.run(deployed.filer("recover"), purpose="Ending the earlier restore", shown=False)
        _start(deployed)


def _their_key(deployed: Deployed, found: Found) -> str | None:
    """Return the secret key of the backup where the stack has another one."""
    if found.repository.password is None:
        console.say(
            "The backup holds no secret key (it is not encrypted): sessions go on in the stack that made it alone."
        )
        return None
    task = deployed.keeper(found.repository, "secret_key", found.identity, waits=False)
    key = deployed.tasks.run(task, purpose="Reading the secret key", shown=False)
    # One that was given up stays so: what is saved under it is written anew at the start.
    known = (deployed.environment.get("WEBUI_SECRET_KEY"), *deployed.given.get("former_secret_keys", ()))
    return None if key in known else key


def _bring_in(deployed: Deployed) -> None:
    tasks = deployed.tasks
    if deployed.database == "sqlite":
        tasks.run(deployed.filer("swap"), purpose="Bringing in the data", shown=False)
        return
    volumes, mark = {DATA: deployed.data}, secrets.token_hex(8)
    tasks.run(deployed.filer("merge", mark), purpose="Bringing in the files", shown=False)
    tasks.run(
        deployed.dumper("keep_beside", _REPLACED_DUMP, volumes=volumes),
        purpose="Keeping the database that is replaced",
        shown=False,
    )
    tasks.run(deployed.dumper("restore", _DUMP, mark, volumes=volumes), purpose="Bringing in the database", shown=False)
    tasks.run(deployed.filer("committed"), purpose="Bringing in the data", shown=False)


@contextmanager
def _stopped(deployed: Deployed) -> Iterator[None]:
    names = [one["Name"].lstrip("/") for one in deployed.replicas]
    try:
        with step("stopping Open WebUI"):
            command.output([*deployed.engine.client, "stop", *names], purpose="Stopping Open WebUI")
        yield
    except BaseException:
        with step("starting Open WebUI as it was"):
            deployed.engine.ask("start", *names)
        raise


@contextmanager
def _undone_on_failure(deployed: Deployed) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with step("putting back what was replaced"):
            names = [one["Name"].lstrip("/") for one in deployed.replicas]
            deployed.engine.ask("stop", *names)
            if deployed.database != "sqlite":
                task = deployed.dumper("restore_if_there", _REPLACED_DUMP, volumes={DATA: deployed.data})
                deployed.tasks.run(task, purpose="Putting the database back", shown=False)
            deployed.tasks.run(deployed.filer("undo"), purpose="Putting the data back", shown=False)
        raise


def _start(deployed: Deployed) -> None:
    with step("starting Open WebUI") as shown:
        # The first one changes the tables where the backup is of an older version.
        for one in deployed.replicas:
            name = one["Name"].lstrip("/")
            command.output([*deployed.engine.client, "start", name], purpose=f"Starting {name}")
            _await_health(deployed, name, shown)


def _await_health(deployed: Deployed, name: str, shown: Step) -> None:
    deadline = time.monotonic() + _LONGEST_START
    shown.doing = f"waiting for {name}"
    asked = "{{.State.Status}} {{.State.Health.Status}} {{.RestartCount}}"
    while time.monotonic() < deadline:
        status, health, restarts, *_ = [
            *deployed.engine.ask("inspect", "--format", asked, name).stdout.split(),
            "?",
            "?",
            "0",
        ]
        if health == "healthy":
            return
        if health == "unhealthy" or status in {"exited", "dead"} or int(restarts) > 1:
            break
        time.sleep(0.5)
    words = deployed.engine.ask("logs", "--tail", "8", name)
    raise deployed.tasks.failed(f"Starting {name}", 1, (words.stdout + words.stderr).splitlines())


def _start_with(deployed: Deployed, key: str) -> None:
    """Have the stack use the key that the data belongs to: its file holds it from now on, encrypted."""
    target, before = deployed.target, deployed.environment.get("WEBUI_SECRET_KEY")
    had_one = deployed.setting(_SECRET_KEY) is not None
    with step("secret key") as shown:
        target.set_secret(_SECRET_KEY, key)
        shown.done(f"the backup's; it stands encrypted in the stack's file ({_SECRET_KEY})")
    try:
        target.run("up", "--yes", "--skip-preview")
    except BaseException:
        if had_one and before is not None:
            target.set_secret(_SECRET_KEY, before)
        else:
            target.unset(_SECRET_KEY)
        # A replica that has changed already saves under it until the next update.
        given_up = deployed.setting(_FORMER_SECRET_KEYS) or []
        target.set_secret(f"{_FORMER_SECRET_KEYS}[{len(given_up)}]", key)
        console.say(
            f"Its own secret key is in the file again; `make up STACK={deployed.name}` has all replicas use it."
        )
        raise
