"""What is asked of an engine, on invented answers; the real one is asked in tests/integration."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import docker.errors
import pytest
import requests
from docker.models.containers import Container
from docker.models.networks import Network

from open_webui_edge.engine.engine import Engine, EngineError, VolumeUse

OURS = "SHA256:ours"


def engine_with(client: MagicMock) -> Engine:
    engine = Engine("unix:///run/invented.sock")
    engine._client = client  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    return engine


def container(**state: Any) -> SimpleNamespace:
    restarts, given = state.pop("RestartCount", 0), state.pop("StartPeriod", 10)
    return SimpleNamespace(
        name="edge-unit-open-webui",
        labels={"role": "open-webui", "stack": "unit"},
        attrs={
            "RestartCount": restarts,
            "Config": {"Healthcheck": {"StartPeriod": given * 10**9}},
            "State": {"Running": True, "Restarting": False, "Status": "running", "ExitCode": 0, **state},
        },
        logs=lambda tail: b"the last line\n",  # noqa: ARG005 - the library's name
    )


def clock_of(*seconds: float) -> Callable[[], float]:
    ticks = iter([*seconds, *[seconds[-1]] * 100])
    return lambda: next(ticks)


@pytest.mark.parametrize(
    ("state", "seconds", "words"),
    [
        (
            {"Health": {"Status": "unhealthy", "Log": [{"Output": "503\n"}]}},
            61,
            "is unhealthy.\nIts last health check said: 503",
        ),
        ({"Running": False, "Status": "exited", "ExitCode": 3}, 0, "ended with exit code 3"),
        ({"Restarting": True, "RestartCount": 3, "ExitCode": 1}, 0, r"ended with exit code 1 \(restarted 3 times\)"),
        ({"Running": False, "Status": "exited", "OOMKilled": True}, 0, "reached its memory limit"),
        ({"Health": {"Status": "starting"}}, 601, "still starting after 601 seconds"),
        ({"Health": {"Status": "starting"}, "StartPeriod": 3600}, 3661, "still starting after 3661 seconds"),
    ],
    ids=["unhealthy", "exited", "crash loop", "out of memory", "slow start", "slower than it may"],
)
def test_a_sick_container_is_reported_with_its_last_words(state: dict[str, Any], seconds: float, words: str) -> None:
    client = MagicMock()
    client.containers.get.return_value = container(**state)
    with pytest.raises(EngineError, match=words) as failed:
        engine_with(client).wait_until_healthy(["0123"], report=print, clock=clock_of(0, seconds))
    assert "the last line" in str(failed.value)
    assert "make logs STACK=unit ROLE=open-webui" in str(failed.value)


def test_a_container_that_recovers_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_webui_edge.engine.engine.time.sleep", lambda _: None)
    client = MagicMock()
    client.containers.get.side_effect = [
        container(Health={"Status": "unhealthy"}),
        container(Restarting=True, RestartCount=1, Health={"Status": "unhealthy"}),
        container(Health={"Status": "starting"}),
        container(Health={"Status": "healthy"}),
    ]
    engine_with(client).wait_until_healthy(["0123"], report=print, clock=clock_of(0))
    assert client.containers.get.call_count == 4


def test_a_container_that_was_given_longer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_webui_edge.engine.engine.time.sleep", lambda _: None)
    client = MagicMock()
    client.containers.get.side_effect = [
        container(Health={"Status": "starting"}, StartPeriod=3600),
        container(Health={"Status": "healthy"}, StartPeriod=3600),
    ]
    engine_with(client).wait_until_healthy(["0123"], report=print, clock=clock_of(0, 3600))
    assert client.containers.get.call_count == 2


def test_what_is_unhealthy_begins_anew_and_nothing_else() -> None:
    sick, well, young = (container(Health={"Status": status}) for status in ("unhealthy", "healthy", "starting"))
    for each in (sick, well, young):
        each.restart = MagicMock()
    client = MagicMock()
    client.containers.get.side_effect = [sick, well, docker.errors.NotFound("gone"), young]
    engine_with(client).restart_unhealthy(["0", "1", "2", "3"])
    assert [each.restart.call_count for each in (sick, well, young)] == [1, 0, 0]


def test_a_container_that_vanished_is_said_so() -> None:
    client = MagicMock()
    client.containers.get.side_effect = docker.errors.NotFound("gone")
    with pytest.raises(EngineError, match="was removed while this update waited for it"):
        engine_with(client).wait_until_healthy(["0123"], report=print, clock=clock_of(0))


@pytest.mark.parametrize(
    ("started", "labels", "mark"),
    [
        ("0001-01-01T00:00:00Z", {}, "0123456789ab"),
        ("2026-01-02T03:04:05Z", {}, None),
        ("2026-01-02T03:04:05Z", {"remade-after": "ba9876543210"}, "ba9876543210"),
    ],
    ids=["never ran", "ran", "replaced one"],
)
def test_a_container_whose_making_was_cut_short_is_made_anew_once(
    started: str, labels: dict[str, str], mark: str | None
) -> None:
    client = MagicMock()
    client.containers.list.return_value = [
        SimpleNamespace(
            name="edge-unit-nginx", short_id="0123456789ab", labels=labels, attrs={"State": {"StartedAt": started}}
        )
    ]
    engine = engine_with(client)
    assert engine.replaces_incomplete("edge-unit-nginx") == mark
    assert engine.replaces_incomplete("edge-unit-certbot") is None


def test_an_engine_that_goes_away_during_an_update_was_asked_before() -> None:
    client = MagicMock()
    client.containers.list.side_effect = [[], docker.errors.DockerException("gone")]
    engine = engine_with(client)
    assert [engine.replaces_incomplete(name) for name in ("edge-unit-nginx", "edge-unit-open-webui")] == [None, None]


@pytest.mark.parametrize(("kind", "model"), [("container", Container), ("network", Network)])
def test_what_an_interrupted_update_left_behind_is_removed(kind: str, model: type) -> None:
    result = MagicMock(spec=model, labels={"deployment": OURS}, attrs={"Labels": {"deployment": OURS}})
    client = MagicMock()
    getattr(client, f"{kind}s").get.return_value = result
    engine_with(client).remove_leftovers(kind, "edge-unit-x", OURS)
    result.remove.assert_called_once()


def test_what_a_former_instance_left_running_is_removed_with_its_network_and_strangers_are_not() -> None:
    ours, theirs = (MagicMock(spec=Container, labels={"deployment": whose}) for whose in (OURS, "SHA256:theirs"))
    result = MagicMock(spec=Network, attrs={"Labels": {"deployment": OURS}}, containers=[ours, theirs])
    client = MagicMock()
    client.networks.get.return_value = result
    engine_with(client).remove_leftovers("network", "edge-unit-network", OURS)
    ours.remove.assert_called_once_with(force=True)
    theirs.remove.assert_not_called()
    result.remove.assert_called_once()


@pytest.mark.parametrize("kind", ["container", "network", "volume"])
@pytest.mark.parametrize("labels", [{"deployment": "SHA256:theirs"}, {}, None], ids=["theirs", "none", "null"])
def test_what_belongs_to_somebody_else_is_left_alone(kind: str, labels: dict[str, str] | None) -> None:
    model = {"container": Container, "network": Network, "volume": object}[kind]
    result = MagicMock(spec=model, labels=labels, attrs={"Labels": labels}, remove=MagicMock())
    client = MagicMock()
    getattr(client, f"{kind}s").get.return_value = result
    with pytest.raises(EngineError, match=f"The {kind} edge-unit-x exists and belongs to another deployment"):
        engine_with(client).remove_leftovers(kind, "edge-unit-x", OURS)
    result.remove.assert_not_called()


def test_a_person_who_lost_the_state_is_told_how_to_go_on_with_the_data() -> None:
    client = MagicMock()
    client.volumes.get.return_value = MagicMock(spec=object, attrs={"Labels": {"deployment": "SHA256:lost"}})
    with pytest.raises(EngineError) as refused:
        engine_with(client).remove_leftovers("volume", "edge-unit-open-webui-data", OURS)
    assert str(refused.value) == (
        "The volume edge-unit-open-webui-data exists and belongs to another deployment, or to this one before its state"
        " was lost. Choose another stack name and set data.volume: edge-unit-open-webui-data there to go on with its"
        " data; or, if it is not needed: docker volume rm edge-unit-open-webui-data"
    )


def test_a_volume_of_our_own_is_taken_over() -> None:
    result = MagicMock(spec=object, attrs={"Labels": {"deployment": OURS}}, remove=MagicMock())
    client = MagicMock()
    client.volumes.get.return_value = result
    engine_with(client).remove_leftovers("volume", "edge-unit-open-webui-data", OURS)
    result.remove.assert_not_called()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.ConnectionError("connection refused"), "does not answer; start it"),
        (docker.errors.DockerException("PermissionError(13, 'Permission denied')"), "join the group `docker`"),
        (docker.errors.APIError("no space left on device"), "refused: no space left on device"),
    ],
    ids=["port closed", "not allowed", "full disk"],
)
def test_an_engine_s_trouble_is_one_sentence(error: Exception, words: str) -> None:
    client = MagicMock()
    client.info.side_effect = error
    with pytest.raises(EngineError, match=words):
        engine_with(client).facts()


def test_a_pinned_image_that_is_gone_says_what_to_do() -> None:
    client = MagicMock()
    client.api.inspect_image.side_effect = docker.errors.ImageNotFound("gone")
    with pytest.raises(EngineError, match="pulumi up --replace"):
        engine_with(client).require_image("sha256:0123")


def user_of(volume: str, name: str, *, restart: str = "unless-stopped", stack: str | None = None) -> SimpleNamespace:
    labels = {} if stack is None else {"app": "open-webui-edge", "stack": stack}
    attrs = {
        "Mounts": [{"Name": volume}],
        "HostConfig": {"RestartPolicy": {"Name": restart}},
        "NetworkSettings": {"Ports": {}},
    }
    return SimpleNamespace(name=name, short_id="0123", labels=labels, attrs=attrs)


def test_who_else_runs_on_a_volume_that_somebody_brings_is_known_by_name() -> None:
    client = MagicMock()
    client.info.return_value = {}
    client.volumes.list.return_value = [SimpleNamespace(name="edge-unit-open-webui-data")]
    client.containers.list.return_value = [
        user_of("chat", "old", restart="always"),
        user_of("chat", "copy"),
        user_of("chat", "edge-unit-open-webui", stack="unit"),
        user_of("chat", "edge-other-open-webui", stack="other"),
        user_of("chat-of-others", "blog"),
    ]
    facts = engine_with(client).facts(volume=("chat", "unit"))
    assert facts.external_volume == VolumeUse(
        exists=True,
        users=("old", "copy", "edge-other-open-webui"),
        restarted=("old",),
        own="edge-unit-open-webui-data",
    )


def test_a_volume_that_is_not_there_is_said_to_be_missing() -> None:
    client = MagicMock()
    client.info.return_value = {}
    client.containers.list.return_value = []
    client.volumes.get.side_effect = docker.errors.NotFound("no such volume")
    assert engine_with(client).facts(volume=("chat", "unit")).external_volume == VolumeUse(exists=False)
