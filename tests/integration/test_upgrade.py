"""Another version of Open WebUI in the stack file: it works in the end, or the old one does; no chat is ever lost."""

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import docker
import docker.errors
import httpx
import pytest

from components import images
from components.images import OPEN_WEBUI_VERSION, ImageSource
from tests.integration.conftest import ADMIN_PASSWORD, FIRST_KEY, answered_by
from tests.support.machine import lacks
from tests.support.model_server import ModelServer
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop, end
from tests.support.waiting import wait_until

OLD = OPEN_WEBUI_VERSION
FINE, CRASHING, HANGING, BREAKING = "0.12.91", "0.12.92", "0.12.93", "0.12.94"
PACKAGE = "/usr/local/lib/python3.11/dist-packages/open_webui"
# What it prints is what a later migration has to follow.
HEAD = """
import pathlib, re
text = [path.read_text() for path in pathlib.Path("{package}/migrations/versions").glob("*.py")]
own = {{re.search(r"^revision.*?=.*?['\\"](.+?)['\\"]", one, re.M)[1] for one in text}}
before = {{name for one in text for line in re.findall(r"^down_revision.*", one, re.M) for name in re.findall(r"['\\"](\\w+)['\\"]", line)}}
(head,) = own - before
print(head)
"""
MIGRATION = """
from alembic import op
import sqlalchemy
revision = "{revision}"
down_revision = "{head}"
branch_labels = None
depends_on = None

def upgrade():
    {body}

def downgrade():
    pass
"""
ADDS_A_TABLE = 'op.create_table("edge_added", sqlalchemy.Column("id", sqlalchemy.Text, primary_key=True))'
BREAKS_HALF_WAY = """with op.get_context().autocommit_block():
        op.execute("DELETE FROM chat")
        op.execute("ALTER TABLE chat RENAME TO chat_gone")
    raise RuntimeError("the second half of this migration is missing")"""


def name_of(version: str) -> str:
    return images.open_webui(version).reference(ImageSource.BUILT, None)


def built(engine: docker.DockerClient, version: str, base: str, files: dict[str, str]) -> str:
    """Make an image of an invented version: another one with files of our own."""
    dockerfile = f"FROM {base}\n" + "".join(f"COPY {index} {path}\n" for index, path in enumerate(files))
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in [("Dockerfile", dockerfile), *((str(i), text) for i, text in enumerate(files.values()))]:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    context.seek(0)
    engine.images.build(fileobj=context, custom_context=True, tag=name_of(version), rm=True)
    return name_of(version)


@pytest.fixture(scope="module")
def versions(engine: docker.DockerClient) -> Iterator[None]:
    """Later versions than the real one: one that works, and others that do not."""
    base = name_of(OLD)
    words = ["python3", "-c", HEAD.format(package=PACKAGE)]
    head = engine.containers.run(base, words, entrypoint=[], remove=True).decode().strip()

    def migration(name: str, body: str) -> dict[str, str]:
        text = MIGRATION.format(revision=name, head=head, body=body)
        return {f"{PACKAGE}/migrations/versions/{name}.py": text}

    start = "/app/backend/start.sh"
    recipes: dict[str, dict[str, str]] = {
        FINE: migration("edge_fine", ADDS_A_TABLE),
        CRASHING: {
            **migration("edge_crashing", ADDS_A_TABLE),
            start: "#!/bin/bash\necho 'the last words of a version that crashes'\nexit 3\n",
        },
        HANGING: {**migration("edge_hanging", ADDS_A_TABLE), start: "#!/bin/bash\nexec sleep infinity\n"},
        BREAKING: migration("edge_breaking", BREAKS_HALF_WAY),
    }
    made = [built(engine, version, base, files) for version, files in recipes.items()]
    yield
    for name in made:
        engine.images.remove(name, force=True)


def stack_of(workshop: Workshop, model_server: ModelServer, name: str, **config: Any) -> StackUnderTest:
    return StackUnderTest(
        workshop,
        name,
        {
            "open_webui": {
                "admin": {"email": "admin@example.com"},
                "drain": "10s",
                "version": OLD,
                **config.pop("open_webui", {}),
            },
            "models": answered_by(model_server),
            **config,
        },
        secrets={"models.providers[0].api_key": FIRST_KEY, "open_webui.admin.password": ADMIN_PASSWORD},
    )


@pytest.fixture(scope="module")
def stack(workshop: Workshop, model_server: ModelServer, versions: None) -> Iterator[StackUnderTest]:
    """One replica with its database in the volume."""
    del versions
    stack = stack_of(workshop, model_server, "it-upgrade")
    with stack.running():
        yield stack


def name_version(stack: StackUnderTest, version: str, **upgrade: Any) -> None:
    stack.config["open_webui"] |= {"version": version, "upgrade": upgrade}
    stack.write()


def new_chat(stack: StackUnderTest, title: str) -> str:
    with stack.client() as client:
        client.sign_in("admin@example.com", ADMIN_PASSWORD)
        return client.create_chat(title)


def titles(stack: StackUnderTest) -> set[str]:
    with stack.client() as client:
        client.sign_in("admin@example.com", ADMIN_PASSWORD)
        return {chat["title"] for chat in client.chats()}


def version_of(stack: StackUnderTest, role: str = "open-webui") -> str:
    return stack.container(role).labels["version"]


def journal_of(stack: StackUnderTest) -> dict[str, Any]:
    """Return what the volume says of itself; it can be asked of a container that has ended, too."""
    pieces, _ = stack.container("open-webui").get_archive("/app/backend/data/open-webui-edge-upgrade.json")
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        file = archive.extractfile(archive.getmembers()[0])
        assert file is not None
        return json.load(file)


@dataclass
class Visitor:
    """Somebody who asks for a page and, as a page that is open does, for the API, again and again."""

    pages: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    answers: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])


@contextmanager
def visited(stack: StackUnderTest) -> Iterator[Visitor]:
    visitor, over = Visitor(), threading.Event()

    def visit() -> None:
        with httpx.Client(base_url=stack.url, verify=str(stack.ca_file), trust_env=False) as http:
            while not over.wait(0.2):
                for path, accept, seen in (
                    ("/", "text/html,*/*;q=0.8", visitor.pages),
                    ("/api/v1/chats/", "application/json", visitor.answers),
                ):
                    answer = http.get(path, headers={"Accept": accept})
                    seen.append((answer.status_code, answer.text))

    thread = threading.Thread(target=visit, daemon=True)
    thread.start()
    try:
        yield visitor
    finally:
        over.set()
        thread.join(30)


def test_a_version_that_crashes_gives_way_to_the_old_one_with_all_that_was_there(stack: StackUnderTest) -> None:
    new_chat(stack, "before the crash")
    before = stack.container("open-webui").id
    name_version(stack, CRASHING)
    output = stack.up().failed().output
    assert f"open_webui.version: {CRASHING} did not come up: the application ended with exit code 3" in output
    assert f"The data is as {OLD} left it." in output
    assert f"{OLD} runs again." in output
    assert "the last words of a version that crashes" in output
    assert stack.container("open-webui").id == before
    assert titles(stack) == {"before the crash"}
    assert stack.owned("containers") == [
        f"edge-{stack.name}-{role}" for role in ("nginx", "nginx-installer", "open-webui")
    ]
    name_version(stack, OLD)
    assert NO_CHANGE.search(stack.up().succeeded().output)
    assert stack.container("open-webui").id == before


def cut_when(stack: StackUnderTest, line: str) -> str:
    """Update, and kill the update and what it has started at a certain line of the trial's; return that update's words."""
    update = stack.workshop.start("pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", stack.name)
    trial = f"edge-{stack.name}-open-webui-trial"

    def reached() -> bool:
        container = stack.engine.containers.get(trial)
        if line not in container.logs().decode(errors="replace"):
            return False
        container.kill()
        return True

    try:
        wait_until(
            reached, what=f"the trial to say {line!r}", deadline=180, every=0.02, ignoring=(docker.errors.APIError,)
        )
    finally:
        output = end(update)
    return output


def test_a_cut_upgrade_is_undone_by_whoever_updates_next(stack: StackUnderTest) -> None:
    new_chat(stack, "before the power went")
    name_version(stack, FINE)
    cut_when(stack, "launch: starting it")
    # What a program leaves of a state when it is killed.
    stack.pulumi("cancel", "--yes", stack.name)
    assert journal_of(stack)["attempt"]["step"] == "starting"
    name_version(stack, OLD)
    stack.up().succeeded()
    assert version_of(stack) == OLD
    assert titles(stack) >= {"before the crash", "before the power went"}
    assert journal_of(stack)["attempt"] is None


def test_a_version_that_works_takes_over_and_visitors_see_a_page_that_comes_back(stack: StackUnderTest) -> None:
    new_chat(stack, "before the upgrade")
    name_version(stack, FINE)
    with visited(stack) as visitor:
        stack.up().succeeded()
        wait_until(lambda: visitor.pages[-1][0] == HTTPStatus.OK, what="the page to come back")
    assert {status for status, _ in visitor.pages} == {200, 503}
    assert all('http-equiv="refresh"' in text for status, text in visitor.pages if status == 503)  # noqa: PLR2004
    # Nobody is signed in; while it is away a program is told so, in words that it can read.
    assert {status for status, _ in visitor.answers} <= {401, 403, 503}
    assert all("detail" in json.loads(text) for status, text in visitor.answers if status == 503)  # noqa: PLR2004
    assert version_of(stack) == FINE
    assert titles(stack) >= {"before the crash", "before the power went", "before the upgrade"}
    assert NO_CHANGE.search(stack.up().succeeded().output)
    journal = journal_of(stack)
    assert (journal["version"], journal["attempt"], journal["kept"]["of"]) == (FINE, None, OLD)
