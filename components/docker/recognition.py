"""Refuses to update a stack on another engine than its own."""

import pulumi

from open_webui_edge.engine.engine import Engine, EngineError
from open_webui_edge.engine.identity import another_engine, name_of_identity


def after_recognition(name: str, engine: Engine, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """Return the engine's address, once it is known that the stack is on this engine or on none yet.

    Another engine has none of the stack's resources, so an update would create all of them there, without the data.

    Args:
        name: of the host.
        engine: the engine of this update.
        opts: of the resource that stores the ID of the stack's engine.

    Raises:
        pulumi.RunError: the engine does not answer.

    """
    try:
        today = engine.identity()
    except EngineError as error:
        raise pulumi.RunError(str(error)) from None
    # Its output stays its first input, and a refused update changes neither.
    pinned = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(ignore_changes=["input"]))
    first = pulumi.Stash(name_of_identity(name), input=today, opts=pinned)
    return first.output.apply(lambda known: _recognised(engine, known, today))


def _recognised(engine: Engine, first: str | None, today: str) -> str:
    # `make` recognises an engine whose ID changed, and records the new ID before it runs Pulumi.
    if first is not None and first != today:
        raise pulumi.RunError(another_engine(pulumi.get_stack(), engine.host, f"its ID is {first}"))
    return engine.host
