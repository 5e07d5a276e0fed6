"""Whose a resource is, and names that AWS accepts."""

import hashlib
import re

import pulumi

APP = "open-webui-edge"
_HASH = 8


def tags(component: str, role: str | None = None) -> dict[str, str]:
    """Return the tags of everything that this stack makes on AWS.

    Args:
        component: which part of the deployment it belongs to.
        role: what it is, for the console's column of names; a resource with a name of its own leaves it out.

    """
    named = {} if role is None else {"Name": physical_name(role, 255)}
    return {"app": APP, "stack": pulumi.get_stack(), "component": component, **named}


def physical_name(role: str, limit: int) -> str:
    """Return the name that a person sees, at most `limit` characters long."""
    return limited_name(f"edge-{pulumi.get_stack()}-{role}", limit)


def limited_name(stem: str, limit: int) -> str:
    """Return a name of letters, digits and single hyphens, at most `limit` characters long.

    A stem that has to be changed for it ends in a hash of the whole, so that two of them never share a name.
    """
    plain = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")
    if plain == stem and len(stem) <= limit:
        return stem
    digest = hashlib.sha256(stem.encode()).hexdigest()[:_HASH]
    room = limit - _HASH - 1
    if room < 1:
        raise ValueError(f"{limit} characters are too few for a name and a hash")
    return f"{plain[:room].rstrip('-')}-{digest}".lstrip("-")
