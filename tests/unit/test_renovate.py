"""Renovate finds the version of every container image, and reads it from the tags that are pulled."""

import json
import re
from pathlib import Path
from typing import Any

from open_webui_edge.settings import images

ROOT = Path(__file__).parent.parent.parent
SOURCE = Path(images.__file__)
IMAGES, OPEN_WEBUI = json.loads((ROOT / "renovate.json").read_text())["customManagers"]
PINNED = [
    image
    for image in vars(images).values()
    # The image with the plugin has the version of the one without.
    if isinstance(image, images.Image) and image is not images.CERTBOT_ROUTE53
]


def pattern(text: str) -> re.Pattern[str]:
    """Return a pattern of JavaScript's as one of Python's."""
    return re.compile(text.replace("(?<", "(?P<"))


def result(manager: dict[str, Any]) -> list[dict[str, str]]:
    (file_pattern,) = manager["managerFilePatterns"]
    assert re.search(file_pattern.strip("/"), SOURCE.relative_to(ROOT).as_posix())
    (text,) = manager["matchStrings"]
    return [match.groupdict() for match in pattern(text).finditer(SOURCE.read_text())]


def version_in(manager: dict[str, Any], tag: str) -> str | None:
    match = pattern(manager["extractVersionTemplate"]).match(tag)
    return match and match["version"]


def test_every_image_is_found_with_its_version() -> None:
    images_matched = {(IMAGES["packageNameTemplate"], one["repository"], one["currentValue"]) for one in result(IMAGES)}
    assert images_matched == {
        (f"{image.registry}/{{{{{{repository}}}}}}", image.repository, image.version) for image in PINNED
    }
    assert [one["currentValue"] for one in result(OPEN_WEBUI)] == [images.OPEN_WEBUI_VERSION]


def test_the_version_is_read_from_the_tag() -> None:
    for image in PINNED:
        assert version_in(IMAGES, image.tag) == image.version
    image = images.open_webui(images.OPEN_WEBUI_VERSION)
    assert OPEN_WEBUI["packageNameTemplate"] == f"{image.registry}/{image.repository}"
    assert version_in(OPEN_WEBUI, image.tag) == image.version


def test_tags_of_other_variants_are_no_versions() -> None:
    for tag in ("1.30.6-alpine", "0.8.7-pg17", "v0.12.4-ollama", "latest", "1.30"):
        assert version_in(IMAGES, tag) is None, tag
