"""Settings that nobody thought of: strategies read off the models, so that a new setting takes part by itself."""

import json
import string
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, get_args, get_origin

from annotated_types import Ge, Le
from hypothesis import reject
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError

from stacks.faults import SettingsError
from stacks.proxy import (
    AuthenticationMode,
    AuthenticationSettings,
    ClientCertificateSettings,
    HstsSettings,
    LocationSettings,
    ProxySettings,
)
from stacks.settings import PROJECT, StackSettings, read_settings
from stacks.site import ListenSettings, SiteSettings
from stacks.values import (
    HeaderName,
    HeaderValue,
    Host,
    HttpUrl,
    Ipv4Address,
    Network,
    Origin,
    PageUrl,
    RequestPath,
    ServiceUrl,
    parse_bytes,
    parse_duration,
)

Tree = dict[str, Any]
Values = st.SearchStrategy[Any]

AUTHORITY = "-----BEGIN CERTIFICATE-----\nMIIBXDCCAQKgAwIBAgIBATAKBggqhkjOPQQDAjAP\n-----END CERTIFICATE-----\n"
"""What the settings take for a certificate; a test that runs Nginx installs a real one."""

_DURATIONS = ["500ms", "1s", "1500ms", "5s", "10s", "30s", "1m", "75s", "90s", "10m", "1h", "24h", "7d", "365d", "730d"]
_SIZES = ["1KiB", "8KiB", "9KiB", "33KiB", "128KiB", "1MiB", "64MiB", "100MiB", "512MiB", "1GiB", "100GiB", "1024GiB"]
_WORD = string.ascii_lowercase + string.digits


def _joined(*parts: Values) -> Values:
    return st.tuples(*parts).map("".join)


def _is(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


_IPV4 = st.ip_addresses(v=4).map(str)
_IPV6 = st.ip_addresses(v=6).map(str)
_IPV6_IN_URL = _IPV6.map("[{}]".format)
_LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
_NAME = st.lists(_LABEL, min_size=1, max_size=4).map(".".join).filter(lambda name: _is(Host, name))
_SCHEME = st.sampled_from(["http://", "https://"])
_PORT = st.one_of(st.just(""), st.integers(1, 65535).map(":{}".format))
_URL_PATH = st.one_of(st.just(""), st.text(f"{_WORD}._~:/!&()*+,=%-", max_size=30).map("/{}".format))
_QUERY = st.sampled_from(["", "?a=b", "?a=b&c=%20"])
_PATH = st.text(f"{_WORD}._~!&'()*+,=:@-", max_size=12)

TEXTS: dict[Any, Values] = {
    Host: st.one_of(_NAME, _IPV4, _IPV6),
    Ipv4Address: _IPV4,
    Network: st.one_of(_IPV4, _IPV6, st.sampled_from(["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "fe80::/10"])),
    Origin: _joined(_SCHEME, st.one_of(_NAME, _IPV4, _IPV6_IN_URL), _PORT),
    ServiceUrl: _joined(
        _SCHEME,
        st.one_of(_NAME, st.text(f"{_WORD}_-.", min_size=1, max_size=30), _IPV4, _IPV6_IN_URL),
        _PORT,
        _URL_PATH,
        _QUERY,
    ),
    PageUrl: _joined(_SCHEME, _NAME, _PORT, _URL_PATH, _QUERY),
    HttpUrl: _joined(_SCHEME, _NAME, _PORT, _URL_PATH),
    HeaderName: st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,40}", fullmatch=True),
    HeaderValue: st.text([chr(code) for code in range(0x20, 0x7F) if chr(code) != "$"], min_size=1, max_size=80),
    RequestPath: st.lists(_PATH, min_size=1, max_size=4).map(lambda segments: "/" + "/".join(segments)),
}
"""Each kind of text that a setting can be, and texts of that kind; what the kind refuses is dropped."""

_OTHER_TEXTS: dict[tuple[type[BaseModel], str], Values] = {
    (ClientCertificateSettings, "authorities"): st.just(AUTHORITY),
}


def text_kind(metadata: tuple[Any, ...]) -> Any:
    """Return the kind of text that an annotation is, or None: the narrowest whose checks are all there."""
    kinds = [kind for kind in TEXTS if all(mark in metadata for mark in get_args(kind)[1:])]
    return max(kinds, key=lambda kind: len(get_args(kind)), default=None)


def values_of(annotation: Any, metadata: tuple[Any, ...] = ()) -> Values:
    """Return what a stack file may say for a field of this type; raises TypeError for one that is not known here."""
    arguments = get_args(annotation)
    if arguments:
        return _composed(annotation, arguments, metadata)
    if issubclass(annotation, BaseModel):
        return _tree_of(annotation)
    if issubclass(annotation, StrEnum):
        return st.sampled_from([member.value for member in annotation])
    if annotation is bool:
        return st.booleans()
    return _checked(annotation, metadata)


def _composed(annotation: Any, arguments: tuple[Any, ...], metadata: tuple[Any, ...]) -> Values:
    origin = get_origin(annotation)
    if origin is Annotated:
        return values_of(arguments[0], (*arguments[1:], *metadata))
    if origin is tuple:
        return st.lists(values_of(arguments[0]), max_size=3, unique_by=str)
    if origin is dict:
        return st.dictionaries(values_of(arguments[0]), values_of(arguments[1]), max_size=4)
    # A union with None: left out and null are the same.
    return st.one_of(*(st.none() if one is type(None) else values_of(one, metadata) for one in arguments))


def _checked(annotation: Any, metadata: tuple[Any, ...]) -> Values:
    whole = Annotated[annotation, *metadata] if metadata else annotation
    readers = [mark.func for mark in metadata if isinstance(mark, BeforeValidator)]
    for reader, known in ((parse_duration, _DURATIONS), (parse_bytes, _SIZES)):
        if reader in readers:
            return st.sampled_from([value for value in known if _is(whole, value)])
    bounds = {type(mark): mark for mark in metadata}
    if annotation is int and {Ge, Le} <= set(bounds):
        return st.integers(bounds[Ge].ge, bounds[Le].le)
    kind = text_kind(metadata)
    if kind is None:
        raise TypeError(f"no values are known for {whole}; add its kind to TEXTS")
    return TEXTS[kind].filter(lambda text: _is(whole, text))


def _tree_of(model: type[BaseModel]) -> Values:
    required: dict[str, Values] = {}
    optional: dict[str, Values] = {}
    for name, field in model.model_fields.items():
        other = _OTHER_TEXTS.get((model, name))
        values = values_of(field.annotation, tuple(field.metadata)) if other is None else other
        (required if field.is_required() else optional)[name] = values
    return st.fixed_dictionaries(required, optional=optional).map(_MENDED.get(model, lambda tree: tree))


def _mended_authentication(tree: Tree) -> Tree:
    blocks = {
        AuthenticationMode.EXTERNAL: "external",
        AuthenticationMode.CLIENT_CERTIFICATES: "client_certificates",
    }
    for mode, block in blocks.items():
        if tree.get(block) is not None:
            return {"mode": mode.value, block: tree[block]}
    return {}


def _mended_location(tree: Tree) -> Tree:
    url = tree.get("url")
    return {} if url is None else {**tree, "url": url.partition("?")[0]}


def _mended_proxy(tree: Tree) -> Tree:
    if tree.get("proxy_protocol"):
        tree = {**tree, "http3": False, "trusted_proxies": tree.get("trusted_proxies") or ["10.0.0.0/8"]}
    return tree


def _mended_hsts(tree: Tree) -> Tree:
    return {**tree, "include_subdomains": True, "max_age": "365d"} if tree.get("preload") else tree


def _mended_site(tree: Tree) -> Tree:
    domain = tree.get("domain", "localhost")
    return {**tree, "aliases": [alias for alias in tree.get("aliases", []) if alias != domain]}


def _mended_listen(tree: Tree) -> Tree:
    # 443 is the port that no URL writes.
    return {**tree, "http_port": 80, "https_port": 443} if tree.get("http_port", 0) % 2 else {}


_MENDED: dict[type[BaseModel], Callable[[Tree], Tree]] = {
    AuthenticationSettings: _mended_authentication,
    HstsSettings: _mended_hsts,
    ListenSettings: _mended_listen,
    LocationSettings: _mended_location,
    ProxySettings: _mended_proxy,
    SiteSettings: _mended_site,
}
"""What two settings forbid each other is mended: too little would be left otherwise."""

_IDENTITY = st.dictionaries(
    st.sampled_from([f"WEBUI_AUTH_TRUSTED_{what}_HEADER" for what in ("EMAIL", "NAME", "GROUPS", "ROLE")]),
    TEXTS[HeaderName],
    max_size=4,
)


_STACK_FILE = st.fixed_dictionaries(
    {
        "site": values_of(SiteSettings),
        "proxy": values_of(ProxySettings),
        "images": st.fixed_dictionaries({"source": st.sampled_from(["pulled", "built"])}),
        "open_webui": st.fixed_dictionaries(
            {"admin": st.just({"email": "admin@example.com"}), "environment": _IDENTITY},
        ),
    }
)


def read(tree: Tree) -> StackSettings:
    """Read settings as a stack file says them; raises SettingsError."""
    config = {f"{PROJECT}:{topic}": json.dumps(value) for topic, value in tree.items()}
    return read_settings(config, secret_keys=(), source="a test")


@st.composite
def stack_files(draw: st.DrawFn) -> tuple[Tree, StackSettings]:
    """Return what a stack file may say of all that reaches Nginx, and the settings that this makes."""
    tree = draw(_STACK_FILE)
    try:
        return tree, read(tree)
    except SettingsError:
        reject()
