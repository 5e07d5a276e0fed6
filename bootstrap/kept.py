"""What a stack at AWS made once and keeps: Pulumi would refuse to give it up in the midst of an update."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bootstrap.stack import setting

_ZONE, _VAULT = "aws:route53/zone:Zone", "aws:backup/vault:Vault"


def given_up(name: str, settings: Mapping[str, Any], resources: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each thing in the state of the stack `name` that its settings want no longer."""
    return [line for resource in resources if resource.get("protect") for line in _line(name, settings, resource)]


def _line(name: str, settings: Mapping[str, Any], resource: Mapping[str, Any]) -> Iterator[str]:
    if resource["type"] == _ZONE:
        zone = (resource.get("outputs") or {}).get("name")
        if setting(settings, "dns.create") is True and str(setting(settings, "dns.zone")).lower() == zone:
            return
        yield (
            f"dns.create: this stack made the zone {zone} and keeps it, since a domain may be delegated to its name"
            f" servers. Write dns: {{provider: route53, zone: {zone}, create: true}} again; or have the stack forget"
            " it, after which it stays in Route 53 as it is, to be found by its name or to be deleted by you: eval"
            f" \"$(make -s env STACK={name})\"; pulumi state unprotect --yes --stack {name} '{resource['urn']}'"
        )
    elif resource["type"] == _VAULT and not setting(settings, "backup"):
        yield (
            "backup: this stack has a vault for copies of its data and keeps it. Write backup: {enabled: false}: no"
            " more are made then, and those that are there stay until their time is over"
        )
