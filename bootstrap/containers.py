"""The containers of a stack, as the engine knows them."""

import json
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

from bootstrap import console
from bootstrap.engine import Engine
from bootstrap.problem import ProblemError
from components.images import PINNED_ROLES

APP = "open-webui-edge"
BACKUP_TASK = "backup-task"
"""Role of what is there for a backup or restore alone, and goes with it."""
HEADINGS = ("ROLE", "NAME", "STATE", "HEALTH", "PORTS", "IMAGE")


def filters(stack: str, role: str | None = None) -> list[str]:
    """Return the options by which the engine lists what is a stack's, or of one role in it."""
    labels = {"app": APP, "stack": stack, **({"role": role} if role else {})}
    return [word for key, value in labels.items() for word in ("--filter", f"label={key}={value}")]


def of_stack(engine: Engine, stack: str, role: str | None = None) -> list[dict[str, Any]]:
    """Return what the engine says of each container of a stack, running or not, sorted by name.

    Raises:
        ProblemError: the engine did not answer.

    """
    listed = engine.ask("ps", "--all", "--quiet", *filters(stack, role))
    if listed.returncode:
        message = f"The engine at {engine.address} did not list its containers: {listed.stderr.strip()}"
        raise ProblemError(message)
    if not listed.stdout.split():
        return []
    # One may go between the two questions: what the rest answers still counts.
    inspected = engine.ask("inspect", "--type", "container", *listed.stdout.split())
    return sorted(json.loads(inspected.stdout or "[]"), key=lambda container: container["Name"])


def untag_images(engine: Engine, stack: str) -> None:
    """Drop the names by which a removed stack pinned its images: the provider leaves them, and they keep the images."""
    for role in PINNED_ROLES:
        engine.ask("image", "rm", f"edge-{stack}-{role}:pinned")


def is_well(container: dict[str, Any]) -> bool:
    """Tell whether a container runs and is healthy, or was made to end and ended well."""
    state = container["State"]
    if state["Status"] == "running":
        return health(container) in {"healthy", "-"}
    restarts = container["HostConfig"]["RestartPolicy"]["Name"] not in {"", "no"}
    return state["Status"] == "exited" and state["ExitCode"] == 0 and not restarts


def is_passing(container: dict[str, Any]) -> bool:
    """Whether it goes with the backup or restore that it is there for."""
    return container["Config"]["Labels"].get("role") == BACKUP_TASK


def health(container: dict[str, Any]) -> str:
    """Return what the container's own check found; "-" where it has none."""
    return (container["State"].get("Health") or {}).get("Status", "-")


def table(containers: Sequence[dict[str, Any]]) -> str:
    """Return one line a container, below a line of headings."""
    rows = [HEADINGS, *(_row(container) for container in containers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(container: dict[str, Any]) -> tuple[str, ...]:
    state = container["State"]
    status = state["Status"] if state["Status"] == "running" else f"{state['Status']} ({state['ExitCode']})"
    labels = container["Config"]["Labels"] or {}
    image = container["Config"]["Image"]
    short_image = image.removeprefix("sha256:")[:12] if image.startswith("sha256:") else image
    return (
        labels.get("role", "?"),
        container["Name"].lstrip("/"),
        status,
        health(container),
        _ports(container),
        short_image,
    )


def _ports(container: dict[str, Any]) -> str:
    published = {
        f"{binding['HostIp']}:{binding['HostPort']}->{inside}"
        for inside, bindings in (container["NetworkSettings"]["Ports"] or {}).items()
        for binding in bindings or ()
    }
    return ", ".join(sorted(published)) or "-"


def show_logs(engine: Engine, containers: Sequence[dict[str, Any]], *, follow: bool) -> None:
    """Write the containers' logs, each line behind its container's name; with `follow`, until interrupted."""
    readers = [
        threading.Thread(target=_copy_log, args=(engine, container["Name"].lstrip("/"), follow), daemon=True)
        for container in containers
    ]
    for reader in readers:
        reader.start()
        if not follow:
            reader.join()  # one container after the other, so that each log reads on its own
    for reader in readers:
        reader.join()


def _copy_log(engine: Engine, name: str, follow: bool) -> None:  # noqa: FBT001  # a thread's target takes positions
    words = [*engine.client, "logs", *(["--follow", "--tail", "100"] if follow else []), name]
    with subprocess.Popen(  # noqa: S603  # a list of arguments, no shell
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as client:
        for line in client.stdout or ():
            console.put(f"{name} | {line.rstrip()}")
