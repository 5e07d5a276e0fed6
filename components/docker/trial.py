"""Another version of the application is tried before any resource changes: the program asks the engine to.

The version that runs is told to end, and is not removed. The new one then gets the data in a container of its own that
nobody can reach; what happens in there, and how it is undone, is in components/upgrade.py. Works the trial, Pulumi goes
on and replaces what it has to; fails it, the old containers are started again, as if nothing had been.
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
from dataclasses import dataclass

import docker
import docker.errors
import pulumi
from docker.models.containers import Container
from docker.types import LogConfig, Mount

from components.docker.container import (
    APP,
    LOG_DRIVER,
    LOG_OPTIONS,
    SECURITY,
    VERSION,
    labels,
    physical_name,
)
from components.docker.engine import SIGN_OF_LIFE, Engine, EngineError, has_image
from components.upgrade import LEFT, PASSED, PUT_BACK, REFUSED, WANTED

ROLE = "open-webui-trial"
_LAST_WORDS = 12
_LOG_LINES = 400
_BESIDE_THE_LIMIT = 300
"""Seconds that a trial may take for what its own limit does not count: to have the data alone, and to undo."""
_LOST = 120
"""Seconds for an engine that does not answer any more to answer again."""
_OWN_WORDS = "launch: "
_FAILED, _REFUSED = f"{_OWN_WORDS}failed: ", f"{_OWN_WORDS}refused: "
_UNDONE = f"{_OWN_WORDS}the data is as it was"


@dataclass(frozen=True)
class Wanted:
    """The version that a stack names."""

    version: str
    image: str
    """Name of its image."""
    role: str
    """Of the containers that run the application."""


@dataclass(frozen=True)
class TrialContainer:
    """What the engine knows it by."""

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Trial:
    """How the container for it is made: as the first replica, but for what lets others in."""

    memory: int
    """Limit in bytes."""
    network: str
    volumes: Mapping[str, str]
    """Name -> path of those that replicas share."""
    folder: str
    """Where its files lie."""
    files: Mapping[str, str]
    """Name -> content, readable for root alone."""
    environment_file: str
    """Which of them is JSON that says, by the key "trial", what is to be done."""
    entrypoint: Sequence[str]
    command: Sequence[str]
    hosts: Mapping[str, str]
    limit: int
    """Seconds for the new version to work."""
    downgrade_from_snapshot: bool
    """Whether a version that cannot read the database gets its snapshot instead."""
    drain: int
    """Seconds for the old one to end."""
    after: object
    """What it waits for, which is there by now."""


def once_tried(
    engine: Engine,
    wanted: Wanted,
    trial: Mapping[str, pulumi.Input[object]],
    *,
    found: pulumi.Output[str] | None,
) -> pulumi.Output[str]:
    """Return the name of the wanted version's image, once it has proved that it works with the data.

    At once where no other version was there before, and in a preview.

    Args:
        engine: runs the application.
        wanted: the version.
        trial: the fields of a `Trial`, which are only waited for if there is one.
        found: known once it is known where the engine is; None where it is known already.

    """
    if pulumi.runtime.is_dry_run():
        return pulumi.Output.from_input(wanted.image)
    change = VersionChange(engine, wanted, TrialContainer(physical_name(ROLE), labels(ROLE)), pulumi.log.info)

    async def attempt(_: object) -> str:
        try:
            if await asyncio.to_thread(change.is_wanted):
                known = await pulumi.Output.from_input(trial).future()
                if known is None:
                    # Of an update of a few resources, and those that a replica needs are neither there nor among them.
                    return wanted.image
                await asyncio.to_thread(change.make, Trial(**known))  # pyright: ignore[reportArgumentType, reportCallIssue]
        except EngineError as error:
            raise pulumi.RunError(str(error)) from None
        return wanted.image

    return pulumi.Output.from_input(found).apply(attempt)


class _NotPutBackError(EngineError):
    """A version failed, and the data is not as it was."""


class VersionChange:
    """The way of a stack's application from one version to another."""

    def __init__(
        self,
        engine: Engine,
        wanted: Wanted,
        container: TrialContainer,
        report: Callable[[str], None],
    ) -> None:
        """Ask nothing yet.

        Args:
            engine: runs the application.
            wanted: the version.
            container: that it is tried in.
            report: told what happens.

        """
        self._engine, self._wanted, self._report = engine, wanted, report
        self._labels, self._name = container.labels, container.name
        self._before: str | None = None

    def is_wanted(self) -> bool:
        """Whether another version than the wanted one may have worked on the data last.

        Raises:
            EngineError: the engine does not answer.

        """
        with self._engine.connection() as client:
            self._clear_away(client)
            replicas = self._replicas(client)
            if not replicas:
                # Of a stack that was here before, the application's image is.
                return has_image(client, f"{self._name.removesuffix('-trial')}:pinned")
            versions = {_version(replica, self._wanted) for replica in replicas}
            self._before = next(iter(sorted(versions - {self._wanted.version, ""})), None)
            return versions != {self._wanted.version}

    def make(self, trial: Trial) -> None:
        """Try the version, and return when it has proved itself.

        Raises:
            EngineError: it has not, or must not be tried. What ran before runs again.

        """
        with self._engine.connection() as client:
            self._have_image(client)
            code, words = self._run(client, trial, "look", limit=_BESIDE_THE_LIMIT)
        if code == PASSED:
            return
        if code == REFUSED:
            raise EngineError(f"open_webui.version: {_told(words, _REFUSED)}. Nothing was touched.")
        if code != WANTED:
            raise EngineError(
                f"Whether Open WebUI {self._wanted.version} can have the data could not be found out (exit code"
                f" {code}); nothing was touched. Its last words:\n{_last_words(words)}"
            )
        self._try(trial)

    def _try(self, trial: Trial) -> None:
        before = self._before or "what ran before"
        with self._engine.connection() as client:
            running = [replica for replica in self._replicas(client) if replica.status == "running"]
            self._report(
                f"Open WebUI {self._wanted.version} takes the place of {before}: {len(running)} replica(s) end once"
                f" their answers are complete, within {trial.drain} s; visitors then see a page that comes back"
            )
            began = time.monotonic()
            _stop(client, running, trial.drain)
            self._report(f"they have ended, after {time.monotonic() - began:.0f} s")
        try:
            self._see(trial, before)
        except EngineError as why:
            if isinstance(why, _NotPutBackError):
                # One from before there was a journal would work on what is half migrated.
                running = [replica for replica in running if VERSION in replica.labels]
            again = self._start_again(running, before)
            raise EngineError(f"{why}\n{again}") from None

    def _see(self, trial: Trial, before: str) -> None:
        began = time.monotonic()
        with self._engine.connection() as client:
            try:
                code, words = self._run(client, trial, "try", limit=trial.limit + _BESIDE_THE_LIMIT)
            except (docker.errors.DockerException, OSError, EngineError) as lost:
                raise _NotPutBackError(
                    f"open_webui.version: the engine was lost while {self._wanted.version} was tried: {lost}"
                ) from lost
            if code == PASSED:
                took = time.monotonic() - began
                self._report(f"Open WebUI {self._wanted.version} works with the data, after {took:.0f} s")
                return
            restored = code != LEFT
            if code not in {PUT_BACK, REFUSED, LEFT}:
                back, said = self._run(client, trial, "restore", limit=_BESIDE_THE_LIMIT)
                restored = back == PASSED
                words += said
        why = _told(words, _FAILED) or _told(words, _REFUSED) or f"its container ended with exit code {code}"
        state = f"The data is as {before} left it." if restored else "The data could NOT be put back as it was."
        raise (EngineError if restored else _NotPutBackError)(
            f"open_webui.version: {self._wanted.version} did not come up: {why}. {state} Set the version back, or mend"
            f" the cause and update again.\nIts last words:\n{_last_words(words)}"
        )

    def _start_again(self, replicas: Sequence[Container], before: str) -> str:
        if not replicas:
            return "No container of an earlier version was there to be started again; set that version and update."
        try:
            with self._engine.connection():
                for replica in replicas:
                    replica.start()
            self._report(f"{before} starts again")
            self._engine.wait_until_healthy([str(replica.id) for replica in replicas], self._report)
        except EngineError as why:
            return f"{before} was started again, and is not well: {why}"
        return f"{before} runs again."

    def _replicas(self, client: docker.DockerClient) -> list[Container]:
        wanted = [f"app={APP}", f"stack={self._labels['stack']}", f"role={self._wanted.role}"]
        found = client.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)
        return sorted(found, key=lambda replica: str(replica.name))

    def _clear_away(self, client: docker.DockerClient) -> None:
        """Remove what an interrupted update left of a trial; one that still goes on undoes what it did before."""
        try:
            left = client.containers.get(self._name)
        except docker.errors.NotFound:
            return
        if any(left.labels.get(key) != value for key, value in self._labels.items()):
            raise EngineError(f"The container {self._name} belongs to somebody else, and its name is needed.")
        _stop(client, [left], _BESIDE_THE_LIMIT)
        left.remove(force=True, v=True)

    def _have_image(self, client: docker.DockerClient) -> None:
        if has_image(client, self._wanted.image):
            return
        self._report(f"pulling {self._wanted.image}")
        # As a stream: no single answer then takes longer than a question may.
        for event in client.api.pull(self._wanted.image, stream=True, decode=True):
            if "error" in event:
                raise EngineError(f"{self._wanted.image} cannot be pulled: {event['error']}. Nothing was touched.")

    def _run(self, client: docker.DockerClient, trial: Trial, task: str, *, limit: int) -> tuple[int, list[str]]:
        """Run the container for one task, and return its exit code and what it said."""
        self._clear_away(client)
        labels = {**self._labels, VERSION: self._wanted.version}
        container = _create(client, self._wanted.image, self._name, labels, trial)
        try:
            given = json.loads(trial.files[trial.environment_file])
            given["trial"] = {
                "task": task,
                "before": self._before,
                "limit": trial.limit,
                "downgrade_from_snapshot": trial.downgrade_from_snapshot,
            }
            files = {**trial.files, trial.environment_file: json.dumps(given)}
            container.put_archive(trial.folder, _archive(files))
            container.start()
            code = self._await_end(container, limit)
            return code, container.logs(tail=_LOG_LINES).decode(errors="replace").splitlines()
        finally:
            container.remove(force=True, v=True)

    def _await_end(self, container: Container, limit: int) -> int:
        began = reported = answered = time.monotonic()
        last = ""
        while True:
            try:
                container.reload()
                answered = time.monotonic()
            except (docker.errors.DockerException, OSError):
                if time.monotonic() - answered > _LOST:
                    raise
            else:
                if container.status in {"exited", "dead"}:
                    return int(container.attrs["State"]["ExitCode"])
                if time.monotonic() - began > limit:
                    container.kill()
                if time.monotonic() - reported > SIGN_OF_LIFE:
                    reported = time.monotonic()
                    said = container.logs(tail=_LOG_LINES).decode(errors="replace").splitlines()
                    last = next((line for line in reversed(said) if line.startswith(_OWN_WORDS)), last)
                    doing = last.removeprefix(_OWN_WORDS) or "starting"
                    self._report(
                        f"trying Open WebUI {self._wanted.version}, for {reported - began:.0f} s so far: {doing}"
                    )
            time.sleep(0.5)


def _version(replica: Container, wanted: Wanted) -> str:
    """Return what a replica runs; "" where that cannot be known."""
    if VERSION in replica.labels:
        return replica.labels[VERSION]
    # Made before there was such a label: its image still has its names.
    try:
        names = replica.image.tags if replica.image is not None else []
    except docker.errors.ImageNotFound:
        return ""
    if wanted.image in names:
        return wanted.version
    found = [match[1] for name in names if (match := re.search(r":v?(\d+\.\d+\.\d+)(?:-|$)", name))]
    return found[0] if found else ""


def _stop(client: docker.DockerClient, containers: Sequence[Container], seconds: int) -> None:
    """Tell all to end at once, and return when they have."""
    if containers:
        with ThreadPoolExecutor(len(containers)) as pool:
            ended = [pool.submit(client.api.stop, str(one.id), seconds) for one in containers]
        for one in ended:
            one.result()


def _create(client: docker.DockerClient, image: str, name: str, labels: Mapping[str, str], trial: Trial) -> Container:
    return client.containers.create(
        image,
        name=name,
        entrypoint=list(trial.entrypoint),
        command=list(trial.command),
        labels=dict(labels),
        mem_limit=trial.memory,
        memswap_limit=trial.memory,
        cap_drop=["ALL"],
        security_opt=SECURITY,
        log_config=LogConfig(type=LOG_DRIVER, config=LOG_OPTIONS),
        mounts=[
            *(Mount(target=path, source=volume, type="volume") for volume, path in trial.volumes.items()),
            # Without a name it goes with the container.
            Mount(target=trial.folder, source=None, type="volume"),
        ],
        network=trial.network,
        extra_hosts=dict(trial.hosts),
        healthcheck={"test": ["NONE"]},
        init=True,
    )


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


def _told(lines: Sequence[str], what: str) -> str:
    return next((line.removeprefix(what) for line in reversed(lines) if line.startswith(what)), "")


def _last_words(lines: Sequence[str]) -> str:
    """Return what was said last, but for what is in the message already."""
    said = [line for line in lines if line.strip() and not line.startswith((_FAILED, _REFUSED, _UNDONE))]
    return "\n".join(said[-_LAST_WORDS:]) or "none"
