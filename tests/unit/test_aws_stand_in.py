"""What the stand-in for Pulumi's AWS provider makes of names and values."""

from typing import Any

import pytest

from tests.support.aws_provider import protocol, sdk, values
from tests.support.aws_provider.shape import Form, Shape


@pytest.mark.parametrize(
    ("word", "several"),
    [
        ("policy", "policies"),
        ("key", "keys"),
        ("address", "addresses"),
        ("alias", "aliases"),
        ("subnet", "subnets"),
        ("tags", "tags"),
    ],
)
def test_words_for_several_are_pulumis(word: str, several: str) -> None:
    assert sdk.plural(word) == several


def test_the_sdk_says_what_is_one_and_what_are_many() -> None:
    instance = sdk.of_resource("ec2", "instance")
    assert instance is not None
    assert not instance.properties["rootBlockDevice"].many
    assert instance.properties["ebsBlockDevices"].many
    part = instance.of_part(instance.properties["rootBlockDevice"])
    assert part is not None
    assert "volumeSize" in part.properties


def test_a_function_answers_what_the_sdk_says() -> None:
    image = sdk.of_function("ec2", "getAmi")
    assert image is not None
    assert image.properties["filters"].many


def attribute(name: str, type_: str, **flags: bool) -> Any:
    return protocol.message("Attribute", name=name, type=type_.encode(), **flags)


@pytest.fixture
def shape() -> Shape:
    """A record of a name, a number, a size that the provider chooses, tags, and a block of at most one."""
    inner = protocol.message("Block", attributes=[attribute("volume_size", '"number"', optional=True, computed=True)])
    block = protocol.message(
        "Block",
        attributes=[
            attribute("name", '"string"', required=True),
            attribute("size", '"number"', optional=True, computed=True),
            attribute("encrypted", '"bool"', optional=True),
            attribute("tags", '["map","string"]', optional=True),
        ],
        block_types=[
            protocol.message(
                "NestedBlock", type_name="root_block_device", block=inner, nesting=protocol.LIST, max_items=1
            )
        ],
    )
    return Shape.of_block(block).named("aws_thing", None)


def test_values_go_there_and_come_back(shape: Shape) -> None:
    given = {"name": "x", "encrypted": "true", "tags": {"a": "b"}, "rootBlockDevice": {"volumeSize": 16.0}}
    there = values.to_terraform(given, shape, "thing")
    assert there == {
        "name": "x",
        "size": None,
        "encrypted": True,
        "tags": {"a": "b"},
        "root_block_device": [{"volume_size": 16}],
    }
    assert values.to_pulumi(there, shape) == {**given, "encrypted": True}


def test_what_is_known_later_stays_so_on_the_wire(shape: Shape) -> None:
    later = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
    there = values.to_terraform({"name": later}, shape, "thing")
    assert there["name"] is values.UNKNOWN
    back = values.unpack(values.pack(there))
    assert values.has_unknown(back)
    assert values.to_pulumi(back, shape)["name"] == later


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"nmae": "x"},
            "thing.nmae: there is no such property, but encrypted, name, rootBlockDevice, size, tags",
        ),
        ({"size": "large"}, "thing.size: 'large' is no number"),
        ({"encrypted": "yes"}, "thing.encrypted: 'yes' is neither true nor false"),
        ({"rootBlockDevice": "x"}, "thing.rootBlockDevice[0]: 'x' is no object"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(shape: Shape, given: dict[str, Any], message: str) -> None:
    with pytest.raises(values.RefusedError) as refused:
        values.to_terraform(given, shape, "thing")
    assert str(refused.value) == message


def test_what_the_provider_chose_stays_where_nothing_else_is_wanted(shape: Shape) -> None:
    prior = {"name": "x", "size": 8, "encrypted": True, "tags": None, "root_block_device": [{"volume_size": 16}]}
    expected = values.to_terraform({"name": "y", "rootBlockDevice": {}}, shape, "thing")
    assert values.proposed(prior, expected, shape) == {
        "name": "y",
        "size": 8,
        "encrypted": None,
        "tags": None,
        "root_block_device": [{"volume_size": 16}],
    }


def test_a_set_has_no_order() -> None:
    shape = Shape(Form.SET, element=Shape(Form.TEXT))
    assert not values.differ(["a", "b"], ["b", "a"], shape)
    assert values.differ(["a", "b"], ["a"], shape)


def test_secrets_are_seen_wherever_they_are_and_taken_off() -> None:
    marked = {"a": [values.secret("s")], "b": 1}
    assert values.is_secret(marked)
    assert values.bare(marked) == {"a": ["s"], "b": 1}
    assert not values.is_secret(values.bare(marked))
