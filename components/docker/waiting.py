"""Waits for engines and containers, and transfers images that no registry has."""

# The engine's answers are JSON, and the package `docker` says nothing of their types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
import socket
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import docker.errors
import pulumi

from open_webui_edge.engine.engine import PROGRESS_INTERVAL, Engine, EngineError, has_image
from open_webui_edge.engine.identity import another_engine, name_of_identity
from open_webui_edge.engine.ssh import SshAccess, ask_over_ssh, refused_host_key

_POLL_INTERVAL = 2
"""Seconds between two attempts."""
_CHUNK_SIZE = 1 << 20
_IMAGE_LOAD_TIMEOUT = 600
"""Seconds that an engine may take to unpack an image before it answers."""


@contextmanager
def engine_errors() -> Generator[None]:
    """Make Pulumi show an engine's error without a traceback."""
    try:
        yield
    except EngineError as error:
        raise pulumi.RunError(str(error)) from None


def after_recognition(name: str, engine: Engine, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """Return the engine's address, once it is known that the stack is on this engine or on none yet.

    Another engine has none of the stack's resources, so an update would create all of them there, without the data.
    `name` is the host's; `opts` are those of the resource that stores the ID of the stack's engine.
    """
    with engine_errors():
        today = engine.identity()

    def recognised(first: str | None) -> str:
        # `make` recognises an engine whose ID changed, and records the new ID before it runs Pulumi.
        if first is not None and first != today:
            raise pulumi.RunError(another_engine(pulumi.get_stack(), engine.host, f"its ID is {first}"))
        return engine.host

    # Its output stays its first input, and a refused update changes neither.
    pinned = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(ignore_changes=["input"]))
    return pulumi.Stash(name_of_identity(name), input=today, opts=pinned).output.apply(recognised)


def wait_for_engine(
    engine: Engine,
    access: pulumi.Output[SshAccess],
    *,
    timeout: float,
    images: Sequence[str],
    source: Engine,
) -> pulumi.Output[str]:
    """Return the address of an engine that answers there and has the images; in a preview, as soon as it is known.

    The engine is bound to the address, and has `timeout` seconds to answer. No registry has the `images`, which come
    from the engine `source`.
    """

    async def wait(access: SshAccess) -> str:
        try:
            access.write()
            engine.bind(access.host)
            if not pulumi.runtime.is_dry_run():
                await asyncio.to_thread(wait_until_engine_answers, engine, timeout, pulumi.log.info)
                if images:
                    await asyncio.to_thread(transfer_images, engine, images, source, pulumi.log.info)
        except (EngineError, OSError) as error:
            raise pulumi.RunError(str(error)) from None
        return access.host

    # The login key is a secret, the address is not.
    return pulumi.Output.unsecret(access.apply(wait))


def wait_until_engine_answers(
    engine: Engine,
    timeout: float,
    report: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Return when an engine behind ssh answers: its machine may still be starting.

    A refused host key or login is retried too: a new machine has other keys until it is set up. All steps together may
    take `timeout` seconds; `report` gets a progress message now and then.

    Raises:
        EngineError: the time is over; the text names the last step and its error.

    """
    began = reported = clock()
    for step, error_of in _connection_steps(engine):
        while (error := error_of()) is not None:
            now = clock()
            if now - began > timeout:
                reason = refused_host_key(engine.host, error, engine.host_key_from) or error
                raise EngineError(f"Timed out after {timeout:.0f} s: {step} of {engine.host} not reachable ({reason})")
            if now - reported > PROGRESS_INTERVAL:
                reported = now
                last = error.splitlines()[-1]
                report(f"waiting for {step} of {engine.host}, for {now - began:.0f} s so far ({last})")
            pause(_POLL_INTERVAL)


def _connection_steps(engine: Engine) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """Return the steps of a connection to the engine, each with a function that returns its error, or None."""
    parts = urlsplit(engine.host)
    port = parts.port or 22
    # By the remote Docker client, which Pulumi's provider needs as well.
    version = "docker version --format '{{.Server.Version}}'"
    yield f"TCP port {port}", lambda: port_error(parts.hostname or "", port)
    yield "the SSH login", lambda: ask_over_ssh(engine.host, engine.ssh_options, "true")
    yield "the Docker engine", lambda: ask_over_ssh(engine.host, engine.ssh_options, version)


def port_error(host: str, port: int) -> str | None:
    """Return why a connection to a port fails; None if it succeeds."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def transfer_images(engine: Engine, names: Sequence[str], source: Engine, report: Callable[[str], None]) -> None:
    """Transfer the images that an engine lacks from another engine.

    Raises:
        EngineError: an image cannot be sent; the text names it and the reason.

    """
    with engine.connection() as client:
        missing = [name for name in names if not has_image(client, name)]
        architecture = str(client.version()["Arch"])
    # All of them first: a missing image ends the transfer before a gigabyte is sent.
    sizes = {name: _size(source, name, architecture, engine.host) for name in missing}
    for name, size in sizes.items():
        pieces = _with_progress(_exported(source, name), f"the image {name} to {engine.host}", size, report)
        with engine.connection() as client:
            before, client.api.timeout = client.api.timeout, _IMAGE_LOAD_TIMEOUT
            try:
                client.images.load(pieces)  # pyright: ignore[reportArgumentType] - pieces pass as well as a file
            finally:
                client.api.timeout = before


def _size(source: Engine, name: str, architecture: str, target: str) -> int:
    with source.connection() as client:
        try:
            image = client.images.get(name)
        except docker.errors.ImageNotFound:
            raise EngineError(
                f"Neither the Docker engine at {target} nor the one at {source.host} has the image {name}; `make up`"
                " builds it."
            ) from None
    ours = image.attrs["Architecture"]
    if ours != architecture:
        raise EngineError(
            f"The Docker engine at {target} runs {architecture}, and the image {name} at {source.host} is {ours};"
            " choose a machine of the same kind, or let it pull images (images.source: pulled, images.registry)."
        )
    return int(image.attrs["Size"])


def _exported(source: Engine, name: str) -> Iterator[bytes]:
    with source.connection() as client:
        # `named=True` would take its first name, which may be another one.
        yield from client.images.get(name).save(chunk_size=_CHUNK_SIZE, named=name)


def _with_progress(pieces: Iterator[bytes], what: str, size: int, report: Callable[[str], None]) -> Iterator[bytes]:
    """Yield the pieces, and report the progress now and then."""
    began = reported = time.monotonic()
    sent = 0
    report(f"sending {what}: some {size >> 20} MiB")
    for piece in pieces:
        yield piece
        sent += len(piece)
        if (now := time.monotonic()) - reported > PROGRESS_INTERVAL:
            reported = now
            report(f"sending {what}: {sent >> 20} of some {size >> 20} MiB")
    report(f"sent {what}: {sent >> 20} MiB in {time.monotonic() - began:.0f} s")


def after_healthy(
    resources: Sequence[pulumi.Resource],
    container_ids: pulumi.Output[Sequence[str]],
    engine: Engine,
) -> pulumi.Input[Sequence[pulumi.Input[pulumi.Resource]]]:
    """Return `resources` as dependencies that resolve once their containers are healthy.

    Not an after_create hook: Pulumi continues when such a hook fails, so the next resource would change too.
    """
    if pulumi.runtime.is_dry_run():
        return [*resources]

    async def wait(identities: Sequence[str]) -> Sequence[pulumi.Input[pulumi.Resource]]:
        with engine_errors():
            await asyncio.to_thread(engine.wait_until_healthy, identities, pulumi.log.info)
        return [*resources]

    return container_ids.apply(wait)
