"""Two replicas on an external PostgreSQL and Redis: used, kept secret, and wrongly named.

Marked long: test_replicas.py runs the same application with the stack's own PostgreSQL and Redis.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote

import docker
import pytest
from docker.models.containers import Container, ExecResult

from open_webui_edge.benchmarks.model_server import ModelServer, count_to
from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from tests.integration.conftest import ADMIN_PASSWORD, FIRST_KEY, answered_by
from tests.support.load import Http1, Load
from tests.support.machine import lacks
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop, free_port

pytestmark = pytest.mark.long

PASSWORDS = {"postgres": "MARK3d7a@db/:?#%25", "redis": "MARK8b2f@re/:?#%25"}
"""What means something in a URL is in each; the first eight characters are the same in every spelling."""
# As the administrator of a database would make one: a name, an owner and a password of their own.
_POSTGRES = """
install -d -o 999 -g 999 /data /run/postgresql
exec setpriv --reuid=999 --regid=999 --clear-groups /bin/sh -euc '
    printf %s "$GIVEN" | initdb --pgdata=/data/db --username=keeper --pwfile=/dev/stdin --auth-local=trust
    echo "host all all all scram-sha-256" >> /data/db/pg_hba.conf
    echo "CREATE DATABASE people;" | postgres --single -D /data/db postgres
    exec postgres -D /data/db -c listen_addresses="*"'
"""
_REDIS = 'exec valkey-server --requirepass "$GIVEN"'


@dataclass(frozen=True)
class Services:
    """A user's own servers, published where containers find host.docker.internal."""

    postgres: Container
    postgres_port: int
    redis: Container
    redis_port: int

    def postgres_url(self, password: str = PASSWORDS["postgres"]) -> str:
        return f"postgresql://keeper:{quote(password, safe='')}@host.docker.internal:{self.postgres_port}/people"

    def redis_url(self, password: str = PASSWORDS["redis"]) -> str:
        return f"redis://:{quote(password, safe='')}@host.docker.internal:{self.redis_port}/0"

    def select(self, query: str) -> str:
        """Return what the database says, as its owner is told."""
        connection = ["--host=/run/postgresql", "--username=keeper", "--dbname=people"]
        return _said(self.postgres.exec_run(["psql", *connection, "-tAc", query]))

    def ask_redis(self, *command: str) -> str:
        """Return what Redis says."""
        return _said(self.redis.exec_run(["valkey-cli", *command], environment={"REDISCLI_AUTH": PASSWORDS["redis"]}))


def _said(ended: ExecResult) -> str:
    assert isinstance(ended.output, bytes)
    assert ended.exit_code == 0, ended.output
    return ended.output.decode().strip()


@pytest.fixture(scope="module")
def services(engine: docker.DockerClient, bridge_address: str) -> Iterator[Services]:
    """A PostgreSQL and a Redis that no stack knows."""
    ports = {"postgres": free_port(), "redis": free_port()}
    started: dict[str, Container] = {}
    recipes = (("postgres", images.POSTGRES, 5432, _POSTGRES), ("redis", images.REDIS, 6379, _REDIS))
    try:
        for name, image, port, script in recipes:
            reference = image.reference(ImageSource.BUILT, None)
            if not engine.images.list(name=reference):
                lacks(f"no image {reference}")
            started[name] = engine.containers.run(
                reference,
                name=f"dt-own-{name}",
                entrypoint=["/bin/sh", "-euc"],
                command=[script],
                environment={"GIVEN": PASSWORDS[name]},
                ports={f"{port}/tcp": (bridge_address, ports[name])},
                detach=True,
            )
        actual = Services(started["postgres"], ports["postgres"], started["redis"], ports["redis"])
        wait_until(lambda: actual.select("SELECT 1") == "1", what="PostgreSQL", ignoring=(AssertionError,))
        wait_until(lambda: actual.ask_redis("PING") == "PONG", what="Redis", ignoring=(AssertionError,))
        yield actual
    finally:
        for container in started.values():
            container.remove(force=True, v=True)


@pytest.fixture(scope="module")
def two(workshop: Workshop, model_server: ModelServer, services: Services) -> Iterator[StackUnderTest]:
    """A stack with two replicas that lean on them, up and running."""
    stack = StackUnderTest(
        workshop,
        "dt-own",
        {
            "open_webui": {
                "admin": {"email": "admin@example.com"},
                "replicas": 2,
                "drain": "10s",
                "environment": {
                    "RAG_EMBEDDING_ENGINE": "openai",
                    "RAG_OPENAI_API_BASE_URL": f"http://host.docker.internal:{model_server.port}/v1",
                },
            },
            "data": {"postgres": {"mode": "url"}, "redis": {"mode": "url"}},
            "models": answered_by(model_server),
        },
        secrets={
            "models.providers[0].api_key": FIRST_KEY,
            "open_webui.admin.password": ADMIN_PASSWORD,
            "open_webui.environment.RAG_OPENAI_API_KEY": FIRST_KEY,
            "data.postgres.url": services.postgres_url(),
            "data.redis.url": services.redis_url(),
        },
    )
    with stack.running():
        yield stack
        # No client waits for an answer any more, and a replica that is to end would wait until one notices.
        for role in ("open-webui-2", "open-webui"):
            stack.container(role).kill()


def test_what_people_make_is_in_the_database_that_was_named(two: StackUnderTest, services: Services) -> None:
    with two.client() as client:
        client.sign_in("admin@example.com", ADMIN_PASSWORD)
        chat = client.create_chat("kept elsewhere")
        upload = client.http.post(
            "/api/v1/files/?process=true&process_in_background=false",
            files={"file": ("notes.txt", b"Nginx reads it from top to bottom.", "text/plain")},
            headers={"Authorization": f"Bearer {client.token}"},
        )
        assert upload.is_success, upload.text
    assert services.select("SELECT id FROM chat WHERE title = 'kept elsewhere'") == chat
    assert services.select('SELECT email FROM "user"') == "admin@example.com"
    chunks = services.select("SELECT collection_name, vector_dims(vector) FROM document_chunk")
    assert chunks == f"file-{upload.json()['id']}|1536"


def test_sockets_are_known_to_the_redis_that_was_named(
    two: StackUnderTest, services: Services, model_server: ModelServer
) -> None:
    prompt = count_to(10, every=0.2)
    with two.client() as client, ThreadPoolExecutor() as pool:
        client.sign_in("admin@example.com", ADMIN_PASSWORD)
        answer = pool.submit(client.chat_over_socket, prompt, model_server.models[0])
        wait_until(
            lambda: "admin@example.com" in services.ask_redis("HVALS", "open-webui:session_pool"),
            what="its session there",
        )
        assert answer.result().text == "".join(token.text for token in model_server.completion(prompt).tokens)
    assert two.owned("containers") == [
        f"edge-{two.name}-{role}" for role in ("nginx", "nginx-installer", "open-webui", "open-webui-2", "readiness")
    ]


def test_a_password_of_theirs_is_where_nobody_else_can_read_it(two: StackUnderTest) -> None:
    marks = [password[:8] for password in PASSWORDS.values()]
    update = two.up().succeeded().output
    assert NO_CHANGE.search(update)
    places = {
        "update": update,
        "state": two.pulumi("stack", "export", "--stack", two.name).succeeded().output,
        "outputs": json.dumps(two.outputs()),
    }
    for name in two.owned("containers"):
        container = two.engine.containers.get(name)
        places[f"docker inspect {name}"] = json.dumps(two.engine.api.inspect_container(name))
        places[f"docker logs {name}"] = container.logs().decode(errors="replace")
        if container.status == "running":
            places[f"docker top {name}"] = repr(container.top(ps_args="axww -o pid,args")["Processes"])
    for place, text in places.items():
        assert not [mark for mark in marks if mark in text], place
    assert all(mark in two.read("open-webui", "cat", "/run/open-webui-edge/environment.json") for mark in marks)


def test_a_wrong_address_and_a_refused_password_end_the_update_and_not_the_service(
    two: StackUnderTest, services: Services
) -> None:
    closed = free_port()
    second = two.container("open-webui-2").id
    two.set_secret("data.postgres.url", services.postgres_url("MARK0000"))
    two.set_secret("data.redis.url", f"redis://:MARK0000@host.docker.internal:{closed}/0")
    with Load(two.url, two.ca_file, Http1(connections=2, every=0.05)) as load:
        output = two.up().failed().output
    assert f"data.postgres.url: host.docker.internal:{services.postgres_port} does not let the application in" in output
    assert 'password authentication failed for user "keeper"' in output
    assert f"data.redis.url: nothing accepts connections at host.docker.internal:{closed}" in output
    assert "MARK0000" not in output
    assert load.failures == [], str(load)
    assert two.container("open-webui-2").id == second
    two.set_secret("data.postgres.url", services.postgres_url())
    two.set_secret("data.redis.url", services.redis_url())
    two.up().succeeded()
    with two.client() as client:
        client.sign_in("admin@example.com", ADMIN_PASSWORD)
        assert "kept elsewhere" in {chat["title"] for chat in client.chats()}
    assert two.container("open-webui-2").id == second
