"""`make restore`: a backup put in the place of a stack's data, which stays at hand until all is well."""

import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bootstrap import command, console
from bootstrap.backup import secret_key
from bootstrap.backup.deployed import Deployed
from bootstrap.backup.found import Found, named
from bootstrap.backup.tasks import variable
from bootstrap.console import Step, step
from bootstrap.problem import ProblemError
from components.backup.component import DATA

_STAGING = f"{DATA}/.open-webui-edge-restore"
_DUMP = f"{_STAGING}/new/copy/database.dump"
_REPLACED_DUMP = f"{_STAGING}/old/database.dump"
_BEFORE = "before"
"""What FROM says to have back what an unfinished restore has replaced."""
_LONGEST_START = 30 * 60


class _NotPutBackError(ProblemError):
    """The data is neither what it was nor what it was to be."""


def restore(deployed: Deployed) -> int:
    """Put a backup in the place of the data of a stack."""
    with deployed.turn():
        if variable("FROM") == _BEFORE:
            _put_back(deployed)
            console.put(f"{deployed.name} is what it was before the restore that was cut short.")
            return 0
        # Before anything is asked: that it is over has to be had without another restore.
        if _end_an_earlier_one(deployed):
            # What is remembered of it may be other by now.
            deployed = Deployed(deployed.target, deployed.engine)
            if variable("FROM") is None:
                console.put(f"The restore that was cut short is at its end, and {deployed.name} runs.")
                return 0
        with named(deployed) as found:
            refuse(deployed, found)
            _confirm(deployed, f"Backup {found}")
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


def _confirm(deployed: Deployed, what: str) -> None:
    console.say(what)
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
            secret_key.update_with(deployed, key)
    # The restored is all there is from here on.
    tasks.run(deployed.filer("finish"), purpose="Removing what was replaced", shown=False)


def _end_an_earlier_one(deployed: Deployed) -> bool:
    """Bring a restore to its end that was killed: forwards where its database is in place, and back otherwise.

    Returns whether there was one.
    """
    reached = _reached(deployed)
    if not reached:
        deployed.tasks.run(deployed.filer("undo"), purpose="Clearing what an earlier restore left", shown=False)
        return False
    console.say("An earlier restore was cut short; it is brought to its end first.")
    if reached != "forwards":
        _go_back(deployed)
        return True
    with _stopped(deployed):
        deployed.tasks.run(deployed.filer("settle"), purpose="Ending the earlier restore", shown=False)
        _, key = secret_key.noted(deployed)
        try:
            if key:
                secret_key.update_with(deployed, key)
            else:
                _start(deployed)
        except ProblemError as why:
            message = (
                f"{why}\nThat is with what the earlier restore brought in. What it replaced is still there: mend the"
                f" cause and run this again, or `make restore STACK={deployed.name} FROM={_BEFORE}` puts it back."
            )
            raise ProblemError(message) from None
    deployed.tasks.run(deployed.filer("finish"), purpose="Removing what was replaced", shown=False)
    return True


def _reached(deployed: Deployed) -> str:
    """Return how far an earlier restore came, as data.py says it, once the database was asked where it is one."""
    task = deployed.filer("unfinished")
    reached = deployed.tasks.run(task, purpose="Looking for an earlier restore", shown=False).strip()
    return "forwards" if reached == "merging" and _is_marked(deployed) else reached


def _is_marked(deployed: Deployed) -> bool:
    """Whether PostgreSQL's transaction came to its end; False with SQLite, where the volume itself says so."""
    tasks = deployed.tasks
    mark = tasks.run(deployed.filer("mark"), purpose="Looking for an earlier restore", shown=False).strip()
    if not mark:
        return False
    found = tasks.run(deployed.dumper("marked", volumes={}), purpose="Asking the database", shown=False)
    return found.strip() == mark


def _put_back(deployed: Deployed) -> None:
    """Undo a restore that was cut short, however far it came."""
    if not _reached(deployed):
        message = (
            f"FROM={_BEFORE} puts back what an unfinished restore has replaced, and {deployed.name} has none; name a"
            " backup, such as FROM=latest."
        )
        raise ProblemError(message)
    _confirm(deployed, "What was there before the restore that was cut short")
    _go_back(deployed)


def _go_back(deployed: Deployed) -> None:
    with _stopped(deployed):
        own, key = secret_key.noted(deployed)
        if key:
            secret_key.have_own_again(deployed, key, own)
        _undo(deployed)
        if key:
            # Some replicas may have it already.
            deployed.target.run("up", "--yes", "--skip-preview")
        else:
            _start(deployed)


def _undo(deployed: Deployed) -> None:
    tasks = deployed.tasks
    with step("putting back what was replaced"):
        tasks.run(deployed.filer("begin_undo"), purpose="Putting the data back", shown=False)
        # Only what came in is replaced, never what it did not reach, or what went on since that was undone.
        if _is_marked(deployed):
            task = deployed.dumper("restore", _REPLACED_DUMP, volumes={DATA: deployed.data})
            tasks.run(task, purpose="Putting the database back", shown=False)
        tasks.run(deployed.filer("undo"), purpose="Putting the data back", shown=False)


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
    tasks.run(deployed.filer("settle"), purpose="Bringing in the data", shown=False)


@contextmanager
def _stopped(deployed: Deployed) -> Iterator[None]:
    names = [one["Name"].lstrip("/") for one in deployed.replicas]
    try:
        with step("stopping Open WebUI"):
            command.output([*deployed.engine.client, "stop", *names], purpose="Stopping Open WebUI")
        yield
    except _NotPutBackError:
        raise
    except BaseException:
        with step("starting Open WebUI as it was"):
            deployed.engine.ask("start", *names)
        raise


@contextmanager
def _undone_on_failure(deployed: Deployed) -> Iterator[None]:
    try:
        yield
    except BaseException as why:
        names = [one["Name"].lstrip("/") for one in deployed.replicas]
        deployed.engine.ask("stop", *names)
        try:
            _undo(deployed)
        except ProblemError as worse:
            message = (
                f"{why}\nWhat was replaced could not be put back either: {worse}\nOpen WebUI stays down until"
                f" `make restore STACK={deployed.name}` has done that."
            )
            raise _NotPutBackError(message) from None
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
