"""People sign in at a provider: a real one, a real browser, and the application behind the proxy.

Tests that restart the provider are marked long: in neither of them could a stranger sign in.
"""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Cookie

from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient, OpenWebUIError
from tests.support.browser import OpenWebUIPage, open_webui_page
from tests.support.certificates import authority
from tests.support.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider
from tests.support.stack import StackUnderTest, Workshop, free_port

HOST = "host.docker.internal"
"""How containers call this machine; the browser is told so too."""
BUTTON = "Continue with Example Inc."
COOKIE_MAX = 4096
"""Bytes of name and value: browsers drop what is larger (RFC 6265 section 6.1)."""
AWAY = "Your identity provider does not answer."
FAILED = "Sign-in with your identity provider failed."
PROHIBITED = "You do not have permission to access this resource."
PEOPLE = {
    "ada": {"email": "admin@example.com", "name": "Ada Lovelace", "roles": ["chat-admins"]},
    "grace": {"email": "grace@example.com", "name": "Grace Hopper", "roles": ["staff", "chat"]},
    "mallory": {"email": "mallory@example.com", "name": "Mallory", "roles": ["visitors"]},
    "stranger": {"email": "stranger@example.net", "name": "A Stranger", "roles": ["chat"]},
}


@pytest.fixture(scope="module")
def provider(bridge_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    """The company's provider, which its own authority vouches for; it is not there yet."""
    provider = OidcProvider(
        tmp_path_factory.mktemp("oidc"),
        bridge_address,
        HOST,
        free_port(),
        authority("the company's own"),
        PEOPLE,
    )
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def stack(workshop: Workshop, provider: OidcProvider) -> Iterator[StackUnderTest]:
    """A deployment whose people come by that provider; it comes up while the provider is away."""
    stack = StackUnderTest(
        workshop,
        "it-signin-oidc",
        {
            "site": {"listen": {"http_port": free_port(), "https_port": free_port()}},
            "open_webui": {
                "admin": {"email": "admin@example.com"},
                "oidc": {
                    "issuer": provider.issuer,
                    "client_id": CLIENT_ID,
                    "name": "Example Inc.",
                    "merge_by_email": True,
                    "allowed_domains": ["example.com"],
                    "roles": {"allowed": ["chat"], "admin": ["chat-admins"]},
                    "only": True,
                },
                "certificate_authorities": provider.authority.pem,
            },
            "models": {"ollama": {"mode": "none"}},
        },
        secrets={"open_webui.oidc.client_secret": CLIENT_SECRET},
    )
    with stack.running():
        provider.redirect_uri = stack.outputs()["oidc"]["redirect_uri"]
        yield stack


@contextmanager
def browser(stack: StackUnderTest, provider: OidcProvider) -> Generator[OpenWebUIPage]:
    """A person's, who trusts the company's authority and the deployment's."""
    trusted = provider.directory / "trusted.pem"
    trusted.write_text(stack.ca_file.read_text() + provider.authority.pem)
    result = [f"--host-resolver-rules=MAP {HOST} {provider.address}"]
    with open_webui_page(stack.url, ca_file=trusted, arguments=result) as page:
        yield page


@pytest.fixture(autouse=True)
def here(request: pytest.FixtureRequest, stack: StackUnderTest, provider: OidcProvider) -> None:
    """The provider is there, but for the test that meets it away."""
    del stack
    if provider.away and "provider_that_is_not_there_yet" not in request.node.name:
        provider.start()


@pytest.mark.alone
def test_a_stack_comes_up_with_a_provider_that_is_not_there_yet(stack: StackUnderTest, provider: OidcProvider) -> None:
    assert provider.away
    with browser(stack, provider) as page:
        continue_with_the_company(page)
        page.page.get_by_text(AWAY).wait_for()
        page.screenshot("oidc-provider-away")
        assert page.page.url.startswith(f"{stack.url}/auth")


@pytest.mark.alone
def test_a_new_person_is_signed_in_under_https_and_out_again(stack: StackUnderTest, provider: OidcProvider) -> None:
    with browser(stack, provider) as page:
        continue_with_the_company(page)
        asked = parse_qs(urlsplit(page.page.url).query)
        assert asked["redirect_uri"] == [f"{stack.url}/oauth/oidc/login/callback"]
        assert asked["code_challenge_method"] == ["S256"]
        choose(page, "grace")
        page.wait_for_chat()
        assert page.page.url == f"{stack.url}/"
        assert _seen(page, stack) == ("grace@example.com", "user", "Grace Hopper")
        cookies = _cookies(page, stack)
        assert {"token", "oauth_session_id"} <= set(cookies)
        assert {(cookie.get("secure"), cookie.get("sameSite")) for cookie in cookies.values()} == {(True, "Lax")}
        assert max(len(f"{name}{cookie.get('value')}") for name, cookie in cookies.items()) < COOKIE_MAX
        page.screenshot("oidc-signed-in")

        page.page.get_by_role("button", name="User menu").click()
        page.page.get_by_role("menuitem", name="Sign Out").click()
        page.page.wait_for_url(f"{provider.issuer}/oauth2/end_session?**")
        page.screenshot("oidc-signed-out")
        page.open(stack.url)
        page.page.get_by_role("button", name=BUTTON).wait_for()
        assert cookies.keys().isdisjoint(_cookies(page, stack))


@pytest.mark.alone
def test_the_administrator_s_address_is_the_administrator_s_account(
    stack: StackUnderTest, provider: OidcProvider
) -> None:
    with browser(stack, provider) as page:
        continue_with_the_company(page)
        choose(page, "ada")
        page.wait_for_chat()
        assert _seen(page, stack) == ("admin@example.com", "admin", "Admin")


@pytest.mark.alone
def test_who_may_not_come_in_is_told_so(stack: StackUnderTest, provider: OidcProvider) -> None:
    refused = {"mallory": PROHIBITED, "stranger": FAILED, "Deny": FAILED}
    with browser(stack, provider) as page:
        for who, said in refused.items():
            continue_with_the_company(page)
            choose(page, who)
            page.page.get_by_text(said).wait_for()
            page.screenshot(f"oidc-refused-{who}")
            assert page.page.url.startswith(f"{stack.url}/auth"), who
            assert "token" not in _cookies(page, stack), who


@pytest.mark.alone
@pytest.mark.long
def test_a_wrong_client_secret_is_said_to_the_person_and_to_the_log(
    stack: StackUnderTest, provider: OidcProvider
) -> None:
    provider.stop()
    provider.client_secret = "another one"
    provider.start()
    try:
        with browser(stack, provider) as page:
            continue_with_the_company(page)
            choose(page, "grace")
            page.page.get_by_text(FAILED).wait_for()
    finally:
        provider.stop()
        provider.client_secret = CLIENT_SECRET
    log = stack.container("open-webui").logs().decode()
    assert "invalid_client" in log
    assert CLIENT_SECRET not in log


@pytest.mark.alone
@pytest.mark.long
def test_a_provider_that_goes_away_leaves_those_who_are_signed_in_alone(
    stack: StackUnderTest, provider: OidcProvider
) -> None:
    with browser(stack, provider) as page:
        continue_with_the_company(page)
        choose(page, "grace")
        page.wait_for_chat()
        provider.stop()
        page.open(stack.url)
        page.wait_for_chat()
        assert _seen(page, stack)[0] == "grace@example.com"


def test_a_password_is_no_way_in(stack: StackUnderTest) -> None:
    password = stack.outputs()["admin_password"]
    with stack.client() as client, pytest.raises(OpenWebUIError, match="403"):
        client.sign_in("admin@example.com", password)


def test_the_client_s_secret_is_nowhere_in_clear(stack: StackUnderTest) -> None:
    assert CLIENT_SECRET not in stack.file.read_text()
    assert CLIENT_SECRET not in json.dumps(stack.container("open-webui").attrs)
    exported = stack.pulumi("stack", "export", "--stack", stack.name).succeeded().output
    assert "MARK5e2b" not in exported
    assert stack.preview("--expect-no-changes").code == 0


def _cookies(page: OpenWebUIPage, stack: StackUnderTest) -> dict[str | None, Cookie]:
    return {cookie.get("name"): cookie for cookie in page.page.context.cookies(stack.url)}


def continue_with_the_company(page: OpenWebUIPage) -> None:
    page.open(f"{page.url}/auth")
    button = page.page.get_by_role("button", name=BUTTON)
    page.wait_for(button, what=f"the sign-in page of {page.url}")
    button.click()
    page.page.wait_for_url(lambda url: not url.rstrip("/").endswith("/auth"))


def choose(page: OpenWebUIPage, name: str) -> None:
    """Sign in at the provider as this user, or as none."""
    page.page.get_by_role("button", name=name, exact=True).click()


def _seen(page: OpenWebUIPage, stack: StackUnderTest) -> tuple[str, str, str]:
    """Return address, role and name of whom the application sees behind the browser's cookie."""
    token = _cookies(page, stack)["token"].get("value")
    with OpenWebUIClient(stack.url, ca_file=stack.ca_file, token=token) as client:
        user = client.user()
        return user["email"], user["role"], user["name"]
