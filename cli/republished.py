"""`make pull`: updates images that were republished under the same tag, which a stack pins.

A stack pins the image of a tag when it first uses it (docs/decisions/0005). The pin is a resource in its state; once it
is tainted, the next update recreates it with the tag's current image.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from open_webui_edge.bootstrap import console, images
from open_webui_edge.bootstrap.console import ProblemError, step
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.cli.stack import Stack, required_images, setting
from open_webui_edge.settings.images import ImageSource

_TAG = "docker:index/tag:Tag"


@dataclass(frozen=True)
class Pin:
    """A pinned image of a stack."""

    urn: str
    role: str
    """Role of the containers that run it."""
    image: str
    """Name of the image, with its tag."""
    image_id: str
    tainted: bool
    """Whether the next update recreates it."""


def pins(resources: Sequence[Mapping[str, Any]], stack: str) -> Iterator[Pin]:
    """Return the pins in a stack's state."""
    for resource in resources:
        if resource.get("type") == _TAG and not resource.get("delete"):
            outputs = resource["outputs"]
            role = outputs["targetImage"].removeprefix(f"edge-{stack}-").removesuffix(":pinned")
            tainted = bool(resource.get("taint"))
            yield Pin(resource["urn"], role, outputs["sourceImage"], outputs["sourceImageId"], tainted)


def refuse_built(name: str, settings: Mapping[str, Any]) -> None:
    """Raise a ProblemError if the stack's images are built."""
    if setting(settings, "images.source") == ImageSource.BUILT:
        raise ProblemError(
            f"Nothing was pulled: the images of {name} are built on this machine (images.source: built). To use the"
            " official ones, write images.source: pulled into the stack file and run"
            f" `make up STACK={name}`."
        )


def pull(target: Stack, engine: Engine, settings: Mapping[str, Any]) -> None:
    """Pull all images of a stack and mark changed ones for the next update, or raise a ProblemError and mark none."""
    name = target.name
    required = required_images(settings)
    with step("images") as shown:
        images.pull_again(engine, required, shown)
    pinned = list(pins(target.resources(), name))
    changed: list[Pin] = []
    for image in required.named(ImageSource.PULLED):
        image_id = _id_of(engine, image)
        of_image = [pin for pin in pinned if pin.image == image]
        other = [pin for pin in of_image if pin.image_id != image_id]
        changed += other
        console.put(f"{image}: {_verdict(image_id, of_image, other)}")
    target.taint([pin.urn for pin in changed if not pin.tainted])
    # A tag may point to its earlier image again.
    target.untaint([pin.urn for pin in pinned if pin.tainted and pin not in changed])
    if changed:
        roles = ", ".join(pin.role for pin in changed)
        console.say(f"`make up STACK={name}` replaces the containers that run a newer image: {roles}.")
    else:
        console.say(f"{name} runs the newest images; `make up STACK={name}` replaces nothing.")


def _id_of(engine: Engine, image: str) -> str:
    answer = engine.ask("image", "inspect", "--format", "{{.Id}}", image)
    if answer.returncode:
        raise ProblemError(f"{image} was pulled and is gone again: {answer.stderr.strip()}. Run it again.")
    return answer.stdout.strip()


def _verdict(image_id: str, of_image: Sequence[Pin], other: Sequence[Pin]) -> str:
    if not of_image:
        return f"{_short(image_id)}, not used by a container of this stack yet"
    if not other:
        return f"unchanged, {_short(image_id)}"
    return f"newer, {_short(image_id)} in place of {_short(other[0].image_id)}"


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
