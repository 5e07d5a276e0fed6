"""Backups of ten thousand messages and a gigabyte of uploads, with both databases, and one in a bucket: run once."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3
import docker
import docker.errors
import pytest

from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient
from open_webui_edge.benchmarks.waiting import wait_until
from tests.integration.test_backup import ADMIN
from tests.integration.test_make import Checkout, settings
from tests.support.machine import pulumi_environment
from tests.support.stack import StackUnderTest, end, free_port

pytestmark = pytest.mark.long
_MESSAGES = 10_000
_UPLOADS = 64
_UPLOAD = 16 << 20
# With the application's own packages, in its own container: the same for both databases.
_FILL = f"""
import json, os, pathlib, uuid
import sqlalchemy as sa
given = json.load(open("/run/open-webui-edge/environment.json"))["environment"]
engine = sa.create_engine(given.get("DATABASE_URL") or "sqlite:////app/backend/data/webui.db")
metadata = sa.MetaData()
metadata.reflect(engine, only=["user", "chat", "chat_message", "file"])
user, chat, message, file = (metadata.tables[name] for name in ("user", "chat", "chat_message", "file"))
def row(table, **known):
    kinds = {{"INTEGER": 0, "BIGINT": 0, "BOOLEAN": False}}
    needed = [c for c in table.columns if not c.nullable and c.name not in known and c.server_default is None]
    return {{**{{c.name: kinds.get(str(c.type), "") for c in needed}}, **known}}
uploads = pathlib.Path("/app/backend/data/uploads")
uploads.mkdir(exist_ok=True)
with engine.begin() as connection:
    owner = connection.execute(sa.select(user.c.id)).scalar()
    for number in range(100):
        connection.execute(chat.insert().values(row(chat, id=f"chat-{{number}}", user_id=owner, title="kept")))
    connection.execute(message.insert(), [
        row(message, id=f"message-{{n}}", chat_id=f"chat-{{n % 100}}", user_id=owner, role="user")
        for n in range({_MESSAGES})
    ])
    for number in range({_UPLOADS}):
        name = f"{{uuid.uuid4()}}_file"
        (uploads / name).write_bytes(os.urandom({_UPLOAD}))
        connection.execute(file.insert().values(row(
            file, id=f"file-{{number}}", user_id=owner, filename="file", path=str(uploads / name))))
"""
_EMPTY = """
import json, pathlib
import sqlalchemy as sa
given = json.load(open("/run/open-webui-edge/environment.json"))["environment"]
engine = sa.create_engine(given.get("DATABASE_URL") or "sqlite:////app/backend/data/webui.db")
with engine.begin() as connection:
    for table in ("chat_message", "chat", "file"):
        connection.execute(sa.text(f"DELETE FROM {table}"))
for path in pathlib.Path("/app/backend/data/uploads").iterdir():
    path.unlink()
"""


@pytest.fixture(scope="module")
def checkout(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    del engine
    pulumi_environment()
    return Checkout.at(tmp_path_factory.mktemp("backup-long"))


@pytest.fixture
def bucket(bridge_address: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A bucket of a storage that speaks S3, which containers can reach."""
    port = free_port()
    with (tmp_path / "moto.log").open("w") as log:
        server = subprocess.Popen(  # noqa: S603 - this interpreter, and a package of the tests
            [sys.executable, "-m", "moto.server", "-H", bridge_address, "-p", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    endpoint = f"http://{bridge_address}:{port}"
    keys = {"aws_access_key_id": "a-tests-own", "aws_secret_access_key": "a-tests-own"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    try:
        wait_until(lambda: client.create_bucket(Bucket="backups"), what="S3", deadline=60, ignoring=(Exception,))
        yield {"bucket": "backups", "endpoint": endpoint, "access_key_id": "a-tests-own"}
    finally:
        server.kill()
        server.wait()


@contextmanager
def running(checkout: Checkout, name: str, database: str) -> Iterator[StackUnderTest]:
    """Lend a stack with one of the databases."""
    data = {"data": {"postgres": {"mode": "container"}}} if database == "postgres" else {}
    config = settings(open_webui={"admin": {"email": ADMIN}, "drain": "10s"}, **data)
    checkout.write(name, config)
    stack = checkout.stack(name, config)
    try:
        checkout.make("up", name).succeeded()
        yield stack
    finally:
        stack.remove()


def timed(checkout: Checkout, target: str, stack: str, **variables: str) -> str:
    """Run a target that must succeed, say how long it took, and return what it wrote."""
    began = time.monotonic()
    ended = checkout.make(target, stack, **variables).succeeded()
    sys.stderr.write(f"\n{stack}: make {target}: {time.monotonic() - began:.0f} s\n")
    return ended.output


def in_application(stack: StackUnderTest, script: str) -> None:
    stack.read("open-webui", "python3", "-c", script)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_ten_thousand_messages_and_a_gigabyte_come_back(checkout: Checkout, database: str, tmp_path: Path) -> None:
    name = f"it-backup-large-{database}"
    with running(checkout, name, database) as stack:
        in_application(stack, _FILL)
        held = f"chats=100,messages={_MESSAGES},files={_UPLOADS}".split(",")
        said = timed(checkout, "backup", name, TO=str(tmp_path / "folder"))
        assert all(one in said for one in held), said
        in_application(stack, _EMPTY)
        timed(checkout, "restore", name, FROM="latest", YES="1")
        said = timed(checkout, "backup", name)
        assert all(one in said for one in held), said
        assert f"processed {_UPLOADS}" not in said
        listed = stack.read("open-webui", "sh", "-c", "cat /app/backend/data/uploads/* | wc -c")
        assert int(listed) == _UPLOADS * _UPLOAD
        timed(checkout, "backup-verify", name)
        checkout.make("down", name, DATA="delete", YES="1").succeeded()
        assert [*stack.owned("containers"), *stack.owned("volumes"), *stack.owned("networks")] == []


@contextmanager
def administrator(stack: StackUnderTest) -> Iterator[OpenWebUIClient]:
    # With the outputs comes the authority's certificate.
    password = stack.outputs()["admin_password"]
    with stack.client() as client:
        client.sign_in(ADMIN, password)
        yield client


def titles(stack: StackUnderTest) -> set[str]:
    with administrator(stack) as client:
        return {chat["title"] for chat in client.chats()}


def new_chat(stack: StackUnderTest, title: str) -> None:
    with administrator(stack) as client:
        client.create_chat(title)


def merging(volume: Path) -> bool:
    return (volume / ".open-webui-edge-restore/merging").exists()


def database_is_in_place(stack: StackUnderTest, volume: Path) -> bool:
    if not merging(volume):
        return False
    asked = "SELECT obj_description('public'::regnamespace)"
    words = ["psql", "--username=open_webui", "--tuples-only", "--no-align", f"--command={asked}"]
    mark = (volume / ".open-webui-edge-restore/merging").read_text()
    return re.fullmatch("[0-9a-f]{16}", mark) is not None and stack.read("postgres", *words).strip() == mark


def starts_by_hand(stack: StackUnderTest) -> bool:
    """Start the application, and tell whether it runs or says why not."""
    application = stack.container("open-webui")
    before = len(application.logs())
    application.start()

    def reported() -> str:
        if b"refused: an interrupted restore left the data inconsistent" in application.logs()[before:]:
            return "refused"
        application.reload()
        return "runs" if application.attrs["State"]["Health"]["Status"] == "healthy" else ""

    return wait_until(reported, what="Open WebUI", deadline=120) == "runs"


def kill(restore: subprocess.Popen[str], stack: StackUnderTest) -> None:
    """Kill a restore with all that it has started."""
    end(restore)
    for one in stack.engine.containers.list(
        filters={"label": [f"stack={stack.name}", "role=backup-task"]}, ignore_removed=True
    ):
        with suppress(docker.errors.APIError):
            one.kill()


# Whether the restore gets as far as having the database in place.
KILLS = {
    "SQLite": ("sqlite", False),
    "PostgreSQL, before": ("postgres", False),
    "PostgreSQL, after": ("postgres", True),
}


@pytest.mark.parametrize(("database", "in_place"), KILLS.values(), ids=KILLS)
def test_a_restore_that_was_killed_is_brought_to_its_end(checkout: Checkout, database: str, *, in_place: bool) -> None:
    name = f"it-restore-killed-{database}"
    words = ["make", "restore", f"STACK={name}", "FROM=latest", "YES=1"]
    with running(checkout, name, database) as stack:
        volume = stack.folder("open-webui", "/app/backend/data")
        new_chat(stack, "then")
        checkout.make("backup", name).succeeded()
        new_chat(stack, "now")
        restore = checkout.workshop.start(*words)
        moment = (lambda: database_is_in_place(stack, volume)) if in_place else (lambda: merging(volume))
        wait_until(moment, what="the moment", deadline=120, every=0.01)
        kill(restore, stack)
        refused = checkout.make("backup", name).failed().output
        assert "was interrupted (make restore without FROM finishes it); no backup until then" in refused
        # A start by hand reports what to do; no container works on inconsistent data.
        if starts_by_hand(stack):
            assert (volume / ".open-webui-edge-restore/in-place").exists()
        said = checkout.make("restore", name).succeeded().output
        assert f"The interrupted restore is complete, and {name} runs." in said
        result = titles(stack)
        if database == "postgres":
            assert result == ({"then"} if in_place else {"then", "now"})
        new_chat(stack, "later")
        assert "An earlier restore" not in checkout.make("restore", name).failed().output
        assert titles(stack) == {*result, "later"}
        said = checkout.make("restore", name, FROM="latest", YES="1").succeeded().output
        assert "An earlier restore" not in said
        assert titles(stack) == {"then"}
        checkout.make("backup", name).succeeded()
        new_chat(stack, "before the last one")
        restore = checkout.workshop.start(*words)
        wait_until(moment, what="the moment", deadline=120, every=0.01)
        kill(restore, stack)
        checkout.make("restore", name, FROM="before", YES="1").succeeded()
        assert titles(stack) == {"then", "before the last one"}
        said = checkout.make("restore", name, FROM="before", YES="1").failed().output
        assert f"FROM=before rolls back an interrupted restore, and {name} has none" in said


_REVISION = """
import json
import sqlalchemy as sa
given = json.load(open("/run/open-webui-edge/environment.json"))["environment"]
engine = sa.create_engine(given.get("DATABASE_URL") or "sqlite:////app/backend/data/webui.db")
with engine.begin() as connection:
    print(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar())
    connection.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": %r})
"""


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_what_does_not_come_up_with_a_backup_goes_on_with_what_it_had(checkout: Checkout, database: str) -> None:
    name = f"it-restore-failed-{database}"
    with running(checkout, name, database) as stack:
        new_chat(stack, "then")
        # No version knows how to go on from there.
        known = stack.read("open-webui", "python3", "-c", _REVISION % "of_nobody").strip()
        checkout.make("backup", name).succeeded()
        in_application(stack, _REVISION % known)
        new_chat(stack, "now")
        said = checkout.make("restore", name, FROM="latest", YES="1").failed().output
        assert f"Starting edge-{name}-open-webui failed" in said
        assert wait_until(lambda: titles(stack), what="Open WebUI", deadline=120, ignoring=(Exception,)) == {
            "then",
            "now",
        }
        assert "restore" not in stack.read("open-webui", "ls", "-A", "/app/backend/data")
        checkout.make("backup", name).succeeded()


def test_a_bucket_holds_backups_that_come_back(checkout: Checkout, bucket: dict[str, str]) -> None:
    name = "it-backup-bucket"
    config = settings(
        open_webui={"admin": {"email": ADMIN}, "drain": "10s"},
        backup={"enabled": True, "repository": {"kind": "s3", "s3": bucket}},
    )
    checkout.write(name, config)
    stack = checkout.stack(name, config)
    try:
        checkout.make("env", name).succeeded()
        if stack.pulumi("stack", "select", name).code:
            stack.pulumi("stack", "init", name).succeeded()
        stack.set_secret("backup.repository.s3.secret_access_key", "a-tests-own")
        checkout.make("up", name).succeeded()
        timed(checkout, "backup", name)
        new_chat(stack, "made afterwards")
        timed(checkout, "restore", name, FROM="latest", YES="1")
        assert titles(stack) == set()
        timed(checkout, "backup-verify", name)
        said = checkout.make("restore", name, FROM=f"s3:{bucket['endpoint']}/backups/nothing", YES="1").failed().output
        assert "there is no backup at" in said
    finally:
        stack.remove()
