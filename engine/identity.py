"""How one engine is told from another. Imports nothing."""

_SUFFIX = "-engine-identity"


def name_of_identity(host: str) -> str:
    """Return the logical name of the resource that stores the ID of a host's engine."""
    return f"{host}{_SUFFIX}"


def is_identity(urn: str) -> bool:
    """Return whether a resource of a state stores that ID."""
    return urn.endswith(_SUFFIX)


def another_engine(stack: str, here: str, there: str, *, has_volumes: bool = False) -> str:
    """Return the message for an update that reached the engine at `here`, and not the stack's, described by `there`.

    `has_volumes`: the engine that answered has volumes of the stack all the same.
    """
    though = (
        f", though it has volumes of {stack}: it is a copy, or an engine that {stack} has left. Nothing was touched."
        if has_volumes
        else ", so nothing on it was touched."
    )
    return (
        f"The Docker engine at {here} is not the one that {stack} is on ({there}){though} Name the right one by"
        " DOCKER_HOST, `docker context use` or platform.docker.host; or, if that one is gone for good, add ENGINE=new"
        f" to `make up STACK={stack}`, which goes on here without the data that is there."
    )
