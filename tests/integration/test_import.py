"""What `docker run` started becomes a stack: its people stay signed in, and its volume stays whole."""

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import httpx
import pytest
from docker.models.containers import Container

from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient
from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.bootstrap.engine import resolve
from open_webui_edge.cli.importing import command
from open_webui_edge.cli.importing.engine_facts import DockerFacts, ExistingContainer
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from tests.support.stack import NO_CHANGE, Ended, StackUnderTest, Workshop, free_port

IMAGE = images.open_webui(images.OPEN_WEBUI_VERSION).reference(ImageSource.BUILT, None)
OLD = "it-import-old"
VOLUME = "it-import-data"
PASSWORDS = {"owner@example.com": "MARK1d5e owner's", "guest@example.com": "MARK8c2a guest's"}


@dataclass(frozen=True)
class OldDeployment:
    """What a user has run so far."""

    container: Container
    port: int
    token: str
    """Of the session of its owner."""
    chat: str

    def run_line(self) -> str:
        """The line that started it."""
        return (
            f"docker run -d -p 127.0.0.1:{self.port}:8080 \\\n  -v {VOLUME}:/app/backend/data --name {OLD} \\\n"
            f"  -e WEBUI_NAME='Our chat' -e ENABLE_OLLAMA_API=false -e SOME_API_KEY=MARK4e7c \\\n  {IMAGE}\n"
        )


@pytest.fixture
def old(engine: docker.DockerClient) -> Iterator[OldDeployment]:
    """Open WebUI with an owner, a guest and a chat, its key in a file of the container."""
    port = free_port()
    _forget(engine)
    try:
        container = _started(engine, port)
        with OpenWebUIClient(f"http://127.0.0.1:{port}") as owner:
            wait_until(owner.ready, what="the old deployment", deadline=300, ignoring=(httpx.HTTPError, ValueError))
            token = owner.sign_up("owner@example.com", PASSWORDS["owner@example.com"])
            guest = {"name": "Guest", "email": "guest@example.com", "password": PASSWORDS["guest@example.com"]}
            owner.request("POST", "/api/v1/auths/add", {**guest, "role": "user"})
            yield OldDeployment(container, port, token, owner.create_chat("before the move"))
    finally:
        _forget(engine)


def _started(engine: docker.DockerClient, port: int) -> Container:
    return engine.containers.run(
        IMAGE,
        name=OLD,
        detach=True,
        ports={"8080/tcp": ("127.0.0.1", port)},
        volumes={VOLUME: {"bind": "/app/backend/data", "mode": "rw"}},
        environment={"ENABLE_OLLAMA_API": "false", "WEBUI_NAME": "Our chat"},
    )


def _forget(engine: docker.DockerClient) -> None:
    for container in engine.containers.list(all=True, filters={"name": f"^{OLD}$"}, ignore_removed=True):
        container.remove(force=True)
    for volume in engine.volumes.list(filters={"name": VOLUME}):
        volume.remove(force=True)


def _imported(stack: StackUnderTest) -> Ended:
    return stack.workshop.run("make", "import", "FROM=run.sh", f"STACK={stack.name}")


def test_an_old_deployment_is_adopted_and_left_whole(workshop: Workshop, old: OldDeployment) -> None:
    stack = StackUnderTest(workshop, "it-import", {"site": {"listen": {"https_port": free_port()}}})
    (workshop.directory / "run.sh").write_text(old.run_line())
    try:
        said = _imported(stack).succeeded().output
        key = old.container.exec_run(["cat", ".webui_secret_key"]).output
        assert isinstance(key, bytes)
        written = stack.file.read_text()
        for secret in (key.decode(), "MARK4e7c"):
            assert secret not in said
            assert secret not in written
        assert re.search(r"open_webui\.secret_key +\(encrypted\)", said), said
        assert re.search(r"open_webui\.admin\.email +owner@example\.com", said), said
        assert f"docker stop {OLD}" in said
        assert "writes over nothing" in _imported(stack).failed().output
        assert stack.file.read_text() == written

        for path, value in (
            ("images.source", "built"),
            ("site.listen.https_port", str(stack.https_port)),
        ):
            stack.pulumi("config", "set", "--path", f"open-webui-edge:{path}", value, "--stack", stack.name).succeeded()
        refused = stack.up().failed().output
        assert f"data.volume: {VOLUME} is in use by the running container {OLD}" in refused
        assert f"stop it: docker stop {OLD}" in refused
        assert not stack.owned("containers")
        old.container.reload()
        assert old.container.status == "running"

        old.container.stop()
        stack.up().succeeded()
        stack.outputs()
        with stack.client() as client:
            client.token = old.token
            assert client.user()["email"] == "owner@example.com"
            assert [chat["id"] for chat in client.chats()] == [old.chat]
            for email, password in PASSWORDS.items():
                client.sign_in(email, password)
        assert VOLUME not in stack.owned("volumes")
        assert NO_CHANGE.search(stack.up().succeeded().output)

        down = workshop.run("make", "down", f"STACK={stack.name}", "DATA=delete", "YES=1").succeeded().output
        assert f"The volume {VOLUME} (data.volume), with its users and chats, is yours and is not deleted." in down
        assert not stack.owned("volumes")
        assert _people(stack.engine) == sorted(PASSWORDS)
    finally:
        stack.remove()


def _people(engine: docker.DockerClient) -> list[str]:
    """Ask the database itself, in the volume."""
    question = (
        "import sqlite3; d = sqlite3.connect('/app/backend/data/webui.db');"
        "print(*d.execute('pragma integrity_check').fetchone());"
        "print(*(row[0] for row in d.execute('select email from user')))"
    )
    mounted = {VOLUME: {"bind": "/app/backend/data", "mode": "rw"}}
    said = engine.containers.run(IMAGE, ["python3", "-c", question], volumes=mounted, remove=True)
    integrity, *people = said.decode().split()
    assert integrity == "ok"
    return sorted(people)


def test_a_stopped_container_still_gives_its_key_and_its_release(engine: docker.DockerClient) -> None:
    container = engine.containers.create(IMAGE, name="it-import-stopped")
    try:
        for folder, name, content in (
            ("/app/backend", ".webui_secret_key", b"MARK6b1f-a-key-of-old\n"),
            ("/app", "package.json", b'{"version": "0.11.4"}'),
        ):
            container.put_archive(folder, _archive(name, content))
        asked = DockerFacts(resolve(), None)
        (existing,) = [one for one in asked.containers() if one.name == "it-import-stopped"]
        assert not existing.running
        inside = asked.facts_of(existing)
        assert (inside.secret_key, inside.version) == ("MARK6b1f-a-key-of-old", "0.11.4")
    finally:
        container.remove(force=True)


def test_a_container_that_is_gone_gives_nothing() -> None:
    inside = DockerFacts(resolve(), None).facts_of(ExistingContainer("it-import-nowhere", IMAGE))
    assert (inside.secret_key, inside.version, inside.administrator) == (None, None, None)


def _archive(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def test_a_folder_becomes_a_volume_by_the_commands_of_the_report(engine: docker.DockerClient, tmp_path: Path) -> None:
    folder = tmp_path / "our data"
    (folder / "uploads").mkdir(parents=True)
    (folder / "webui.db").write_text("users")
    (folder / "uploads/picture").write_text("uploaded")
    (tmp_path / "compose.yaml").write_text(
        f"services:\n  chat:\n    image: {IMAGE}\n    user: '1000'\n    volumes: ['./our data:/app/backend/data']\n"
    )
    _, said = command.translate(["compose.yaml"], tmp_path, "it-import-folder", DockerFacts(resolve(), None))
    unwrapped = re.sub(r"\n  (?! )", " ", said)
    commands = re.findall(r"docker (?:volume create|run --rm) [^\n]*", unwrapped)
    try:
        assert len(commands) == 3, said
        for line in commands:
            subprocess.run(["sh", "-euc", line], check=True)  # noqa: S603, S607 - what a person copies
        seen = engine.containers.run(
            IMAGE,
            ["sh", "-c", "cat /d/webui.db /d/uploads/picture && stat -c ' %u' /d/webui.db"],
            volumes={"it-import-folder-data": {"bind": "/d", "mode": "ro"}},
            remove=True,
        )
        assert seen.decode().split() == ["usersuploaded", "0"]
        assert (folder / "webui.db").read_text() == "users"
    finally:
        engine.volumes.get("it-import-folder-data").remove()
