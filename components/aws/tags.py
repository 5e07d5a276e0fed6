"""Tags of the stack's resources, and names that AWS accepts."""

import hashlib
import re

import pulumi

from open_webui_edge.runtime.contract import APP

_HASH = 8


def tags(component: str, role: str | None = None) -> dict[str, str]:
    """Return the tags of everything that this stack creates on AWS.

    Args:
        component: the part of the deployment.
        role: for the console's Name column; left out for a resource that has a name.

    """
    named = {} if role is None else {"Name": physical_name(role, 255)}
    return {"app": APP, "stack": pulumi.get_stack(), "component": component, **named}


def physical_name(role: str, limit: int) -> str:
    """Return a resource's name in AWS, at most `limit` characters long."""
    return limited_name(f"edge-{pulumi.get_stack()}-{role}", limit)


def limited_name(stem: str, limit: int) -> str:
    """Return a name of letters, digits and single hyphens, at most `limit` characters long.

    A shortened or changed stem ends in a hash of the original, so that names stay unique.
    """
    plain = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")
    if plain == stem and len(stem) <= limit:
        return stem
    digest = hashlib.sha256(stem.encode()).hexdigest()[:_HASH]
    room = limit - _HASH - 1
    if room < 1:
        raise ValueError(f"{limit} characters are too few for a name and a hash")
    return f"{plain[:room].rstrip('-')}-{digest}".lstrip("-")
