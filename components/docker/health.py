"""What comes after what: a resource that is touched only when those before it are known to be healthy."""

import asyncio
from collections.abc import Sequence

import pulumi

from components.docker.engine import Engine, EngineError


def once_healthy(
    resources: Sequence[pulumi.Resource],
    container_ids: pulumi.Output[Sequence[str]],
    engine: Engine,
) -> pulumi.Input[Sequence[pulumi.Input[pulumi.Resource]]]:
    """Return what a resource depends on: `resources`, whose containers are healthy by then.

    Not a hook after they were made: Pulumi goes on when such a hook fails, and what comes next would change too.
    """
    if pulumi.runtime.is_dry_run():
        return [*resources]

    async def wait(identities: Sequence[str]) -> Sequence[pulumi.Input[pulumi.Resource]]:
        try:
            await asyncio.to_thread(engine.wait_until_healthy, identities, pulumi.log.info)
        except EngineError as error:
            raise pulumi.RunError(str(error)) from None
        return [*resources]

    return container_ids.apply(wait)
