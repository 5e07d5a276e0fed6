"""Generated settings: strategies read off the models, so that a new setting takes part by itself.

As a program it writes examples: a seed and their number are its arguments.
"""

import json
import os
import string
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import hypothesis
import yaml
from annotated_types import Ge, Le
from hypothesis import HealthCheck, Phase, reject
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError

from open_webui_edge.settings.aws import (
    AwsSettings,
    InstanceSettings,
    InstanceType,
    LoadBalancerKind,
    LoadBalancerSettings,
    SshNetwork,
    SubnetId,
    TlsPolicy,
    VpcCidr,
    VpcId,
    VpcSettings,
    WebAclArn,
)
from open_webui_edge.settings.faults import SettingsError
from open_webui_edge.settings.proxy import (
    AuthenticationMode,
    AuthenticationSettings,
    ClientCertificateSettings,
    HstsSettings,
    LocationSettings,
    ProxySettings,
)
from open_webui_edge.settings.reading import PROJECT, read_settings
from open_webui_edge.settings.site import ListenSettings, SiteSettings
from open_webui_edge.settings.stack import StackSettings
from open_webui_edge.settings.values import (
    HeaderName,
    HeaderValue,
    Host,
    HttpUrl,
    Ipv4Address,
    Network,
    Origin,
    PageUrl,
    Region,
    RequestPath,
    ServiceUrl,
    is_ip_address,
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
    Region: st.sampled_from(["eu-central-1", "us-east-1", "ap-southeast-2", "us-gov-west-1"]),
    VpcId: st.from_regex(r"vpc-[0-9a-f]{17}", fullmatch=True),
    SubnetId: st.from_regex(r"subnet-[0-9a-f]{17}", fullmatch=True),
    VpcCidr: st.sampled_from(["10.20.0.0/16", "192.168.4.0/22", "172.16.0.0/20", "100.64.0.0/24"]),
    InstanceType: st.sampled_from(["t3.large", "t4g.medium", "m7i-flex.xlarge", "c8gd.metal-24xl"]),
    SshNetwork: st.one_of(_IPV4, _IPV6, st.sampled_from(["10.0.0.0/8", "203.0.113.0/24", "2001:db8::/32"])),
    TlsPolicy: st.sampled_from(["ELBSecurityPolicy-TLS13-1-2-2021-06", "ELBSecurityPolicy-TLS13-1-3-PQ-2025-09"]),
    WebAclArn: st.uuids().map("arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/chat/{}".format),
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


def _mended_vpc(tree: Tree) -> Tree:
    if tree.get("id") is None:
        return {**tree, "public_subnets": []}
    remaining = {name: value for name, value in tree.items() if name != "availability_zones"}
    return {**remaining, "public_subnets": [f"subnet-{number:017x}" for number in range(2)]}


def _mended_instance(tree: Tree) -> Tree:
    return {**tree, "ssh_from": tree.get("ssh_from") or ["203.0.113.7/32"]}


def _mended_load_balancer(tree: Tree) -> Tree:
    kind = tree.get("kind", "none")
    if kind == LoadBalancerKind.ALB:
        return tree
    remaining = {"kind": kind}
    return remaining if kind == LoadBalancerKind.NONE else {**remaining, "deletion_protection": True}


def _mended_aws(tree: Tree) -> Tree:
    balancer, vpc = tree.get("load_balancer", {}), tree.get("vpc", {})
    if balancer.get("web_acl") is not None:
        tree = {**tree, "region": "eu-central-1"}
    if vpc.get("id") is not None:
        remaining = {name: value for name, value in vpc.items() if name != "cidr"}
        known = (
            {} if balancer.get("kind", "none") == LoadBalancerKind.NONE else {"cidr": vpc.get("cidr", "10.0.0.0/16")}
        )
        tree = {**tree, "vpc": {**remaining, **known}}
    return {"instance": {"ssh_from": ["203.0.113.7/32"]}, **tree}


def _mended_stack(tree: Tree) -> Tree:
    if tree["platform"]["kind"] == "docker":
        return tree
    aws = tree["platform"]["aws"]
    kind = aws.get("load_balancer", {}).get("kind", "none")
    named = [host for host in tree["site"].get("aliases", []) if not is_ip_address(host)]
    domain = tree["site"].get("domain", "localhost")
    public = "chat.example.com" if domain == "localhost" or is_ip_address(domain) else domain
    site = {"domain": public, "aliases": named}
    tree = {**tree, "site": _mended_site(site)}
    if kind == LoadBalancerKind.NONE:
        return tree
    proxy = {**tree["proxy"], "http3": False, "proxy_protocol": False}
    for name in ("timeouts", "websocket"):
        waits = proxy.get(name, {}).items()
        proxy[name] = {key: wait for key, wait in waits if not isinstance(wait, str) or parse_duration(wait) <= _SILENT}
    if kind == LoadBalancerKind.ALB:
        proxy.pop("tls_profile", None)
        if proxy.get("authentication", {}).get("mode") == AuthenticationMode.CLIENT_CERTIFICATES:
            del proxy["authentication"]
        arn = f"arn:aws:acm:{aws['region']}:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
        tree = {**tree, "certificate": {"mode": "acm", "acm": {"arn": arn}}}
    return {**tree, "proxy": proxy}


_SILENT = timedelta(seconds=4000)
_MENDED: dict[type[BaseModel], Callable[[Tree], Tree]] = {
    AuthenticationSettings: _mended_authentication,
    AwsSettings: _mended_aws,
    HstsSettings: _mended_hsts,
    InstanceSettings: _mended_instance,
    ListenSettings: _mended_listen,
    LoadBalancerSettings: _mended_load_balancer,
    LocationSettings: _mended_location,
    ProxySettings: _mended_proxy,
    SiteSettings: _mended_site,
    VpcSettings: _mended_vpc,
}
"""Make settings that exclude each other fit: too little would be left otherwise."""

_IDENTITY = st.dictionaries(
    st.sampled_from([f"WEBUI_AUTH_TRUSTED_{what}_HEADER" for what in ("EMAIL", "NAME", "GROUPS", "ROLE")]),
    TEXTS[HeaderName],
    max_size=4,
)


def _for_load_balancer(tree: Tree, kind: str) -> Tree:
    balancer = _mended_load_balancer({**tree.get("load_balancer", {}), "kind": kind})
    return _mended_aws({**tree, "load_balancer": balancer})


# Of each kind as many: left to itself there is hardly one behind a load balancer.
_AWS = st.builds(_for_load_balancer, values_of(AwsSettings), st.sampled_from([kind.value for kind in LoadBalancerKind]))
_PLATFORM = st.one_of(st.just({"kind": "docker"}), st.fixed_dictionaries({"kind": st.just("aws-vm"), "aws": _AWS}))
_STACK_FILE = st.fixed_dictionaries(
    {
        "platform": _PLATFORM,
        "site": values_of(SiteSettings),
        "proxy": values_of(ProxySettings),
        "images": st.fixed_dictionaries({"source": st.sampled_from(["pulled", "built"])}),
        "open_webui": st.fixed_dictionaries(
            {"admin": st.just({"email": "admin@example.com"}), "environment": _IDENTITY},
        ),
        "monitoring": st.fixed_dictionaries({"prometheus": st.fixed_dictionaries({"enabled": st.booleans()})}),
    }
).map(_mended_stack)


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


@dataclass(frozen=True)
class Example:
    """What a stack file may say, and where it runs."""

    tree: Tree
    replicas: int
    ipv6: bool

    def as_case(self, said: str) -> str:
        """Write it as a file below tests/cases/generated; `said` are Nginx's words."""
        config = {f"{PROJECT}:{topic}": value for topic, value in self.tree.items()}
        document = {"config": config, "replicas": self.replicas, "ipv6": self.ipv6}
        return f"{yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)}----\n{said}"


def examples(seed: int, count: int) -> list[Example]:
    """Return examples: the same for the same seed.

    They are made by a program of its own, because what Hypothesis draws depends on which modules of the project are
    loaded, and so on which tests run.
    """
    written = subprocess.run(  # noqa: S603 - this very file
        [sys.executable, "-m", "tests.support.generated_settings", str(seed), str(count)],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    return [Example(**one) for one in json.loads(written)]


def _write_examples(seed: int, count: int) -> None:
    made: list[dict[str, Any]] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @hypothesis.given(stack_files(), st.integers(1, 3), st.booleans())
    def collect(file: tuple[Tree, StackSettings], replicas: int, ipv6: bool) -> None:  # noqa: FBT001 - hypothesis gives it
        made.append({"tree": file[0], "replicas": replicas, "ipv6": ipv6})

    collect()
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    _write_examples(*map(int, sys.argv[1:]))
