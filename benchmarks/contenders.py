"""The contenders: Open WebUI itself, and proxies in front of it, each configured as its own manual advises."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker.types
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from open_webui_edge.benchmarks.certificate import Certificate
from open_webui_edge.benchmarks.testbed import Running, Testbed
from open_webui_edge.components.reverse_proxy.rendering import render_configuration
from open_webui_edge.components.reverse_proxy.tls_profiles import INTERMEDIATE
from open_webui_edge.settings.images import BENCH_TOOLS, NGINX, ImageSource
from open_webui_edge.settings.reading import PROJECT, read_settings
from open_webui_edge.settings.stack import StackSettings

DIRECT, TEXTBOOK, OURS, CADDY, HAPROXY = "direct", "textbook", "ours", "caddy", "haproxy"
CACHING, BARE = "caching", "bare"
PROXIES = (TEXTBOOK, OURS, CADDY, HAPROXY)
"""Proxies in front of the application, without the two that measure the limits."""
TITLES: Mapping[str, str] = {
    DIRECT: "direct",
    TEXTBOOK: "textbook Nginx",
    OURS: "ours",
    CADDY: "Caddy",
    HAPROXY: "HAProxy",
    CACHING: "bare Nginx, its cache, our headers",
    BARE: "bare Nginx",
}
APPLICATION_PORT = 8080
_TEMPLATES = Path(__file__).with_name("configurations")
_EDGE = "/etc/open-webui-edge"
_CACHE = "/var/cache/open-webui-edge"
_GIVEN = "/etc/bench"
_NGINX = ("nginx", "-c", "{}", "-g", "daemon off;")
_OTHERS: Mapping[str, Sequence[str]] = {
    BARE: ("bare.conf.j2", *_NGINX),
    CACHING: ("caching.conf.j2", *_NGINX),
    TEXTBOOK: ("textbook.conf.j2", *_NGINX),
    CADDY: ("Caddyfile.j2", "caddy", "run", "--config", "{}", "--adapter", "caddyfile"),
    HAPROXY: ("haproxy.cfg.j2", "haproxy", "-f", "{}"),
}
"""The template of a contender's configuration, and the words that start it with that; ours is another matter."""
_SAYS_VERSION = {CADDY: "caddy version", HAPROXY: "haproxy -v"}
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_CAPABILITIES = ["CHOWN", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"]


def domain(name: str) -> str:
    """Return the name under which clients know a contender."""
    return f"{name}.bench.test"


@dataclass(frozen=True)
class Asset:
    """A file of the frontend, as the application sends it to a browser."""

    path: str
    content_type: str
    encoding: str
    """Its Content-Encoding; "" for none."""
    body: bytes
    headers: Sequence[tuple[str, str]] = ()
    """Headers that a proxy adds to Nginx's own for a file; values as written in its configuration."""


@dataclass(frozen=True)
class Address:
    """Where a contender answers."""

    name: str
    scheme: str
    ip: str
    port: int

    @property
    def host(self) -> str:
        """What the address bar shows."""
        return domain(self.name)

    @property
    def url(self) -> str:
        """Without a path."""
        usual = {"https": 443, "http": 80}[self.scheme]
        return f"{self.scheme}://{self.host}" + ("" if self.port == usual else f":{self.port}")


@dataclass(frozen=True)
class Contender:
    """A contender that runs."""

    address: Address
    running: Running
    version: str


@dataclass(frozen=True)
class Setting:
    """The setup of a contender."""

    testbed: Testbed
    source: ImageSource
    """Where Nginx's image comes from."""
    certificate: Certificate
    upstream: str
    """host:port of its upstream."""
    assets: Sequence[Asset] = ()
    """For the limits alone."""
    suffix: str = ""
    """Tells a second instance from the first."""
    proxy: Mapping[str, object] = field(default_factory=dict[str, object])
    """Settings of ours that differ from the defaults."""


def start(name: str, setting: Setting) -> Contender:
    """Start a proxy."""
    running = _ours(setting) if name == OURS else _other(name, setting)
    said = running.execute("sh", "-c", f"{_SAYS_VERSION.get(name, 'nginx -v')} 2>&1")
    return Contender(Address(name, "https", running.address, 443), running, _VERSION.findall(said)[0])


def _render(template: str, name: str, setting: Setting) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - no HTML
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(
        domain=domain(name), upstream=setting.upstream, tls=INTERMEDIATE, assets=setting.assets
    )


def _other(name: str, setting: Setting) -> Running:
    template, *command = _OTHERS[name]
    path = f"{_GIVEN}/{template.removesuffix('.j2')}"
    chain, key = setting.certificate.chain.encode(), setting.certificate.private_key.encode()
    files = {
        f"{_GIVEN}/certificate.pem": chain,
        f"{_GIVEN}/private_key.pem": key,
        # HAProxy wants one file.
        f"{_GIVEN}/both.pem": chain + key,
        path: _render(template, name, setting).encode(),
        **({f"/srv/bench{asset.path}": asset.body for asset in setting.assets} if name == BARE else {}),
    }
    image = NGINX.reference(setting.source, None) if command[0] == "nginx" else BENCH_TOOLS
    return _run(name, setting, image, [word.format(path) for word in command], files)


def _ours(setting: Setting) -> Running:
    rendered = render_configuration(_settings(setting), stack="bench", upstreams=[setting.upstream])
    configuration = with_endless_connections(rendered)
    files = {
        "nginx.conf": configuration.encode(),
        "generation.conf": b'set $generation "1";\n',
        "tls/certificate.pem": setting.certificate.chain.encode(),
        "tls/private_key.pem": setting.certificate.private_key.encode(),
    }
    # As the component makes it: without capabilities, with a read-only root filesystem.
    return _run(
        OURS,
        setting,
        NGINX.reference(setting.source, None),
        ["nginx", "-c", f"{_EDGE}/nginx.conf", "-g", "daemon off;"],
        files,
        folder=_EDGE,
        read_only=True,
        tmpfs={"/run/nginx": "mode=0755"},
        mounts=[docker.types.Mount(target, None, type="volume") for target in (_EDGE, _CACHE)],
        cap_drop=["ALL"],
        cap_add=_CAPABILITIES,
        security_opt=["no-new-privileges"],
    )


def with_endless_connections(configuration: str) -> str:
    """Remove the limit of requests per connection, as every other contender has none.

    Raises:
        ValueError: the configuration has no place for it, or says something else about it.

    """
    head = "\nhttp {\n"
    if configuration.count(head) != 1 or "keepalive_requests" in configuration:
        raise ValueError("this is no configuration whose connections could be made endless")
    return configuration.replace(head, f"{head}    keepalive_requests 1000000000;\n")


def _settings(setting: Setting) -> StackSettings:
    """Return the settings of a stack with its name, the usual ports, and what the run needs."""
    topics: dict[str, object] = {
        "site": {"domain": domain(OURS), "listen": {"https_port": 443, "http_port": 80}},
        "proxy": setting.proxy,
        "images": {"source": setting.source},
    }
    config = {f"{PROJECT}:{topic}": json.dumps(said) for topic, said in topics.items()}
    return read_settings(config, secret_keys=(), source="the benchmark")


def _run(
    name: str, setting: Setting, image: str, command: Sequence[str], files: Mapping[str, bytes], **more: Any
) -> Running:
    aliases = [] if setting.suffix else [domain(name)]
    return setting.testbed.run(name + setting.suffix, image, command, files=files, aliases=aliases, **more)
