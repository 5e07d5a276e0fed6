"""What a change of version does to a PostgreSQL, with the libraries of Open WebUI's own image."""

import io
import json
import tarfile
from collections.abc import Iterator

import docker
import pytest
from docker.models.containers import Container

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.runtime import delivery
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from tests.support.stack import ROOT

# As the administrator of a server would make one, whose users are not all alike.
POSTGRES = """
install -d -o 999 -g 999 /data /run/postgresql
exec setpriv --reuid=999 --regid=999 --clear-groups /bin/sh -euc '
    initdb --pgdata=/data/db --username=owner --auth=trust
    echo "host all all all trust" >> /data/db/pg_hba.conf
    echo "CREATE DATABASE chats;" | postgres --single -D /data/db postgres
    echo "CREATE ROLE guest LOGIN;" | postgres --single -D /data/db postgres
    exec postgres -D /data/db -c listen_addresses="*" -c fsync=off'
"""
COPY_REFUSAL = """
import os, sys
sys.path.insert(0, "/srv")
import upgrade
print(upgrade.Postgres(os.environ["DATABASE_URL"]).copy_refusal())
"""


@pytest.fixture(scope="module")
def postgres(engine: docker.DockerClient) -> Iterator[Container]:
    """A server with a database, of which one user may make a copy and another may not."""
    server = engine.containers.run(
        images.POSTGRES.reference(ImageSource.BUILT, None),
        name="it-upgrade-postgres",
        entrypoint=["/bin/sh", "-euc"],
        command=[POSTGRES],
        detach=True,
    )
    try:
        asked = ["psql", "--host=127.0.0.1", "--username=owner", "--dbname=chats", "-tAc", "SELECT 1"]
        wait_until(lambda: server.exec_run(asked).exit_code == 0, what="PostgreSQL")
        server.reload()
        yield server
    finally:
        server.remove(force=True, v=True)


def inside(engine: docker.DockerClient, postgres: Container, user: str, *command: str) -> tuple[int, str]:
    """Run Python in Open WebUI's own image, next to what its launcher has there."""
    address = postgres.attrs["NetworkSettings"]["IPAddress"]
    container = engine.containers.create(
        images.open_webui(images.OPEN_WEBUI_VERSION).reference(ImageSource.BUILT, None),
        entrypoint=["python3"],
        command=list(command),
        environment={"DATABASE_URL": f"postgresql://{user}@{address}/chats"},
        working_dir="/",
    )
    try:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, text in {
                "upgrade.py": delivery.program("open_webui/upgrade.py"),
                "power_loss.py": (ROOT / "tests/support/power_loss.py").read_text(),
            }.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        container.put_archive("/srv", packed.getvalue())
        container.start()
        code = container.wait(timeout=600)["StatusCode"]
        return code, container.logs().decode(errors="replace")
    finally:
        container.remove(force=True, v=True)


@pytest.mark.long
def test_no_chat_is_lost_wherever_the_power_goes(engine: docker.DockerClient, postgres: Container) -> None:
    code, said = inside(engine, postgres, "owner", "/srv/power_loss.py", "/srv/work")
    assert code == 0, said
    assert json.loads(said.splitlines()[-1])["moments"] > 50


def test_a_user_that_may_not_copy_the_database_is_told_what_to_ask_for(
    engine: docker.DockerClient, postgres: Container
) -> None:
    code, said = inside(engine, postgres, "guest", "-c", COPY_REFUSAL)
    assert (code, said.strip()) == (
        0,
        (
            "the user guest may not create databases, and the copy of one is a second one; as an administrator of that"
            ' server: ALTER ROLE "guest" CREATEDB'
        ),
    )
