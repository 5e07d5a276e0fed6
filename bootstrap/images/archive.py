"""Packs a folder as an image: one layer and its configuration, in the format of `docker load`, here or over ssh.

Not `docker import`: older engines refuse a stop signal there. Not `docker build`: a builder in a container of its own
does not see an image that was just imported.
"""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from open_webui_edge.bootstrap import command

_LEFT_OUT = (
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./run/*",
    "./tmp/*",
    "./var/tmp/*",
    "./etc/resolv.conf",
    "./etc/hostname",
)
"""Files of the machine that built it."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
"""The kernel's name of an architecture -> the engine's, if they differ. macOS reports arm64, as engines do."""


def architecture(machine: str) -> str:
    """Return the engine's name of a machine that Python's `platform.machine()` names."""
    return _ARCHITECTURES.get(machine.lower(), machine.lower())


def pack(root: Path, layer: Path) -> str:
    """Write the folder `root` as the layer file and return the layer's digest."""
    words = ["tar", "--create", "--sort=name", "--numeric-owner", "--one-file-system", f"--directory={root}"]
    words += [*(f"--exclude={pattern}" for pattern in _LEFT_OUT), f"--file={layer}", "."]
    command.output(words, purpose="Packing the image")
    with layer.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def configuration(settings: Mapping[str, object], *, layer_digest: str, machine: str) -> bytes:
    """Return the image's configuration file; `settings` are those of a Dockerfile's CMD, ENV, EXPOSE…."""
    now = datetime.now(UTC).isoformat()
    content = {
        "architecture": architecture(machine),
        "os": "linux",
        "created": now,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        "history": [{"created": now, "created_by": "open-webui-edge bootstrap"}],
    }
    return json.dumps(content).encode()


def write(target: IO[bytes], name: str, configuration_file: bytes, layer: Path) -> None:
    """Write the archive of one image under a name."""
    config_name = f"{hashlib.sha256(configuration_file).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for file, content in ((config_name, configuration_file), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(file)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        archive.add(layer, "layer.tar")


def load(docker: Sequence[str], name: str, configuration_file: bytes, layer: Path) -> None:
    """Load the image into an engine by its client, `docker`; raises ProblemError with the engine's reason."""
    words = [*docker, "load", "--quiet"]
    with subprocess.Popen(  # noqa: S603  # a list of arguments, no shell
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as client:
        if client.stdin is None or client.stdout is None:
            raise AssertionError
        broken = False
        try:
            write(client.stdin, name, configuration_file, layer)
            client.stdin.close()
        except BrokenPipeError:
            broken = True  # the client's output, read below, has the reason
        words_of_client = client.stdout.read().decode(errors="replace")
    if client.returncode or broken:
        raise command.failure(f"Loading {name} into the engine", words, client.returncode, words_of_client)
