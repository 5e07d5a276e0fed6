"""`make restore`: replaces a stack's data by a backup; the old data is retained until the restore has succeeded."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from open_webui_edge.bootstrap import command, console
from open_webui_edge.bootstrap.console import ProblemError, step
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.cli.backup import secret_key
from open_webui_edge.cli.backup.deployed import DUMP, STAGING, Deployed
from open_webui_edge.cli.backup.snapshots import Snapshot, requested_snapshot
from open_webui_edge.cli.user_input import confirm_by_name, variable
from open_webui_edge.runtime.contract import DATA_DIR

_REPLACED_DUMP = f"{STAGING}/old/database.dump"
_BEFORE = "before"
"""Value of FROM that rolls an interrupted restore back."""


class _RollbackFailedError(ProblemError):
    """The rollback of a failed restore failed, too."""


def restore(deployed: Deployed) -> int:
    """Replace the data of a stack by a backup."""
    with deployed.lock():
        if variable("FROM") == _BEFORE:
            _undo_interrupted(deployed)
            console.put(f"{deployed.name} is rolled back to its data before the interrupted restore.")
            return 0
        # First of all, so that an interrupted restore can be completed without another one.
        if _resume_interrupted(deployed):
            # Cached properties may be outdated.
            deployed = Deployed(deployed.stack, deployed.engine)
            if variable("FROM") is None:
                console.put(f"The interrupted restore is complete, and {deployed.name} runs.")
                return 0
        with requested_snapshot(deployed) as snapshot:
            require_compatible(deployed, snapshot)
            _confirm(deployed, f"Backup {snapshot}")
            _restore(deployed, snapshot)
            console.put(f"{deployed.name} is restored from the backup {snapshot}.")
    console.put("Users sign in with the accounts and passwords of the backup.")
    return 0


def require_compatible(deployed: Deployed, snapshot: Snapshot) -> None:
    """Raise a ProblemError, which says what to do, unless a backup is compatible with a stack."""
    theirs, kind = snapshot.manifest["open_webui"], snapshot.manifest["database"]
    if release(theirs) > release(deployed.version):
        raise ProblemError(
            f"The backup is of Open WebUI {theirs}, and this stack runs {deployed.version}, which cannot read it: write"
            f" open_webui.version: {theirs}, run `make up STACK={deployed.name}`, and then this again."
        )
    if kind != deployed.database:
        modes = {"sqlite": "none", "postgresql": "container or url"}
        names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
        raise ProblemError(
            f"The backup contains a database of {names[kind]}, and this stack uses {names[deployed.database]}: restore"
            f" into a stack with data.postgres.mode {modes[kind]}. Nothing was changed."
        )


def release(version: str) -> tuple[int, ...]:
    """Return a version as a tuple of numbers for comparisons."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _confirm(deployed: Deployed, what: str) -> None:
    console.say(what)
    warning = f"It replaces all users, chats and files of {deployed.name} as they are now."
    reason = "A restore replaces data: confirmation is needed"
    confirm_by_name(deployed.name, warning, reason=reason, otherwise="changed")


def _restore(deployed: Deployed, snapshot: Snapshot) -> None:
    with step("reading the backup"):
        snapshot.fetch(deployed, deployed.data, purpose="Reading the backup (nothing was changed)")
        deployed.run_files("Checking the backup (nothing was changed)", "check")
    key = _backup_key(deployed, snapshot)
    with _stopped(deployed), _rolled_back_on_failure(deployed):
        with step("replacing the data"):
            _apply_backup(deployed)
        _start(deployed, key)
    # From here on the old data is gone.
    deployed.run_files("Removing what was replaced", "finish")


def _resume_interrupted(deployed: Deployed) -> bool:
    """Complete an interrupted restore if its database is in place, else roll it back; return whether there was one."""
    progress = _progress(deployed)
    if not progress:
        deployed.run_files("Clearing what an earlier restore left", "undo")
        return False
    console.say("An earlier restore was interrupted; it is completed or rolled back first.")
    if progress != "forwards":
        _rollback(deployed)
        return True
    with _stopped(deployed):
        deployed.run_files("Ending the earlier restore", "settle")
        _, key = secret_key.recorded(deployed)
        try:
            _start(deployed, key or None)
        except ProblemError as why:
            raise ProblemError(
                f"{why}\nThis happened with the data of the interrupted restore. The data before it is retained: fix"
                f" the cause and run this again, or roll back with `make restore STACK={deployed.name} FROM={_BEFORE}`."
            ) from None
    deployed.run_files("Removing what was replaced", "finish")
    return True


def _progress(deployed: Deployed) -> str:
    """Return the progress of an interrupted restore, from the journal and, with PostgreSQL, from the database."""
    progress = deployed.run_files("Looking for an earlier restore", "unfinished").strip()
    return "forwards" if progress == "merging" and _is_marked(deployed) else progress


def _is_marked(deployed: Deployed) -> bool:
    """Return whether PostgreSQL committed the restore; False with SQLite, whose journal is enough."""
    mark = deployed.run_files("Looking for an earlier restore", "mark").strip()
    return bool(mark) and deployed.run_pg("Asking the database", "marked").strip() == mark


def _undo_interrupted(deployed: Deployed) -> None:
    """Roll back an interrupted restore, whatever its progress."""
    if not _progress(deployed):
        raise ProblemError(
            f"FROM={_BEFORE} rolls back an interrupted restore, and {deployed.name} has none; name a backup, such as"
            " FROM=latest."
        )
    _confirm(deployed, "The data before the interrupted restore")
    _rollback(deployed)


def _rollback(deployed: Deployed) -> None:
    with _stopped(deployed):
        own, key = secret_key.recorded(deployed)
        if key:
            secret_key.restore_own_key(deployed, key, own)
        _undo(deployed)
        if key:
            # Some replicas may use it already.
            deployed.stack.run("up", "--yes", "--skip-preview")
        else:
            _start(deployed, None)


def _undo(deployed: Deployed) -> None:
    with step("rolling back"):
        deployed.run_files("Rolling the data back", "begin_undo")
        # Only a database that was replaced is rolled back: an untouched one may have newer data.
        if _is_marked(deployed):
            volumes = {DATA_DIR: deployed.data}
            deployed.run_pg("Rolling the database back", "restore", _REPLACED_DUMP, volumes=volumes)
        deployed.run_files("Rolling the data back", "undo")


def _backup_key(deployed: Deployed, snapshot: Snapshot) -> str | None:
    """Return the secret key of the backup if the stack does not have it; else None."""
    if snapshot.repository.password is None:
        console.say(
            "The backup contains no secret key (it is not encrypted): sessions stay valid only in its own stack."
        )
        return None
    key = deployed.run_restic("Reading the secret key", snapshot.repository, "secret_key", snapshot.identity)
    # A retired key stays retired: Open WebUI re-encrypts its data when it starts.
    known = (deployed.environment.get("WEBUI_SECRET_KEY"), *deployed.given.get("former_secret_keys", ()))
    return None if key in known else key


def _apply_backup(deployed: Deployed) -> None:
    if deployed.database == "sqlite":
        deployed.run_files("Replacing the data", "swap")
        return
    volumes, mark = {DATA_DIR: deployed.data}, secrets.token_hex(8)
    deployed.run_files("Replacing the files", "merge", mark)
    deployed.run_pg("Saving the current database", "keep_beside", _REPLACED_DUMP, volumes=volumes)
    deployed.run_pg("Replacing the database", "restore", DUMP, mark, volumes=volumes)
    deployed.run_files("Replacing the data", "settle")


@contextmanager
def _stopped(deployed: Deployed) -> Iterator[None]:
    names = [one["Name"].lstrip("/") for one in deployed.replicas]
    try:
        with step("stopping Open WebUI"):
            command.output([*deployed.engine.client, "stop", *names], purpose="Stopping Open WebUI")
        yield
    except _RollbackFailedError:
        raise
    except BaseException:
        with step("starting Open WebUI as it was"):
            deployed.engine.ask("start", *names)
        raise


@contextmanager
def _rolled_back_on_failure(deployed: Deployed) -> Iterator[None]:
    try:
        yield
    except BaseException as why:
        names = [one["Name"].lstrip("/") for one in deployed.replicas]
        deployed.engine.ask("stop", *names)
        try:
            _undo(deployed)
        except ProblemError as worse:
            raise _RollbackFailedError(
                f"{why}\nThe rollback failed, too: {worse}\nOpen WebUI stays down until"
                f" `make restore STACK={deployed.name}` has completed it."
            ) from None
        raise


def _start(deployed: Deployed, key: str | None) -> None:
    if key is not None:
        # The update starts it.
        secret_key.update_with(deployed, key)
        return
    with step("starting Open WebUI") as shown:
        # The first replica migrates the database if the backup is of an older release.
        for one in deployed.replicas:
            name = one["Name"].lstrip("/")
            command.output([*deployed.engine.client, "start", name], purpose=f"Starting {name}")
            shown.doing = f"waiting for {name}"
            deployed.runner.wait_for(name, f"Starting {name}", partial(_is_healthy, deployed.engine, name))


def _is_healthy(engine: Engine, name: str) -> bool | None:
    shown = "{{.State.Status}} {{.State.Health.Status}} {{.RestartCount}}"
    words = engine.ask("inspect", "--format", shown, name).stdout.split()
    status, health, restarts, *_ = [*words, "?", "?", "0"]
    if health == "healthy":
        return True
    return None if health == "unhealthy" or status in {"exited", "dead"} or int(restarts) > 1 else False
