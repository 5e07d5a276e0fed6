"""The images of a stack: pulled if a registry can be reached, else built from distribution packages."""

import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from open_webui_edge.bootstrap import command, disk, lock, paths
from open_webui_edge.bootstrap.console import ProblemError, Step
from open_webui_edge.bootstrap.engine import Engine, ping_error, resolve
from open_webui_edge.bootstrap.images import archive, pulling, rootfs
from open_webui_edge.bootstrap.images.recipes import RECIPES, Recipe, recipe_of
from open_webui_edge.settings.images import IMAGE_SIZES, NGINX, OPEN_WEBUI_VERSION, Image, ImageSource
from open_webui_edge.settings.images import open_webui as open_webui_image

if TYPE_CHECKING:
    from open_webui_edge.bootstrap.images.engine_client import EngineClient

BYTES_TO_BUILD = {"open_webui": 5 * disk.GIGABYTE}
"""Bytes in the cache for the system's folder, its layer and the packages; a local engine needs them again."""
BYTES_TO_BUILD_ANOTHER = 3 * disk.GIGABYTE // 2
"""Bytes for any other image, of which the largest has 500 MB."""
CONTAINERD = Path("/var/lib/containerd")
"""Folder of images with containerd's image store, if containerd is a separate service."""
BUILT_IMAGES = """\
No registry can be reached ({refusals}), so images are built here from distribution packages. Built images lack:
  - Open WebUI: PyTorch and the models for local embeddings, reranking and speech recognition (set an embedding
    provider to search in documents), ffmpeg (recordings in other formats than WAV), pandoc, git and a compiler.
  - Ollama: no image of it can be built.
Later, with a network: write `images.source: pulled` into the stack's file, and `make up` uses the official ones."""


@dataclass(frozen=True)
class RequiredImages:
    """The images that a stack needs, from its settings."""

    version: str = OPEN_WEBUI_VERSION
    registry: str | None = None
    source: ImageSource | None = None
    """The source that an earlier run chose; it stays, so that a registry that works later replaces nothing."""
    services: tuple[Image, ...] = ()
    """Those of what the stack runs or uses besides Nginx and Open WebUI."""

    @property
    def images(self) -> tuple[Image, ...]:
        """All images of the stack."""
        return (NGINX, open_webui_image(self.version), *self.services)

    def named(self, source: ImageSource) -> dict[str, Image]:
        """Return the images by their names; raises ProblemError if one is not available from this source."""
        try:
            return {image.reference(source, self.registry): image for image in self.images}
        except LookupError as missing:
            raise ProblemError(
                f"The image of {missing.args[0]} cannot be built, only pulled, and this stack's images are built; "
                "set images.registry to a registry that has it and images.source to pulled, or use another Ollama "
                "(models.ollama.url)."
            ) from None


def ensure(engine: Engine, required: RequiredImages, step: Step) -> ImageSource:
    """Make sure that the engine has every image, or raise a ProblemError; return their source."""
    with lock.exclusive("images", step):
        source = required.source or _first_source(engine, required, step)
        named = required.named(source)
        absent = {name: image for name, image in named.items() if not engine.has_image(name)}
        if source is ImageSource.PULLED:
            _pull(engine, absent, step)
        else:
            for name, image in absent.items():
                _provide(engine, image, name, step)
        step.done(f"{source}, {'there already' if not absent else 'now there'}: {', '.join(named)}")
    return source


def pull_again(engine: Engine, required: RequiredImages, step: Step) -> None:
    """Pull every image, also those that the engine already has; raises ProblemError if one cannot be pulled."""
    _pull(engine, required.named(ImageSource.PULLED), step)


def ensure_built(engine: Engine, name: str, step: Step) -> None:
    """Make sure that the engine has an image of tools, which no registry has, or raise a ProblemError."""
    with lock.exclusive("images", step):
        if not engine.has_image(name):
            _require_our_architecture(engine)
            _build(engine, name, RECIPES[name], step)
        step.done(name)


def available_source(engine: Engine) -> ImageSource | None:
    """Return the source of which an engine already has all default images; None if there is none."""
    required = RequiredImages()
    return next((source for source in ImageSource if all(map(engine.has_image, required.named(source)))), None)


def _first_source(engine: Engine, required: RequiredImages, step: Step) -> ImageSource:
    """Choose the source for a new stack: built images only if a registry of its official ones cannot be reached."""
    named = required.named(ImageSource.PULLED)
    # The user chose this registry; building images instead would hide a mistake in it.
    if required.registry or all(map(engine.has_image, named)):
        return ImageSource.PULLED
    client = _client(engine)
    refusals: dict[str, str] = {}
    for name, image in named.items():
        if image.registry in refusals:
            continue
        step.now(f"asking {image.registry} for {name}")
        words = client.refusal(name)
        if words is None or not pulling.is_unreachable(words):
            return ImageSource.PULLED
        refusals[image.registry] = words
    step.now(BUILT_IMAGES.format(refusals="; ".join(f"{registry}: {words}" for registry, words in refusals.items())))
    return ImageSource.BUILT


def _pull(engine: Engine, named: Mapping[str, Image], step: Step) -> None:
    """Pull images, also those that the engine has; raises ProblemError with the engine's reason."""
    if not named:
        return
    client = _client(engine)
    absent = {name: image for name, image in named.items() if not engine.has_image(name)}
    if absent:
        _require_room_to_pull(engine, client, absent)
    for name in named:
        step.now(f"pulling {name}")
        try:
            pulling.pull(client.events, name, lambda far, name=name: setattr(step, "doing", f"pulling {name}: {far}"))
        except pulling.PullError as error:
            words = str(error).rstrip(".")
            if command.is_full_disk(words):
                raise command.failure(f"Pulling {name}", ["docker", "pull"], 1, words) from None
            raise ProblemError(
                f"{name} cannot be pulled: {words}. Check the network, images.registry and `docker login`. With "
                "`images.source: built` images are built here instead; docs/operations.md lists what those lack."
            ) from None


def _require_room_to_pull(engine: Engine, client: "EngineClient", absent: Mapping[str, Image]) -> None:
    """Check the disk of a local engine; a remote one reports a full disk itself."""
    information = client.information()
    if not engine.is_local or not _shares_our_disk(information):
        return
    keeps_downloads = "io.containerd.snapshotter.v1" in str(information.get("DriverStatus"))
    folder = Path(information.get("DockerRootDir") or "/var/lib/docker")
    if keeps_downloads and CONTAINERD.is_dir() and not (folder / "containerd").is_dir():
        folder = CONTAINERD
    sizes = [IMAGE_SIZES[image.role] for image in absent.values()]
    # The classic store deletes a layer's download once it is unpacked.
    downloads = [size.compressed for size in sizes]
    needed = sum(size.uncompressed for size in sizes) + (sum(downloads) if keeps_downloads else max(downloads))
    what = f"{len(absent)} images" if len(absent) > 1 else next(iter(absent))
    disk.require(needed * disk.MEGABYTE, folder, f"Pulling {what}")


def _shares_our_disk(information: Mapping[str, object]) -> bool:
    """Return whether a local socket's engine uses this machine's disk, not a virtual machine's (Docker Desktop)."""
    return sys.platform == "linux" and information.get("OperatingSystem") != "Docker Desktop"


def _client(engine: Engine) -> "EngineClient":
    from open_webui_edge.bootstrap.images.engine_client import EngineClient  # noqa: PLC0415 - loads packages that other commands do not need

    return EngineClient(engine)


def _provide(engine: Engine, image: Image, name: str, step: Step) -> None:
    """Provide a built image to an engine: from this machine's engine if that has it, else by building it."""
    _require_our_architecture(engine)
    nearby = resolve()
    another = nearby.address != engine.address
    if another and nearby.is_local and ping_error(nearby) is None and nearby.has_image(name):
        step.now(f"sending {name} to {engine.address}")
        transfer(name, nearby, engine)
        return
    _build(engine, name, recipe_of(image), step)


def _build(engine: Engine, name: str, recipe: Recipe, step: Step) -> None:
    needed = BYTES_TO_BUILD.get(recipe.folder.name, BYTES_TO_BUILD_ANOTHER)
    disk.require(needed, paths.cache(), f"Building {name}")
    _require_room_to_build(engine, needed)
    with rootfs.workplace(recipe.folder.name) as place:
        root = place / "root"
        root.mkdir()
        recipe.fill(root, step)
        step.now(f"packing {name}")
        digest = archive.pack(root, place / "layer.tar")
        settings = json.loads((recipe.folder / "config.json").read_text(encoding="utf-8"))
        description = archive.configuration(settings, layer_digest=digest, machine=platform.machine())
        step.now(f"loading {name} into the engine at {engine.address}")
        archive.load(engine.client, name, description, place / "layer.tar")


def transfer(name: str, source: Engine, target: Engine) -> None:
    """Copy an image from one engine to another; raises ProblemError with the reason of the one that failed."""
    save: Sequence[str] = [*source.client, "save", name]
    load: Sequence[str] = [*target.client, "load", "--quiet"]
    with subprocess.Popen(  # noqa: S603  # a list of arguments, no shell
        save,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as sending:
        loaded = subprocess.run(  # noqa: S603  # a list of arguments, no shell
            load,
            stdin=sending.stdout,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            encoding="utf-8",
        )
        if sending.stdout is not None:
            sending.stdout.close()  # so that the sender ends if the receiver failed
        words_of_sender = sending.stderr.read().decode(errors="replace") if sending.stderr is not None else ""
    # If one side stops early, the other side fails too, but only the first one reports the reason.
    if sending.returncode and "broken pipe" not in words_of_sender.lower():
        raise command.failure(f"Saving {name} from {source.address}", save, sending.returncode, words_of_sender)
    if loaded.returncode:
        words = loaded.stdout + loaded.stderr
        raise command.failure(f"Sending {name} to {target.address}", load, loaded.returncode, words)


def _require_our_architecture(engine: Engine) -> None:
    theirs = engine.ask("version", "--format", "{{.Server.Arch}}").stdout.strip()
    ours = archive.architecture(platform.machine())
    if theirs and theirs != ours:
        raise ProblemError(
            f"The engine at {engine.address} runs {theirs} and images built here are {ours}; use pulled images "
            "(images.registry), or run this on a machine of that architecture."
        )


def _require_room_to_build(engine: Engine, needed: int) -> None:
    """Check the disk of a local engine; a remote one reports a full disk itself."""
    folder = engine.ask("info", "--format", "{{.DockerRootDir}}").stdout.strip()
    if engine.is_local and folder and Path(folder).is_dir():
        disk.require(needed, Path(folder), "Storing the images")
