"""The images a stack needs: pulled where a registry can be reached, else built from distribution packages."""

import json
import os
import platform
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap import command, disk, lock, places
from bootstrap.console import Step
from bootstrap.engine import Engine, chosen, unanswered
from bootstrap.images import (
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
    redis,
    restic,
    rootfs,
)
from bootstrap.problem import ProblemError
from components.images import (
    ACME_TOOLS,
    BENCH_TOOLS,
    CERTBOT,
    INSTANCE,
    MTAIL,
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
from components.images import certbot as certbot_image
from components.images import open_webui as open_webui_image

SECONDS_TO_FIRST_ANSWER = 20
"""How long a registry may say nothing at all before it counts as unreachable."""
BYTES_TO_PULL = 9 * disk.GIGABYTE
"""The official Open WebUI image, packed and unpacked."""
BYTES_TO_BUILD = 5 * disk.GIGABYTE
"""In the cache, for the system's folder, its layer and the packages; again where a local engine keeps its images."""


@dataclass(frozen=True)
class Wanted:
    """What a stack file says about images."""

    version: str = OPEN_WEBUI_VERSION
    registry: str | None = None
    source: ImageSource | None = None
    """What an earlier run chose; that stays, so that a pull that works later replaces nothing."""
    ollama: bool = False
    """Whether the stack runs an Ollama of its own."""
    postgres: bool = False
    """Likewise a PostgreSQL."""
    redis: bool = False
    """Likewise a Redis."""
    metrics: bool = False
    """Likewise the exporter of the proxy's metrics."""
    prometheus: bool = False
    """Likewise a Prometheus, and mtail, which counts for it."""
    certbot: bool = False
    """Whether it gets its certificate from an issuer."""
    route53: bool = False
    """And shows by DNS at Route 53 that its names are its own."""
    backup: bool = False
    """Whether it is backed up, or was asked to be."""

    @property
    def images(self) -> tuple[Image, ...]:
        """All images of the stack."""
        further = (
            (OLLAMA, self.ollama),
            (POSTGRES, self.postgres),
            (REDIS, self.redis),
            (NGINX_METRICS, self.metrics),
            (PROMETHEUS, self.prometheus),
            (MTAIL, self.prometheus),
            (certbot_image(route53=self.route53), self.certbot),
            (RESTIC, self.backup),
        )
        return (NGINX, open_webui_image(self.version), *(image for image, wanted in further if wanted))

    def names(self, source: ImageSource) -> list[str]:
        """Return the names of the images, in the order of `images`.

        Raises:
            ProblemError: one of them cannot be had from this source.

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


def ensure(engine: Engine, wanted: Wanted, step: Step) -> ImageSource:
    """Make sure that the engine has every image, and return where they come from.

    Raises:
        ProblemError: an image can be had in neither way.

    """
    with lock.alone("images", step):
        source = wanted.source or _first_source(engine, wanted, step)
        names = wanted.names(source)
        absent = [name for name in names if not engine.has_image(name)]
        if source is ImageSource.PULLED:
            for name in absent:
                _pull_or_stop(engine, name, step)
        else:
            # One that is built may hold several programs.
            for name, image in dict(zip(names, wanted.images, strict=True)).items():
                if name in absent:
                    _provide(engine, image, name, step)
        named = ", ".join(dict.fromkeys(names))
        step.done(f"{source}, {'there already' if not absent else 'now there'}: {named}")
    return source


def ensure_tools(engine: Engine, step: Step) -> None:
    """Make sure that the engine has the image of the tools that measure; no registry has it.

    Raises:
        ProblemError: it is not there and cannot be built.

    """
    _ensure_built(engine, BENCH_TOOLS, bench_tools.HERE, bench_tools.fill, step)


def ensure_acme_tools(engine: Engine, step: Step) -> None:
    """Make sure that the engine has the image of the ACME server that only tests use; raises as `ensure_tools`."""
    _ensure_built(engine, ACME_TOOLS, acme_tools.HERE, acme_tools.fill, step)


def ensure_instance(engine: Engine, step: Step) -> None:
    """Make sure that the engine has the image that tests boot as an instance; raises as `ensure_tools`."""
    _ensure_built(engine, INSTANCE, instance.HERE, instance.fill, step)


def _ensure_built(engine: Engine, name: str, folder: Path, fill: Callable[[Path, Step], None], step: Step) -> None:
    with lock.alone("images", step):
        if not engine.has_image(name):
            _require_our_architecture(engine)
            _build(engine, name, folder, fill, step)
        step.done(name)


def there(engine: Engine) -> ImageSource | None:
    """Return the source from which an engine has all default images already; None where it has neither kind."""
    wanted = Wanted()
    return next((source for source in ImageSource if all(map(engine.has_image, wanted.names(source)))), None)


def _first_source(engine: Engine, wanted: Wanted, step: Step) -> ImageSource:
    """Choose for a new stack: the official images when all of them can be had, else built ones."""
    for name in wanted.names(ImageSource.PULLED):
        if engine.has_image(name):
            continue
        if wanted.registry:
            # Somebody chose this registry; building something else behind their back would hide their mistake.
            _pull_or_stop(engine, name, step)
            continue
        try:
            _require_room(engine, BYTES_TO_PULL)
        except ProblemError as too_little:
            # Building takes less.
            refused = str(too_little)
        else:
            refused = _pull(engine, name, step)
        if refused:
            step.now(f"{name} cannot be pulled ({refused}); the images get built instead")
            return ImageSource.BUILT
    return ImageSource.PULLED


def _pull_or_stop(engine: Engine, name: str, step: Step) -> None:
    refused = _pull(engine, name, step)
    if refused:
        message = f"{name} cannot be pulled: {refused}. Check the network, images.registry and `docker login`."
        raise ProblemError(message)


def _pull(engine: Engine, name: str, step: Step) -> str:
    """Pull an image; return why it failed, or "".

    Only the engine knows what it can reach: it may be elsewhere, or use a proxy.
    """
    step.now(f"pulling {name}")
    _require_room(engine, BYTES_TO_PULL)
    with subprocess.Popen(  # noqa: S603  # a list of arguments, no shell
        [*engine.client, "pull", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as client:
        silent = threading.Timer(SECONDS_TO_FIRST_ANSWER, client.kill)
        silent.start()
        last = f"no answer from the registry within {SECONDS_TO_FIRST_ANSWER} s"
        for line in client.stdout or ():
            silent.cancel()
            last = line.strip() or last
            step.doing = f"pulling {name}: {last}"
        silent.cancel()
    if client.returncode and command.is_full_disk(last):
        raise command.failure(f"Pulling {name}", ["docker", "pull"], client.returncode, last)
    return last if client.returncode else ""


def _provide(engine: Engine, image: Image, name: str, step: Step) -> None:
    """Bring a built image into an engine: from this machine's engine when that has it, else by building it."""
    _require_our_architecture(engine)
    nearby = chosen()
    if not engine.is_local and nearby.is_local and unanswered(nearby) is None and nearby.has_image(name):
        step.now(f"sending {name} to {engine.address}")
        transfer(name, nearby, engine)
        return
    _build(engine, name, *_recipe(image), step)


def _build(engine: Engine, name: str, folder: Path, fill: Callable[[Path, Step], None], step: Step) -> None:
    disk.require(BYTES_TO_BUILD, places.cache(), f"Building {name}")
    _require_room(engine, BYTES_TO_BUILD)
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
        MTAIL.role: prometheus,
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
    """Copy an image from one engine to another: what one saves, the other loads.

    Raises:
        ProblemError: one of the two refused; the message has its words.

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
        )
        if sending.stdout is not None:
            sending.stdout.close()  # so that the sender ends when the receiver gave up
        words_of_sender = sending.stderr.read().decode(errors="replace") if sending.stderr is not None else ""
    # A sender that stops early makes the receiver complain too, but not about the reason; the other way round likewise.
    if sending.returncode and "broken pipe" not in words_of_sender.lower():
        raise command.failure(f"Saving {name} from {source.address}", save, sending.returncode, words_of_sender)
    if loaded.returncode:
        words = loaded.stdout + loaded.stderr
        raise command.failure(f"Sending {name} to {target.address}", load, loaded.returncode, words)


def _require_our_architecture(engine: Engine) -> None:
    theirs = engine.ask("version", "--format", "{{.Server.Arch}}").stdout.strip()
    ours = archive.ARCHITECTURES.get(platform.machine(), platform.machine())
    if theirs and theirs != ours:
        message = (
            f"The engine at {engine.address} runs {theirs} and images built here are {ours}; let it pull them "
            "(images.registry), or run this on a machine of its kind."
        )
        raise ProblemError(message)


def _require_room(engine: Engine, needed: int) -> None:
    """Look at the disk of a local engine; another one says itself when it is full."""
    folder = engine.ask("info", "--format", "{{.DockerRootDir}}").stdout.strip()
    if engine.is_local and folder and Path(folder).is_dir():
        disk.require(needed, Path(folder), "Storing the images")
