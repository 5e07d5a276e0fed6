"""Stack files, and what Pulumi's words mean."""

import json
from pathlib import Path

import pytest

from bootstrap import stack
from bootstrap.images import Wanted
from bootstrap.problem import ProblemError
from components.images import ImageSource


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stack files, with one example."""
    stacks = tmp_path / "stacks"
    (stacks / "examples").mkdir(parents=True)
    (stacks / "examples/local.yaml").write_text("# an example\nconfig: {}\n")
    monkeypatch.setattr(stack, "FOLDER", stacks)
    monkeypatch.setattr(stack, "EXAMPLES", stacks / "examples")
    monkeypatch.setattr("bootstrap.places.CHECKOUT", tmp_path)
    return stacks


def test_the_first_run_makes_the_file_from_the_example_and_later_ones_leave_it(folder: Path) -> None:
    assert stack.make_file("local")
    (folder / "Pulumi.local.yaml").write_text("config: {} # mine\n")
    assert not stack.make_file("local")
    assert (folder / "Pulumi.local.yaml").read_text() == "config: {} # mine\n"


def test_an_unknown_stack_is_told_which_examples_there_are(folder: Path) -> None:
    with pytest.raises(ProblemError) as refused:
        stack.make_file("team")
    assert str(refused.value) == (
        "There is no stack team: neither stacks/Pulumi.team.yaml nor an example of that name (there are: local). "
        "Copy one of them to stacks/Pulumi.team.yaml and make it yours."
    )
    assert not (folder / "Pulumi.team.yaml").exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "-x", ".x", "x;y", "x\n", "ü", "x" * 101])
def test_a_name_that_cannot_be_a_stacks_is_refused(name: str) -> None:
    with pytest.raises(ProblemError, match="is not a name for a stack"):
        stack.file_of(name)


def test_a_file_that_is_no_yaml_is_named_with_its_line(folder: Path) -> None:
    (folder / "Pulumi.local.yaml").write_text("config:\n  a: [\n")
    with pytest.raises(ProblemError, match=r"^stacks/Pulumi\.local\.yaml: line 3: "):
        stack.settings_of("local")


@pytest.mark.parametrize("content", ["", "[]", "config: 3", "config: [a]", "other: {}"])
def test_a_file_without_settings_has_none(content: str, folder: Path) -> None:
    (folder / "Pulumi.local.yaml").write_text(content)
    assert stack.settings_of("local") == {}


def test_what_a_stack_says_of_its_images_is_read(folder: Path) -> None:
    (folder / "Pulumi.local.yaml").write_text(
        "config:\n"
        "  open-webui-edge:images: {source: built, registry: registry.example.com/mirror}\n"
        "  open-webui-edge:open_webui: {version: 0.13.0}\n"
        "  open-webui-edge:models: {ollama: {mode: container}}\n"
        "  open-webui-edge:data: {postgres: {mode: container}, redis: {mode: url}}\n"
        "  open-webui-edge:monitoring: {prometheus: {enabled: true}}\n"
        "  other:images: {source: pulled}\n"
    )
    assert stack.wanted_images(stack.settings_of("local")) == Wanted(
        "0.13.0", "registry.example.com/mirror", ImageSource.BUILT, ollama=True, postgres=True, prometheus=True
    )


@pytest.mark.parametrize("value", [3, None, ["built"], "elsewhere", {"a": 1}])
def test_what_is_wrong_about_images_is_left_to_the_program_to_refuse(value: object) -> None:
    settings = {"images": {"source": value, "registry": 1}, "open_webui": value}
    assert stack.wanted_images(settings) == Wanted()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "error: getting stack configuration: get stack secrets manager: incorrect passphrase",
            (
                "The passphrase in the file /f is not the one that this stack was made with; put the right one there "
                "(nothing else opens its secrets)."
            ),
        ),
        (
            "error: passphrase must be set with PULUMI_CONFIG_PASSPHRASE or …",
            (
                "This backend keeps secrets under a passphrase and none is given; set PULUMI_CONFIG_PASSPHRASE_FILE to "
                "a file that holds it."
            ),
        ),
        (
            "Error: write /var/lib/docker/tmp/x: no space left on device",
            "The disk is full (no space left on device); free some space and run it again.",
        ),
        (
            "driver failed: Bind for 127.0.0.1:8443 failed: port is already allocated",
            "Another program listens on 127.0.0.1:8443; stop it, or choose other ports (site.listen).",
        ),
        (
            "error starting userland proxy: listen tcp4 0.0.0.0:443: bind: address already in use",
            "Another program listens on 0.0.0.0:443; stop it, or choose other ports (site.listen).",
        ),
        (
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "The Docker engine stopped answering; start it and run this again: Pulumi goes on from where it stopped.",
        ),
        (
            "error: the stack is currently locked by 1 lock(s).",
            "Another update of this stack runs, or was killed; wait for it, or free the stack with `pulumi cancel`.",
        ),
        ("stacks/Pulumi.local.yaml: site.domain: is no name", None),
    ],
)
def test_what_pulumi_says_becomes_a_sentence(words: str, sentence: str | None) -> None:
    assert stack.explanation(words, "the file /f") == sentence


def test_a_released_state_keeps_everything_else_of_it() -> None:
    kept = {"urn": "a", "protect": True, "retainOnDelete": True, "inputs": {"size": 50}}
    state = {
        "version": 3,
        "deployment": {"resources": [kept, {"urn": "b"}], "secrets_providers": {"type": "passphrase"}},
    }
    assert json.loads(stack.released(json.dumps(state))) == {
        "version": 3,
        "deployment": {
            "resources": [{"urn": "a", "inputs": {"size": 50}}, {"urn": "b"}],
            "secrets_providers": {"type": "passphrase"},
        },
    }
    empty = {"version": 3, "deployment": {}}
    assert json.loads(stack.released(json.dumps(empty))) == empty
