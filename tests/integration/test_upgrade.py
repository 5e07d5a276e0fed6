"""Another version of Open WebUI in the stack file: it works in the end, or the old one does; no chat is ever lost."""

import io
import itertools
import json
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx
import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from open_webui_edge.benchmarks.model_server import ModelServer, count_to
from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient, OpenWebUIError
from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.bootstrap import console
from open_webui_edge.bootstrap.engine import resolve
from open_webui_edge.bootstrap.images import RequiredImages, ensure
from open_webui_edge.settings import images
from open_webui_edge.settings.images import OPEN_WEBUI_VERSION, ImageSource
from tests.integration.conftest import ADMIN_PASSWORD, FIRST_KEY, answered_by
from tests.support.browser import OpenWebUIPage, open_webui_page
from tests.support.machine import lacks, pulumi_environment
from tests.support.recorded_states import program_of
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop, end

OLD = OPEN_WEBUI_VERSION
FINE, CRASHING, HANGING, BREAKING = "0.12.91", "0.12.92", "0.12.93", "0.12.94"
# What it prints is where the migrations of an image are, and what a later one has to follow.
HEAD = """
import ast, importlib.util, pathlib
own, before = set(), set()
folder = pathlib.Path(importlib.util.find_spec("open_webui").origin).parent / "migrations/versions"
for path in folder.glob("*.py"):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if getattr(target, "id", "") in {"revision", "down_revision"}:
                value = ast.literal_eval(node.value)
                names = {value} if isinstance(value, str) else set(value or ())
                (own if target.id == "revision" else before).update(names)
(head,) = own - before
print(folder, head)
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
    words = ["python3", "-c", HEAD]
    folder, head = engine.containers.run(base, words, entrypoint=[], remove=True).decode().split()

    def migration(name: str, body: str) -> dict[str, str]:
        text = MIGRATION.format(revision=name, head=head, body=body)
        return {f"{folder}/{name}.py": text}

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
    """A user who asks for a page and, as a page that is open does, for the API, again and again."""

    pages: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    answers: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])


@contextmanager
def visited(stack: StackUnderTest) -> Iterator[Visitor]:
    visitor, over = Visitor(), threading.Event()

    def visit() -> None:
        with stack.client() as client:
            while not over.wait(0.2):
                for path, accept, seen in (
                    ("/", "text/html,*/*;q=0.8", visitor.pages),
                    ("/api/v1/chats/", "application/json", visitor.answers),
                ):
                    answer = client.http.get(path, headers={"Accept": accept})
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
    assert f"open_webui.version: {CRASHING} did not become ready: the application ended with exit code 3" in output
    assert f"The data was rolled back to {OLD}." in output
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
    """Update, and kill the update and what it has started at a line of the trial's; return that update's words."""
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
    before = titles(stack)
    name_version(stack, FINE)
    cut_when(stack, "launch: starting it")
    # What a program leaves of a state when it is killed.
    stack.pulumi("cancel", "--yes", stack.name)
    assert journal_of(stack)["attempt"]["step"] == "starting"
    name_version(stack, OLD)
    stack.up().succeeded()
    assert version_of(stack) == OLD
    assert titles(stack) == before
    assert journal_of(stack)["attempt"] is None


def test_a_version_that_works_takes_over_and_visitors_see_a_page_that_comes_back(stack: StackUnderTest) -> None:
    new_chat(stack, "before the upgrade")
    before = titles(stack)
    name_version(stack, FINE)
    with visited(stack) as visitor:
        stack.up().succeeded()
        wait_until(lambda: visitor.pages[-1][0] == HTTPStatus.OK, what="the page to come back")
    assert {status for status, _ in visitor.pages} == {200, 503}
    assert all('http-equiv="refresh"' in text for status, text in visitor.pages if status == 503)
    # No user is signed in; while it is away a program gets that as JSON.
    assert {status for status, _ in visitor.answers} <= {401, 403, 503}
    assert all("detail" in json.loads(text) for status, text in visitor.answers if status == 503)
    assert version_of(stack) == FINE
    assert titles(stack) == before
    assert NO_CHANGE.search(stack.up().succeeded().output)
    journal = journal_of(stack)
    assert (journal["version"], journal["attempt"], journal["kept"]["of"]) == (FINE, None, OLD)


def test_a_downgrade_across_a_migration_is_refused_while_the_later_version_serves_on(stack: StackUnderTest) -> None:
    before = stack.container("open-webui").id
    name_version(stack, OLD)
    with visited(stack) as visitor:
        output = stack.up().failed().output
    assert f"open_webui.version: {OLD} cannot read this database, which {FINE} has migrated (to edge_fine)" in output
    assert "open_webui.upgrade.downgrade: from-snapshot" in output
    assert "Nothing was touched." in output
    assert {status for status, _ in visitor.pages} == {200}
    assert stack.container("open-webui").id == before


EARLIER = "0.11.4"
MANY = 200
QUESTIONS = "Why is the sky blue?"


@pytest.fixture(scope="module")
def earlier(engine: docker.DockerClient) -> str:
    """A real release of the series before, built as the program builds all of them."""
    del engine
    with console.step(f"Open WebUI {EARLIER}") as step:
        ensure(resolve(), RequiredImages(version=EARLIER, source=ImageSource.BUILT), step)
    return EARLIER


SERVICES = {
    "SQLite": {},
    "PostgreSQL, Redis and three replicas": {
        "open_webui": {"replicas": 3},
        "data": {"postgres": {"mode": "container"}, "redis": {"mode": "container"}},
    },
}


@contextmanager
def written(stack: StackUnderTest) -> Iterator[list[str]]:
    """Keep saving chats while the block runs; the titles of those of which the application said that they are saved."""
    saved: list[str] = []
    over = threading.Event()

    def write() -> None:
        with stack.client() as client:
            client.sign_in("admin@example.com", ADMIN_PASSWORD)
            for number in itertools.count():
                if over.wait(0.1):
                    return
                with suppress(OpenWebUIError, httpx.TransportError):
                    client.create_chat(f"under load {number}")
                    saved.append(f"under load {number}")

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    wait_until(lambda: len(saved) > 5, what="the first chats under load")
    try:
        yield saved
    finally:
        over.set()
        thread.join(60)


def all_titles(client: OpenWebUIClient) -> set[str]:
    result = set[str]()
    for page in itertools.count(1):
        chats = client.request("GET", f"/api/v1/chats/?page={page}")
        if not chats:
            return result
        result |= {chat["title"] for chat in chats}
    raise AssertionError


def newcomer_of(page: OpenWebUIPage) -> OpenWebUIPage:
    """Return a tab of a user who has never been there."""
    browser = page.page.context.browser
    assert browser is not None
    return OpenWebUIPage(browser.new_page(), page.url)


def read_release_notes(page: OpenWebUIPage) -> None:
    """Close what an administrator is shown of a version that is new to the browser."""
    with suppress(PlaywrightTimeoutError):
        page.page.get_by_role("button", name="Okay, Let's Go!").click(timeout=20_000)


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.parametrize("services", SERVICES.values(), ids=SERVICES)
def test_a_real_release_takes_over_the_data_of_the_one_before_under_load(
    workshop: Workshop, model_server: ModelServer, earlier: str, services: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {**services, "open_webui": {"version": earlier, **services.get("open_webui", {})}}
    stack = stack_of(workshop, model_server, "it-upgrade-real", **settings)
    with stack.running(), stack.client() as client:
        client.sign_in("admin@example.com", ADMIN_PASSWORD)
        answer = client.chat_over_socket(count_to(10, every=0.01), model_server.models[0])
        messages = {
            str(number): {"id": str(number), "role": "user", "content": f"{QUESTIONS} {number}", "childrenIds": []}
            for number in range(20)
        }
        many = {
            client.request(
                "POST",
                "/api/v1/chats/new",
                {
                    "chat": {
                        "title": f"chat {number}",
                        "models": [],
                        "history": {"messages": messages, "currentId": "19"},
                    }
                },
            )["id"]: f"chat {number}"
            for number in range(MANY)
        }
        before = {chat: client.chat(chat)["chat"]["history"]["messages"] for chat in [answer.chat_id, *many]}
        upload = client.http.post(
            "/api/v1/files/?process=false",
            files={"file": ("notes.txt", b"Nginx reads it from top to bottom.", "text/plain")},
            headers={"Authorization": f"Bearer {client.token}"},
        )
        assert upload.is_success, upload.text
        name_version(stack, OPEN_WEBUI_VERSION)
        with open_webui_page(stack.url, ca_file=stack.ca_file) as page:
            page.sign_in("admin@example.com", ADMIN_PASSWORD)
            read_release_notes(page)
            page.screenshot("upgrade-1-before")
            began = time.monotonic()
            update = stack.workshop.start(
                "pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", stack.name
            )
            with written(stack) as saved, visited(stack) as visitor:
                wait_until(
                    lambda: 503 in {status for status, _ in visitor.pages}, what="the page meanwhile", deadline=600
                )
                newcomer = newcomer_of(page)
                newcomer.open(stack.url)
                newcomer.page.get_by_text("One moment").wait_for()
                newcomer.screenshot("upgrade-2-meanwhile")
                page.screenshot("upgrade-2-meanwhile-in-an-open-page")
                output, _ = update.communicate(timeout=1800)
                assert update.returncode == 0, output
                took = time.monotonic() - began
                # It comes back by itself, to where one signs in.
                newcomer.page.get_by_label("Email").wait_for()
                newcomer.screenshot("upgrade-3-come-back")
            # The page that was open all the time goes on: it is signed in, and nothing of it is white.
            read_release_notes(page)
            page.page.locator("#chat-input").wait_for()
            page.choose_model(model_server.models[0])
            page.send(count_to(5, every=0.05))
            page.watch_answer("1 2 3 4 5")
            page.screenshot("upgrade-3-after-in-the-page-that-was-open")
        print(f"{took:.0f} s, {len(saved)} chats saved under load")  # noqa: T201 - figures

        titles_now = all_titles(client)
        assert not set(saved) - titles_now
        assert set(many.values()) <= titles_now
        after = {chat: client.chat(chat)["chat"]["history"]["messages"] for chat in before}
        assert {chat: contents(messages) for chat, messages in after.items()} == {
            chat: contents(messages) for chat, messages in before.items()
        }
        content = client.http.get(
            f"/api/v1/files/{upload.json()['id']}/content", headers={"Authorization": f"Bearer {client.token}"}
        )
        assert content.content == b"Nginx reads it from top to bottom."
        assert client.request("GET", "/api/version")["version"] == OPEN_WEBUI_VERSION
        assert NO_CHANGE.search(stack.up().succeeded().output)


def contents(messages: dict[str, Any]) -> dict[str, str]:
    return {name: message["content"] for name, message in messages.items()}


@pytest.fixture(scope="module")
def three(workshop: Workshop, model_server: ModelServer, versions: None) -> Iterator[StackUnderTest]:
    """Three replicas on PostgreSQL and Redis."""
    del versions
    stack = stack_of(workshop, model_server, "it-upgrade-pg", **SERVICES["PostgreSQL, Redis and three replicas"])
    with stack.running():
        yield stack


UNGUARDED = "8a98c28"
"""The last commit whose program changed versions without a trial, and whose containers have no label of theirs."""


@pytest.fixture
def unguarded(tmp_path: Path) -> Workshop:
    """The program of that commit."""
    try:
        program = program_of(UNGUARDED, tmp_path / "program")
    except subprocess.CalledProcessError as error:
        lacks(f"no commit {UNGUARDED}: {error.stderr.decode().strip()}")
    return Workshop.at(tmp_path / "workshop", pulumi_environment(), program)


@pytest.mark.long
@pytest.mark.parametrize("services", SERVICES.values(), ids=SERVICES)
def test_a_stack_from_before_upgrades_were_guarded_is_guarded_at_once(
    unguarded: Workshop,
    model_server: ModelServer,
    earlier: str,
    services: dict[str, Any],
    versions: None,
) -> None:
    del versions
    settings: dict[str, Any] = {**services, "open_webui": {"version": earlier, **services.get("open_webui", {})}}
    stack = stack_of(unguarded, model_server, "it-upgrade-old", **settings)
    with stack.running():
        new_chat(stack, "made by the old program")
        assert "version" not in stack.container("open-webui").labels
        stack.workshop.take()
        name_version(stack, CRASHING)
        output = stack.up().failed().output
        assert f"open_webui.version: {CRASHING} did not become ready: the application ended with exit code 3" in output
        runs_again = wait_until(lambda: titles(stack), what=earlier, deadline=120, ignoring=(OpenWebUIError,))
        assert runs_again == {"made by the old program"}
        assert asked_for_version(stack) == earlier
        # The program alone, with the version as it is.
        name_version(stack, earlier)
        stack.up().succeeded()
        assert asked_for_version(stack) == earlier
        name_version(stack, OPEN_WEBUI_VERSION)
        stack.up().succeeded()
        assert asked_for_version(stack) == OPEN_WEBUI_VERSION
        assert titles(stack) == {"made by the old program"}
        assert NO_CHANGE.search(stack.up().succeeded().output)


def asked_for_version(stack: StackUnderTest) -> str:
    with stack.client() as client:
        client.sign_in("admin@example.com", ADMIN_PASSWORD)
        return client.request("GET", "/api/version")["version"]


# The version, how long it may take, and why it does not come up.
FAILURES = {
    "it crashes": (CRASHING, "30m", "the application ended with exit code 3"),
    "it hangs": (HANGING, "3m", "it was not ready in the time that open_webui.upgrade.timeout gives"),
    "its migration breaks off": (BREAKING, "30m", "the migration ended with exit code 1"),
}


@pytest.mark.long
@pytest.mark.parametrize(("version", "timeout", "why"), FAILURES.values(), ids=FAILURES)
def test_a_database_is_as_it_was_after_a_version_that_fails(
    three: StackUnderTest, version: str, timeout: str, why: str
) -> None:
    title = f"before {version}"
    new_chat(three, title)
    before = titles(three)
    name_version(three, version, timeout=timeout)
    output = three.up().failed().output
    assert f"open_webui.version: {version} did not become ready: {why}. The data was rolled back to {OLD}." in output
    assert f"{OLD} runs again." in output
    # Until the proxy has heard that its replicas are ready again, visitors see the page that comes back.
    assert wait_until(lambda: titles(three), what="the old version", deadline=20, ignoring=(OpenWebUIError,)) == before
    name_version(three, OLD)
    assert NO_CHANGE.search(three.up().succeeded().output)


# What the trial says when a step begins, the version that is tried, and the step that the journal is left at.
STEPS = {
    "copying": (FINE, "copying the data"),
    "migrating": (FINE, "migrating to"),
    "starting": (FINE, "starting it"),
    "tried": (FINE, "launch: 0.12.91 works"),
    "restoring": (CRASHING, "launch: failed"),
}


@pytest.mark.long
@pytest.mark.parametrize("next_version", [OLD, FINE], ids=["then the old version", "then the new version"])
@pytest.mark.parametrize(("version", "line"), STEPS.values(), ids=STEPS)
def test_power_that_goes_at_any_step_costs_no_chat(
    three: StackUnderTest, version: str, line: str, next_version: str
) -> None:
    if version_of(three) != OLD:
        name_version(three, OLD, downgrade="from-snapshot")
        three.up().succeeded()
    title = f"before {line}, then {next_version}"
    new_chat(three, title)
    before = titles(three)
    name_version(three, version)
    cut_when(three, line)
    three.pulumi("cancel", "--yes", three.name)
    name_version(three, next_version)
    three.up().succeeded()
    assert version_of(three) == next_version
    assert titles(three) == before
    assert journal_of(three)["attempt"] is None
    assert NO_CHANGE.search(three.up().succeeded().output)
