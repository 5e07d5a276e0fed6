"""A real registry on loopback, which an engine trusts without a certificate: Debian's docker-registry."""

import gzip
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx
from docker.models.images import Image as EngineImage

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.bootstrap.images import archive
from open_webui_edge.settings.images import Image, ImageSource
from tests.support.machine import lacks
from tests.support.stack import free_port

_CONFIGURATION = """
version: 0.1
log: {{accesslog: {{disabled: false}}}}
storage: {{filesystem: {{rootdirectory: {directory}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_STATEMENT = "application/vnd.in-toto+json"
_CHUNK = 1 << 20
_MACHINES = ("x86_64", "aarch64")
"""For which publishers make their images."""


@dataclass(frozen=True)
class Layer:
    """A compressed layer file."""

    file: Path
    digest: str
    """Of the file as it is sent."""
    content_digest: str
    """Of what it holds, which an image's configuration lists."""


def pack(root: Path, layer: Path) -> Layer:
    """Write the folder `root` as a layer next to the path `layer`, compressed as published images are."""
    content_digest = archive.pack(root, layer)
    compressed = layer.with_suffix(".tar.gz")
    with layer.open("rb") as source, gzip.open(compressed, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target, _CHUNK)
    layer.unlink()
    with compressed.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Layer(compressed, f"sha256:{digest}", content_digest)


@dataclass
class Registry:
    """The registry, while it runs."""

    address: str
    """host:port"""
    log: Path

    def push(self, engine: docker.DockerClient, image: Image, content: EngineImage) -> str:
        """Publish an engine's image under an official path and tag, and forget it there; return its digest."""
        name = image.reference(ImageSource.PULLED, self.address)
        repository, _, tag = name.rpartition(":")
        content.tag(repository, tag)
        try:
            for event in engine.images.push(repository, tag, stream=True, decode=True):
                assert "error" not in event, event
            (digest,) = engine.images.get(name).attrs["RepoDigests"][-1:]
        finally:
            engine.images.remove(name)
        return digest.rpartition("@")[2]

    def push_layer(self, image: Image, layer: Layer, settings: Mapping[str, Any]) -> None:
        """Publish an image of one layer as publishers do: an index of platforms, with a statement of provenance."""
        with httpx.Client(base_url=f"http://{self.address}/v2/{image.repository}", timeout=600) as client:
            self._upload(client, layer.digest, layer.file)
            manifests = [self._manifest(client, layer, settings, machine) for machine in _MACHINES]
            index = {
                "schemaVersion": 2,
                "mediaType": _INDEX,
                "manifests": [*manifests, *(self._statement(client, of["digest"]) for of in manifests)],
            }
            self._put(client, image.tag, index)

    def _manifest(
        self, client: httpx.Client, layer: Layer, settings: Mapping[str, Any], machine: str
    ) -> dict[str, Any]:
        # Only this machine's own can run; another one is there because an engine has to choose.
        config = archive.configuration(settings, layer_digest=layer.content_digest, machine=machine)
        described = [
            {"mediaType": _LAYER, "digest": layer.digest, "size": layer.file.stat().st_size},
        ]
        made = self._put_manifest(client, _CONFIG, config, described)
        return {**made, "platform": {"architecture": archive.architecture(machine), "os": "linux"}}

    def _statement(self, client: httpx.Client, about: str) -> dict[str, Any]:
        statement = json.dumps({"_type": "https://in-toto.io/Statement/v0.1", "subject": []}).encode()
        digest = self._upload(client, _digest(statement), statement)
        described = [{"mediaType": _STATEMENT, "digest": digest, "size": len(statement)}]
        config = json.dumps(
            {"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": [digest]}}
        ).encode()
        made = self._put_manifest(client, _CONFIG, config, described)
        annotations = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about}
        return {**made, "platform": {"architecture": "unknown", "os": "unknown"}, "annotations": annotations}

    def _put_manifest(
        self, client: httpx.Client, kind: str, config: bytes, layers: list[dict[str, Any]]
    ) -> dict[str, Any]:
        digest = self._upload(client, _digest(config), config)
        document = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": kind, "digest": digest, "size": len(config)},
            "layers": layers,
        }
        text = json.dumps(document).encode()
        self._put(client, _digest(text), document)
        return {"mediaType": _MANIFEST, "digest": _digest(text), "size": len(text)}

    def _put(self, client: httpx.Client, reference: str, document: Mapping[str, Any]) -> None:
        answer = client.put(
            f"/manifests/{reference}",
            content=json.dumps(document).encode(),
            headers={"Content-Type": document["mediaType"]},
        )
        assert answer.status_code == httpx.codes.CREATED, answer.text

    def _upload(self, client: httpx.Client, digest: str, content: bytes | Path) -> str:
        if client.head(f"/blobs/{digest}").status_code == httpx.codes.OK:
            return digest
        begun = client.post("/blobs/uploads/")
        assert begun.status_code == httpx.codes.ACCEPTED, begun.text
        url = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
        answer = client.put(
            url,
            content=content if isinstance(content, bytes) else _chunks(content),
            headers={"Content-Type": "application/octet-stream"},
        )
        assert answer.status_code == httpx.codes.CREATED, answer.text
        return digest


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextmanager
def registry_in(directory: Path, log: Path) -> Iterator[Registry]:
    """Run a registry whose content is in a directory, until the block ends."""
    program = shutil.which("docker-registry")
    if program is None:
        lacks("no docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    configuration = log.with_suffix(".yaml")
    configuration.write_text(_CONFIGURATION.format(directory=directory, port=address.rpartition(":")[2]))
    with log.open("wb") as stream:
        process = subprocess.Popen([program, "serve", str(configuration)], stdout=stream, stderr=stream)  # noqa: S603 - the test's own words
    try:
        wait_until(
            lambda: httpx.get(f"http://{address}/v2/").status_code == httpx.codes.OK,
            what=f"the registry at {address}; its log: {log}",
            ignoring=(httpx.TransportError,),
        )
        yield Registry(address, log)
    finally:
        process.terminate()
        process.wait(timeout=30)
