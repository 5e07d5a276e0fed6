"""An engine whose machine the same update makes: it is waited for, and given images that no registry has."""

# The engine's answers are JSON, and the package `docker` says nothing of their types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import docker.errors
import pulumi

from components.docker.engine import SIGN_OF_LIFE, Engine, EngineError, has_image
from components.docker.ssh import SshAccess, ask_over_ssh, refused_host_key

_PAUSE = 2
"""Seconds between two questions."""
_PIECE = 1 << 20
_TIMEOUT_OF_AN_IMAGE = 600
"""Seconds for which an engine that is given one may say nothing, while it unpacks."""


@dataclass(frozen=True)
class ImagesToTake:
    """What an engine gets from another one."""

    names: Sequence[str]
    source: Engine


def once_answering(
    engine: Engine,
    access: pulumi.Output[SshAccess],
    *,
    timeout: float,
    images: ImagesToTake | None = None,
) -> pulumi.Output[str]:
    """Return the address of an engine, once it answers there and has the images; in a preview, once it is known.

    Args:
        engine: is told where it is.
        access: how its host is reached; the machine itself is there by then.
        timeout: seconds for it to answer.
        images: what no registry has.

    """

    async def arrive(access: SshAccess) -> str:
        try:
            access.write()
            engine.bind(access.host)
            if not pulumi.runtime.is_dry_run():
                await asyncio.to_thread(wait_until_answers, engine, timeout, pulumi.log.info)
                if images is not None:
                    await asyncio.to_thread(take_images, engine, images.names, images.source, pulumi.log.info)
        except (EngineError, OSError) as error:
            raise pulumi.RunError(str(error)) from None
        return access.host

    # The key to log in with is a secret, the address is none.
    return pulumi.Output.unsecret(access.apply(arrive))


def wait_until_answers(
    engine: Engine,
    timeout: float,
    report: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Return when an engine that is reached over ssh answers: its machine may only just be starting.

    What ssh refuses is waited for too, be it the host's key or ours: until a new machine is set up it has others.

    Args:
        engine: of which is known where it is.
        timeout: seconds for all of it.
        report: told what is awaited, now and then.
        clock: seconds, for the deadline.
        pause: waits for so many seconds.

    Raises:
        EngineError: it does not; the text says what was waited for last, and what came of it.

    """
    began = reported = clock()
    for what, ask in _on_the_way(engine):
        while (words := ask()) is not None:
            now = clock()
            if now - began > timeout:
                why = refused_host_key(engine.host, words, engine.host_key_from) or words
                raise EngineError(
                    f"{engine.host} was not ready within {timeout:.0f} seconds. What was waited for last is {what}."
                    f" It came to: {why}"
                )
            if now - reported > SIGN_OF_LIFE:
                reported = now
                last = words.splitlines()[-1]
                report(f"waiting for {what} of {engine.host}, for {now - began:.0f} s so far ({last})")
            pause(_PAUSE)


def _on_the_way(engine: Engine) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """Return what lies between here and the engine, each with what asks for it and returns why it is not there."""
    parts = urlsplit(engine.host)
    port = parts.port or 22
    # With the client over there, which Pulumi's provider needs as well.
    version = "docker version --format '{{.Server.Version}}'"
    yield f"TCP port {port}", lambda: refusal_of_port(parts.hostname or "", port)
    yield "the SSH login", lambda: ask_over_ssh(engine.host, engine.ssh_options, "true")
    yield "the Docker engine", lambda: ask_over_ssh(engine.host, engine.ssh_options, version)


def refusal_of_port(host: str, port: int) -> str | None:
    """Return why nothing can be said to a port; None where something listens."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def take_images(
    engine: Engine,
    names: Sequence[str],
    source: Engine,
    report: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Bring the images that an engine lacks there from another one, which saves what the first loads.

    Args:
        engine: gets them.
        names: the images.
        source: has them.
        report: told what is sent, and how much of it is there.
        clock: seconds, for that.

    Raises:
        EngineError: one cannot be sent; the text says which, and why.

    """
    with engine.connection() as client:
        missing = [name for name in names if not has_image(client, name)]
        architecture = str(client.version()["Arch"])
    # All of them before the first: what cannot be had ends it before a gigabyte is sent.
    sizes = {name: _size(source, name, architecture, engine.host) for name in missing}
    for name, size in sizes.items():
        pieces = _told(_saved(source, name), f"the image {name} to {engine.host}", size, report, clock)
        with engine.connection() as client:
            before, client.api.timeout = client.api.timeout, _TIMEOUT_OF_AN_IMAGE
            try:
                client.images.load(pieces)  # pyright: ignore[reportArgumentType] - pieces pass as well as a file
            finally:
                client.api.timeout = before


def _size(source: Engine, name: str, architecture: str, target: str) -> int:
    with source.connection() as client:
        try:
            image = client.images.get(name)
        except docker.errors.ImageNotFound:
            image = None
    if image is None:
        raise EngineError(
            f"Neither the Docker engine at {target} nor the one at {source.host} has the image {name}; `make up` builds"
            " it."
        )
    ours = image.attrs["Architecture"]
    if ours != architecture:
        raise EngineError(
            f"The Docker engine at {target} runs {architecture}, and the image {name} at {source.host} is {ours};"
            " choose a machine of the same kind, or let it pull images (images.source: pulled, images.registry)."
        )
    return int(image.attrs["Size"])


def _saved(source: Engine, name: str) -> Iterator[bytes]:
    with source.connection() as client:
        # Its first name, which True would stand for, may be another.
        yield from client.images.get(name).save(chunk_size=_PIECE, named=name)


def _told(
    pieces: Iterator[bytes],
    what: str,
    size: int,
    report: Callable[[str], None],
    clock: Callable[[], float],
) -> Iterator[bytes]:
    """Pass the pieces on, and say now and then how far they got."""
    began = reported = clock()
    sent = 0
    report(f"sending {what}: some {size >> 20} MiB")
    for piece in pieces:
        yield piece
        sent += len(piece)
        if (now := clock()) - reported > SIGN_OF_LIFE:
            reported = now
            report(f"sending {what}: {sent >> 20} of some {size >> 20} MiB")
    report(f"sent {what}: {sent >> 20} MiB in {clock() - began:.0f} s")
