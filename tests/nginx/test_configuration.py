"""What Nginx says to the configuration itself, and what it says about itself to the container it runs in."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from open_webui_edge.components.reverse_proxy.rendering import render_configuration
from tests.nginx.nginx_under_test import DockerError, NginxUnderTest, settings_of
from tests.support.case_files import case_files, read_case
from tests.support.rendered_cases import rendered

LONGEST_DOMAIN = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 57, "com"])
MANY_ALIASES = [f"{number}.{'x' * 60}.example.com" for number in range(300)]
SITES: dict[str, dict[str, object]] = {
    "the longest domain": {"domain": LONGEST_DOMAIN},
    "300 aliases": {"domain": "chat.example.com", "aliases": MANY_ALIASES},
    "an IPv4 address": {"domain": "192.0.2.10"},
    "an IPv6 address": {"domain": "2001:db8::1", "aliases": ["192.0.2.10", "chat.example.com"]},
}


def configuration(site: dict[str, object], identity_headers: Sequence[str] = ()) -> str:
    environment = {f"WEBUI_AUTH_TRUSTED_{number}_HEADER": name for number, name in enumerate(identity_headers)}
    settings = settings_of(site=site, open_webui={"environment": environment})
    return render_configuration(settings, stack="test", upstreams=["open-webui:8080"])


def assert_accepted(said: str) -> None:
    assert "test is successful" in said
    assert "[" not in said, "Nginx warns"


@pytest.mark.parametrize("path", case_files("rendered"), ids=lambda path: path.stem)
def test_nginx_accepts_each_rendered_case_without_a_warning(nginx: NginxUnderTest, path: Path) -> None:
    assert_accepted(nginx.test(rendered(read_case(path))))


@pytest.mark.parametrize("site", SITES.values(), ids=SITES)
def test_nginx_accepts_whatever_name_the_settings_accept(nginx: NginxUnderTest, site: dict[str, object]) -> None:
    assert_accepted(nginx.test(configuration(site)))


def test_nginx_accepts_further_identity_headers(nginx: NginxUnderTest) -> None:
    assert_accepted(nginx.test(configuration({}, identity_headers=["X-Our-Email", f"X-{'Long-' * 12}Name"])))


MANY = 300


def longest_name(number: int) -> str:
    """A name of 253 characters, another for each number."""
    return ".".join([f"{number:063d}", "b" * 63, "c" * 63, "d" * 57, "com"])


def longest_header(number: int) -> str:
    return f"X-{number:0126d}"


IN_THE_ENVIRONMENT = {
    f"WEBUI_AUTH_TRUSTED_{number:09b}_HEADER".replace("0", "A").replace("1", "B"): longest_header(number)
    for number in range(MANY)
}
IDENTITY = {longest_header(number): longest_header(MANY + number) for number in range(MANY)}
LONGEST_URL = f"http://wiki/{'a' * 2036}"
LONGEST_PAGE = f"https://auth.example.com/{'a' * 2023}"
BY_AUTHENTICATOR = {"mode": "external", "external": {"url": LONGEST_URL, "identity": IDENTITY}}
EXTREMES: dict[str, dict[str, object]] = {
    "names of the site": {"site": {"domain": longest_name(0), "aliases": [*map(longest_name, range(1, MANY))]}},
    "origins": {"proxy": {"cors": {"allowed_origins": [f"https://{longest_name(n)}:65535" for n in range(MANY)]}}},
    "headers of the environment": {"open_webui": {"environment": IN_THE_ENVIRONMENT}},
    "headers of trusted proxies": {
        "open_webui": {"environment": IN_THE_ENVIRONMENT},
        "proxy": {"identity_headers_from": ["10.0.0.0/8"]},
    },
    "headers of an authenticator": {"proxy": {"authentication": BY_AUTHENTICATOR}},
    "a page to sign in at": {
        "proxy": {
            "authentication": {
                "mode": "external",
                "external": {"url": LONGEST_URL, "sign_in_url": LONGEST_PAGE},
            }
        }
    },
    "a policy": {
        "proxy": {
            "headers": {
                "content_security_policy": {"mode": "enforce", "policy": "'\"" * 1325},
                "permissions_policy": "\\" * 2000,
            }
        }
    },
    "a policy that is only reported": {
        "proxy": {"headers": {"content_security_policy": {"mode": "report-only", "policy": "x" * 4000}}}
    },
    "embedding origins": {
        "proxy": {"embedding": {"allowed_origins": [f"https://{longest_name(n)}:65535" for n in range(14)]}}
    },
    "locations": {
        "proxy": {
            "locations": {f"/{n:0510d}/": {"url": LONGEST_URL, "websocket": True} for n in range(50)}
            | {f"/{n:0511d}": {} for n in range(50)}
        },
        "monitoring": {"prometheus": {"enabled": True}},
    },
}
"""The longest names that the settings accept, and many of them."""


@pytest.mark.parametrize("topics", EXTREMES.values(), ids=EXTREMES)
def test_nginx_accepts_the_longest_and_the_most_that_the_settings_accept(
    nginx: NginxUnderTest, topics: dict[str, object]
) -> None:
    text = render_configuration(settings_of(**topics), stack="test", upstreams=["open-webui:8080"], replicas=2)
    assert_accepted(nginx.test(text))


def test_a_configuration_that_nginx_would_refuse_is_noticed_here(nginx: NginxUnderTest) -> None:
    with pytest.raises(DockerError):
        nginx.test(configuration({}).replace("proxy_pass http://open_webui;", "proxy_pass nonsense;"))


def test_status_is_for_the_container_alone_and_not_logged(nginx: NginxUnderTest) -> None:
    assert nginx.ask_inside("/health") == "ok\n"
    assert nginx.ask_inside("/generation") == nginx.generation
    with pytest.raises(DockerError):
        nginx.ask_inside("/")
    assert nginx.ask("/generation", host="status").status == 421
    # Who asks there is the container itself.
    assert '"client":"127.0.0.1"' not in nginx.access_log()
