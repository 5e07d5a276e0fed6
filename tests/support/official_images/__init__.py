"""Images laid out like the official ones, in a real registry under the official paths and tags: to be pulled.

What is known of an official image, from what its publisher has written of it, is in the recipes: paths, users, entry
point, volumes, environment, and which programs it lacks. The programs are Debian's and PyPI's. What no recipe can copy
is in docs/official-images.md.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from open_webui_edge.bootstrap import lock, paths
from open_webui_edge.bootstrap.console import Step
from open_webui_edge.bootstrap.images import rootfs
from open_webui_edge.settings.images import Image
from tests.support.official_images import open_webui, recipes
from tests.support.official_images.donor import Donor, Settings
from tests.support.registry import Registry, pack

_HERE = Path(__file__).parent


def folder() -> Path:
    """Return where the registry's content is; it takes ten minutes to make, so it lasts from one run to the next."""
    return paths.cache() / "official-images"


def provide(registry: Registry, images: Iterable[Image], step: Step) -> None:
    """Make the registry hold these images; what it has from an earlier run, of the same recipe, is not built again.

    Raises:
        ProblemError: one cannot be built here.

    """
    with lock.exclusive("official-images", step), ExitStack() as stack:
        expected = [image for image in images if _recorded(image) != _fingerprint(image)]
        donor = Donor(stack, step)
        for image in expected:
            name = f"{image.repository}:{image.tag}"
            with rootfs.workplace(image.role) as place:
                root = place / "root"
                root.mkdir()
                settings = _recipe(image)(image, root, donor, step)
                step.now(f"packing {name}")
                layer = pack(root, place / "layer.tar")
                step.now(f"pushing {name}")
                registry.push_layer(image, layer, settings)
            _record(image).write_text(_fingerprint(image), encoding="utf-8")
        step.done(f"{len(expected)} built")


def _recipe(image: Image) -> Callable[[Image, Path, Donor, Step], Settings]:
    return recipes.RECIPES.get(image.role, open_webui.fill)


def _fingerprint(image: Image) -> str:
    """Return what changes when an image is to be built again."""
    files = [Path(inspect.getfile(_recipe(image))), *sorted(_HERE.glob(f"entry_points/{image.role}*"))]
    parts = [f"{image.repository}:{image.tag}", *(file.read_text(encoding="utf-8") for file in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _record(image: Image) -> Path:
    return folder() / f"{image.repository.replace('/', '-')}-{image.tag}.recipe"


def _recorded(image: Image) -> str:
    return _record(image).read_text(encoding="utf-8") if _record(image).exists() else ""
