"""Nginx is asked about configurations that nobody thought of."""

import os
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from components.reverse_proxy.rendering import render_configuration
from stacks.settings import StackSettings
from tests.nginx.nginx_under_test import NginxUnderTest
from tests.support.generated_settings import Tree, stack_files

ENOUGH = 500
IN_CI = bool(os.environ.get("CI"))


@dataclass(frozen=True)
class Generated:
    """One."""

    tree: Tree
    configuration: str


@pytest.fixture(scope="module")
def generated() -> list[Generated]:
    """Settings and what they render to; in CI the same in each run."""
    found: list[Generated] = []

    @settings(
        max_examples=ENOUGH,
        derandomize=IN_CI,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(stack_files(), st.integers(1, 3), st.booleans())
    def collect(file: tuple[Tree, StackSettings], replicas: int, ipv6: bool) -> None:  # noqa: FBT001 - hypothesis gives it
        tree, read = file
        upstreams = [f"open-webui-{number}:8080" for number in range(replicas)]
        text = render_configuration(read, stack="test", upstreams=upstreams, replicas=replicas, ipv6=ipv6)
        found.append(Generated(tree, text))

    collect()
    return found


REACHED = {
    "HTTP/3": "http3 on;",
    "the PROXY protocol": "real_ip_header proxy_protocol;",
    "trusted proxies": "real_ip_header X-Forwarded-For;",
    "an authenticator": "auth_request /_edge/authenticate;",
    "a page to sign in at": "@unauthorized_page",
    "client certificates": "ssl_verify_client on;",
    "maintenance": "@maintenance_page",
    "another service": "upstream location_1 {",
    "another service with TLS": "proxy_ssl_verify on;",
    "named addresses": "deny all;\n            client_max_body_size",
    "HSTS": "add_header Strict-Transport-Security",
    "identity of the stack's own": "as this stack's environment names them",
    "identity by address": "$may_identify",
    "polling with replicas": "sticky cookie",
    "brotli": "brotli on;",
    "IPv6": "listen [::]:443",
    "a policy": "Content-Security-Policy-Report-Only",
}


@pytest.mark.parametrize("text", REACHED.values(), ids=REACHED)
def test_generated_settings_reach_each_part(generated: list[Generated], text: str) -> None:
    assert len(generated) >= ENOUGH
    assert any(text in one.configuration for one in generated)


def test_nginx_accepts_whatever_the_settings_accept(nginx: NginxUnderTest, generated: list[Generated]) -> None:
    complaints = nginx.test_all([one.configuration for one in generated])
    assert {number: (said, generated[number].tree) for number, said in complaints.items()} == {}


def test_a_generated_configuration_that_nginx_would_refuse_is_noticed(
    nginx: NginxUnderTest, generated: list[Generated]
) -> None:
    good, *_ = (one.configuration for one in generated)
    complaints = nginx.test_all([good, good.replace("server_tokens off;", "server_tokens perhaps;"), good])
    assert list(complaints) == [1]
    assert 'invalid value "perhaps"' in complaints[1]
