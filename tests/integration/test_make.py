"""What a person does with `make`, in a home of their own: up, look, down, up again, and what it says when it cannot.

Tests that bring up one more stack are marked long.
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.settings import images
from open_webui_edge.settings.images import ImageSource
from open_webui_edge.settings.recorded_state import renamed
from tests.support.case_files import CASES, read_case
from tests.support.checkout import Checkout, settings
from tests.support.machine import lacks, pulumi_environment
from tests.support.stack import NO_CHANGE, Ended, StackUnderTest, Workshop

_NOBODY_LISTENS = 9
"""The port of a protocol that is out of use (RFC 863)."""


@pytest.fixture(scope="module")
def checkout(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    del engine
    pulumi_environment()  # builds the toolchain, or says that it cannot
    return Checkout.at(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def stack(checkout: Checkout, first_up: Ended) -> StackUnderTest:
    """The stack after its first `make up`."""
    first_up.succeeded()
    return checkout.stack("it-make", _config_in(checkout.workshop.directory / "stacks/examples/it-make.yaml"))


@pytest.fixture(scope="module")
def first_up(checkout: Checkout) -> Iterator[Ended]:
    config = settings()
    checkout.write("it-make", config, as_example=True)
    try:
        yield checkout.make("up", "it-make")
    finally:
        checkout.stack("it-make", config).remove()


@dataclass(frozen=True)
class DownAndUp:
    """What was seen on the way."""

    authority_before: str
    down: Ended
    left: dict[str, list[str]]
    up: Ended


@pytest.fixture(scope="module")
def down_and_up(stack: StackUnderTest, checkout: Checkout) -> DownAndUp:
    """The stack down and up again, with an administrator in its file from then on."""
    authority = stack.outputs()["ca_certificate"]
    down = checkout.make("down", stack.name)
    left = {kind: stack.owned(kind) for kind in ("containers", "networks", "volumes")}
    document = yaml.safe_load(stack.file.read_text())
    document["config"]["open-webui-edge:open_webui"] = {"admin": {"email": "admin@example.com"}}
    stack.file.write_text(yaml.safe_dump(document))
    return DownAndUp(authority, down, left, checkout.make("up", stack.name))


def test_up_ends_with_where_to_go_whom_to_trust_and_what_to_do(first_up: Ended, stack: StackUnderTest) -> None:
    said = first_up.output
    assert f"Open WebUI is at {stack.url}" in said
    assert "`make trust-ca STACK=it-make`" in said
    assert f"Open {stack.url} and create the first account: it becomes the administrator." in said
    assert "Then add a model provider" in said
    shown_ca = stack.workshop.directory / "build/it-make-ca.pem"
    assert "build/it-make-ca.pem" in said
    assert shown_ca.read_text() == stack.outputs()["ca_certificate"]
    with stack.client() as client:
        assert client.ready()


def test_the_passphrase_is_for_nobody_else(first_up: Ended, checkout: Checkout) -> None:
    first_up.succeeded()
    assert checkout.passphrase.stat().st_mode & 0o777 == 0o600
    assert checkout.passphrase.parent.stat().st_mode & 0o777 == 0o700
    assert len(checkout.passphrase.read_text().strip()) >= 32


def test_the_stack_file_is_made_from_the_example_and_says_where_the_images_come_from(stack: StackUnderTest) -> None:
    written = _config_in(stack.file)
    assert written["site"] == stack.config["site"]
    assert written["images"]["source"] in {source.value for source in ImageSource}
    assert "images" not in stack.config


def test_a_second_up_changes_nothing_and_keeps_the_source_of_the_images(
    stack: StackUnderTest, checkout: Checkout
) -> None:
    before = stack.file.read_text()
    up = checkout.make("up", stack.name).succeeded()
    assert NO_CHANGE.search(up.output), up.output
    assert "there already" in up.output
    assert stack.file.read_text() == before


@pytest.mark.parametrize("variable", ["http_proxy", "HTTPS_PROXY"])
def test_a_proxy_in_the_environment_gets_nothing_of_what_this_machine_says_to_itself(
    stack: StackUnderTest, checkout: Checkout, variable: str
) -> None:
    nowhere = {variable: f"http://127.0.0.1:{_NOBODY_LISTENS}"}
    up = checkout.make("up", stack.name, **nowhere).succeeded()
    assert NO_CHANGE.search(up.output), up.output
    plain = checkout.in_shell("pulumi preview --non-interactive --expect-no-changes", stack.name, **nowhere)
    plain.succeeded()


def test_status_is_0_and_a_table_while_all_is_well_and_1_when_a_container_is_not(
    stack: StackUnderTest, checkout: Checkout
) -> None:
    lines = checkout.make("status", stack.name).succeeded().output.splitlines()
    assert lines[0].split() == ["ROLE", "NAME", "STATE", "HEALTH", "PORTS", "IMAGE"]
    assert {line.split()[0] for line in lines[1:]} == {"nginx", "nginx-installer", "open-webui"}
    assert f"127.0.0.1:{stack.https_port}->443/tcp" in "\n".join(lines)
    nginx = stack.container("nginx")
    nginx.stop()
    try:
        assert "exited" in checkout.make("status", stack.name).failed().output
    finally:
        nginx.start()
        wait_until(lambda: _health(stack, "nginx") == "healthy", what="a healthy proxy")
    checkout.make("status", stack.name).succeeded()


def test_logs_shows_what_one_role_wrote(stack: StackUnderTest, checkout: Checkout) -> None:
    with stack.client() as client:
        client.ready()
    lines = checkout.make("logs", stack.name, ROLE="nginx").succeeded().output.splitlines()
    assert lines
    assert [line for line in lines if not line.startswith("edge-it-make-nginx | ")] == []
    assert "no container" in checkout.make("logs", stack.name, ROLE="teapot").failed().output.lower()


def test_plain_pulumi_works_in_a_shell_that_evaluated_make_env(stack: StackUnderTest, checkout: Checkout) -> None:
    up = checkout.in_shell("pulumi up --yes --skip-preview --non-interactive", stack.name).succeeded()
    assert NO_CHANGE.search(up.output), up.output


@pytest.mark.long
def test_a_shell_stays_with_its_stack_whatever_make_does_for_others(stack: StackUnderTest, checkout: Checkout) -> None:
    with a_new_stack(checkout, "it-make-beside") as beside:
        others = (
            f"make preview STACK={beside.name} && ! make status STACK={beside.name} && make -s env STACK={beside.name}"
        )
        shown = "pulumi stack --show-name && pulumi preview --non-interactive"
        pinned = checkout.in_shell(f"({others}) >/dev/null 2>&1 && {shown}", stack.name).succeeded()
        assert pinned.output.splitlines()[0] == stack.name
        assert NO_CHANGE.search(pinned.output), pinned.output
        # And another terminal with what was selected there; `--stack` overrules the pin.
        unpinned = f"unset PULUMI_STACK; pulumi stack select {beside.name} && make preview && pulumi stack --show-name"
        assert checkout.in_shell(unpinned, stack.name).succeeded().output.splitlines()[-1] == beside.name
        overruled = f"pulumi stack --show-name --stack {beside.name}"
        assert checkout.in_shell(overruled, stack.name).succeeded().output.strip() == beside.name


def test_a_renamed_stack_is_left_as_it_is_until_it_has_its_name_back(stack: StackUnderTest, checkout: Checkout) -> None:
    other = f"{stack.name}-renamed"
    before = {name: stack.engine.containers.get(name).id for name in stack.owned("containers")}
    stack.pulumi("stack", "rename", other, "--stack", stack.name).succeeded()
    try:
        refused = [checkout.make(target, other, DATA=data, YES="1") for target, data in RENAMED]
        refused.append(checkout.in_shell("pulumi up --yes --skip-preview --non-interactive", other))
        said = renamed(other, stack.name)
        assert [said in ended.failed().output for ended in refused] == [True] * len(refused)
    finally:
        # As the message says.
        checkout.in_shell(f"pulumi stack rename --stack {other} {stack.name}", other).succeeded()
    assert {name: stack.engine.containers.get(name).id for name in stack.owned("containers")} == before
    assert NO_CHANGE.search(checkout.make("up", stack.name).succeeded().output)


RENAMED = [("up", ""), ("preview", ""), ("backup", ""), ("down", ""), ("down", "delete")]
"""What `make` is asked to do with a renamed stack, and DATA."""


def test_no_setting_lets_go_of_the_data(stack: StackUnderTest, checkout: Checkout) -> None:
    before = stack.file.read_text()
    document = yaml.safe_load(before)
    document["config"]["open-webui-edge:data"] = {"keep": False}
    stack.file.write_text(yaml.safe_dump(document))
    try:
        up = checkout.make("up", stack.name).succeeded()
    finally:
        stack.file.write_text(before)
    assert NO_CHANGE.search(up.output), up.output
    assert f"stacks/{stack.file.name}: data.keep: is deprecated and has no effect" in up.output


def test_preview_says_what_up_would_change(stack: StackUnderTest, checkout: Checkout) -> None:
    before = stack.file.read_text()
    document = yaml.safe_load(before)
    document["config"]["open-webui-edge:proxy"] = {"timeouts": {"read": "7m"}}
    stack.file.write_text(yaml.safe_dump(document))
    try:
        assert "edge-nginx-installer replace" in checkout.make("preview", stack.name).succeeded().output
    finally:
        stack.file.write_text(before)


def test_down_removes_everything_but_data(down_and_up: DownAndUp) -> None:
    down_and_up.down.succeeded()
    assert down_and_up.left == {
        "containers": [],
        "networks": [],
        "volumes": ["edge-it-make-letsencrypt", "edge-it-make-open-webui-data"],
    }


def test_up_after_down_finds_the_same_authority(down_and_up: DownAndUp, stack: StackUnderTest) -> None:
    down_and_up.up.succeeded()
    assert stack.outputs()["ca_certificate"] == down_and_up.authority_before


def test_up_ends_with_how_to_sign_in_where_there_is_an_administrator(
    down_and_up: DownAndUp, stack: StackUnderTest
) -> None:
    said = down_and_up.up.succeeded().output
    assert f"Sign in at {stack.url} as admin@example.com." in said
    assert f"`pulumi stack output admin_password --show-secrets --stack {stack.name}`" in said
    assert "create the first account" not in said
    with stack.client() as client:
        client.sign_in("admin@example.com", stack.outputs()["admin_password"])


def test_deleting_data_asks_and_another_answer_than_its_name_deletes_nothing(
    down_and_up: DownAndUp, stack: StackUnderTest, checkout: Checkout
) -> None:
    down_and_up.up.succeeded()
    before = (stack.owned("containers"), stack.owned("volumes"))
    asked = checkout.make_answering("yes", "down", stack.name, DATA="delete").failed()
    assert f"Type {stack.name} to continue" in asked.output
    assert "nothing was deleted" in asked.output
    unasked = checkout.make("down", stack.name, DATA="delete").failed()
    assert "needs confirmation and there is no terminal; set YES=1 to confirm" in unasked.output
    misspelt = checkout.make("down", stack.name, DATA="deleted").failed()
    assert "invalid DATA=deleted; use DATA=delete to delete the data too, or omit it" in misspelt.output
    assert (stack.owned("containers"), stack.owned("volumes")) == before
    with stack.client() as client:
        assert client.ready()


def test_deleting_data_deletes_it_when_its_name_is_typed(
    down_and_up: DownAndUp, stack: StackUnderTest, checkout: Checkout
) -> None:
    down_and_up.up.succeeded()
    before = stack.file.read_text()
    down = checkout.make_answering(stack.name, "down", stack.name, DATA="delete").succeeded()
    assert f"The stack {stack.name} and its data are gone" in down.output
    assert [stack.owned(kind) for kind in ("containers", "networks", "volumes")] == [[], [], []]
    assert _resources(stack) == []
    assert stack.file.read_text() == before


@pytest.mark.long
def test_deleting_data_deletes_it_after_a_plain_down_too(checkout: Checkout) -> None:
    name = "it-make-data"
    config = settings(images={"source": "built"})
    checkout.write(name, config)
    stack = checkout.stack(name, config)
    try:
        stack.pulumi("stack", "init", name).succeeded()
        # Its data without its containers, which take longer and are not what this is about.
        stack.up("--exclude", "**-image", "--exclude", "**-network", "--exclude-dependents").succeeded()
        assert f"edge-{name}-open-webui-data" in stack.owned("volumes")
        checkout.make("down", name).succeeded()
        assert stack.owned("volumes") == [f"edge-{name}-letsencrypt", f"edge-{name}-open-webui-data"]
        checkout.make("down", name, DATA="delete", YES="1").succeeded()
        assert stack.owned("volumes") == []
        assert _resources(stack) == []
    finally:
        _remove_what_is_there(stack)


@contextmanager
def a_new_stack(checkout: Checkout, name: str, **topics: Any) -> Iterator[StackUnderTest]:
    """Write a stack's file; afterwards make sure that nothing of it is left."""
    config = settings(**{"images": {"source": "built"}, **topics})
    checkout.write(name, config)
    stack = checkout.stack(name, config)
    try:
        yield stack
    finally:
        _remove_what_is_there(stack)


@pytest.fixture
def passphrase(checkout: Checkout) -> Path:
    """The person's passphrase, which an earlier `make` has made."""
    checkout.in_shell("true", "it-make").succeeded()
    return checkout.passphrase


def test_a_port_taken_by_another_program_is_one_sentence(checkout: Checkout) -> None:
    with a_new_stack(checkout, "it-make-port") as stack:
        port = stack.https_port
        said = (
            f"stacks/Pulumi.it-make-port.yaml: site.listen.https_port: {port} on 127.0.0.1 is not available: "
            f"another program listens there (`ss -ltnp 'sport = :{port}'` names it)"
        )
        with socket.create_server(("127.0.0.1", port)):
            by_make = checkout.make("up", stack.name).failed()
            by_pulumi = checkout.in_shell("pulumi up --yes --non-interactive", stack.name).failed()
        for ended in (by_make, by_pulumi):
            assert said in ended.output
            assert "unhandled" not in ended.output
        assert _resources(stack) == []


def test_no_docker_engine_is_one_sentence(checkout: Checkout) -> None:
    nowhere = {"DOCKER_HOST": "unix:///nonexistent", "BOOTSTRAP_DOCKER": "0"}
    with a_new_stack(checkout, "it-make-nowhere") as stack:
        by_make = checkout.make("up", stack.name, **nowhere).failed()
        assert "No Docker engine answers at unix:///nonexistent (DOCKER_HOST): start it" in by_make.output
        stack.pulumi("stack", "init", stack.name).succeeded()
        by_pulumi = checkout.in_shell("pulumi up --yes --non-interactive", stack.name, **nowhere).failed()
        assert "The Docker engine at unix:///nonexistent does not answer; start it" in by_pulumi.output
        for target in ("status", "down"):
            ended = checkout.make(target, stack.name, **nowhere).failed()
            assert "No Docker engine answers at unix:///nonexistent (DOCKER_HOST): start it" in ended.output
        assert _resources(stack) == []


def test_a_missing_built_image_is_one_sentence(checkout: Checkout) -> None:
    with a_new_stack(checkout, "it-make-image", open_webui={"version": "0.0.1"}) as stack:
        stack.pulumi("stack", "init", stack.name).succeeded()
        said = stack.up().failed().output
        assert (
            "images.source: built, but this Docker engine has no image open-webui-edge/open-webui:0.0.1-debian" in said
        )
        assert "`make up` builds it" in said
        assert _resources(stack) == []


def test_a_registry_that_cannot_be_reached_is_one_sentence(checkout: Checkout) -> None:
    registry = f"127.0.0.1:{_NOBODY_LISTENS}"
    pulled = {"source": "pulled", "registry": registry}
    with a_new_stack(checkout, "it-make-registry", images=pulled) as stack:
        said = checkout.make("up", stack.name).failed().output
        assert f"{images.NGINX.reference(ImageSource.PULLED, registry)} cannot be pulled: " in said
        assert "connection refused. Check the network, images.registry and `docker login`." in said
        assert _resources(stack) == []


def test_a_wrong_passphrase_is_one_sentence(checkout: Checkout, passphrase: Path) -> None:
    right = passphrase.read_text()
    with a_new_stack(checkout, "it-make-passphrase") as stack:
        stack.pulumi("stack", "init", stack.name).succeeded()
        try:
            passphrase.write_text("a wrong one\n")
            by_make = checkout.make("up", stack.name).failed()
            by_pulumi = checkout.in_shell("pulumi up --yes --non-interactive", stack.name).failed()
        finally:
            passphrase.write_text(right)
        assert f"The passphrase in the file {passphrase} is not this stack's" in by_make.output
        assert "incorrect passphrase" in by_pulumi.output
        assert _resources(stack) == []


@contextmanager
def a_full_disk(at: Path) -> Iterator[None]:
    """Mount a disk without room for anything."""
    at.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        lacks("no right to mount a small disk")
    mounted = subprocess.run(  # noqa: S603 - the test's own words
        [mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(at)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        lacks(f"no way to mount a small disk ({mounted.stderr.strip()})")
    try:
        with suppress(OSError):
            (at / "filler").write_bytes(b"\0" * (65 << 10))
        yield
    finally:
        subprocess.run(["umount", str(at)], check=True)  # noqa: S607, S603 - the test's own words


@pytest.mark.parametrize("variable", ["XDG_DATA_HOME", "XDG_CONFIG_HOME"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    checkout: Checkout, tmp_path: Path, variable: str
) -> None:
    disk = tmp_path / "disk"
    with a_new_stack(checkout, "it-make-disk") as stack, a_full_disk(disk):
        said = checkout.make("up", stack.name, **{variable: str(disk)}).failed().output
        assert "The disk is full" in said
        assert "free some space and run it again." in said
        # An empty passphrase would be taken for the right one from then on.
        assert not (disk / "open-webui-edge/passphrase").exists()
        assert stack.owned("containers") == []


def test_a_disk_too_small_to_build_on_is_one_sentence_before_anything_is_built(
    checkout: Checkout, tmp_path: Path
) -> None:
    if shutil.which("go") is None:
        lacks("no Go")
    search_path = checkout.workshop.environment["PATH"].split(os.pathsep)
    without_pulumi = os.pathsep.join(folder for folder in search_path if not Path(folder, "pulumi").exists())
    disk = tmp_path / "disk"
    with a_new_stack(checkout, "it-make-disk") as stack, a_full_disk(disk):
        said = checkout.make("up", stack.name, XDG_CACHE_HOME=str(disk), PATH=without_pulumi).failed().output
        assert f"Building Pulumi needs 1.0 GB at {disk}/open-webui-edge, but only 0.0 GB are free there" in said


@pytest.mark.parametrize("case", ["unknown-key", "port-used-twice", "many-faults-at-once"])
def test_a_wrong_stack_file_is_refused_before_anything_is_registered(workshop: Workshop, case: str) -> None:
    path = CASES / f"refused/{case}.yaml"
    stack = StackUnderTest(workshop, f"it-make-{case}", {})
    stack.file.write_text(path.read_text().partition("----\n")[0])
    try:
        stack.pulumi("stack", "init", stack.name).succeeded()
        said = stack.up().failed().output
        for line in read_case(path).expected.strip().splitlines():
            assert line.replace("Pulumi.unit.yaml", stack.file.name) in said
        assert _resources(stack) == []
    finally:
        _remove_what_is_there(stack)


def _remove_what_is_there(stack: StackUnderTest) -> None:
    """Remove a stack that should not have been made: nothing, in most cases, which needs no update."""
    if any(stack.owned(kind) for kind in ("containers", "networks", "volumes")):
        stack.remove()


def _config_in(file: Path) -> dict[str, Any]:
    config = yaml.safe_load(file.read_text())["config"]
    return {key.removeprefix("open-webui-edge:"): value for key, value in config.items()}


def _health(stack: StackUnderTest, role: str) -> str:
    return stack.container(role).attrs["State"]["Health"]["Status"]


def _resources(stack: StackUnderTest) -> list[str]:
    """Return what the state holds besides the stack itself, which an update registers before any program runs."""
    exported = stack.pulumi("stack", "export", "--stack", stack.name)
    if "no stack named" in exported.output:
        return []
    resources = json.loads(exported.succeeded().output)["deployment"].get("resources") or []
    # And the way to the state itself, which the program reads before all else.
    own = {"pulumi:pulumi:Stack", "pulumi:providers:pulumi"}
    return [resource["urn"] for resource in resources if resource["type"] not in own]
