"""Tries another release of the application on the data before Pulumi changes any resource.

The running replicas are stopped gracefully, but not removed. A trial container without published ports then runs the
new release on the data: runtime/open_webui/upgrade.py takes the snapshot, migrates and rolls back. After a successful
trial Pulumi goes on with the update; after a failed one the old containers start again.
"""

# The engine's answers are JSON, and the package `docker` says nothing of their types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
import io
import json
import re
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import docker
import docker.errors
import pulumi
from docker.models.containers import Container
from docker.types import LogConfig, Mount

from open_webui_edge.components.docker.container import (
    APP,
    LOG_DRIVER,
    LOG_OPTIONS,
    SECURITY,
    VERSION,
    labels,
    physical_name,
)
from open_webui_edge.components.docker.waiting import engine_errors
from open_webui_edge.engine.engine import PROGRESS_INTERVAL, Engine, EngineError, has_image
from open_webui_edge.runtime.contract import CONFIG_DIR, DATA_DIR, TRIAL_ROLE
from open_webui_edge.runtime.open_webui.upgrade import OK, REFUSED, ROLLBACK_FAILED, ROLLED_BACK, UPGRADE_NEEDED

_LOG_TAIL = 12
_LOG_LINES = 400
_TRIAL_OVERHEAD = 300
"""Seconds that a trial may take beside its own limit: to acquire the exclusive lock, and to roll back."""
_LOST_ENGINE_TIMEOUT = 120
"""Seconds for a lost engine to answer again."""
_LAUNCHER_PREFIX = "launch: "
_FAILED, _REFUSED = f"{_LAUNCHER_PREFIX}failed: ", f"{_LAUNCHER_PREFIX}refused: "
_UNDONE = f"{_LAUNCHER_PREFIX}the data is as it was"


class Release(NamedTuple):
    """A release of Open WebUI, as the settings name it."""

    version: str
    image: str
    """Name of its image."""
    role: str
    """Role of the containers that run the application."""


class Trial(NamedTuple):
    """The trial container: like the first replica, but without published ports and aliases."""

    memory: int
    """Limit in bytes."""
    network: str
    data: str
    """Name of the volume that all replicas share."""
    files: Mapping[str, str]
    """Name in the configuration volume -> content, readable for root alone."""
    environment_file: str
    """Name of the JSON file whose key "trial" states the task."""
    entrypoint: Sequence[str]
    command: Sequence[str]
    hosts: Mapping[str, str]
    limit: int
    """Seconds for the new release to become ready."""
    downgrade_from_snapshot: bool
    """A release that cannot read the database gets its snapshot instead."""
    drain: int
    """Seconds for the old replicas to end."""
    after: object
    """Dependencies, which are resolved by now."""


def after_trial(
    engine: Engine,
    release: Release,
    trial: Mapping[str, pulumi.Input[object]],
    *,
    engine_address: pulumi.Output[str] | None,
) -> pulumi.Output[str]:
    """Return the name of the release's image, once a trial has proved that the release works with the data.

    No trial is needed in a preview, or if no other release used the data. The outputs in `trial`, the fields of a
    `Trial`, are awaited only if one is needed. `engine_address` is None if the engine's address is known already.
    """
    if pulumi.runtime.is_dry_run():
        return pulumi.Output.from_input(release.image)
    change = VersionChange(engine, release, physical_name(TRIAL_ROLE), labels(TRIAL_ROLE), pulumi.log.info)

    async def attempt(_: object) -> str:
        with engine_errors():
            if await asyncio.to_thread(change.needs_upgrade):
                fields = await pulumi.Output.from_input(trial).future()
                # None in a targeted update (--target) without the resources that a replica needs.
                if fields is not None:
                    await asyncio.to_thread(change.run_trial, Trial(**fields))  # pyright: ignore[reportArgumentType, reportCallIssue]
        return release.image

    return pulumi.Output.from_input(engine_address).apply(attempt)


class _RollbackFailedError(EngineError):
    """A release failed, and so did the rollback of the data."""


class VersionChange:
    """A change of the application's release on one engine."""

    def __init__(
        self, engine: Engine, release: Release, name: str, labels: Mapping[str, str], report: Callable[[str], None]
    ) -> None:
        """Store the arguments, which include the trial container's name and labels; the engine is not asked yet."""
        self._engine, self._release, self._report = engine, release, report
        self._name, self._labels = name, labels
        self._before: str | None = None

    def needs_upgrade(self) -> bool:
        """Whether another release may have used the data last.

        Raises:
            EngineError: the engine does not answer.

        """
        with self._engine.connection() as client:
            self._remove_leftovers(client)
            replicas = self._replicas(client)
            if not replicas:
                # Without replicas, the pinned image shows that the stack was here before.
                return has_image(client, f"{self._name.removesuffix('-trial')}:pinned")
            versions = {_version(replica, self._release) for replica in replicas}
            self._before = next(iter(sorted(versions - {self._release.version, ""})), None)
            return versions != {self._release.version}

    def run_trial(self, trial: Trial) -> None:
        """Try the release, and return when it works.

        Raises:
            EngineError: it failed, or must not be tried; the previous release runs again.

        """
        with self._engine.connection() as client:
            self._pull_image(client)
            code, log = self._run(client, trial, "look", limit=_TRIAL_OVERHEAD)
        if code == OK:
            return
        if code == REFUSED:
            raise EngineError(f"open_webui.version: {_reason(log, _REFUSED)}. Nothing was touched.")
        if code != UPGRADE_NEEDED:
            raise EngineError(
                f"Checking whether Open WebUI {self._release.version} can use the data failed (exit code {code});"
                f" nothing was touched. Its log ends with:\n{_log_tail(log)}"
            )
        self._replace_running(trial)

    def _replace_running(self, trial: Trial) -> None:
        before = self._before or "the previous release"
        with self._engine.connection() as client:
            running = [replica for replica in self._replicas(client) if replica.status == "running"]
            self._report(
                f"Open WebUI {self._release.version} replaces {before}: {len(running)} replica(s) end once their"
                f" answers are complete, within {trial.drain} s; until the upgrade is done visitors see a page that"
                " reloads"
            )
            began = time.monotonic()
            _stop(client, running, trial.drain)
            self._report(f"the replicas ended after {time.monotonic() - began:.0f} s")
        try:
            self._migrate(trial, before)
        except EngineError as why:
            if isinstance(why, _RollbackFailedError):
                # A replica without the version label predates the journal: it would start on half-migrated data.
                running = [replica for replica in running if VERSION in replica.labels]
            raise EngineError(f"{why}\n{self._start_again(running, before)}") from None

    def _migrate(self, trial: Trial, before: str) -> None:
        began = time.monotonic()
        with self._engine.connection() as client:
            try:
                code, log = self._run(client, trial, "try", limit=trial.limit + _TRIAL_OVERHEAD)
            except (docker.errors.DockerException, OSError, EngineError) as lost:
                raise _RollbackFailedError(
                    "open_webui.version: the connection to the engine was lost during the trial of"
                    f" {self._release.version}: {lost}"
                ) from lost
            if code == OK:
                took = time.monotonic() - began
                self._report(f"Open WebUI {self._release.version} works with the data, after {took:.0f} s")
                return
            restored = code != ROLLBACK_FAILED
            if code not in {ROLLED_BACK, REFUSED, ROLLBACK_FAILED}:
                rollback_code, rollback_log = self._run(client, trial, "restore", limit=_TRIAL_OVERHEAD)
                restored = rollback_code == OK
                log += rollback_log
        reason = _reason(log, _FAILED) or _reason(log, _REFUSED) or f"its container ended with exit code {code}"
        state = f"The data was rolled back to {before}." if restored else "The data was NOT rolled back."
        raise (EngineError if restored else _RollbackFailedError)(
            f"open_webui.version: {self._release.version} did not become ready: {reason}. {state} Set the previous"
            f" version, or fix the cause and update again.\nIts log ends with:\n{_log_tail(log)}"
        )

    def _start_again(self, replicas: Sequence[Container], before: str) -> str:
        if not replicas:
            return "There is no container of an earlier version to start again; set that version and update."
        try:
            with self._engine.connection():
                for replica in replicas:
                    replica.start()
            self._report(f"{before} starts again")
            self._engine.wait_until_healthy([str(replica.id) for replica in replicas], self._report)
        except EngineError as why:
            return f"{before} was started again, but is not healthy: {why}"
        return f"{before} runs again."

    def _replicas(self, client: docker.DockerClient) -> list[Container]:
        selector = [f"app={APP}", f"stack={self._labels['stack']}", f"role={self._release.role}"]
        replicas = client.containers.list(all=True, filters={"label": selector}, ignore_removed=True)
        return sorted(replicas, key=lambda replica: str(replica.name))

    def _remove_leftovers(self, client: docker.DockerClient) -> None:
        """Remove the trial container of an interrupted update; one that still runs rolls back before it stops."""
        try:
            leftover = client.containers.get(self._name)
        except docker.errors.NotFound:
            return
        if any(leftover.labels.get(key) != value for key, value in self._labels.items()):
            raise EngineError(
                f"The container {self._name} does not belong to this stack, which needs its name; remove or rename it:"
                f" docker rm {self._name}"
            )
        _stop(client, [leftover], _TRIAL_OVERHEAD)
        leftover.remove(force=True, v=True)

    def _pull_image(self, client: docker.DockerClient) -> None:
        if has_image(client, self._release.image):
            return
        self._report(f"pulling {self._release.image}")
        # As a stream, so that no single response exceeds the client's time-out.
        for event in client.api.pull(self._release.image, stream=True, decode=True):
            if "error" in event:
                raise EngineError(f"{self._release.image} cannot be pulled: {event['error']}. Nothing was touched.")

    def _run(self, client: docker.DockerClient, trial: Trial, task: str, *, limit: int) -> tuple[int, list[str]]:
        """Run the trial container for one task, and return its exit code and its log."""
        self._remove_leftovers(client)
        container = self._create(client, trial)
        try:
            settings = json.loads(trial.files[trial.environment_file])
            settings["trial"] = {
                "task": task,
                "before": self._before,
                "limit": trial.limit,
                "downgrade_from_snapshot": trial.downgrade_from_snapshot,
            }
            files = {**trial.files, trial.environment_file: json.dumps(settings)}
            container.put_archive(CONFIG_DIR, _archive(files))
            container.start()
            return self._await_end(container, limit), _log_of(container)
        finally:
            container.remove(force=True, v=True)

    def _create(self, client: docker.DockerClient, trial: Trial) -> Container:
        return client.containers.create(
            self._release.image,
            name=self._name,
            entrypoint=list(trial.entrypoint),
            command=list(trial.command),
            labels={**self._labels, VERSION: self._release.version},
            mem_limit=trial.memory,
            memswap_limit=trial.memory,
            cap_drop=["ALL"],
            security_opt=SECURITY,
            log_config=LogConfig(type=LOG_DRIVER, config=LOG_OPTIONS),
            mounts=[
                Mount(target=DATA_DIR, source=trial.data, type="volume"),
                # An anonymous volume is removed with the container.
                Mount(target=CONFIG_DIR, source=None, type="volume"),
            ],
            network=trial.network,
            extra_hosts=dict(trial.hosts),
            healthcheck={"test": ["NONE"]},
            init=True,
        )

    def _await_end(self, container: Container, limit: int) -> int:
        began = reported = answered = time.monotonic()
        doing = "starting"
        while True:
            try:
                container.reload()
                answered = time.monotonic()
            except (docker.errors.DockerException, OSError):
                if time.monotonic() - answered > _LOST_ENGINE_TIMEOUT:
                    raise
            else:
                if container.status in {"exited", "dead"}:
                    return int(container.attrs["State"]["ExitCode"])
                if time.monotonic() - began > limit:
                    container.kill()
                if time.monotonic() - reported > PROGRESS_INTERVAL:
                    reported = time.monotonic()
                    doing = _reason(_log_of(container), _LAUNCHER_PREFIX) or doing
                    self._report(
                        f"trying Open WebUI {self._release.version}, for {reported - began:.0f} s so far: {doing}"
                    )
            time.sleep(0.5)


def _version(replica: Container, release: Release) -> str:
    """Return the release that a replica runs; "" if it is unknown."""
    if VERSION in replica.labels:
        return replica.labels[VERSION]
    # Created before the label existed: its image still has its tags.
    try:
        tags = replica.image.tags if replica.image is not None else []
    except docker.errors.ImageNotFound:
        return ""
    if release.image in tags:
        return release.version
    matches = filter(None, (re.search(r":v?(\d+\.\d+\.\d+)(?:-|$)", tag) for tag in tags))
    return next((match[1] for match in matches), "")


def _stop(client: docker.DockerClient, containers: Sequence[Container], seconds: int) -> None:
    """Stop all containers at once, and return when they have ended."""
    if containers:
        with ThreadPoolExecutor(len(containers)) as pool:
            ended = [pool.submit(client.api.stop, str(one.id), seconds) for one in containers]
        for one in ended:
            one.result()


def _archive(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        folders = sorted({name.rpartition("/")[0] for name in files} - {""})
        for name in folders:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(folder)
        for name, text in files.items():
            content = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _log_of(container: Container) -> list[str]:
    return container.logs(tail=_LOG_LINES).decode(errors="replace").splitlines()


def _reason(log: Sequence[str], prefix: str) -> str:
    """Return the rest of the last line that starts with the prefix; "" without one."""
    return next((line.removeprefix(prefix) for line in reversed(log) if line.startswith(prefix)), "")


def _log_tail(log: Sequence[str]) -> str:
    """Return the last lines of a log, without those that the message quotes already."""
    lines = [line for line in log if line.strip() and not line.startswith((_FAILED, _REFUSED, _UNDONE))]
    return "\n".join(lines[-_LOG_TAIL:]) or "(empty)"
