"""The containers of a stack, as the engine knows them."""

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from open_webui_edge.bootstrap import console
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.runtime.contract import APP
from open_webui_edge.settings.images import PINNED_ROLES

BACKUP_TASK = "backup-task"
"""Role of one-off containers of a backup or restore."""


def filters(stack: str, role: str | None = None) -> list[str]:
    """Return the options that filter the engine's lists by stack, and by role."""
    labels = {"app": APP, "stack": stack, **({"role": role} if role else {})}
    return [word for key, value in labels.items() for word in ("--filter", f"label={key}={value}")]


def of_stack(engine: Engine, stack: str, role: str | None = None) -> list[dict[str, Any]]:
    """Inspect each container of a stack, running or not; return them by name, or raise a ProblemError."""
    listed = engine.ask("ps", "--all", "--quiet", *filters(stack, role))
    if listed.returncode:
        raise ProblemError(f"The engine at {engine.address} did not list its containers: {listed.stderr.strip()}")
    if not listed.stdout.split():
        return []
    # A container may disappear between the two calls; the others are still in the output.
    inspected = engine.ask("inspect", "--type", "container", *listed.stdout.split())
    return sorted(json.loads(inspected.stdout or "[]"), key=lambda container: container["Name"])


def untag_images(engine: Engine, stack: str) -> None:
    """Remove the tags that pin a removed stack's images: the provider leaves them, and no image could be pruned."""
    for role in PINNED_ROLES:
        engine.ask("image", "rm", f"edge-{stack}-{role}:pinned")


def is_healthy(container: dict[str, Any]) -> bool:
    """Return whether a container runs and is healthy, or is a job that succeeded."""
    state = container["State"]
    if state["Status"] == "running":
        return health(container) in {"healthy", "-"}
    restarts = container["HostConfig"]["RestartPolicy"]["Name"] not in {"", "no"}
    return state["Status"] == "exited" and state["ExitCode"] == 0 and not restarts


def health(container: dict[str, Any]) -> str:
    """Return the status of the container's health check; "-" if it has none."""
    return (container["State"].get("Health") or {}).get("Status", "-")


def table(containers: Sequence[dict[str, Any]]) -> str:
    """Format a table with one line per container."""
    rows = [("ROLE", "NAME", "STATE", "HEALTH", "PORTS", "IMAGE"), *map(_row, containers)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(container: dict[str, Any]) -> tuple[str, ...]:
    state = container["State"]
    status = state["Status"] if state["Status"] == "running" else f"{state['Status']} ({state['ExitCode']})"
    labels = container["Config"]["Labels"] or {}
    image = container["Config"]["Image"]
    short_image = image.removeprefix("sha256:")[:12] if image.startswith("sha256:") else image
    published = {f"{address}:{port}->{inside}" for inside, address, port in publications(container)}
    ports = ", ".join(sorted(published)) or "-"
    return labels.get("role", "?"), container["Name"].lstrip("/"), status, health(container), ports, short_image


def publications(container: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield each published port of a container, such as 443/tcp, with the host's address and port."""
    for inside, bindings in (container.get("NetworkSettings", {}).get("Ports") or {}).items():
        for binding in bindings or ():
            yield inside, binding.get("HostIp") or "", binding["HostPort"]


def reachable_address(listening: str) -> str:
    """Return the address at which this machine reaches what listens at another one, such as that of all interfaces."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(listening, listening)  # noqa: S104  # compared, not bound


def show_logs(engine: Engine, containers: Sequence[dict[str, Any]], *, follow: bool) -> None:
    """Print the containers' logs, each line prefixed with the container's name; with `follow`, until interrupted."""
    names = [container["Name"].lstrip("/") for container in containers]
    readers = [threading.Thread(target=_copy_log, args=(engine, name, follow), daemon=True) for name in names]
    for reader in readers:
        reader.start()
        if not follow:
            reader.join()  # one container after the other, so that logs do not interleave
    for reader in readers:
        reader.join()


def _copy_log(engine: Engine, name: str, follow: bool) -> None:  # noqa: FBT001  # a thread's target takes positions
    words = [*engine.client, "logs", *(["--follow", "--tail", "100"] if follow else []), name]
    with subprocess.Popen(  # noqa: S603  # a list of arguments, no shell
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", encoding="utf-8"
    ) as client:
        for line in client.stdout or ():
            console.put(f"{name} | {line.rstrip()}")
