"""The generated documents say what the settings are."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from open_webui_edge.settings import images
from open_webui_edge.settings.documents import DOCUMENTS, example, schema, settings_of
from open_webui_edge.settings.faults import model_of
from open_webui_edge.settings.stack import StackSettings

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", DOCUMENTS)
def test_committed_document_is_what_the_settings_say(name: str) -> None:
    assert (ROOT / name).read_text() == DOCUMENTS[name](), "run: make docs"


def test_operations_says_of_every_pulled_image_what_becomes_of_its_tag() -> None:
    pulled = [image for image in vars(images).values() if isinstance(image, images.Image)]
    rows = {
        (name.strip(), row.split("|")[2].strip().strip("`"))
        for row in (ROOT / "docs/operations.md").read_text().splitlines()
        if row.startswith("| ") and row.count("|") == 5
        for name in row.split("|")[1].partition("(")[0].split(",")
    }
    assert len(pulled) > 7
    for image in (*pulled, images.open_webui(images.OPEN_WEBUI_VERSION)):
        assert (image.repository.removeprefix("library/"), image.tag) in rows, image


def test_example_is_a_valid_stack() -> None:
    assert settings_of(example()).site.url == "https://chat.example.com"


def test_example_names_every_setting() -> None:
    text = example()
    for name in _names(StackSettings):
        assert f"{name}:" in text, name


@pytest.mark.parametrize("file", sorted((ROOT / "stacks/examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_examples_are_valid_and_hold_neither_salt_nor_secret(file: Path) -> None:
    text = file.read_text()
    settings_of(text)
    assert "encryptionsalt" not in text
    assert "secure:" not in text


def test_schema_accepts_a_secret_as_pulumi_writes_it() -> None:
    provider = json.loads(schema())["$defs"]["ProviderSettings"]["properties"]["api_key"]
    assert "secure" in json.dumps(provider)


def test_defaults_are_themselves_valid() -> None:
    written = json.loads(StackSettings().model_dump_json())
    # What belongs to a mode that is not chosen may not be written.
    del written["models"]["ollama"]["container"]
    del written["certificate"]["lets_encrypt"], written["certificate"]["acm"]
    del written["data"]["postgres"]["memory"], written["data"]["postgres"]["vector_length"]
    del written["data"]["redis"]["memory"]
    assert StackSettings.model_validate_json(json.dumps(written)) == StackSettings()


def _names(model: type[BaseModel]) -> set[str]:
    names = set(model.model_fields)
    for field in model.model_fields.values():
        below, _ = model_of(field.annotation)
        names |= _names(below) if below is not None else set()
    return names
