"""How the program tries another version, on an invented engine; the real one is asked in tests/integration."""

import io
import json
import tarfile
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import docker.errors
import pytest

from open_webui_edge.components.docker.upgrade_trial import Release, Trial, VersionChange
from open_webui_edge.engine.engine import Engine, EngineError
from open_webui_edge.runtime.open_webui.upgrade import OK, REFUSED, ROLLBACK_FAILED, ROLLED_BACK, UPGRADE_NEEDED

NAME, LABELS = "edge-unit-open-webui-trial", {"app": "open-webui-edge", "stack": "unit", "role": "open-webui-trial"}
IMAGE = "ghcr.io/open-webui/open-webui:v0.12.4"
SECRET = "MARK-a-secret"
CRASH = [
    "launch: copying the data of 0.11.4",
    "Traceback",
    "Boom",
    "launch: failed: the application ended",
    "launch: the data is as it was before 0.12.4",
]


class InventedEngine:
    """An engine with replicas, whose containers on trial end as they are told to."""

    def __init__(self, replicas: Sequence[SimpleNamespace], ends: Sequence[tuple[int, list[str]]] = ()) -> None:
        self.happened: list[str] = []
        self._ends = list(ends)
        self.client = MagicMock()
        self.client.containers.list.return_value = list(replicas)
        self.client.containers.get.side_effect = docker.errors.NotFound("no such container")
        self.client.containers.create.side_effect = self._create
        self.client.api.stop.side_effect = lambda identity, timeout: self.happened.append(f"stop {identity} {timeout}")
        for replica in replicas:
            replica.start = lambda identity=replica.id: self.happened.append(f"start {identity}")
        self.given: list[dict[str, Any]] = []

    def _create(self, image: str, **options: Any) -> MagicMock:
        code, said = self._ends.pop(0)
        container = MagicMock(status="exited", attrs={"State": {"ExitCode": code}})
        container.logs.return_value = "\n".join(said).encode()
        container.put_archive.side_effect = lambda _, archive: self._take(archive)
        self.options = {"image": image, **options}
        return container

    def _take(self, archive: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            assert all(entry.mode == (0o700 if entry.isdir() else 0o600) for entry in files)
            file = files.extractfile("environment.json")
            assert file is not None
            self.given.append(json.load(file))
            self.happened.append(self.given[-1]["trial"]["task"])

    def change(self) -> VersionChange:
        engine = Engine("unix:///run/invented.sock")
        engine._client = self.client  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        engine.wait_until_healthy = lambda identities, *_: self.happened.append(f"healthy {' '.join(identities)}")  # pyright: ignore[reportAttributeAccessIssue]
        return VersionChange(engine, Release("0.12.4", IMAGE, "open-webui"), NAME, LABELS, print)


def replica(number: int, version: str | None, names: Sequence[str] = (), status: str = "running") -> SimpleNamespace:
    labels = {} if version is None else {"version": version}
    return SimpleNamespace(
        id=f"id-{number}",
        name=f"edge-unit-open-webui-{number}",
        labels=labels,
        image=SimpleNamespace(tags=list(names)),
        status=status,
    )


TRIAL = Trial(
    memory=1 << 30,
    network="edge-unit-network",
    data="edge-unit-open-webui-data",
    files={"environment.json": json.dumps({"environment": {"KEY": SECRET}}), "inside/sitecustomize.py": ""},
    environment_file="environment.json",
    entrypoint=["python3"],
    command=["bash", "start.sh"],
    hosts={},
    limit=60,
    downgrade_from_snapshot=False,
    drain=40,
    after=None,
)


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        ([replica(1, "0.12.4"), replica(2, "0.12.4")], False),
        ([replica(1, "0.11.4"), replica(2, "0.11.4")], True),
        ([replica(1, "0.12.4"), replica(2, "0.11.4")], True),
        ([replica(1, None, [IMAGE, "edge-unit-open-webui:pinned"])], False),
        ([replica(1, None, ["ghcr.io/open-webui/open-webui:v0.11.4"])], True),
        ([replica(1, None, [])], True),
    ],
    ids=[
        "the same",
        "another",
        "half of them",
        "made before: the same",
        "made before: another",
        "made before: unknown",
    ],
)
def test_another_version_is_known_by_what_runs(replicas: list[SimpleNamespace], expected: bool) -> None:  # noqa: FBT001 - a case
    assert InventedEngine(replicas).change().needs_upgrade() is expected


@pytest.mark.parametrize("was_here", [True, False])
def test_where_nothing_runs_the_volume_is_asked_if_the_stack_was_here_before(was_here: bool) -> None:  # noqa: FBT001 - a case
    engine = InventedEngine([])
    if not was_here:
        engine.client.api.inspect_image.side_effect = docker.errors.ImageNotFound("none")
    assert engine.change().needs_upgrade() is was_here
    engine.client.api.inspect_image.assert_called_once_with("edge-unit-open-webui:pinned")


def tried(engine: InventedEngine) -> None:
    change = engine.change()
    assert change.needs_upgrade()
    change.run_trial(TRIAL)


def test_a_version_that_works_is_tried_once_the_old_one_has_ended() -> None:
    engine = InventedEngine([replica(1, "0.11.4"), replica(2, "0.11.4")], [(UPGRADE_NEEDED, []), (OK, [])])
    tried(engine)
    assert engine.happened[0] == "look"
    assert sorted(engine.happened[1:3]) == ["stop id-1 40", "stop id-2 40"]
    assert engine.happened[3:] == ["try"]
    assert [given["trial"]["before"] for given in engine.given] == ["0.11.4", "0.11.4"]
    # As every container of this program, and not by the name that the proxy sends to.
    assert engine.options["cap_drop"] == ["ALL"]
    assert engine.options["security_opt"] == ["no-new-privileges:true"]
    assert engine.options["network"] == "edge-unit-network"
    assert "networking_config" not in engine.options
    assert SECRET not in repr(engine.options)


def test_data_that_needs_no_trial_stops_nothing() -> None:
    engine = InventedEngine([replica(1, "0.11.4")], [(OK, [])])
    tried(engine)
    assert engine.happened == ["look"]


def test_what_keeps_a_version_from_being_asked_is_told_in_its_own_words() -> None:
    engine = InventedEngine([replica(1, "0.11.4")], [(1, ["launch: DATABASE_URL: nothing accepts connections"])])
    with pytest.raises(EngineError) as failed:
        tried(engine)
    assert str(failed.value) == (
        "Checking whether Open WebUI 0.12.4 can use the data failed (exit code 1); nothing was touched. Its log ends"
        " with:\nlaunch: DATABASE_URL: nothing accepts connections"
    )
    assert engine.happened == ["look"]


def test_a_version_that_cannot_have_the_data_stops_nothing() -> None:
    engine = InventedEngine([replica(1, "0.13.0")], [(REFUSED, ["launch: refused: 0.12.4 cannot read this database"])])
    with pytest.raises(EngineError) as refused:
        tried(engine)
    assert str(refused.value) == "open_webui.version: 0.12.4 cannot read this database. Nothing was touched."
    assert engine.happened == ["look"]


def test_a_version_that_fails_gives_way_to_the_old_one() -> None:
    engine = InventedEngine([replica(1, "0.11.4"), replica(2, "0.11.4")], [(UPGRADE_NEEDED, []), (ROLLED_BACK, CRASH)])
    with pytest.raises(EngineError) as failed:
        tried(engine)
    assert engine.happened[3:] == ["try", "start id-1", "start id-2", "healthy id-1 id-2"]
    assert str(failed.value) == (
        "open_webui.version: 0.12.4 did not become ready: the application ended. The data was rolled back to 0.11.4."
        " Set the previous version, or fix the cause and update again.\n"
        "Its log ends with:\nlaunch: copying the data of 0.11.4\nTraceback\nBoom\n0.11.4 runs again."
    )


def test_what_a_killed_trial_has_changed_is_undone_before_the_old_one_starts() -> None:
    engine = InventedEngine([replica(1, "0.11.4")], [(UPGRADE_NEEDED, []), (137, ["Boom"]), (OK, [])])
    with pytest.raises(
        EngineError, match=r"its container ended with exit code 137\. The data was rolled back to 0\.11\.4"
    ):
        tried(engine)
    assert engine.happened == ["look", "stop id-1 40", "try", "restore", "start id-1", "healthy id-1"]


def test_what_could_not_be_undone_is_left_to_those_that_know_how_to_try_again() -> None:
    replicas = [replica(1, "0.11.4"), replica(2, None, ["ghcr.io/open-webui/open-webui:v0.11.4"])]
    engine = InventedEngine(replicas, [(UPGRADE_NEEDED, []), (137, []), (1, ["no room"])])
    with pytest.raises(EngineError, match="The data was NOT rolled back"):
        tried(engine)
    # The other one's launcher knows no journal, and would work on what is half migrated.
    assert engine.happened[-2:] == ["start id-1", "healthy id-1"]


def test_data_that_stays_changed_for_want_of_a_snapshot_is_not_called_what_it_was() -> None:
    engine = InventedEngine([replica(1, "0.11.4")], [(UPGRADE_NEEDED, []), (ROLLBACK_FAILED, CRASH)])
    with pytest.raises(EngineError, match="The data was NOT rolled back"):
        tried(engine)
    assert engine.happened[-2:] == ["start id-1", "healthy id-1"]


def test_an_engine_that_was_lost_in_the_middle_starts_nobody_who_knows_no_journal() -> None:
    replicas = [replica(1, "0.11.4"), replica(2, None, ["ghcr.io/open-webui/open-webui:v0.11.4"])]
    engine = InventedEngine(replicas, [(UPGRADE_NEEDED, [])])
    look = engine.client.containers.create.side_effect
    engine.client.containers.create.side_effect = lambda *words, **options: (
        look(*words, **options) if not engine.given else _lost()
    )
    with pytest.raises(EngineError, match=r"the connection to the engine was lost during the trial of 0\.12\.4"):
        tried(engine)
    assert "start id-2" not in engine.happened


def _lost() -> None:
    raise docker.errors.DockerException("connection reset")


def test_only_what_ran_is_started_again() -> None:
    engine = InventedEngine([replica(1, "0.11.4", status="exited")], [(UPGRADE_NEEDED, []), (ROLLED_BACK, CRASH)])
    with pytest.raises(EngineError, match="There is no container of an earlier version to start again"):
        tried(engine)
    assert engine.happened == ["look", "try"]


def test_a_container_of_somebody_else_s_is_left_alone() -> None:
    engine = InventedEngine([replica(1, "0.11.4")])
    engine.client.containers.get.side_effect = None
    engine.client.containers.get.return_value = SimpleNamespace(labels={"stack": "another"})
    with pytest.raises(EngineError, match="does not belong to this stack"):
        engine.change().needs_upgrade()
