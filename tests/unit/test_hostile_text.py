"""No text of a setting reaches Nginx but as (a part of) one argument, whatever it says."""

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel, SecretStr

from open_webui_edge.components.reverse_proxy.rendering import render_configuration
from open_webui_edge.settings.faults import SettingsError
from open_webui_edge.settings.stack import StackSettings
from tests.support.generated_settings import AUTHORITY, Tree, read
from tests.unit.test_rendering import parsed

# One path: keys of mappings and places in lists, as in a stack file. A mapping's own key is written {}.
KEY = "{}"
Path_ = tuple[str | int, ...]

ADMIN = {"email": "admin@example.com"}
EXTERNAL = {
    "url": "http://authelia:9091/api",
    "sign_in_url": "https://auth.example.com/in",
    "identity": {"X-User-Email": "Remote-Email"},
}
STACKS: dict[str, Tree] = {
    "an authenticator": {
        "site": {"domain": "chat.example.com", "aliases": ["www.example.com"], "listen": {"address": "192.0.2.1"}},
        "open_webui": {
            "version": "0.12.4",
            "admin": ADMIN,
            "environment": {"WEBUI_AUTH_TRUSTED_EMAIL_HEADER": "X-Our-Email", "SOME_VARIABLE": "some value"},
        },
        "proxy": {
            "trusted_proxies": ["10.0.0.0/8"],
            "identity_headers_from": ["10.0.0.7"],
            "cors": {"allowed_origins": ["https://portal.example.com"]},
            "embedding": {"allowed_origins": ["https://intranet.example.com"]},
            "headers": {
                "content_security_policy": {"mode": "enforce", "policy": "default-src 'self'"},
                "permissions_policy": "usb=()",
            },
            "authentication": {"mode": "external", "external": EXTERNAL},
            "locations": {
                "/wiki/": {"url": "http://wiki:3000/base", "allowed_from": ["192.0.2.0/24"]},
            },
        },
        # Which puts locations into a pattern.
        "monitoring": {"prometheus": {"enabled": True}},
    },
    "client certificates": {
        "proxy": {
            "identity_headers_from": ["10.0.0.7"],
            "headers": {"content_security_policy": {"mode": "report-only", "policy": "default-src 'self'"}},
            "authentication": {"mode": "client-certificates", "client_certificates": {"authorities": AUTHORITY}},
            "locations": {"/closed": {}},
        },
        "monitoring": {"prometheus": {"enabled": True}},
        "open_webui": {"environment": {"WEBUI_AUTH_TRUSTED_NAME_HEADER": "X-Our-Name"}},
    },
    "a load balancer": {
        "platform": {
            "kind": "aws-vm",
            "aws": {
                "region": "eu-central-1",
                "vpc": {"cidr": "10.20.0.0/16"},
                "instance": {"ssh_from": ["203.0.113.7/32"]},
                "load_balancer": {"kind": "nlb"},
            },
        },
        "site": {"domain": "chat.example.com"},
        "dns": {"provider": "route53", "zone": "example.com"},
        "open_webui": {"admin": ADMIN},
    },
}
ENDINGS = [
    ";",
    "; return 200 x;",
    "}",
    "{",
    "} server { listen 1; }",
    "$host",
    "${host}",
    "$",
    '"',
    '"; return 200 "',
    "'",
    "'; return 200 '",
    "\\",
    '\\"; return 200 "',
    "\\\\",
    "\n",
    "\nreturn 200 x;",
    "\r\nX: y",
    "\t",
    " ",
    " x",
    "#",
    " # x",
    "\0",
    "\x7f",
    "\x85",
    "\u2028",
    "ü",
    "%0a",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "<script>",
    "~*",
    "|",
    "`id`",
]
BEGINNINGS = ["~", "=", "!", "*.", "-", "@", "include ", '"', "'", "$", "\\", " "]


_DIRECTIVE = re.compile(r"[a-z][a-z0-9_]*")
# Those of a header are named after it.
_VARIABLE = re.compile(r"\$(?:\{|identity_|upstream_http_|http_)?(?:(?<=_)|\w*)")


def text_leaves(tree: Any, path: Path_ = ()) -> Iterator[tuple[Path_, str]]:
    """Walk to each text of a stack file, and to each key that its author chose."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if path[-1:] in {("locations",), ("identity",), ("environment",)}:
                yield (*path, key, KEY), key
            yield from text_leaves(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from text_leaves(value, (*path, index))
    elif isinstance(tree, str):
        yield path, tree


def replaced(tree: Any, path: Path_, text: str) -> Any:
    """Return the tree with another text at one place."""
    first, *rest = path
    if rest == [KEY]:
        return {text if key == first else key: value for key, value in tree.items()}
    inner = replaced(tree[first], tuple(rest), text) if rest else text
    if isinstance(tree, list):
        return [inner if index == first else value for index, value in enumerate(tree)]
    return {**tree, first: inner}


LEAVES = [
    pytest.param(tree, path, text, id=f"{name}: {'.'.join(map(str, path))}")
    for name, tree in STACKS.items()
    for path, text in text_leaves(tree)
]


@pytest.mark.parametrize(("tree", "path", "text"), LEAVES)
def test_hostile_text_is_refused_or_is_one_argument(tree: Tree, path: Path_, text: str, tmp_path: Path) -> None:
    before = rendered(tree)
    expected = _shape(parsed(before, tmp_path))
    refused = 0
    hostile = [
        *(text + ending for ending in ENDINGS),
        *(beginning + text for beginning in BEGINNINGS),
        *(text[:2] + ending + text[2:] for ending in ENDINGS),
    ]
    for one in hostile:
        try:
            after = rendered(replaced(tree, path, one))
        except SettingsError:
            refused += 1
            continue
        assert after == before or _shape(parsed(after, tmp_path)) == expected, one
    # Whatever is allowed somewhere, an end of a line in the middle is not but where no file of Nginx has the text.
    assert refused or "environment" in path


def rendered(tree: Tree) -> str:
    return render_configuration(read(tree), stack="unit", upstreams=["open-webui:8080"])


def _shape(block: list[dict[str, Any]]) -> list[Any]:
    """Return what a configuration does, without what its arguments say: directives, how many arguments, variables."""
    # In no order: names are sorted by what they say.
    return sorted(
        (
            # An entry of a map has a value in its place.
            directive["directive"] if _DIRECTIVE.fullmatch(directive["directive"]) else "entry",
            # A location is for a path alone or for all below it.
            len([word for word in directive["args"] if word != "="]),
            sorted(variable for word in directive["args"] for variable in _VARIABLE.findall(word)),
            str(_shape(directive.get("block", []))),
        )
        for directive in block
    )


def test_a_text_that_would_be_more_than_one_argument_is_noticed(tmp_path: Path) -> None:
    tree = STACKS["an authenticator"]
    text = rendered(tree)
    before = _shape(parsed(text, tmp_path))
    for hostile in ('usb=()"; add_header X-Evil "', "usb=()$host", 'usb=()"; } server { add_header X-Evil "'):
        assert _shape(parsed(text.replace("usb=()", hostile), tmp_path)) != before


def test_every_text_that_a_stack_can_say_is_tried() -> None:
    tried = {
        ".".join(str(part) for part in path if not isinstance(part, int) and part != KEY)
        for tree in STACKS.values()
        for path, _ in text_leaves(tree)
    }
    missing = {
        path
        for path in text_settings(StackSettings)
        if not any(re.fullmatch(path.replace(".", r"\.").replace("*", ".+"), one) for one in tried)
    }
    # These reach the engine, AWS, the application, its launcher, an issuer or a certificate, and no file of Nginx.
    elsewhere = (
        "platform.", "images.", "models.", "open_webui.admin.", "open_webui.secret_key", "open_webui.oidc.",
        "open_webui.former_secret_keys", "open_webui.certificate_authorities", "data.", "certificate.", "dns.",
        "backup.", "monitoring.",
    )  # fmt: skip
    assert {path for path in missing if not path.startswith(elsewhere)} == set()


def text_settings(annotation: Any, path: str = "") -> Iterator[str]:
    """Walk the models to the paths of all texts; * is a key that the user chooses."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        yield from text_settings(arguments[0], f"{path}.*")
        yield from text_settings(arguments[1], f"{path}.*")
    elif origin is Annotated or arguments:
        for inner in arguments[:1] if origin is Annotated else arguments:
            yield from text_settings(inner, path)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from text_settings(field.annotation, f"{path}.{name}" if path else name)
    elif (
        isinstance(annotation, type) and issubclass(annotation, str | SecretStr) and not issubclass(annotation, StrEnum)
    ):
        yield path
