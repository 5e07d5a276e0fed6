"""An engine that is only just being made, on invented answers; a real one is waited for in tests/integration."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import docker.errors
import pulumi
import pulumi_tls as tls
import pytest

from open_webui_edge.components.docker import waiting
from open_webui_edge.components.docker.ownership import Ownership
from open_webui_edge.components.docker.waiting import transfer_images, wait_for_engine, wait_until_engine_answers
from open_webui_edge.engine.engine import Engine, EngineError
from open_webui_edge.engine.ssh import SshAccess
from tests.unit.graph import UNKNOWN, Graph, graph_of

HOST = "ssh://admin@192.0.2.7"
REFUSED_KEY = (
    "The fingerprint for the ED25519 key sent by the remote host is\nSHA256:Ab.\nHost key verification failed."
)


class Machine:
    """One that answers as it is told, and a clock that only advances while the program waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[str | None]) -> None:
        self.now = 0.0
        self.asked: list[str] = []
        self._answers = {name: iter(given) for name, given in answers.items()}
        monkeypatch.setattr(waiting, "port_error", lambda host, port: self._answer("port", f"{host}:{port}"))
        monkeypatch.setattr(
            waiting,
            "ask_over_ssh",
            lambda host, options, command: self._answer(
                "engine" if "docker" in command else "login", f"{' '.join(options)} {host} {command}"
            ),
        )

    def _answer(self, name: str, asked: str) -> str | None:
        self.asked.append(asked)
        return next(self._answers[name])

    def wait(self, timeout: float = 60, engine: Engine | None = None) -> list[str]:
        said: list[str] = []
        wait_until_engine_answers(
            engine or engine_at_host(), timeout, said.append, clock=lambda: self.now, pause=self._pause
        )
        return said

    def _pause(self, seconds: float) -> None:
        self.now += seconds


def engine_at_host() -> Engine:
    return Engine(HOST, ssh_options=("-F", "c"), host_key_from="this stack's state")


def always(words: str) -> list[str | None]:
    return [words] * 1000


def test_port_login_and_engine_are_waited_for_in_that_order_and_each_once_it_is_there_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(
        monkeypatch,
        port=["refused", None],
        login=["Permission denied (publickey)", REFUSED_KEY, None],
        engine=["docker: command not found", None],
    )
    assert machine.wait() == []
    version = "docker version --format '{{.Server.Version}}'"
    assert machine.asked == [
        *["192.0.2.7:22"] * 2,
        *[f"-F c {HOST} true"] * 3,
        *[f"-F c {HOST} {version}"] * 2,
    ]


@pytest.mark.parametrize(
    ("answers", "step", "reason"),
    [
        ({"port": always("Connection refused")}, "TCP port 22", "Connection refused"),
        (
            {"port": [None], "login": always("admin@192.0.2.7: Permission denied (publickey).")},
            "the SSH login",
            "admin@192.0.2.7: Permission denied (publickey).",
        ),
        (
            {"port": [None], "login": always(REFUSED_KEY)},
            "the SSH login",
            (
                "ssh://admin@192.0.2.7 has another host key than the one in this stack's state"
                " (ED25519 SHA256:Ab); if it was installed again, copy its new key"
                " (/etc/ssh/ssh_host_ed25519_key.pub), else another machine may be intercepting the connection."
            ),
        ),
        (
            {"port": [None], "login": [None], "engine": always("Is the docker daemon running?")},
            "the Docker engine",
            "Is the docker daemon running?",
        ),
    ],
    ids=["port closed", "login refused", "another host key", "no engine"],
)
def test_a_timeout_names_the_last_step_and_its_error(
    answers: dict[str, list[str | None]], step: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, **answers)
    with pytest.raises(EngineError) as late:
        machine.wait(timeout=30)
    assert str(late.value) == f"Timed out after 30 s: {step} of {HOST} not reachable ({reason})"
    assert 30 < machine.now < 34


def test_who_waits_is_told_for_what_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, port=[*["No route to host"] * 8, None], login=[None], engine=[None])
    assert machine.wait() == [f"waiting for TCP port 22 of {HOST}, for 12 s so far (No route to host)"]


def test_another_port_is_the_one_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, port=[None], login=[None], engine=[None])
    machine.wait(engine=Engine("ssh://far:2222"))
    assert machine.asked[0] == "far:2222"


class FakeEngine(Engine):
    """One with these images, name -> architecture."""

    def __init__(self, host: str, images: dict[str, str]) -> None:
        super().__init__(host)
        self.images = images
        self.loaded: list[bytes] = []
        self.client = MagicMock()
        self.client.version.return_value = {"Arch": "amd64"}
        self.client.api.inspect_image.side_effect = self._image
        self.client.images.get.side_effect = self._image
        self.client.images.load.side_effect = lambda pieces: self.loaded.append(b"".join(pieces))
        self._client = self.client

    def _image(self, name: str) -> SimpleNamespace:
        if name not in self.images:
            raise docker.errors.ImageNotFound("no such image")
        return SimpleNamespace(
            attrs={"Architecture": self.images[name], "Size": 3 << 20},
            save=lambda chunk_size, named: iter([named.encode(), b"!" * chunk_size]),
        )


def test_only_the_images_that_are_missing_are_sent() -> None:
    here = FakeEngine("unix:///here.sock", {"nginx:1": "amd64", "app:1": "amd64"})
    there = FakeEngine("unix:///there.sock", {"nginx:1": "amd64"})
    said: list[str] = []
    transfer_images(there, ["nginx:1", "app:1"], here, said.append)
    assert there.loaded == [b"app:1" + b"!" * (1 << 20)]
    assert said == [
        "sending the image app:1 to unix:///there.sock: some 3 MiB",
        "sent the image app:1 to unix:///there.sock: 1 MiB in 0 s",
    ]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (
            {"nginx:1": "amd64"},
            (
                "Neither the Docker engine at unix:///there.sock nor the one at unix:///here.sock has the image app:1;"
                " `make up` builds it."
            ),
        ),
        (
            {"nginx:1": "amd64", "app:1": "arm64"},
            (
                "The Docker engine at unix:///there.sock runs amd64, and the image app:1 at unix:///here.sock is arm64;"
                " choose a machine of the same kind, or let it pull images (images.source: pulled, images.registry)."
            ),
        ),
    ],
    ids=["missing here too", "for another kind of machine"],
)
def test_nothing_is_sent_where_one_image_cannot_be(images: dict[str, str], words: str) -> None:
    there = FakeEngine("unix:///there.sock", {})
    with pytest.raises(EngineError) as refused:
        transfer_images(there, ["nginx:1", "app:1"], FakeEngine("unix:///here.sock", images), print)
    assert str(refused.value) == words
    assert there.loaded == []


def test_who_could_not_read_an_image_is_named_and_not_who_was_to_get_it() -> None:
    here, there = FakeEngine("unix:///here.sock", {"app:1": "amd64"}), FakeEngine("unix:///there.sock", {})

    def broken(*_: object, **__: object) -> Iterator[bytes]:
        yield b"half"
        raise docker.errors.DockerException("the disk is gone")

    image = SimpleNamespace(attrs={"Architecture": "amd64", "Size": 1}, save=broken)
    here.client.images.get.side_effect = lambda _: image
    with pytest.raises(EngineError, match=r"The Docker engine at unix:///here\.sock does not answer.*the disk is gone"):
        transfer_images(there, ["app:1"], here, print)


def test_of_an_engine_that_nobody_knows_yet_nothing_is_asked() -> None:
    engine = Engine(None, known=False)
    assert not engine.known
    assert engine.replaces_incomplete("edge-unit-nginx") is None
    with pytest.raises(EngineError, match="is not known before its machine is created"):
        engine.facts()
    assert engine.bind(HOST) == HOST
    assert engine.known


class SilentEngine(Engine):
    """One that cannot be reached."""

    def __init__(self, *, known: bool) -> None:
        super().__init__(HOST, known=known)
        self.asked = 0

    def replaces_incomplete(self, name: str) -> str | None:
        """Count the attempts."""
        del name
        self.asked += 1
        raise EngineError("no answer")


def claims(engine: Engine) -> list[Any]:
    ownership = Ownership(engine, "SHA256:ours")
    args = SimpleNamespace(
        type_="docker:index/container:Container", props={"name": "n", "labels": []}, opts=pulumi.ResourceOptions()
    )
    return [ownership.claim(args) for _ in range(2)]  # pyright: ignore[reportArgumentType] - as much as is looked at


@pytest.mark.parametrize("preview", [True, False], ids=["preview", "up"])
@pytest.mark.parametrize("known", [True, False], ids=["known at once", "known later"])
def test_a_preview_of_a_machine_of_its_own_needs_none_that_runs(
    monkeypatch: pytest.MonkeyPatch, *, known: bool, preview: bool
) -> None:
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: preview)
    monkeypatch.setattr(pulumi, "ResourceHook", MagicMock())
    engine = SilentEngine(known=known)
    if preview and not known:
        assert [claimed.props["labels"] for claimed in claims(engine)] == [
            [{"label": "deployment", "value": "SHA256:ours"}]
        ] * 2
        assert engine.asked == 1
    else:
        with pytest.raises(EngineError):
            claims(engine)


def arriving(engine: Engine, *, preview: bool, address: str | None = HOST, images: bool = True) -> Graph:
    """Run a program that makes a key to log in with, and waits for its machine; no address: one yet to be made."""

    def program() -> dict[str, pulumi.Output[Any]]:
        key = tls.PrivateKey("client", algorithm="ED25519")
        host = key.id.apply(lambda _: HOST) if address is None else pulumi.Output.from_input(address)
        private = pulumi.Output.secret("PRIVATE KEY")
        access = pulumi.Output.all(host, private).apply(
            lambda known: SshAccess("unit", known[0], "ssh-ed25519 A", known[1])
        )
        source = Engine("unix:///here.sock")
        taken = ["app:1"] if images else []
        return {"address": wait_for_engine(engine, access, timeout=600, images=taken, source=source)}

    return graph_of(program, preview=preview)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What is done, in a folder of its own."""
    done: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        waiting,
        "wait_until_engine_answers",
        lambda engine, timeout, _: done.append(f"waited {timeout} s for {engine.host}"),
    )
    monkeypatch.setattr(
        waiting,
        "transfer_images",
        lambda engine, names, source, _: done.append(f"{names}: {source.host} -> {engine.host}"),
    )
    return done


def test_an_address_is_known_once_the_engine_answers_and_has_the_images(steps: list[str]) -> None:
    engine = Engine(None, known=False)
    graph = arriving(engine, preview=False, address=None)
    assert (graph.returned["address"], engine.host) == (HOST, HOST)
    assert steps == [f"waited 600 s for {HOST}", f"['app:1']: unix:///here.sock -> {HOST}"]
    assert graph.secret_outputs == frozenset()
    assert Path(".ssh/unit/id_ed25519").read_text() == "PRIVATE KEY\n"


def test_images_that_are_pulled_are_not_sent(steps: list[str]) -> None:
    arriving(Engine(None, known=False), preview=False, images=False)
    assert steps == [f"waited 600 s for {HOST}"]


def test_a_preview_waits_for_nobody(steps: list[str]) -> None:
    engine = Engine(None, known=False)
    assert arriving(engine, preview=True, address=None).returned["address"] == UNKNOWN
    assert not engine.known
    assert not Path(".ssh").exists()
    assert arriving(engine, preview=True).returned["address"] == HOST
    assert engine.known
    # What is there already is looked at with the key of the state.
    assert Path(".ssh/unit/id_ed25519").exists()
    assert steps == []


def test_a_machine_that_does_not_come_ends_the_update(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    del steps
    late = MagicMock(side_effect=EngineError("was not ready"))
    monkeypatch.setattr(waiting, "wait_until_engine_answers", late)
    with pytest.raises(pulumi.RunError, match="was not ready"):
        arriving(Engine(None, known=False), preview=False)
