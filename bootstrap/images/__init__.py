"""The images of a stack: pulled if a registry can be reached, else built from distribution packages."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from open_webui_edge.bootstrap import command, disk, lock, paths
from open_webui_edge.bootstrap.console import Step
from open_webui_edge.bootstrap.engine import Engine, ping_error, resolve
from open_webui_edge.bootstrap.images import (
    acme_tools,
    archive,
    bench_tools,
    certbot,
    instance,
    nginx,
    nginx_metrics,
    open_webui,
    postgres,
    prometheus,
    pulling,
    redis,
    restic,
    rootfs,
)
from open_webui_edge.bootstrap.problem import ProblemError
from open_webui_edge.settings.images import (
    ACME_TOOLS,
    BENCH_TOOLS,
    CERTBOT,
    IMAGE_SIZES,
    INSTANCE,
    NGINX,
    NGINX_METRICS,
    OLLAMA,
    OPEN_WEBUI_VERSION,
    POSTGRES,
    PROMETHEUS,
    REDIS,
    RESTIC,
    Image,
    ImageSource,
)
from open_webui_edge.settings.images import certbot as certbot_image
from open_webui_edge.settings.images import open_webui as open_webui_image

BYTES_TO_BUILD = {open_webui.HERE.name: 5 * disk.GIGABYTE}
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
    ollama: bool = False
    """Whether the stack runs an Ollama of its own."""
    postgres: bool = False
    """Whether the stack runs a PostgreSQL of its own."""
    redis: bool = False
    """Whether the stack runs a Redis of its own."""
    metrics: bool = False
    """Whether the stack runs the exporter of the proxy's metrics."""
    prometheus: bool = False
    """Whether it runs a Prometheus of its own."""
    certbot: bool = False
    """Whether an issuer issues its certificate."""
    route53: bool = False
    """Whether certbot uses DNS challenges at Route 53."""
    backup: bool = False
    """Whether it needs restic: for scheduled backups or one by hand."""

    @property
    def images(self) -> tuple[Image, ...]:
        """All images of the stack."""
        further = (
            (OLLAMA, self.ollama),
            (POSTGRES, self.postgres),
            (REDIS, self.redis),
            (NGINX_METRICS, self.metrics),
            (PROMETHEUS, self.prometheus),
            (certbot_image(route53=self.route53), self.certbot),
            (RESTIC, self.backup),
        )
        return (NGINX, open_webui_image(self.version), *(image for image, is_required in further if is_required))

    def names(self, source: ImageSource) -> list[str]:
        """Return the names of the images, in the order of `images`.

        Raises:
            ProblemError: one of them is not available from this source.

        """
        try:
            return [image.reference(source, self.registry) for image in self.images]
        except LookupError as missing:
            message = (
                f"The image of {missing.args[0]} cannot be built, only pulled, and this stack's images are built; "
                "set images.registry to a registry that has it and images.source to pulled, or use another Ollama "
                "(models.ollama.url)."
            )
            raise ProblemError(message) from None


def ensure(engine: Engine, required: RequiredImages, step: Step) -> ImageSource:
    """Make sure that the engine has every image, and return their source.

    Raises:
        ProblemError: an image can neither be pulled nor built.

    """
    with lock.exclusive("images", step):
        source = required.source or _first_source(engine, required, step)
        names = required.names(source)
        absent = [name for name in dict.fromkeys(names) if not engine.has_image(name)]
        named = dict(zip(names, required.images, strict=True))
        if source is ImageSource.PULLED:
            _pull(engine, {name: named[name] for name in absent}, step)
        else:
            for name in absent:
                _provide(engine, named[name], name, step)
        step.done(f"{source}, {'there already' if not absent else 'now there'}: {', '.join(named)}")
    return source


def pull_again(engine: Engine, required: RequiredImages, step: Step) -> None:
    """Pull every image, also those that the engine already has.

    Raises:
        ProblemError: one cannot be pulled.

    """
    names = required.names(ImageSource.PULLED)
    _pull(engine, dict(zip(names, required.images, strict=True)), step)


def ensure_tools(engine: Engine, step: Step) -> None:
    """Make sure that the engine has the image of the benchmark tools; no registry has it.

    Raises:
        ProblemError: it is missing and cannot be built.

    """
    _ensure_built(engine, BENCH_TOOLS, bench_tools.HERE, bench_tools.fill, step)


def ensure_acme_tools(engine: Engine, step: Step) -> None:
    """Make sure that the engine has the image of the ACME server that only tests use; raises as `ensure_tools`."""
    _ensure_built(engine, ACME_TOOLS, acme_tools.HERE, acme_tools.fill, step)


def ensure_instance(engine: Engine, step: Step) -> None:
    """Make sure that the engine has the image that tests boot as an instance; raises as `ensure_tools`."""
    _ensure_built(engine, INSTANCE, instance.HERE, instance.fill, step)


def _ensure_built(engine: Engine, name: str, folder: Path, fill: Callable[[Path, Step], None], step: Step) -> None:
    with lock.exclusive("images", step):
        if not engine.has_image(name):
            _require_our_architecture(engine)
            _build(engine, name, folder, fill, step)
        step.done(name)


def available_source(engine: Engine) -> ImageSource | None:
    """Return the source of which an engine already has all default images; None if there is none."""
    required = RequiredImages()
    return next((source for source in ImageSource if all(map(engine.has_image, required.names(source)))), None)


def _first_source(engine: Engine, required: RequiredImages, step: Step) -> ImageSource:
    """Choose the source for a new stack: built images only if a registry of its official ones cannot be reached."""
    names = required.names(ImageSource.PULLED)
    # The user chose this registry; building images instead would hide a mistake in it.
    if required.registry or all(map(engine.has_image, names)):
        return ImageSource.PULLED
    client = _client(engine)
    refusals: dict[str, str] = {}
    for image, name in zip(required.images, names, strict=True):
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
    """Pull images by their names, also those that the engine has.

    Raises:
        ProblemError: one cannot be pulled, or the disk is full; the message has the engine's reason.

    """
    if not named:
        return
    client = _client(engine)
    absent = {name: image for name, image in named.items() if not engine.has_image(name)}
    if absent:
        _require_room_to_pull(engine, client, absent)
    for name in named:
        step.now(f"pulling {name}")
        try:
            pulling.pull(client, name, lambda far, name=name: setattr(step, "doing", f"pulling {name}: {far}"))
        except pulling.PullError as error:
            words = str(error).rstrip(".")
            if command.is_full_disk(words):
                raise command.failure(f"Pulling {name}", ["docker", "pull"], 1, words) from None
            message = (
                f"{name} cannot be pulled: {words}. Check the network, images.registry and `docker login`. With "
                "`images.source: built` images are built here instead; docs/operations.md lists what those lack."
            )
            raise ProblemError(message) from None


def _require_room_to_pull(engine: Engine, client: pulling.Client, absent: Mapping[str, Image]) -> None:
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


def _client(engine: Engine) -> pulling.Client:
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
    _build(engine, name, *_recipe(image), step)


def _build(engine: Engine, name: str, folder: Path, fill: Callable[[Path, Step], None], step: Step) -> None:
    needed = BYTES_TO_BUILD.get(folder.name, BYTES_TO_BUILD_ANOTHER)
    disk.require(needed, paths.cache(), f"Building {name}")
    _require_room_to_build(engine, needed)
    with rootfs.workplace(folder.name) as place:
        root = place / "root"
        root.mkdir()
        fill(root, step)
        step.now(f"packing {name}")
        digest = archive.pack(root, place / "layer.tar")
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        description = archive.configuration(settings, layer_digest=digest, machine=platform.machine())
        step.now(f"loading {name} into the engine at {engine.address}")
        archive.load([*engine.client], dict(os.environ), name, description, place / "layer.tar")


def _recipe(image: Image) -> tuple[Path, Callable[[Path, Step], None]]:
    recipes = {
        NGINX.role: nginx,
        NGINX_METRICS.role: nginx_metrics,
        PROMETHEUS.role: prometheus,
        POSTGRES.role: postgres,
        REDIS.role: redis,
        CERTBOT.role: certbot,
        RESTIC.role: restic,
    }
    if image.role in recipes:
        recipe = recipes[image.role]
        return recipe.HERE, recipe.fill
    return open_webui.HERE, lambda root, step: open_webui.fill(root, image.version, step)


def transfer(name: str, source: Engine, target: Engine) -> None:
    """Copy an image from one engine to another, by `docker save` and `docker load`.

    Raises:
        ProblemError: one of the two failed; the message has its reason.

    """
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
        message = (
            f"The engine at {engine.address} runs {theirs} and images built here are {ours}; use pulled images "
            "(images.registry), or run this on a machine of that architecture."
        )
        raise ProblemError(message)


def _require_room_to_build(engine: Engine, needed: int) -> None:
    """Check the disk of a local engine; a remote one reports a full disk itself."""
    folder = engine.ask("info", "--format", "{{.DockerRootDir}}").stdout.strip()
    if engine.is_local and folder and Path(folder).is_dir():
        disk.require(needed, Path(folder), "Storing the images")
