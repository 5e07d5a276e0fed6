"""Protected resources that a change of settings would delete: reported before an update, which would fail halfway."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from open_webui_edge.cli.stack import setting
from open_webui_edge.settings.recorded_state import VOLUME, holds_data

_ZONE, _VAULT, _DISK = "aws:route53/zone:Zone", "aws:backup/vault:Vault", "aws:ebs/volume:Volume"
_Settings = Mapping[str, Any]
_Resource = Mapping[str, Any]


_PROTECTED_PARTS = {
    "data.postgres.mode": (
        r"edge-postgres-(data|password-key)",
        (
            "this stack has a PostgreSQL of its own with protected data. Write container again. To move the data to"
            " another PostgreSQL, run `make backup STACK={stack}` now and `make restore` there"
        ),
    ),
    "data.redis.mode": (
        r"edge-redis-(data|password-key)",
        "this stack has a Redis of its own with protected data. Write container again",
    ),
    "models.ollama.mode": (
        r"edge-ollama-models",
        "this stack has an Ollama of its own with protected models. Write container again",
    ),
    "open_webui.admin": (
        r"edge-admin-password-key",
        (
            "this stack generated the administrator's first password and protects it (`pulumi stack output"
            " admin_password --show-secrets`). Write the topic again"
        ),
    ),
}
"""Setting that creates protected resources on a container host -> their logical names, and what to do without it."""


def protected_leftovers(name: str, settings: _Settings, resources: Sequence[_Resource]) -> list[str]:
    """Return a message for each protected resource in the state that the settings no longer include."""
    protected = [resource for resource in resources if resource.get("protect")]
    moved = _moved(settings, protected)
    if moved is not None:
        # Any other message would only follow from this one.
        return [moved]
    lines = [line for resource in protected for line in _line(name, settings, resource)]
    for path, (names, what) in _PROTECTED_PARTS.items():
        urns = [resource["urn"] for resource in protected if re.fullmatch(names, _name(resource))]
        value = setting(settings, path)
        is_used = value == "container" if path.endswith(".mode") else bool(value)
        if urns and not is_used:
            lines.append(f"{path}: {what.format(stack=name)}; or {_forget(name, urns)}")
    return [*lines, *_authorities(settings, protected)]


def unprotected(resources: Sequence[_Resource], *, on_instance: bool) -> list[str]:
    """Return the URNs of unprotected resources that hold data; on an instance, its disk is protected and no volume."""
    return [
        resource["urn"]
        for resource in resources
        if holds_data(resource["type"], _name(resource), resource.get("outputs") or {})
        and not (on_instance and resource["type"] == VOLUME)
        and not (resource.get("protect") and resource.get("retainOnDelete"))
    ]


def _moved(settings: _Settings, protected: Sequence[_Resource]) -> str | None:
    to_aws, region = setting(settings, "platform.kind") == "aws-vm", setting(settings, "platform.aws.region")
    zones = [(one.get("outputs") or {}).get("availabilityZone") for one in protected if one["type"] == _DISK]
    if to_aws and any(resource["type"] == VOLUME for resource in protected):
        path, where, was = "platform.kind", "a Docker engine, and a new instance", "docker"
    elif not to_aws and zones:
        path, where, was = "platform.kind", "a disk at AWS, and a container host", "aws-vm"
    elif zones and not str(zones[0]).startswith(str(region)):
        path, where, was = "platform.aws.region", f"a disk in {zones[0]}, and {region}", "its region"
    else:
        return None
    return (
        f"{path}: the data of this stack is on {where} would start without it. Write {was} again, and move the data"
        " into a stack of another name (docs/operations.md: Another name for a stack)"
    )


def _authorities(settings: _Settings, protected: Sequence[_Resource]) -> Iterator[str]:
    matches = [re.fullmatch(r"edge-certificate-ca(?:-key)?-(\d+)", _name(resource)) for resource in protected]
    newest = max((int(match[1]) for match in matches if match), default=1)
    generation = setting(settings, "certificate.self_signed.generation")
    if newest > (generation if isinstance(generation, int) else 1):
        yield (
            f"certificate.self_signed.generation: this stack has {newest} CAs and protects them, since clients"
            f" trust them. Write {newest} again, or a higher number for a new one"
        )


def _forget(name: str, urns: Sequence[str]) -> str:
    quoted = " ".join(f"'{urn}'" for urn in urns)
    return (
        "remove it from the stack; then a volume stays on the engine unchanged, and a generated password is lost:"
        f' (eval "$(make -s env STACK={name})"; pulumi state unprotect --yes --stack {name} {quoted})'
    )


def _name(resource: _Resource) -> str:
    return str(resource["urn"]).rpartition("::")[2]


def _line(name: str, settings: _Settings, resource: _Resource) -> Iterator[str]:
    if resource["type"] == _ZONE:
        zone = (resource.get("outputs") or {}).get("name")
        if setting(settings, "dns.create") is True and str(setting(settings, "dns.zone")).lower() == zone:
            return
        yield (
            f"dns.create: this stack created the zone {zone} and protects it, since a domain may be delegated to its"
            f" name servers. Write dns: {{provider: route53, zone: {zone}, create: true}} again; or remove it from the"
            " stack; then it stays in Route 53 unchanged, to be used by its name or to be deleted by you: (eval"
            f" \"$(make -s env STACK={name})\"; pulumi state unprotect --yes --stack {name} '{resource['urn']}')"
        )
    elif resource["type"] == _VAULT and not setting(settings, "backup"):
        yield (
            "backup: this stack has a backup vault and protects it. Write backup: {enabled: false}: then no new backups"
            " are made, and existing ones stay until they expire"
        )
