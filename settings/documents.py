"""Generates documents from the settings: JSON schema, reference page, an example that uses every setting.

`python -m open_webui_edge.settings.documents` writes them; with --check it lists those that differ and exits with 1 if
there are any.
"""

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from open_webui_edge.settings.faults import model_of
from open_webui_edge.settings.reading import PROJECT, read_settings
from open_webui_edge.settings.stack import StackSettings

_ROOT = Path(__file__).resolve().parent.parent
_WIDTH = 100
# The sentence of a description that states the default in words; a full stop within it is followed by no blank.
_DEFAULT = re.compile(r" ?Default: ((?:[^.]|\.(?=\S))+)\.(?= |$)")
# One value for each setting, so that the example has all of them; a test reads it back.
_EXAMPLE: dict[str, Any] = {
    "platform": {"kind": "docker", "docker": {"host": "unix:///var/run/docker.sock"}},
    "site": {
        "domain": "chat.example.com",
        "aliases": ["www.chat.example.com"],
        "listen": {"address": "0.0.0.0", "ipv6": True, "http_port": 80, "https_port": 443},  # noqa: S104 - what the example shows
    },
    "certificate": {
        "mode": "lets-encrypt",
        "warn_before": "14d",
        "additional_names": ["*.chat.example.com"],
        "self_signed": {"generation": 1},
        "lets_encrypt": {
            "email": "admin@example.com",
            "directory": "https://acme-v02.api.letsencrypt.org/directory",
            "staging": False,
            "profile": "classic",
            "challenge": "dns-01",
            "route53": {"region": "us-east-1"},
            "fallback": {"directory": "https://ca.example.com/acme/acme/directory"},
            "wait": "5m",
        },
    },
    "dns": {"provider": "none", "create": False},
    "proxy": {
        "tls_profile": "modern",
        "http3": False,
        "proxy_protocol": False,
        "trusted_proxies": ["10.0.0.0/8", "2001:db8::/32"],
        "identity_headers_from": [],
        "timeouts": {
            "connect": "5s",
            "read": "30m",
            "send": "5m",
            "client_header": "1m",
            "client_body": "1m",
            "client_send": "1m",
            "keepalive": "75s",
            "shutdown": "12h",
        },
        "limits": {
            "max_upload": "1GiB",
            "request_header": "32KiB",
            "answer_header": "16KiB",
            "connections_per_client": 500,
            "sign_in": {"per_minute": 30, "burst": 20},
        },
        "websocket": {"enabled": True, "idle_timeout": "1h"},
        "cache": {"enabled": True, "max_size": "1GiB"},
        "cors": {"allowed_origins": ["https://portal.example.com"]},
        "embedding": {"allowed_origins": ["https://intranet.example.com"]},
        "headers": {
            "hsts": {"enabled": True, "max_age": "365d", "include_subdomains": False, "preload": False},
            "content_security_policy": {"mode": "report-only", "policy": "default-src 'self'; img-src * data:"},
            "referrer_policy": "strict-origin-when-cross-origin",
            "permissions_policy": "camera=(self), microphone=(self)",
        },
        "authentication": {
            "mode": "external",
            "external": {
                "url": "http://authelia:9091/api/authz/auth-request",
                "timeout": "10s",
                "sign_in_url": "https://auth.example.com/",
                "identity": {"X-User-Email": "Remote-Email"},
            },
        },
        "locations": {
            "/docs/": {
                "url": "http://wiki:3000",
                "websocket": False,
                "credentials": False,
                "allowed_from": ["192.0.2.0/24"],
                "max_upload": "1MiB",
            },
            "/robots.txt": {},
        },
        "log": {"requests": "json", "files": False, "level": "warn", "request_errors": False},
        "metrics": {"enabled": False, "port": 9113},
        "maintenance": False,
        "memory": "512MiB",
    },
    "open_webui": {
        "version": "0.12.4",
        "replicas": 3,
        "drain": "10m",
        "upgrade": {"timeout": "30m", "snapshot": True, "downgrade": "refused"},
        "admin": {"email": "admin@example.com", "name": "Admin", "password": None},
        "secret_key": None,
        "secret_key_generation": 1,
        "environment": {"WEBUI_NAME": "Our chat"},
        "memory": "4GiB",
    },
    "models": {
        "providers": [{"url": "https://api.example.com/v1", "api_key": None}],
        "ollama": {"mode": "container", "container": {"gpu": False, "memory": "8GiB"}},
    },
    "data": {
        "postgres": {"mode": "container", "memory": "2GiB", "vector_length": 1536},
        "redis": {"mode": "container", "memory": "256MiB"},
    },
    "backup": {
        "enabled": False,
        "at": "03:00",
        "keep": "35d",
        "repository": {"kind": "volume"},
        "encrypted": True,
        "password": None,
    },
    "monitoring": {
        "alarms": {"enabled": False, "disk_percent": 85},
        "prometheus": {
            "enabled": True,
            "port": 9090,
            "interval": "15s",
            "retention": "30d",
            "max_size": "1GiB",
            "memory": "512MiB",
            "alertmanagers": ["http://alertmanager.example.com:9093"],
        },
    },
    "images": {"source": "pulled", "registry": "registry.example.com/mirror"},
}
# Settings that exclude another one of the example: they are comments in it.
_ENCRYPTED = "(encrypted, by the command above)"
_AUTHORITIES = '"-----BEGIN CERTIFICATE-----…"'
_INSTEAD: dict[str, str | dict[str, Any]] = {
    "data.keep": "true",
    "platform.docker.host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA…",
    "platform.aws": {
        "region": "eu-central-1",
        "vpc": {"cidr": "10.20.0.0/16", "availability_zones": 2},
        "instance": {
            "type": "t3.large",
            "image": "debian",
            "root_volume": "16GiB",
            "data_volume": "50GiB",
            "ssh_from": ["203.0.113.7/32"],
        },
        "load_balancer": {
            "kind": "alb",
            "tls_policy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
            "access_logs": True,
            "deletion_protection": True,
        },
    },
    "platform.aws.vpc.id": "vpc-0a1b2c3d4e5f60718",
    "platform.aws.vpc.public_subnets": "[subnet-0a1b2c3d4e5f60718, subnet-0f1e2d3c4b5a69788]",
    "platform.aws.load_balancer.web_acl": (
        "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/chat/01234567-89ab-cdef-0123-456789abcdef"
    ),
    "backup.repository.s3": {
        "bucket": "chat-backups",
        "prefix": "production",
        "region": "eu-central-1",
        "endpoint": "https://minio.example.com",
        "access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "secret_access_key": None,
    },
    "certificate.lets_encrypt.directory_ca": _AUTHORITIES,
    "certificate.lets_encrypt.external_account": {"key_id": "kid-1", "hmac_key": None},
    "certificate.lets_encrypt.staging_directory": "https://acme-staging.example.com/directory",
    "certificate.lets_encrypt.route53.access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "certificate.lets_encrypt.route53.secret_access_key": _ENCRYPTED,
    "certificate.lets_encrypt.route53.endpoint": "https://route53.example.com",
    "certificate.lets_encrypt.fallback.email": "admin@example.com",
    "certificate.lets_encrypt.fallback.directory_ca": _AUTHORITIES,
    "certificate.lets_encrypt.fallback.external_account": "{key_id: kid-1, hmac_key: (encrypted)}",
    "certificate.lets_encrypt.fallback.profile": "classic",
    "certificate.provided": {
        "certificate_file": "tls/chain.pem",
        "private_key_file": "tls/key.pem",
        "passphrase": None,
    },
    "certificate.provided.certificate": _AUTHORITIES,
    "certificate.provided.private_key": _ENCRYPTED,
    "certificate.acm": {
        "arn": "arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef",
    },
    "dns.zone": "example.com",
    "open_webui.former_secret_keys": "[(encrypted)]",
    "open_webui.certificate_authorities": _AUTHORITIES,
    "open_webui.oidc": {
        "issuer": "https://auth.example.com/realms/staff",
        "client_id": "open-webui",
        "client_secret": None,
        "name": "Example Inc.",
        "scopes": ["openid", "email", "profile"],
        "allow_signup": True,
        "merge_by_email": False,
        "allowed_domains": ["example.com"],
        "roles": {"claim": "realm_access.roles", "allowed": ["chat"], "admin": ["chat-admins"]},
        "groups": {"claim": "groups", "create": False},
        "only": False,
    },
    "monitoring.alarms.email": "admin@example.com",
    "models.ollama.url": "http://host.docker.internal:11434",
    "proxy.authentication.client_certificates": '{authorities: "-----BEGIN CERTIFICATE-----…", depth: 2}',
    "data.volume": "open-webui",
    "data.postgres.url": _ENCRYPTED,
    "data.redis.url": _ENCRYPTED,
}


def schema() -> str:
    """Return the JSON schema of a stack file, for editors that complete and check it."""
    settings = StackSettings.model_json_schema(mode="validation")
    definitions = settings.pop("$defs")
    _accept_encrypted(definitions)
    topics = {f"{PROJECT}:{name}": topic for name, topic in settings["properties"].items()}
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A stack of open-webui-edge",
        "type": "object",
        "properties": {
            "config": {"type": "object", "properties": topics},
            "encryptionsalt": {"type": "string"},
            "secretsprovider": {"type": "string"},
        },
        "$defs": definitions,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _accept_encrypted(definition: dict[str, Any]) -> None:
    """Accept a secret as Pulumi encrypts it: {secure: …}."""
    if definition.get("format") == "password":
        text = dict(definition)
        definition.clear()
        secure = {"type": "object", "properties": {"secure": {"type": "string"}}, "required": ["secure"]}
        definition["anyOf"] = [text, secure]
        return
    # Any further variable may be a secret.
    if definition.get("title") == "Environment":
        definition["additionalProperties"]["format"] = "password"
    for value in definition.values():
        for item in cast("list[Any]", value if isinstance(value, list) else [value]):
            if isinstance(item, dict):
                _accept_encrypted(cast("dict[str, Any]", item))


def reference() -> str:
    """Return docs/settings.md."""
    lines = [
        "# Settings",
        "",
        f"All settings of a stack file, below `config:`. A topic has the prefix `{PROJECT}:`, its keys do not:",
        "",
        "```yaml",
        "config:",
        f"  {PROJECT}:site: {{domain: chat.example.com}}",
        "```",
        "",
        "Topics are optional; a key that is `required` is so where its section is written. Prepare the shell for",
        'the commands below with `eval "$(make -s env STACK=name)"`. `make docs` generates this page from `settings/`.',
    ]
    for name, field in StackSettings.model_fields.items():
        lines += ["", f"## {name}", "", _prose(field), "", "| key | default | meaning |", "|---|---|---|"]
        for path, below in _leaves(name, field):
            lines.append(f"| `{path}` | {_default(below)} | {_meaning(below)} |")
    return "\n".join(lines) + "\n"


def _leaves(path: str, field: FieldInfo) -> Iterator[tuple[str, FieldInfo]]:
    model, item = model_of(field.annotation)
    if model is None:
        yield path, field
        return
    if item or not _has_all_defaults(model):
        yield path, field
    for name, below in model.model_fields.items():
        yield from _leaves(f"{path}{item}.{name}", below)


def _has_all_defaults(model: type[BaseModel]) -> bool:
    return all(not field.is_required() for field in model.model_fields.values())


def _prose(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _meaning(field: FieldInfo) -> str:
    """Return the description without the sentence that states the default, which has a column of its own."""
    return _DEFAULT.sub("", _prose(field)).strip()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    stated = _DEFAULT.search(_prose(field))
    if stated:
        return stated[1]
    value = field.get_default()
    return "none" if value is None else f"`{_as_yaml(value, field)}`"


def _as_yaml(value: Any, field: FieldInfo) -> str:
    for metadata in field.metadata:
        function = getattr(metadata, "func", None)
        if type(metadata).__name__ == "PlainSerializer" and function is not None:
            return str(function(value))
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, cast('tuple[object, ...]', value)))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def example() -> str:
    """Return a stack file that uses every setting, each below its description."""
    lines = [
        "# All settings, each with a value; a stack file needs only those that differ from the defaults. Settings that",
        "# exclude another one of this file are comments, such as platform.aws, for which see staging.yaml.",
        "# `make docs` generates this file from settings/.",
        "config:",
    ]
    for name, field in StackSettings.model_fields.items():
        lines += _commented(f"{PROJECT}:{name}", name, _EXAMPLE[name], field, 2)
    return "\n".join(lines) + "\n"


def _commented(key: str, path: str, value: Any, field: FieldInfo, indent: int) -> list[str]:
    space = " " * indent
    lines = _comment(field, indent)
    if value is None:
        return [*lines, f"{space}# {key}: {_ENCRYPTED}"]
    model, item = model_of(field.annotation)
    if model is None:
        text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True).strip().removesuffix("...").strip()
        return [*lines, f"{space}{key}: {text}"]
    lines.append(f"{space}{key}:")
    if item == ".*":
        for name, entry in value.items():
            # The first entry has the comments; a further one shows how little it may contain.
            lines += (
                [f"{space}  {name}:", *_block(model, path, entry, indent + 4)] if entry else [f"{space}  {name}: {{}}"]
            )
        return lines
    if item:
        for entry in value:
            block = _block(model, path, entry, indent + 4)
            first = next(index for index, line in enumerate(block) if not line.lstrip().startswith("#"))
            block[first] = f"{space}  - {block[first].lstrip()}"
            lines += block
        return lines
    return [*lines, *_block(model, path, value, indent + 2)]


def _block(model: type[BaseModel], path: str, value: dict[str, Any], indent: int) -> list[str]:
    lines: list[str] = []
    for name, below in model.model_fields.items():
        inner = f"{path}.{name}"
        other = _INSTEAD.get(inner)
        if isinstance(other, dict):
            lines += map(_as_comment, _commented(name, inner, other, below, indent))
        elif other is not None:
            lines += [*_comment(below, indent), f"{' ' * indent}# {name}: {other}"]
        else:
            lines += _commented(name, inner, value[name], below, indent)
    return lines


def _comment(field: FieldInfo, indent: int) -> list[str]:
    """Return a setting's description and default as comment lines."""
    model, _ = model_of(field.annotation)
    default = "" if model or field.is_required() else f" Default: {_default(field).strip('`')}."
    text = _prose(field) if _DEFAULT.search(_prose(field)) else f"{_prose(field)}{default}"
    return [f"{' ' * indent}# {line}" for line in textwrap.wrap(text, _WIDTH - indent)]


def _as_comment(line: str) -> str:
    text = line.lstrip()
    return line if text.startswith("#") else f"{line[: len(line) - len(text)]}# {text}"


def settings_of(stack_file: str, *, source: str = "example") -> StackSettings:
    """Read the text of a stack file without secrets as Pulumi passes it to the program."""
    config: dict[str, Any] = yaml.safe_load(stack_file).get("config") or {}
    return read_settings({key: json.dumps(value) for key, value in config.items()}, secret_keys=(), source=source)


DOCUMENTS = {
    "stacks/settings.schema.json": schema,
    "docs/settings.md": reference,
    "stacks/examples/everything.yaml": example,
}


def main() -> int:
    """Write the documents, or with --check compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a document differs")
    check = parser.parse_args().check
    stale: list[str] = []
    for name, write in DOCUMENTS.items():
        path, text = _ROOT / name, write()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            stale.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for name in stale:
        sys.stderr.write(f"{name} differs from settings/; run: make docs\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
