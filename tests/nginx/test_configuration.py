"""What Nginx says to the configuration itself, and what it says about itself to the container it runs in."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from components.reverse_proxy.rendering import render_configuration
from tests.nginx.nginx_under_test import DockerError, NginxUnderTest, settings_of
from tests.support.case_files import case_files, read_case

LONGEST_DOMAIN = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 57, "com"])
MANY_ALIASES = [f"{number}.{'x' * 60}.example.com" for number in range(300)]
SITES: dict[str, dict[str, object]] = {
    "the longest domain": {"domain": LONGEST_DOMAIN},
    "300 aliases": {"domain": "chat.example.com", "aliases": MANY_ALIASES},
    "an IPv4 address": {"domain": "192.0.2.10"},
    "an IPv6 address": {"domain": "2001:db8::1", "aliases": ["192.0.2.10", "chat.example.com"]},
}


def rendered(site: dict[str, object], identity_headers: Sequence[str] = ()) -> str:
    environment = {f"WEBUI_AUTH_TRUSTED_{number}_HEADER": name for number, name in enumerate(identity_headers)}
    settings = settings_of(site=site, open_webui={"environment": environment})
    return render_configuration(settings, stack="test", upstreams=["open-webui:8080"])


def assert_accepted(said: str) -> None:
    assert "test is successful" in said
    assert "[" not in said, "Nginx warns"


@pytest.mark.parametrize("path", case_files("rendered"), ids=lambda path: path.stem)
def test_nginx_accepts_each_rendered_case_without_a_warning(nginx: NginxUnderTest, path: Path) -> None:
    assert_accepted(nginx.test(read_case(path).expected))


@pytest.mark.parametrize("site", SITES.values(), ids=SITES)
def test_nginx_accepts_whatever_name_the_settings_accept(nginx: NginxUnderTest, site: dict[str, object]) -> None:
    assert_accepted(nginx.test(rendered(site)))


def test_nginx_accepts_further_identity_headers(nginx: NginxUnderTest) -> None:
    assert_accepted(nginx.test(rendered({}, identity_headers=["X-Our-Email", f"X-{'Long-' * 12}Name"])))


def test_a_configuration_that_nginx_would_refuse_is_noticed_here(nginx: NginxUnderTest) -> None:
    with pytest.raises(DockerError):
        nginx.test(rendered({}).replace("proxy_pass http://open_webui;", "proxy_pass nonsense;"))


def test_status_is_for_the_container_alone_and_not_logged(nginx: NginxUnderTest) -> None:
    assert nginx.ask_inside("/health") == "ok\n"
    assert nginx.ask_inside("/generation") == nginx.generation
    with pytest.raises(DockerError):
        nginx.ask_inside("/")
    assert nginx.ask("/generation", host="status").status == 421
    # Who asks there is the container itself.
    assert '"client":"127.0.0.1"' not in nginx.access_log()
