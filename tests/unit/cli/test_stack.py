"""Stack files, and what Pulumi's words mean."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.bootstrap.images import RequiredImages
from open_webui_edge.bootstrap.pulumi_cli import PulumiCLI
from open_webui_edge.cli import commands, session, stack
from open_webui_edge.cli.stack import Stack
from open_webui_edge.settings.images import OLLAMA, POSTGRES, PROMETHEUS, ImageSource


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stack files, with one example."""
    stacks = tmp_path / "stacks"
    (stacks / "examples").mkdir(parents=True)
    (stacks / "examples/local.yaml").write_text("# an example\nconfig: {}\n")
    monkeypatch.setattr(stack, "FOLDER", stacks)
    monkeypatch.setattr(stack, "EXAMPLES", stacks / "examples")
    monkeypatch.setattr("open_webui_edge.bootstrap.paths.CHECKOUT", tmp_path)
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
        "Copy one of them to stacks/Pulumi.team.yaml and edit it."
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
    assert stack.required_images(stack.settings_of("local")) == RequiredImages(
        "0.13.0", "registry.example.com/mirror", ImageSource.BUILT, (OLLAMA, POSTGRES, PROMETHEUS)
    )


@pytest.mark.parametrize("value", [3, None, ["built"], "elsewhere", {"a": 1}])
def test_what_is_wrong_about_images_is_left_to_the_program_to_refuse(value: object) -> None:
    settings = {"images": {"source": value, "registry": 1}, "open_webui": value}
    assert stack.required_images(settings) == RequiredImages()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "error: getting stack configuration: get stack secrets manager: incorrect passphrase",
            (
                "The passphrase in the file /f is not this stack's; write the right one there "
                "(without it the secrets cannot be decrypted)."
            ),
        ),
        (
            "error: passphrase must be set with PULUMI_CONFIG_PASSPHRASE or …",
            (
                "This backend encrypts secrets with a passphrase and none is set; set PULUMI_CONFIG_PASSPHRASE_FILE to "
                "a file that holds it."
            ),
        ),
        (
            "Error: write /var/lib/docker/tmp/x: no space left on device",
            "The disk is full (no space left on device); free some space and run it again.",
        ),
        (
            "driver failed: Bind for 127.0.0.1:8443 failed: port is already allocated",
            "Another program listens on 127.0.0.1:8443; stop it, or use other ports (site.listen).",
        ),
        (
            "error starting userland proxy: listen tcp4 0.0.0.0:443: bind: address already in use",
            "Another program listens on 0.0.0.0:443; stop it, or use other ports (site.listen).",
        ),
        (
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "The Docker engine stopped answering; start it and run this again: Pulumi continues where it stopped.",
        ),
        (
            'error: resource "urn:a::b" cannot be deleted\nbecause it is protected. To unprotect the resource, either',
            (
                "An update would delete or replace urn:a::b, which holds data and is protected; nothing changed."
                " Restore the setting that requires it (docs/operations.md: A setting that would drop data)."
            ),
        ),
        (
            'error: unable to replace resource "urn:a::b"\nas it is currently marked for protection.',
            (
                "An update would delete or replace urn:a::b, which holds data and is protected; nothing changed."
                " Restore the setting that requires it (docs/operations.md: A setting that would drop data)."
            ),
        ),
        (
            "error: the stack is currently locked by 1 lock(s).",
            (
                "Another update of this stack runs, or was killed. Wait for it; or, if none runs any more, unlock the "
                'stack: (cd /checkout && eval "$(make -s env STACK=team)" && pulumi cancel --yes --stack team)'
            ),
        ),
        (
            "error: [409] Conflict: Another update is currently in progress.",
            (
                "Another update of this stack runs, or was killed. Wait for it; or, if none runs any more, unlock the "
                'stack: (cd /checkout && eval "$(make -s env STACK=team)" && pulumi cancel --yes --stack team)'
            ),
        ),
        ("stacks/Pulumi.local.yaml: site.domain: is no name", None),
    ],
)
def test_what_pulumi_says_becomes_a_sentence(words: str, sentence: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_webui_edge.bootstrap.paths.CHECKOUT", Path("/checkout"))
    assert stack.explanation(words, "the file /f", "team") == sentence


@pytest.fixture
def made(tmp_path: Path) -> Stack:
    """A stack, and a Pulumi that writes down how it was called and knows no stack but `there`."""
    fake = tmp_path / "pulumi"
    fake.write_text(
        f"""#!/bin/sh
echo "$*" >>'{tmp_path}/calls'
case "$*" in *"--stack there "*|"stack init "*) exit 0;; esac
echo "error: no stack named 'away' found" >&2
exit 255
"""
    )
    fake.chmod(0o755)
    return Stack("there", PulumiCLI(fake, "a test's", {}), {})


def test_looking_for_a_stack_and_making_one_selects_none(made: Stack, tmp_path: Path) -> None:
    assert made.exists()
    assert not replace(made, name="away").exists()
    made.create()
    assert (tmp_path / "calls").read_text().splitlines() == [
        "stack --show-name --stack there --non-interactive",
        "stack --show-name --stack away --non-interactive",
        "stack init there --no-select --non-interactive",
    ]


def test_the_shell_that_evaluates_make_env_is_pinned_to_its_stack(
    made: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "stack_of", lambda _: made)
    assert commands.env("there") == 0
    assert capsys.readouterr().out.splitlines() == ["export PULUMI_STACK=there"]


def test_a_released_state_keeps_everything_else_of_it() -> None:
    protected = {"urn": "a", "protect": True, "retainOnDelete": True, "inputs": {"size": 50}}
    state = {
        "version": 3,
        "deployment": {"resources": [protected, {"urn": "b"}], "secrets_providers": {"type": "passphrase"}},
    }
    assert json.loads(stack.unprotected_state(json.dumps(state))) == {
        "version": 3,
        "deployment": {
            "resources": [{"urn": "a", "inputs": {"size": 50}}, {"urn": "b"}],
            "secrets_providers": {"type": "passphrase"},
        },
    }
    empty = {"version": 3, "deployment": {}}
    assert json.loads(stack.unprotected_state(json.dumps(empty))) == empty


def test_a_state_in_which_something_is_protected_again_keeps_everything_else_of_it() -> None:
    lost, other = {"urn": "a", "inputs": {"size": 50}}, {"urn": "b"}
    state = {"version": 3, "deployment": {"resources": [lost, other]}}
    assert json.loads(stack.protected_state(json.dumps(state), ["a"])) == {
        "version": 3,
        "deployment": {"resources": [{**lost, "protect": True, "retainOnDelete": True}, other]},
    }
    empty = {"version": 3, "deployment": {}}
    assert json.loads(stack.protected_state(json.dumps(empty), ["a"])) == empty
