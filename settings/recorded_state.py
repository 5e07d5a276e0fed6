"""What of a stack's state holds data, and which stack made it. Loads no Pulumi: `make` asks here as well."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

VOLUME = "docker:index/volume:Volume"
_ROLES = frozenset({"letsencrypt", "ollama-models", "open-webui-data", "postgres-data", "redis-data"})
"""Roles of the volumes that hold what people made, or what an issuer counts."""
_KEYS = frozenset({"tls:index/privateKey:PrivateKey", "tls:index/selfSignedCert:SelfSignedCert"})
_ISSUED_AGAIN = re.compile(r".*-certificate-key(-\d+)?")
"""Names of the keys that no client trusts by themselves: the stack's own CA signs the next one."""
_AT_AWS = frozenset({"aws:backup/vault:Vault", "aws:ebs/volume:Volume", "aws:route53/zone:Zone"})


def holds_data(type_: str, name: str, properties: Mapping[str, Any]) -> bool:
    """Tell whether a resource holds data, which no update may delete or replace.

    Args:
        type_: the type, as a URN has it.
        name: the logical name.
        properties: its inputs or outputs.

    """
    if type_ == VOLUME:
        return _labels(properties).get("role") in _ROLES
    if type_ in _KEYS:
        return _ISSUED_AGAIN.fullmatch(name) is None
    return type_ in _AT_AWS


def former_names(stack: str, resources: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return the other stacks' names that the data in the state of `stack` was made under.

    A rename changes every URN in the state, and neither label nor tag: these are on the engine and at AWS.

    Args:
        stack: name of the stack today.
        resources: URN and outputs of each resource.

    """
    makers: set[str] = set()
    for urn, outputs in resources:
        type_, _, name = urn.rpartition("::")
        if holds_data(type_.rpartition("::")[2].rpartition("$")[2], name, outputs):
            marks = _labels(outputs) or outputs.get("tags") or {}
            if isinstance(maker := marks.get("stack"), str) and maker != stack:
                makers.add(maker)
    return sorted(makers)


def renamed(stack: str, former: str) -> str:
    """Return what to do about a stack that was made under another name."""
    return (
        f"Nothing was changed. The stack {stack} was created as {former}: its volumes and other resources have that"
        " name, and an update would create new ones without the data. Rename the stack back: (eval"
        f' "$(make -s env STACK={stack})"; pulumi stack rename --stack {stack} {former}). To change the name,'
        " move the data into a new stack (docs/operations.md: Another name for a stack)."
    )


def _labels(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {label["label"]: label["value"] for label in properties.get("labels") or ()}
