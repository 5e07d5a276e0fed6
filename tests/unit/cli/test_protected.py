"""What a stack keeps is not given up in the midst of an update: it is said before."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli import commands, protected, session
from open_webui_edge.settings.recorded_state import VOLUME

URN = "urn:pulumi:prod::open-webui-edge::aws:route53/zone:Zone::edge-vm-zone-zone"
ZONE = {"type": "aws:route53/zone:Zone", "urn": URN, "protect": True, "outputs": {"name": "example.com"}}
VAULT = {"type": "aws:backup/vault:Vault", "urn": "urn:vault", "protect": True}
MADE = {"dns": {"provider": "route53", "zone": "example.com", "create": True}}
COPIED = {"backup": {"enabled": True}}
ZONE_LEFTOVER = (
    "dns.create: this stack created the zone example.com and protects it, since a domain may be delegated to its name"
    " servers. Write dns: {provider: route53, zone: example.com, create: true} again; or remove it from the stack;"
    " then it stays in Route 53 unchanged, to be used by its name or to be deleted by you: (eval"
    f" \"$(make -s env STACK=prod)\"; pulumi state unprotect --yes --stack prod '{URN}')"
)
VAULT_LEFTOVER = (
    "backup: this stack has a backup vault and protects it. Write backup: {enabled: false}: then no new backups are"
    " made, and existing ones stay until they expire"
)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**MADE, **COPIED}, []),
        ({**MADE, "backup": {"enabled": False}}, []),
        ({**COPIED, "dns": {**MADE["dns"], "zone": "Example.COM"}}, []),
        (MADE, [VAULT_LEFTOVER]),
        ({**MADE, "backup": {}}, [VAULT_LEFTOVER]),
        (COPIED, [ZONE_LEFTOVER]),
        ({**COPIED, "dns": {"provider": "none"}}, [ZONE_LEFTOVER]),
        ({**COPIED, "dns": {**MADE["dns"], "create": False}}, [ZONE_LEFTOVER]),
        ({**COPIED, "dns": {**MADE["dns"], "zone": "example.org"}}, [ZONE_LEFTOVER]),
        ({}, [ZONE_LEFTOVER, VAULT_LEFTOVER]),
    ],
)
def test_what_is_no_longer_wanted_is_named_with_the_ways_out(settings: dict[str, Any], said: list[str]) -> None:
    assert (
        protected.protected_leftovers(
            "prod", settings, [ZONE, VAULT, {"type": "pulumi:pulumi:Stack", "urn": "urn:stack"}]
        )
        == said
    )


def _protected(*names: str, **outputs: str) -> list[dict[str, Any]]:
    disk = {"type": "aws:ebs/volume:Volume", "outputs": outputs} if outputs else {"type": VOLUME, "outputs": {}}
    return [{**disk, "urn": f"urn:pulumi:prod::edge::x::{name}", "protect": True} for name in names]


_FORGET = (
    "; or remove it from the stack; then a volume stays on the engine unchanged, and a generated password is"
    ' lost: (eval "$(make -s env STACK=prod)"; pulumi state unprotect --yes --stack prod'
)


@pytest.mark.parametrize(
    ("resources", "settings", "said"),
    [
        pytest.param(
            _protected("edge-postgres-data", "edge-postgres-password-key"),
            {"data": {"postgres": {"mode": "url"}}},
            "data.postgres.mode: this stack has a PostgreSQL of its own with protected data. Write container again. To"
            " move the data to another PostgreSQL, run `make backup STACK=prod` now and `make restore` there"
            f"{_FORGET} 'urn:pulumi:prod::edge::x::edge-postgres-data'"
            " 'urn:pulumi:prod::edge::x::edge-postgres-password-key')",
            id="postgres",
        ),
        pytest.param(
            _protected("edge-redis-data"),
            {"data": {"redis": {"mode": "none"}}},
            "data.redis.mode: this stack has a Redis of its own with protected data. Write container again"
            f"{_FORGET} 'urn:pulumi:prod::edge::x::edge-redis-data')",
            id="redis",
        ),
        pytest.param(
            _protected("edge-ollama-models"),
            {},
            "models.ollama.mode: this stack has an Ollama of its own with protected models. Write container again"
            f"{_FORGET} 'urn:pulumi:prod::edge::x::edge-ollama-models')",
            id="ollama",
        ),
        pytest.param(
            _protected("edge-admin-password-key"),
            {"open_webui": {}},
            "open_webui.admin: this stack generated the administrator's first password and protects it (`pulumi stack"
            " output admin_password --show-secrets`). Write the topic again"
            f"{_FORGET} 'urn:pulumi:prod::edge::x::edge-admin-password-key')",
            id="administrator",
        ),
        pytest.param(
            _protected("edge-certificate-ca-key-3", "edge-certificate-ca-2"),
            {"certificate": {"self_signed": {"generation": 2}}},
            "certificate.self_signed.generation: this stack has 3 CAs and protects them, since clients trust them."
            " Write 3 again, or a higher number for a new one",
            id="authority",
        ),
        pytest.param(
            _protected("edge-open-webui-data"),
            {"platform": {"kind": "aws-vm", "aws": {"region": "eu-west-1"}}},
            "platform.kind: the data of this stack is on a Docker engine, and a new instance would start without it."
            " Write docker again, and move the data into a stack of another name (docs/operations.md: Another name"
            " for a stack)",
            id="to-aws",
        ),
        pytest.param(
            _protected("edge-vm-host-data", availabilityZone="eu-central-1a"),
            {"platform": {"kind": "docker"}},
            "platform.kind: the data of this stack is on a disk at AWS, and a container host would start without it."
            " Write aws-vm again, and move the data into a stack of another name (docs/operations.md: Another name"
            " for a stack)",
            id="from-aws",
        ),
        pytest.param(
            _protected("edge-vm-host-data", availabilityZone="eu-central-1a"),
            {"platform": {"kind": "aws-vm", "aws": {"region": "eu-west-1"}}},
            "platform.aws.region: the data of this stack is on a disk in eu-central-1a, and eu-west-1 would start"
            " without it. Write its region again, and move the data into a stack of another name (docs/operations.md:"
            " Another name for a stack)",
            id="region",
        ),
    ],
)
def test_what_a_setting_would_drop_is_named_with_the_ways_out(
    resources: list[dict[str, Any]], settings: dict[str, Any], said: str
) -> None:
    assert protected.protected_leftovers("prod", settings, resources) == [said]
    # A person who has the stack forget it goes on.
    assert protected.protected_leftovers("prod", settings, [{**one, "protect": False} for one in resources]) == []


def test_what_is_not_kept_any_more_may_go() -> None:
    assert protected.protected_leftovers("prod", {}, [{**ZONE, "protect": False}, {**VAULT, "protect": False}]) == []
    assert protected.protected_leftovers("prod", {}, []) == []


@pytest.mark.parametrize("command", [commands.up, commands.preview])
def test_nothing_is_touched_before_it_is_said(command: Callable[[str], int], monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    target = SimpleNamespace(
        name="prod", exists=lambda: True, resources=lambda **_: [ZONE], run=lambda *words: ran.extend(words)
    )
    settings = {"platform": {"kind": "aws-vm"}}
    for name, value in (("make_file", False), ("settings_of", settings)):
        monkeypatch.setattr(f"open_webui_edge.cli.stack.{name}", lambda _, value=value: value)
    monkeypatch.setattr(session, "stack_of", lambda _: target)
    with pytest.raises(ProblemError) as refused:
        command("prod")
    assert str(refused.value) == f"Nothing was touched.\n{ZONE_LEFTOVER}"
    assert ran == []
