"""Generates documents from the settings: JSON schema, reference page, an example that uses every setting.

`python -m open_webui_edge.settings.documents` writes them; with --check it lists those that differ and exits with 1 if
there are any.
"""

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, PlainSerializer
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from open_webui_edge.settings.faults import model_of
from open_webui_edge.settings.reading import PROJECT, read_settings
from open_webui_edge.settings.stack import StackSettings

_ROOT = Path(__file__).resolve().parent.parent
_WIDTH = 100
# The sentence of a description that states the default in words; a full stop within it is followed by no blank.
_DEFAULT = re.compile(r" ?Default: ((?:[^.]|\.(?=\S))+)\.(?= |$)")
# The values in the example where they are not the defaults, so that it has all settings; a test reads it back.
_EXAMPLE: dict[str, Any] = {
    "platform.docker.host": "unix:///var/run/docker.sock",
    "platform.aws.region": "eu-central-1",
    "platform.aws.instance.ssh_from": ["203.0.113.7/32"],
    "platform.aws.load_balancer.kind": "alb",
    "platform.aws.load_balancer.deletion_protection": True,
    "site.domain": "chat.example.com",
    "site.aliases": ["www.chat.example.com"],
    "site.listen.address": "0.0.0.0",  # noqa: S104 - what the example shows
    "site.listen.http_port": 80,
    "site.listen.https_port": 443,
    "certificate.mode": "lets-encrypt",
    "certificate.additional_names": ["*.chat.example.com"],
    "certificate.lets_encrypt.email": "admin@example.com",
    "certificate.lets_encrypt.external_account.key_id": "kid-1",
    "certificate.lets_encrypt.profile": "classic",
    "certificate.lets_encrypt.challenge": "dns-01",
    "certificate.lets_encrypt.fallback.directory": "https://ca.example.com/acme/acme/directory",
    "certificate.provided.certificate_file": "tls/chain.pem",
    "certificate.provided.private_key_file": "tls/key.pem",
    "certificate.acm.arn": "arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef",
    "proxy.tls_profile": "modern",
    "proxy.trusted_proxies": ["10.0.0.0/8", "2001:db8::/32"],
    "proxy.cors.allowed_origins": ["https://portal.example.com"],
    "proxy.embedding.allowed_origins": ["https://intranet.example.com"],
    "proxy.headers.hsts.enabled": True,
    "proxy.headers.content_security_policy.mode": "report-only",
    "proxy.headers.content_security_policy.policy": "default-src 'self'; img-src * data:",
    "proxy.headers.permissions_policy": "camera=(self), microphone=(self)",
    "proxy.authentication.mode": "external",
    "proxy.authentication.external.url": "http://authelia:9091/api/authz/auth-request",
    "proxy.authentication.external.sign_in_url": "https://auth.example.com/",
    "proxy.authentication.external.identity": {"X-User-Email": "Remote-Email"},
    "proxy.locations": ["/docs/", "/robots.txt"],
    "proxy.locations.url": "http://wiki:3000",
    "proxy.locations.allowed_from": ["192.0.2.0/24"],
    "open_webui.replicas": 3,
    "open_webui.admin.email": "admin@example.com",
    "open_webui.oidc.issuer": "https://auth.example.com/realms/staff",
    "open_webui.oidc.client_id": "open-webui",
    "open_webui.oidc.name": "Example Inc.",
    "open_webui.oidc.allowed_domains": ["example.com"],
    "open_webui.oidc.roles.claim": "realm_access.roles",
    "open_webui.oidc.roles.allowed": ["chat"],
    "open_webui.oidc.roles.admin": ["chat-admins"],
    "open_webui.environment": {"WEBUI_NAME": "Our chat"},
    "models.providers.url": "https://api.example.com/v1",
    "models.ollama.mode": "container",
    "data.postgres.mode": "container",
    "data.postgres.memory": "2GiB",
    "data.redis.mode": "container",
    "backup.repository.kind": "volume",
    "backup.repository.s3.bucket": "chat-backups",
    "backup.repository.s3.prefix": "production",
    "backup.repository.s3.region": "eu-central-1",
    "backup.repository.s3.endpoint": "https://minio.example.com",
    "backup.repository.s3.access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "outbound.proxy.url": "http://proxy.example.com:3128",
    "outbound.proxy.username": "chat",
    "outbound.proxy.exceptions": ["intranet.example.com", "10.0.0.0/8"],
    "monitoring.prometheus.enabled": True,
    "monitoring.prometheus.alertmanagers": ["http://alertmanager.example.com:9093"],
    "images.registry": "registry.example.com/mirror",
}
# Settings that exclude another one of the example: they are comments in it.
_COMMENTED = {
    "platform.aws",
    "backup.repository.s3",
    "certificate.lets_encrypt.external_account",
    "certificate.provided",
    "certificate.acm",
    "open_webui.oidc",
}
_AUTHORITIES = '"-----BEGIN CERTIFICATE-----…"'
_INSTEAD = {
    "data.keep": "true",
    "platform.docker.host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA…",
    "platform.aws.vpc.id": "vpc-0a1b2c3d4e5f60718",
    "platform.aws.vpc.public_subnets": "[subnet-0a1b2c3d4e5f60718, subnet-0f1e2d3c4b5a69788]",
    "platform.aws.load_balancer.web_acl": (
        "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/chat/01234567-89ab-cdef-0123-456789abcdef"
    ),
    "certificate.lets_encrypt.directory_ca": _AUTHORITIES,
    "certificate.lets_encrypt.staging_directory": "https://acme-staging.example.com/directory",
    "certificate.lets_encrypt.route53.access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "certificate.lets_encrypt.route53.endpoint": "https://route53.example.com",
    "certificate.lets_encrypt.fallback.email": "admin@example.com",
    "certificate.lets_encrypt.fallback.directory_ca": _AUTHORITIES,
    "certificate.lets_encrypt.fallback.external_account": "{key_id: kid-1, hmac_key: (encrypted)}",
    "certificate.lets_encrypt.fallback.profile": "classic",
    "certificate.provided.certificate": _AUTHORITIES,
    "dns.zone": "example.com",
    "open_webui.former_secret_keys": "[(encrypted)]",
    "open_webui.certificate_authorities": _AUTHORITIES,
    "outbound.certificate_authorities": _AUTHORITIES,
    "monitoring.alarms.email": "admin@example.com",
    "models.ollama.url": "http://host.docker.internal:11434",
    "proxy.authentication.client_certificates": '{authorities: "-----BEGIN CERTIFICATE-----…", depth: 2}',
    "data.volume": "open-webui",
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
            # The default has a column of its own.
            meaning = _DEFAULT.sub("", _prose(below)).strip()
            lines.append(f"| `{path}` | {_default(below)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _leaves(path: str, field: FieldInfo) -> Iterator[tuple[str, FieldInfo]]:
    model, item = model_of(field.annotation)
    if model is None:
        yield path, field
        return
    if item or any(below.is_required() for below in model.model_fields.values()):
        yield path, field
    for name, below in model.model_fields.items():
        yield from _leaves(f"{path}{item}.{name}", below)


def _prose(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    stated = _DEFAULT.search(_prose(field))
    if stated:
        return stated[1]
    value = _written_default(field)
    if value is None:
        return "none"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, cast('list[object]', value)))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _written_default(field: FieldInfo) -> Any:
    """Return a default as a stack file would have it."""
    value = field.get_default()
    for metadata in field.metadata:
        if isinstance(metadata, PlainSerializer):
            value = cast("Callable[[Any], str]", metadata.func)(value)
    return to_jsonable_python(value)


def example() -> str:
    """Return a stack file that uses every setting, each below its description."""
    lines = [
        "# All settings, each with a value; a stack file needs only those that differ from the defaults. Settings that",
        "# exclude another one of this file are comments, such as platform.aws, for which see staging.yaml.",
        "# `make docs` generates this file from settings/.",
        "config:",
    ]
    for name, field in StackSettings.model_fields.items():
        lines += _setting(f"{PROJECT}:{name}", name, field, 2)
    return "\n".join(lines) + "\n"


def _setting(key: str, path: str, field: FieldInfo, indent: int) -> list[str]:
    """Return a setting's description, and below it the setting with the example's value."""
    space = " " * indent
    lines = _comment(field, indent)
    model, item = model_of(field.annotation)
    if path in _INSTEAD:
        return [*lines, f"{space}# {key}: {_INSTEAD[path]}"]
    if model is None:
        return [*lines, f"{space}{_key_and_value(key, path, field)}"]
    lines.append(f"{space}{key}:")
    if item == ".*":
        # The first entry has the comments; a further one shows how little it may contain.
        first, *others = _EXAMPLE[path]
        lines += [f"{space}  {first}:", *_block(model, path, indent + 4)]
        lines += [f"{space}  {name}: {{}}" for name in others]
    elif item:
        block = _block(model, path, indent + 4)
        first = next(index for index, line in enumerate(block) if not line.lstrip().startswith("#"))
        block[first] = f"{space}  - {block[first].lstrip()}"
        lines += block
    else:
        lines += _block(model, path, indent + 2)
    return [re.sub("^( *)(?=[^# ])", r"\1# ", line) for line in lines] if path in _COMMENTED else lines


def _block(model: type[BaseModel], path: str, indent: int) -> list[str]:
    fields = model.model_fields.items()
    return [line for name, field in fields for line in _setting(name, f"{path}.{name}", field, indent)]


def _key_and_value(key: str, path: str, field: FieldInfo) -> str:
    if "SecretStr" in str(field.annotation):
        return f"# {key}: (encrypted, by the command above)"
    value = _EXAMPLE[path] if path in _EXAMPLE or field.get_default() is None else _written_default(field)
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True).strip().removesuffix("...").strip()
    return f"{key}: {text}"


def _comment(field: FieldInfo, indent: int) -> list[str]:
    """Return a setting's description and default as comment lines."""
    model, _ = model_of(field.annotation)
    default = "" if model or field.is_required() else f" Default: {_default(field).strip('`')}."
    text = _prose(field) if _DEFAULT.search(_prose(field)) else f"{_prose(field)}{default}"
    return [f"{' ' * indent}# {line}" for line in textwrap.wrap(text, _WIDTH - indent)]


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
    code = 0
    for name, write in DOCUMENTS.items():
        path, text = _ROOT / name, write()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            sys.stderr.write(f"{name} differs from settings/; run: make docs\n")
            code = 1
        else:
            path.write_text(text, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
