"""Whole stacks on AWS: the examples, and what can be combined."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from open_webui_edge.components.deployment import OpenWebUIDeployment
from open_webui_edge.settings.stack import StackSettings
from tests.unit.graph import Graph, graph_of

EXAMPLES = Path(__file__).parents[3] / "stacks" / "examples"
SECRETS = {
    "password": "correct horse; battery staple",
    "api_key": "sk-a;b\"c'd$e",
    "database": "postgresql://owui:hunter22@db.example.com:5433/owui",
    "secret_access_key": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY01",
}
"""What a person gives in confidence."""
MADE = "made in confidence"
"""What is in every private key that a provider makes."""
_KEY = {
    "privateKeyPem": MADE,
    "privateKeyOpenssh": MADE,
    "publicKeyOpenssh": "ssh-ed25519 AAAA\n",
    "publicKeyFingerprintSha256": "SHA256:fingerprint",
}
_CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
_WEB_ACL = "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/chat/01234567-89ab-cdef-0123-456789abcdef"
_VPCS: Mapping[str, Mapping[str, Any]] = {
    "new": {},
    "existing": {
        "id": "vpc-0a1b2c3d4e5f60718",
        "public_subnets": ["subnet-0a1b2c3d4e5f60718", "subnet-1a1b2c3d4e5f60718"],
    },
}
_DNS: Mapping[str, Mapping[str, Any]] = {
    "created": {"provider": "route53", "zone": "example.com", "create": True},
    "existing": {"provider": "route53", "zone": "example.com"},
    "none": {},
}
_BALANCERS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "alb": {"kind": "alb", "web_acl": _WEB_ACL, "deletion_protection": True},
    "nlb": {"kind": "nlb"},
}
_MODES: Mapping[str, Mapping[str, Any]] = {
    "self-signed": {"mode": "self-signed"},
    "lets-encrypt": {
        "mode": "lets-encrypt",
        "additional_names": ["*.chat.example.com"],
        "lets_encrypt": {
            "challenge": "dns-01",
            "route53": {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": SECRETS["secret_access_key"]},
        },
    },
    "acm": {"mode": "acm", "additional_names": ["*.chat.example.com"]},
    "acm-arn": {"mode": "acm", "acm": {"arn": _CERTIFICATE}},
}


def _goes_together(balancer: str, dns: str, mode: str) -> bool:
    return mode.startswith("acm") == (balancer == "alb") and not (mode == "acm" and dns == "none")


COMBINATIONS = [
    (balancer, vpc, dns, mode)
    for balancer in _BALANCERS
    for vpc in _VPCS
    for dns in _DNS
    for mode in _MODES
    if _goes_together(balancer, dns, mode)
]
BY_ROLE = {"by-role-created": ("nlb", "created"), "by-role-existing": ("none", "existing")}
"""Stacks in which the instance's role opens the zone to certbot: load balancer and zone."""
STACKS = ["staging", "production", *BY_ROLE, *("-".join(words) for words in COMBINATIONS)]
"""Names of all."""


def settings_of(stack: str) -> dict[str, Any]:
    """Return what a stack's file says."""
    if stack in {"staging", "production"}:
        document = yaml.safe_load((EXAMPLES / f"{stack}.yaml").read_text(encoding="utf-8"))
        return {key.partition(":")[2]: value for key, value in document["config"].items()}
    if stack in BY_ROLE:
        balancer, dns = BY_ROLE[stack]
        settings = settings_of(f"{balancer}-new-{dns}-lets-encrypt")
        return {**settings, "certificate": {**settings["certificate"], "lets_encrypt": {"challenge": "dns-01"}}}
    ((balancer, vpc, dns, mode),) = (words for words in COMBINATIONS if "-".join(words) == stack)
    proxied = vpc == "existing" and balancer != "none"
    return {
        "platform": {
            "kind": "aws-vm",
            "aws": {
                "region": "eu-central-1",
                "vpc": {**_VPCS[vpc], **({"cidr": "10.30.0.0/16"} if proxied else {})},
                "instance": {"image": "ubuntu", "ssh_from": ["203.0.113.7/32", "2001:db8::/64"]},
                "load_balancer": _BALANCERS[balancer],
            },
        },
        "site": {"domain": "chat.example.com", "aliases": ["www.example.com"]},
        "dns": _DNS[dns],
        "certificate": _MODES[mode],
        "proxy": {"http3": balancer == "none", "metrics": {"enabled": True}},
        "open_webui": {"admin": {"email": "admin@example.com", "password": SECRETS["password"]}, "replicas": 2},
        "models": {
            "providers": [{"url": "https://api.example.com:8443/v1", "api_key": SECRETS["api_key"]}],
            "ollama": {"mode": "container"},
        },
        "data": {"postgres": {"mode": "url", "url": SECRETS["database"]}, "redis": {"mode": "container"}},
        "backup": {"enabled": True},
        "monitoring": {"alarms": {"enabled": True, "email": "admin@example.com"}},
    }


@cache
def deployed(stack: str, *, preview: bool = False) -> Graph:
    """Return a stack's graph."""
    return graph_with(settings_of(stack), preview=preview)


def graph_with(config: Mapping[str, Any], *, preview: bool = False) -> Graph:
    """Return the graph of what a stack's file says."""
    settings = StackSettings.model_validate_json(json.dumps(config))
    return graph_of(
        lambda: OpenWebUIDeployment("edge", settings).outputs,
        preview=preview,
        computed={"tls:index/privateKey:PrivateKey": _KEY},
    )


def texts_in(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Return every text below a value, with where it is; JSON in a text is looked into."""
    match value:
        case str():
            yield path, value
            if value.startswith("{") and value.endswith("}"):
                yield from texts_in(json.loads(value), path)
        case Mapping():
            for key, item in value.items():
                yield from texts_in(item, f"{path}.{key}" if path else str(key))
        case list() | tuple():
            for item in value:
                yield from texts_in(item, path)
        case _:
            pass
