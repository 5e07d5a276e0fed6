"""Where the proxy stands, on each platform: follows from the settings alone."""

import json
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given

from open_webui_edge.settings.aws import Architecture, InstanceSettings, LoadBalancerKind
from open_webui_edge.settings.placement import IDLE_TIMEOUT_MAX, Placement, egress_ports, placement_of
from open_webui_edge.settings.reading import read_settings
from open_webui_edge.settings.stack import StackSettings
from tests.support.generated_settings import Tree, stack_files

CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
MODES = {"none": {}, "nlb": {}, "alb": {"mode": "acm", "acm": {"arn": CERTIFICATE}}}


def settings(platform: dict[str, Any] | None = None, **topics: Any) -> StackSettings:
    config = {"platform": platform or {}, **topics}
    return read_settings(
        {f"open-webui-edge:{topic}": json.dumps(value) for topic, value in config.items()},
        secret_keys=["open-webui-edge:data", "open-webui-edge:open_webui"],
        source="a test",
    )


def on_aws(kind: str = "none", *, vpc: dict[str, Any] | None = None, **topics: Any) -> StackSettings:
    return settings(
        {
            "kind": "aws-vm",
            "aws": {
                "region": "eu-central-1",
                "instance": {"ssh_from": ["203.0.113.7/32"]},
                "vpc": vpc or {},
                "load_balancer": {"kind": kind},
            },
        },
        **{
            "site": {"domain": "chat.example.com"},
            "open_webui": {"admin": {"email": "admin@example.com"}},
            "certificate": MODES[kind],
            **topics,
        },
    )


def test_on_docker_it_listens_where_the_settings_say() -> None:
    listen = {"address": "0.0.0.0", "http_port": 8081, "https_port": 8444}
    placed = placement_of(
        settings(site={"listen": listen}, open_webui={"admin": {"email": "a@example.com"}}, proxy={"http3": True})
    )
    assert placed == Placement(
        listen_address="0.0.0.0",
        listen_ipv6_address="::",
        http_port=8081,
        https_port=8444,
        public_port=8444,
        load_balancer=LoadBalancerKind.NONE,
        dual_stack=False,
        trusted_proxies=(),
        proxy_protocol=False,
        http3=True,
        redirect_status=308,
        keepalive=timedelta(seconds=75),
        idle_timeout=None,
    )


@pytest.mark.parametrize("kind", list(LoadBalancerKind))
def test_on_an_instance_the_site_has_the_ports_of_the_web(kind: LoadBalancerKind) -> None:
    stack = on_aws(kind)
    placed = placement_of(stack)
    assert (placed.listen_address, placed.http_port, placed.https_port) == ("0.0.0.0", 80, 443)
    assert placed.listen_ipv6_address is None
    assert stack.site.url == "https://chat.example.com"
    assert stack.origins == ("https://chat.example.com",)
    assert placed.load_balancer is kind


@pytest.mark.parametrize(
    ("kind", "status", "proxy_protocol", "trusted", "dual_stack"),
    [
        pytest.param("none", 308, False, (), False, id="none"),
        pytest.param("alb", 301, False, ("10.20.0.0/16",), True, id="alb"),
        pytest.param("nlb", 301, True, ("10.20.0.0/16",), True, id="nlb"),
    ],
)
def test_what_is_in_front_of_it(
    kind: str,
    status: int,
    proxy_protocol: bool,  # noqa: FBT001 - a column of the table
    trusted: tuple[str, ...],
    dual_stack: bool,  # noqa: FBT001 - a case
) -> None:
    placed = placement_of(on_aws(kind))
    assert placed.redirect_status == status
    assert placed.proxy_protocol is proxy_protocol
    assert placed.trusted_proxies == trusted
    assert placed.dual_stack is dual_stack
    assert not placed.http3


def test_trusted_proxies_add_to_the_load_balancer_s() -> None:
    proxy = {"trusted_proxies": ["192.0.2.0/24", "10.20.0.0/16"]}
    assert placement_of(on_aws("alb", proxy=proxy)).trusted_proxies == ("10.20.0.0/16", "192.0.2.0/24")


def test_in_an_existing_vpc_its_network_is_trusted() -> None:
    subnets = ["subnet-0a1b2c3d4e5f60718", "subnet-0f1e2d3c4b5a69788"]
    vpc = {"id": "vpc-0a1b2c3d4e5f60718", "cidr": "172.31.0.0/16", "public_subnets": subnets}
    assert placement_of(on_aws("nlb", vpc=vpc)).trusted_proxies == ("172.31.0.0/16",)


def test_a_load_balancer_may_have_no_ipv6_address() -> None:
    site = {"domain": "chat.example.com", "listen": {"ipv6": False}}
    assert not placement_of(on_aws("alb", site=site)).dual_stack


@pytest.mark.parametrize(
    ("kind", "proxy", "idle"),
    [
        pytest.param("alb", {}, 3600, id="the socket's by default"),
        pytest.param("alb", {"websocket": {"enabled": False}}, 1800, id="an answer's, without sockets"),
        pytest.param("alb", {"timeouts": {"read": "4000s"}}, 4000, id="alb's most"),
        pytest.param("nlb", {"websocket": {"idle_timeout": "100m"}}, 6000, id="nlb's most"),
        pytest.param("nlb", {"timeouts": {"read": "3600001ms"}}, 3601, id="whole seconds"),
        pytest.param(
            "nlb",
            {
                "websocket": {"enabled": False},
                "timeouts": dict.fromkeys(("read", "send", "client_body", "client_send", "keepalive"), "10s"),
            },
            60,
            id="nlb's least",
        ),
    ],
)
def test_no_silence_that_the_proxy_allows_is_cut_in_front_of_it(kind: str, proxy: dict[str, Any], idle: int) -> None:
    assert placement_of(on_aws(kind, proxy=proxy)).idle_timeout == timedelta(seconds=idle)


def test_nginx_keeps_an_idle_connection_longer_than_an_alb_does() -> None:
    placed = placement_of(on_aws("alb"))
    assert placed.idle_timeout is not None
    assert placed.keepalive > placed.idle_timeout
    assert placement_of(on_aws("nlb")).keepalive == timedelta(seconds=75)


def test_ports_of_services_elsewhere_are_known() -> None:
    stack = on_aws(
        data={"postgres": {"mode": "url", "url": "postgresql://chat:secret@db.example.com/chat"}},
        models={"providers": [{"url": "https://api.example.com/v1"}, {"url": "http://models.example.com:8000/v1"}]},
        proxy={"locations": {"/wiki/": {"url": "http://wiki.example.com:3000"}}},
        images={"registry": "registry.example.com:5000/mirror"},
        open_webui={
            "admin": {"email": "admin@example.com"},
            "oidc": {"issuer": "https://sso.example.com:8443/realm", "client_id": "chat", "client_secret": "secret"},
            "environment": {"TIKA_SERVER_URL": "http://tika.example.com:9998", "WEBUI_NAME": "Chat: 2nd"},
        },
        certificate={"mode": "lets-encrypt", "lets_encrypt": {"directory": "https://ca.example.com:9000/acme"}},
    )
    assert egress_ports(stack) == (3000, 5000, 5432, 8000, 8443, 9000, 9998)


def test_what_runs_on_the_instance_itself_is_not_elsewhere() -> None:
    assert egress_ports(on_aws()) == ()


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("t3.large", Architecture.AMD64),
        ("t3a.large", Architecture.AMD64),
        ("m7i-flex.2xlarge", Architecture.AMD64),
        ("g4dn.xlarge", Architecture.AMD64),
        ("g6.xlarge", Architecture.AMD64),
        ("t4g.small", Architecture.ARM64),
        ("m7g.large", Architecture.ARM64),
        ("c8gd.metal-24xl", Architecture.ARM64),
        ("g5g.xlarge", Architecture.ARM64),
        ("is4gen.medium", Architecture.ARM64),
        ("a1.large", Architecture.ARM64),
    ],
)
def test_architecture_follows_from_the_instance_type(kind: str, architecture: Architecture) -> None:
    assert InstanceSettings(type=kind).architecture is architecture


def test_a_host_key_is_kept_without_its_comment() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEbQ7PDpM8dWGFIPHI6cC1DfX0oNTlq8z7Bq3kqBq0bB"
    docker = {"host": "ssh://admin@192.0.2.10", "host_key": f"{key} root@chat\n"}
    assert settings({"docker": docker}).platform.docker.host_key == key


def test_whatever_is_accepted_believes_nobody_but_the_load_balancer_and_whom_it_names() -> None:
    seen: set[tuple[LoadBalancerKind, bool]] = set()

    @hypothesis.settings(
        max_examples=200,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(stack_files())
    def check(file: tuple[Tree, StackSettings]) -> None:
        _, stack = file
        placed, aws = placement_of(stack), stack.platform.aws
        own = () if aws is None or placed.load_balancer is LoadBalancerKind.NONE else (aws.vpc.cidr,)
        assert set(placed.trusted_proxies) == {*own, *stack.proxy.trusted_proxies}
        assert all(ip_network(network).prefixlen for network in placed.trusted_proxies)
        # A preamble from an untrusted address would make every client the load balancer.
        assert placed.trusted_proxies or not placed.proxy_protocol
        if own:
            assert not placed.http3
            assert placed.idle_timeout is not None
            assert placed.idle_timeout <= IDLE_TIMEOUT_MAX[placed.load_balancer]
        seen.add((placed.load_balancer, aws is not None))

    check()
    assert seen == {(kind, True) for kind in LoadBalancerKind} | {(LoadBalancerKind.NONE, False)}
