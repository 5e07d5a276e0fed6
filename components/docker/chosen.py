"""The engine that a stack's settings name."""

from components.docker.engine import Engine, EngineError
from components.docker.ssh import SshAccess
from stacks.settings import StackSettings


def ssh_access(settings: StackSettings, stack: str) -> SshAccess | None:
    """Return how the stack's host is reached; None where the user's own ssh knows, or no ssh is needed."""
    chosen = settings.platform.docker
    if chosen.host is None or chosen.host_key is None:
        return None
    return SshAccess(stack, chosen.host, chosen.host_key)


def engine_of(settings: StackSettings, stack: str) -> Engine:
    """Return the engine, with what ssh needs to know it in place.

    Raises:
        EngineError: that cannot be written.

    """
    access = ssh_access(settings, stack)
    if access is None:
        return Engine(settings.platform.docker.host)
    try:
        access.write()
    except OSError as error:
        raise EngineError(str(error)) from error
    return Engine(access.host, ssh_options=access.options)
