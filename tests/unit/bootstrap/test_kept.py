"""What a stack at AWS keeps is not given up in the midst of an update: it is said before."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bootstrap import commands, kept
from bootstrap.problem import ProblemError

URN = "urn:pulumi:prod::open-webui-edge::aws:route53/zone:Zone::edge-vm-zone-zone"
ZONE = {"type": "aws:route53/zone:Zone", "urn": URN, "protect": True, "outputs": {"name": "example.com"}}
VAULT = {"type": "aws:backup/vault:Vault", "urn": "urn:vault", "protect": True}
MADE = {"dns": {"provider": "route53", "zone": "example.com", "create": True}}
COPIED = {"backup": {"enabled": True}}
ZONE_WANTED = (
    "dns.create: this stack made the zone example.com and keeps it, since a domain may be delegated to its name"
    " servers. Write dns: {provider: route53, zone: example.com, create: true} again; or have the stack forget it,"
    " after which it stays in Route 53 as it is, to be found by its name or to be deleted by you: eval"
    f" \"$(make -s env STACK=prod)\"; pulumi state unprotect --yes --stack prod '{URN}'"
)
VAULT_WANTED = (
    "backup: this stack has a vault for copies of its data and keeps it. Write backup: {enabled: false}: no more are"
    " made then, and those that are there stay until their time is over"
)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**MADE, **COPIED}, []),
        ({**MADE, "backup": {"enabled": False}}, []),
        ({**COPIED, "dns": {**MADE["dns"], "zone": "Example.COM"}}, []),
        (MADE, [VAULT_WANTED]),
        ({**MADE, "backup": {}}, [VAULT_WANTED]),
        (COPIED, [ZONE_WANTED]),
        ({**COPIED, "dns": {"provider": "none"}}, [ZONE_WANTED]),
        ({**COPIED, "dns": {**MADE["dns"], "create": False}}, [ZONE_WANTED]),
        ({**COPIED, "dns": {**MADE["dns"], "zone": "example.org"}}, [ZONE_WANTED]),
        ({}, [ZONE_WANTED, VAULT_WANTED]),
    ],
)
def test_what_is_no_longer_wanted_is_named_with_the_ways_out(settings: dict[str, Any], said: list[str]) -> None:
    assert kept.given_up("prod", settings, [ZONE, VAULT, {"type": "pulumi:pulumi:Stack", "urn": "urn:stack"}]) == said


def test_what_is_not_kept_any_more_may_go() -> None:
    assert kept.given_up("prod", {}, [{**ZONE, "protect": False}, {**VAULT, "protect": False}]) == []
    assert kept.given_up("prod", {}, []) == []


@pytest.mark.parametrize("command", [commands.up, commands.preview])
def test_nothing_is_touched_before_it_is_said(command: Callable[[str], int], monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    target = SimpleNamespace(
        name="prod", exists=lambda: True, resources=lambda **_: [ZONE], run=lambda *words: ran.extend(words)
    )
    settings = {"platform": {"kind": "aws-vm"}}
    for name, value in (("make_file", False), ("settings_of", settings)):
        monkeypatch.setattr(f"bootstrap.stack.{name}", lambda _, value=value: value)
    monkeypatch.setattr(commands, "_stack", lambda _: target)
    with pytest.raises(ProblemError) as refused:
        command("prod")
    assert str(refused.value) == f"Nothing was touched.\n{ZONE_WANTED}"
    assert ran == []
