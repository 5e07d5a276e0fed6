"""Nginx is asked about generated configurations.

`--seed=…` has those of an earlier run once more (`make test ARGS='tests/nginx/test_generated.py --seed=7'`). One that
Nginx refuses becomes a file below tests/cases/generated; the failure says which.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from open_webui_edge.components.reverse_proxy.rendering import render_configuration
from open_webui_edge.settings.reading import read_settings
from tests.nginx.nginx_under_test import NginxUnderTest
from tests.support.case_files import CASES, case_files, read_case
from tests.support.generated_settings import Example, examples, read
from tests.support.nginx_checks import parsed, unchecked_ways

ENOUGH = 500


@dataclass(frozen=True)
class Generated:
    """One."""

    example: Example
    configuration: str


@pytest.fixture(scope="module")
def generated(seed: int) -> list[Generated]:
    """Settings and what they render to."""
    return [Generated(example, rendered(example)) for example in examples(seed, ENOUGH)]


def rendered(example: Example) -> str:
    upstreams = [f"open-webui-{number}:8080" for number in range(example.replicas)]
    return render_configuration(
        read(example.tree), stack="test", upstreams=upstreams, replicas=example.replicas, ipv6=example.ipv6
    )


REACHED = {
    "HTTP/3": "http3 on;",
<<<<<<< HEAD
    "the PROXY protocol": "listen 443 proxy_protocol",
=======
    "the PROXY protocol": " proxy_protocol so_keepalive=",
>>>>>>> main
    "trusted proxies": "real_ip_header X-Forwarded-For;",
    "an authenticator": "auth_request /_edge/authenticate;",
    "a page to sign in at": "@unauthorized_page",
    "client certificates": "ssl_verify_client on;",
    "maintenance": "@maintenance_page",
    "another service": "upstream location_1 {",
    "another service with TLS": "proxy_ssl_verify on;",
    "named addresses": "deny all;\n            client_max_body_size",
    "HSTS": "add_header Strict-Transport-Security",
    "identity of the stack's own": "Identity headers in this stack's environment.",
    "identity by address": "$may_identify",
    "polling with replicas": "sticky cookie",
    "brotli": "brotli on;",
    "IPv6": "listen [::]:6443",
    "a policy": "Content-Security-Policy-Report-Only",
}


@pytest.mark.parametrize("text", REACHED.values(), ids=REACHED)
def test_generated_settings_reach_each_part(generated: list[Generated], text: str) -> None:
    assert len(generated) >= ENOUGH
    assert any(text in one.configuration for one in generated)


def test_nginx_accepts_whatever_the_settings_accept(
    nginx: NginxUnderTest, generated: list[Generated], seed: int
) -> None:
    complaints = nginx.test_all([one.configuration for one in generated])
    cases = [
        f"{CASES}/generated/seed-{seed}-{number}.yaml, to be kept as a case:\n{generated[number].example.as_case(said)}"
        for number, said in complaints.items()
    ]
    assert not cases, "\n".join(cases)


@pytest.mark.parametrize("path", case_files("generated"), ids=lambda path: path.stem)
def test_nginx_accepts_what_it_once_refused(nginx: NginxUnderTest, path: Path) -> None:
    case = read_case(path)
    settings = read_settings(case.config, secret_keys=case.secret_keys, source="a case")
    text = render_configuration(
        settings, stack="test", upstreams=case.upstreams, replicas=case.replicas, ipv6=case.ipv6
    )
    assert nginx.test_all([text]) == {}


def test_no_generated_way_to_the_application_leaves_out_a_check(generated: list[Generated], tmp_path: Path) -> None:
    assert any(REACHED["an authenticator"] in one.configuration and one.example.replicas > 1 for one in generated)
    faults = {one.configuration: unchecked_ways(parsed(one.configuration, tmp_path)) for one in generated}
    assert {text: received for text, received in faults.items() if received} == {}


def test_same_seed_has_the_same_examples(seed: int) -> None:
    assert examples(seed, 5) == examples(seed, 5) != examples(seed + 1, 5)


def test_a_generated_configuration_that_nginx_would_refuse_is_noticed(
    nginx: NginxUnderTest, generated: list[Generated]
) -> None:
    good, *_ = (one.configuration for one in generated)
    complaints = nginx.test_all([good, good.replace("server_tokens off;", "server_tokens perhaps;"), good])
    assert list(complaints) == [1]
    assert 'invalid value "perhaps"' in complaints[1]
