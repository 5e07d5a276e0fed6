"""Names that AWS accepts, whatever a stack is called."""

import re

import pulumi
import pytest

from open_webui_edge.components.aws.tags import limited_name, physical_name, tags


@pytest.mark.parametrize(
    ("stem", "limit", "name"),
    [
        ("edge-production", 32, "edge-production"),
        ("edge-production", 15, "edge-production"),
        ("edge-production", 14, "edge--"),
        ("a.stack_of-ours", 32, "a-stack-of-ours-"),
        ("-edge-", 32, "edge-"),
    ],
)
def test_a_name_that_fits_stays_and_another_is_cut_and_told_apart(stem: str, limit: int, name: str) -> None:
    result = limited_name(stem, limit)
    assert result == name or re.fullmatch(f"{name.rstrip('-')}-[0-9a-f]{{8}}", result)
    assert len(result) <= limit


@pytest.mark.parametrize("stem", ["a.b", "a_b", "a--b", "a" * 40, "a" * 31 + ".", "---", "é"])
@pytest.mark.parametrize("limit", [10, 32, 64])
def test_a_name_is_one_that_every_service_takes(stem: str, limit: int) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?", limited_name(stem, limit))
    assert "--" not in limited_name(stem, limit)


def test_two_stems_never_share_a_name() -> None:
    stems = ["a.b", "a_b", "a-b", "a--b", *(f"{'x' * 40}{number}" for number in range(50))]
    assert len({limited_name(stem, 20) for stem in stems}) == len(stems)


def test_no_name_fits_where_a_hash_does_not() -> None:
    with pytest.raises(ValueError, match="9 characters are too few"):
        limited_name("a-long-stem", 9)


def test_tags_say_whose_a_resource_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi, "get_stack", lambda: "production")
    assert tags("network") == {"app": "open-webui-edge", "stack": "production", "component": "network"}
    assert tags("network", "s3")["Name"] == "edge-production-s3"
    assert physical_name("host", 64) == "edge-production-host"
