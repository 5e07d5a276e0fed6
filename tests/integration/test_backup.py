"""`make backup`, `make restore` and `make backup-verify` with real stacks: what comes back, what survives a kill."""

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors
import pytest
from docker.models.containers import Container

from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient
from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from tests.integration.test_make import Checkout, settings
from tests.support.machine import lacks, pulumi_environment
from tests.support.stack import Ended, StackUnderTest

ADMIN = "admin@example.com"
NOTES = b"Nginx reads it from top to bottom.\n" * 1000
_ID = re.compile(r"^ {4}([0-9a-f]{8})  ", re.MULTILINE)


@pytest.fixture(scope="module")
def checkout(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the program, on a machine that has restic's image."""
    name = images.RESTIC.reference(ImageSource.BUILT, None)
    try:
        engine.images.get(name)
    except docker.errors.ImageNotFound:
        lacks(f"no image {name}")
    pulumi_environment()
    return Checkout.at(tmp_path_factory.mktemp("backup"))


@dataclass(frozen=True)
class Saved:
    """A stack with something in it, and a backup of that."""

    stack: StackUnderTest
    token: str
    chat: str
    file: str
    folder: Path
    said: Ended

    def holds(self, stack: StackUnderTest) -> None:
        """Make sure that a stack holds it, for the user who was signed in when it was saved."""
        stack.outputs()
        with OpenWebUIClient(stack.url, ca_file=stack.ca_file, token=self.token) as client:
            assert client.user()["email"] == ADMIN
            assert [chat["title"] for chat in client.chats()] == ["kept"]
            assert client.chat(self.chat)["title"] == "kept"
            assert content_of(client, self.file) == NOTES


def content_of(client: OpenWebUIClient, file: str) -> bytes:
    answer = client.http.get(f"/api/v1/files/{file}/content", headers={"Authorization": f"Bearer {client.token}"})
    assert answer.is_success, answer.text
    return answer.content


def upload(client: OpenWebUIClient, content: bytes) -> str:
    answer = client.http.post(
        "/api/v1/files/?process=false",
        files={"file": ("notes.txt", content, "text/plain")},
        headers={"Authorization": f"Bearer {client.token}"},
    )
    assert answer.is_success, answer.text
    return answer.json()["id"]


@pytest.fixture(scope="module")
def stacks(checkout: Checkout) -> Iterator[tuple[StackUnderTest, StackUnderTest]]:
    """A stack that is backed up each day, and another one."""
    admin = {"open_webui": {"admin": {"email": ADMIN}, "drain": "10s"}}
    expected = {
        "it-backup": settings(**admin, backup={"enabled": True}),
        "it-backup-away": settings(**admin),
    }
    try:
        with ThreadPoolExecutor() as pool:
            for name, config in expected.items():
                checkout.write(name, config)
            for ended in pool.map(lambda name: checkout.make("up", name), expected):
                ended.succeeded()
        home, away = (checkout.stack(name, config) for name, config in expected.items())
        yield home, away
    finally:
        for name, config in expected.items():
            checkout.stack(name, config).remove()


@pytest.fixture(scope="module")
def saved(
    checkout: Checkout, stacks: tuple[StackUnderTest, StackUnderTest], tmp_path_factory: pytest.TempPathFactory
) -> Saved:
    home, _ = stacks
    # They also write the authority's certificate, for the clients.
    password = home.outputs()["admin_password"]
    with home.client() as client:
        token = client.sign_in(ADMIN, password)
        chat = client.create_chat("kept")
        file = upload(client, NOTES)
    folder = tmp_path_factory.mktemp("saved") / "backups"
    return Saved(home, token, chat, file, folder, checkout.make("backup", home.name, TO=str(folder)).succeeded())


def test_a_backup_says_what_it_holds_and_where_it_and_its_password_are(saved: Saved) -> None:
    assert "users=1,chats=1,messages=0,files=1" in saved.said.output
    assert f"The backup of {saved.stack.name} is in {saved.folder}." in saved.said.output
    assert f"`pulumi stack output backup_password --show-secrets --stack {saved.stack.name}`" in saved.said.output
    password = saved.stack.outputs()["backup_password"]
    assert password not in saved.said.output
    assert not [path for path in saved.folder.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    assert not [path for path in saved.folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]


def test_a_second_backup_brings_into_the_folder_what_is_new_alone(saved: Saved, checkout: Checkout) -> None:
    before = {path: path.stat().st_mtime_ns for path in saved.folder.glob("data/**/*") if path.is_file()}
    checkout.make("backup", saved.stack.name, TO=str(saved.folder)).succeeded()
    assert before.items() <= {path: path.stat().st_mtime_ns for path in before}.items()
    assert len(list(saved.folder.glob("snapshots/*"))) == 2


def test_a_folder_with_something_else_stays_as_it_is(saved: Saved, checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("mine")
    said = checkout.make("backup", saved.stack.name, TO=str(tmp_path)).failed().output
    assert f"TO={tmp_path} contains other files (thesis.odt); use a folder that is empty" in said
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.odt"]


def test_without_a_name_a_restore_lists_the_backups(saved: Saved, checkout: Checkout) -> None:
    said = checkout.make("restore", saved.stack.name).failed().output
    assert "FROM=… is missing; use latest, one of these" in said
    assert re.search(r"^ {4}[0-9a-f]{8}  [-0-9]+ [0-9:]+  users 1, chats 1, messages 0, files 1$", said, re.MULTILINE)


def test_a_wrong_password_and_a_damaged_folder_change_nothing(
    saved: Saved, stacks: tuple[StackUnderTest, StackUnderTest], checkout: Checkout, tmp_path: Path
) -> None:
    _, away = stacks
    before = away.container("open-webui").attrs["State"]["StartedAt"]
    file = tmp_path / "key"
    file.write_text("not the password")
    said = checkout.make("restore", away.name, FROM=str(saved.folder), KEY_FILE=str(file), YES="1").failed().output
    assert "the password does not open the repository; KEY_FILE=… names the file" in said
    file.write_text(saved.stack.outputs()["backup_password"])
    damaged = tmp_path / "damaged"
    shutil.copytree(saved.folder, damaged)
    for pack in damaged.glob("data/*/*"):
        damage(pack)
    checkout.make("restore", away.name, FROM=str(damaged), KEY_FILE=str(file), YES="1").failed()
    assert away.container("open-webui").attrs["State"]["StartedAt"] == before
    assert away.read("open-webui", "ls", "/app/backend/data/uploads").strip() == ""


def damage(pack: Path) -> None:
    """Turn the bits of some bytes at the beginning, where contents are."""
    content = bytearray(pack.read_bytes())
    content[:64] = bytes(byte ^ 0xFF for byte in content[:64])
    pack.chmod(0o600)
    pack.write_bytes(content)


def test_backups_of_before_outlive_one_that_is_killed(saved: Saved, checkout: Checkout) -> None:
    before = listed(checkout, saved)
    (data,) = (
        mount["Name"]
        for mount in saved.stack.container("open-webui").attrs["Mounts"]
        if mount["Destination"] == "/app/backend/data"
    )
    saved.stack.read("open-webui", "sh", "-c", "head -c 200M /dev/urandom > /app/backend/data/uploads/large")
    running = checkout.workshop.start("make", "backup", f"STACK={saved.stack.name}")
    try:
        task = wait_until(lambda: at_work(saved.stack, data), what="restic at work", every=0.02, deadline=60)
        assert task is not None
        task.kill()
        said, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode != 0, said
    assert listed(checkout, saved) == before
    saved.stack.read("open-webui", "rm", "/app/backend/data/uploads/large")
    again = checkout.make("backup", saved.stack.name).succeeded().output
    assert "users=1,chats=1,messages=0,files=1" in again
    assert listed(checkout, saved)[:-1] == before


def at_work(stack: StackUnderTest, data: str) -> Container | None:
    """Return the container in which restic reads the data, once it does."""
    for one in stack.engine.containers.list(
        filters={"label": [f"stack={stack.name}", "role=backup-task"]}, ignore_removed=True
    ):
        try:
            reads = any(mount.get("Name") == data for mount in one.attrs["Mounts"])
            if reads and any("restic backup" in " ".join(row) for row in one.top()["Processes"] or ()):
                return one
        except docker.errors.APIError:
            continue
    return None


def listed(checkout: Checkout, saved: Saved) -> list[str]:
    return _ID.findall(checkout.make("restore", saved.stack.name).failed().output)


def test_the_daily_container_makes_one_by_itself(saved: Saved, checkout: Checkout) -> None:
    before = listed(checkout, saved)
    words = ["env", "EDGE_KEEP=35d", f"EDGE_STACK={saved.stack.name}", "sh", "-eu", "/run/open-webui-edge/keep.sh"]
    said = saved.stack.read("backup", *words, "attempt")
    assert "users=1,chats=1,messages=0,files=1" in said
    assert len(listed(checkout, saved)) == len(before) + 1
    assert saved.stack.read("backup", *words, "health") == ""


def test_a_restore_brings_back_the_state_of_then_and_asks_before(saved: Saved, checkout: Checkout) -> None:
    with OpenWebUIClient(saved.stack.url, ca_file=saved.stack.ca_file, token=saved.token) as client:
        client.request("DELETE", f"/api/v1/chats/{saved.chat}")
        client.request("DELETE", f"/api/v1/files/{saved.file}")
        client.create_chat("made afterwards")
        later = upload(client, b"made afterwards")
    asked = checkout.make("restore", saved.stack.name, FROM="latest").failed().output
    assert "A restore replaces data: confirmation is needed and there is no terminal; set YES=1" in asked
    checkout.make("restore", saved.stack.name, FROM="latest", YES="1").succeeded()
    saved.holds(saved.stack)
    assert later not in saved.stack.read("open-webui", "find", "/app/backend/data")
    assert "restore" not in saved.stack.read("open-webui", "ls", "-A", "/app/backend/data")


def test_a_folder_restores_into_another_stack_where_sessions_go_on(
    saved: Saved, stacks: tuple[StackUnderTest, StackUnderTest], checkout: Checkout, tmp_path: Path
) -> None:
    _, away = stacks
    file = tmp_path / "key"
    file.write_text(saved.stack.outputs()["backup_password"])
    said = checkout.make("restore", away.name, FROM=str(saved.folder), KEY_FILE=str(file), YES="1").succeeded().output
    saved.holds(away)
    assert "it is encrypted in the stack's file (open_webui.secret_key)" in said
    assert "secure:" in away.file.read_text()


def test_verify_brings_the_newest_up_and_finds_a_damaged_pack(saved: Saved, checkout: Checkout) -> None:
    said = checkout.make("backup-verify", saved.stack.name).succeeded().output
    assert re.search(r"^users +1 +1$", said, re.MULTILINE)
    assert re.search(r"^files +1 +1$", said, re.MULTILINE)
    assert "is complete, and Open WebUI starts with it." in said
    packs = "find /repository/restic/data -type f"
    script = f"for pack in $({packs}); do chmod 600 $pack; printf damaged | dd conv=notrunc of=$pack; done"
    saved.stack.read("backup", "sh", "-c", script)
    said = checkout.make("backup-verify", saved.stack.name).failed().output
    assert "Checking the repository failed" in said
    left = saved.stack.engine.containers.list(
        all=True, filters={"label": [f"stack={saved.stack.name}"]}, ignore_removed=True
    )
    assert {one.labels["role"] for one in left} == {"nginx", "nginx-installer", "open-webui", "backup", "backup-copy"}
