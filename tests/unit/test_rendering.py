"""The rendered nginx.conf: whole, in files that a reviewer reads, and asked about every place that can answer."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from open_webui_edge.components.reverse_proxy.headers import KNOWN_STRIPPED_HEADERS
from open_webui_edge.components.reverse_proxy.rendering import LOCATIONS, in_single_quotes, render_configuration, token
from open_webui_edge.runtime.nginx.scripts import PORTS_INSIDE
from open_webui_edge.settings.proxy import FRONTEND_PATHS
from open_webui_edge.settings.reading import read_settings
from open_webui_edge.settings.stack import StackSettings
from tests.support.case_files import Case, case_files, read_case
from tests.support.nginx_checks import QUESTION, Block, parsed, unchecked_ways, within
from tests.support.rendered_cases import STACK, differences, rendered, shown

GUARDED = "external-authenticator"
OVERWRITTEN = {
    "Host",
    "X-Real-IP",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Request-ID",
    "Upgrade",
    "Connection",
    "Cookie",
    "Authorization",
    "Origin",
    "Accept-Encoding",
}
# The authenticator is no application: it gets the head of a request, and where that was going.
ASKED = "/_edge/authenticate"


@pytest.fixture(params=case_files("rendered"), ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> Case:
    return read_case(request.param)


def test_configuration_is_exactly_what_the_case_says(case: Case, *, update: bool) -> None:
    result = shown(case)
    if update:
        case.rewrite(result)
    else:
        assert result == case.expected


def test_a_difference_is_shown_with_the_block_that_it_is_in() -> None:
    before = ["user nginx;", "http {", "    server {", "        a 1;", "        b 1;", "        c 1;", "    }", "}"]
    after = [*before[:5], "        b 2;", *before[5:]]
    within_server = [" " * 9 + "a 1;", " " * 9 + "b 1;", "+        b 2;", " " * 9 + "c 1;", "     }"]
    assert list(differences(before, after)) == ["@@ http: server", *within_server]
    without = ["@@ outside of all blocks", "-user nginx;", "+user root;", " http {", "     server {"]
    assert list(differences(before, ["user root;", *before[1:]])) == without
    assert list(differences(before, before)) == []


def test_each_forgeable_header_is_overwritten_wherever_a_request_is_passed_on(case: Case, tmp_path: Path) -> None:
    passing = 0
    for server in within(parsed(rendered(case), tmp_path), "http", "server"):
        inherited = [directive["args"][0] for directive in within(server["block"], "proxy_set_header")]
        for location in within(server["block"], "location"):
            if not list(within(location["block"], "proxy_pass")) or ASKED in location["args"]:
                continue
            if any(within(location["block"], "proxy_pass_request_headers")):
                assert location["args"][-1] == QUESTION
                continue
            passing += 1
            own = [directive["args"][0] for directive in within(location["block"], "proxy_set_header")]
            # Nginx drops all inherited ones where there is one of its own.
            in_force = own or inherited
            names = {name.lower() for name in in_force}
            assert names >= {name.lower() for name in (*OVERWRITTEN, *KNOWN_STRIPPED_HEADERS)}
            assert len(in_force) == len(names), "a header is sent twice"
    assert passing >= len(LOCATIONS)


SECURITY = {
    "Content-Security-Policy",
    "Permissions-Policy",
    "Referrer-Policy",
    "X-Content-Type-Options",
    "X-Request-ID",
}
OF_THE_SITE = {
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Origin",
    "Cache-Control",
    "Vary",
    "X-Cache-Status",
}
OF_A_PREFLIGHT = {"Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Max-Age"}


def test_each_location_that_can_answer_says_each_header_once(case: Case, tmp_path: Path) -> None:
    configuration = parsed(rendered(case), tmp_path)
    assert [directive["args"] for directive in within(configuration, "http", "add_header_inherit")] == [["merge"]]
    everywhere = _said_in(next(within(configuration, "http"))["block"])
    for server in within(configuration, "http", "server"):
        site = any(within(server["block"], "proxy_set_header"))
        for location in within(server["block"], "location"):
            if location["args"] == ["@beyond_the_end"]:
                # Its headers are there already; what Nginx makes of that, tests/nginx/test_security_headers.py asks.
                continue
            # Nothing switches the merging off again.
            assert not list(within(location["block"], "add_header_inherit"))
            said = [*everywhere, *_said_in(server["block"]), *_said_in(location["block"])]
            assert len(said) == len(set(said)), (location["args"], "says a header twice")
            assert set(said) >= SECURITY | (OF_THE_SITE if site else set())
            assert (set(said) & OF_A_PREFLIGHT) == (OF_A_PREFLIGHT if location["args"] == ["@preflight"] else set())
            # Responses that may be streams carry X-Accel-Buffering for a proxy in front.
            if {"/", "/api/", "/ollama/", "/openai/"} & set(location["args"]) and site:
                assert "X-Accel-Buffering" in said
        assert not list(within(server["block"], "add_header_inherit"))


def test_what_the_proxy_says_the_application_cannot(case: Case, tmp_path: Path) -> None:
    configuration = parsed(rendered(case), tmp_path)
    (site,) = (
        server for server in within(configuration, "http", "server") if any(within(server["block"], "proxy_set_header"))
    )
    hidden = {directive["args"][0] for directive in within(site["block"], "proxy_hide_header")}
    said = {*_said_in(next(within(configuration, "http"))["block"]), *_said_in(site["block"])}
    # Nginx itself drops X-Accel-Buffering; the application has no Alt-Svc to offer.
    assert said - hidden <= {"X-Accel-Buffering", "Alt-Svc"}
    for location in within(site["block"], "location"):
        assert not list(within(location["block"], "proxy_hide_header")), "that forgets those of the server"


def test_nothing_private_can_be_kept(case: Case, tmp_path: Path) -> None:
    cached = {"/_app/immutable/", *FRONTEND_PATHS, "/manifest.json", "/opensearch.xml", "/api/version", "/api/config"}
    for server in within(parsed(rendered(case), tmp_path), "http", "server"):
        assert not list(within(server["block"], "proxy_cache"))
        for location in within(server["block"], "location"):
            if not list(within(location["block"], "proxy_cache")):
                continue
            assert location["args"][-1] in cached
            (unless,) = within(location["block"], "proxy_no_cache")
            assert {"$is_page", "$http_authorization"} <= set(unless["args"])
            (audience,) = (
                directive["args"][1]
                for directive in within(location["block"], "set")
                if directive["args"][0] == "$audience"
            )
            # Either it is asked for without a cookie, or nothing with one is kept.
            assert audience == "everybody" or {"$http_cookie", "$visitors_cookie"} & set(unless["args"])
            # What Nginx decided by is what the application is asked for.
            (passed,) = within(location["block"], "proxy_pass")
            assert passed["args"] == [f"http://open_webui{location['args'][-1]}"]


def test_no_way_to_the_application_leaves_out_a_check(case: Case, tmp_path: Path) -> None:
    assert unchecked_ways(parsed(rendered(case), tmp_path)) == []


CARELESS = {
    "a second try without the authenticator": (
        "location @once_more {",
        "location @once_more {\n auth_request off;",
        "location @once_more has auth_request of its own",
    ),
    "a location without the authenticator": (
        "location /api/ {",
        "location /api/ {\n auth_request off;",
        "location /api/ passes requests on and asks no authenticator",
    ),
    "pages of the site for the authenticator's failures": (
        "error_page 502 504 @no_answer_of_authenticator;",
        "",
        "a question to the authenticator at /_edge/authenticate that fails leads to @once_more",
    ),
    "a second try without a list of addresses": (
        "location /cache/ {",
        "location /cache/ {\n allow 10.0.0.0/8;\n deny all;",
        "location /cache/ has allow, and leads where it is not made",
    ),
    "a second try from everywhere": (
        '"~^(?:yes:(?:GET|HEAD|DELETE)|get:GET)',
        '"~^[a-z]*:(?:GET|HEAD|DELETE)',
        "map $when_unavailable leads to a second try whatever a location allows",
    ),
    "a large body of anybody": (
        "location /cache/ {",
        "location /cache/ {\n client_max_body_size 2m;\n auth_request off;",
        "location /cache/ takes large bodies and does not ask who sends them",
    ),
    "a second try in place of a question": (
        ":/(?!_edge/)",
        ":/",
        "map $when_unavailable leads to a second try in place of a question to the authenticator",
    ),
}


@pytest.mark.parametrize(("before", "after", "fault"), CARELESS.values(), ids=CARELESS)
def test_a_check_that_is_left_out_is_noticed(tmp_path: Path, before: str, after: str, fault: str) -> None:
    (path,) = (path for path in case_files("rendered") if path.stem == GUARDED)
    text = rendered(read_case(path))
    assert text.count(before) == 1
    assert fault in unchecked_ways(parsed(text.replace(before, after), tmp_path))


def _said_in(block: Block) -> list[str]:
    return [directive["args"][0] for directive in within(block, "add_header")]


def test_the_access_log_knows_no_query_and_no_header_of_the_client(case: Case, tmp_path: Path) -> None:
    formats = list(within(parsed(rendered(case), tmp_path), "http", "log_format"))
    assert formats or "access_log off;" in rendered(case)
    for log_format in formats:
        for variable in ("$request ", "$request_uri", "$args", "$http_", "$cookie_", "$query_string"):
            assert variable not in " ".join(log_format["args"])


@pytest.mark.parametrize(
    ("requests", "field"),
    [("json", '"authenticator":"$authenticator_status"'), ("text", "authenticator=$authenticator_status")],
)
def test_the_access_log_names_the_authenticator_where_there_is_one(requests: str, field: str) -> None:
    case = read_case(next(path for path in case_files("rendered") if path.stem == GUARDED))
    proxy = json.loads(case.config["open-webui-edge:proxy"]) | {"log": {"requests": requests}}
    open_proxy = {name: value for name, value in proxy.items() if name != "authentication"}
    texts = {}
    for kind, chosen in {"guarded": proxy, "open": open_proxy}.items():
        config = {**case.config, "open-webui-edge:proxy": json.dumps(chosen)}
        settings = read_settings(config, secret_keys=case.secret_keys, source="a case")
        texts[kind] = render_configuration(settings, stack=STACK, upstreams=case.upstreams)
    assert {kind: field in text for kind, text in texts.items()} == {"guarded": True, "open": False}


def test_every_name_of_the_site_is_served_and_no_other(case: Case, tmp_path: Path) -> None:
    settings = read_settings(case.config, secret_keys=case.secret_keys, source="a case")
    names = [
        name
        for server in within(parsed(rendered(case), tmp_path), "http", "server")
        for directive in within(server["block"], "server_name")
        for name in directive["args"]
        if "listen" in {inner["directive"] for inner in server["block"]}
    ]
    expected = {f"[{host}]" if ":" in host else host for host in (*settings.site.hosts, *case.acme_challenges)}
    assert set(names) == {*expected, "_", "status"}


def test_same_settings_give_the_same_text(case: Case) -> None:
    assert rendered(case) == rendered(case)


def test_nothing_changes_but_what_a_setting_says() -> None:
    before, after = StackSettings(), StackSettings()
    timeouts = after.proxy.timeouts.model_copy(update={"read": timedelta(minutes=31)})
    proxy = after.proxy.model_copy(update={"timeouts": timeouts})
    old = render_configuration(before, stack=STACK, upstreams=["a:1"]).splitlines()
    new = render_configuration(after.model_copy(update={"proxy": proxy}), stack=STACK, upstreams=["a:1"]).splitlines()
    changed = {line.strip().split(" ")[0] for line in set(new) - set(old)}
    assert changed == {"proxy_read_timeout", "return"}
    assert [line.strip() for line in set(new) - set(old) if "said nothing for 31m" in line]


def reported(*identity_headers: str) -> StackSettings:
    settings = StackSettings()
    environment = {f"WEBUI_AUTH_TRUSTED_{'X' * (n + 1)}_HEADER": name for n, name in enumerate(identity_headers)}
    # Not validated: what is refused by the settings is refused once more.
    return settings.model_copy(
        update={"open_webui": settings.open_webui.model_copy(update={"environment": environment})}
    )


def test_identity_headers_of_the_environment_are_cleared_once_each(tmp_path: Path) -> None:
    settings = reported("X-Our-Email", "x-our-email", "REMOTE-USER")
    text = render_configuration(settings, stack=STACK, upstreams=["a:1"])
    for server in within(parsed(text, tmp_path), "http", "server"):
        for location in within(server["block"], "location"):
            if list(within(location["block"], "proxy_pass")):
                names = [directive["args"][0].lower() for directive in within(server["block"], "proxy_set_header")]
                assert names.count("x-our-email") == 1
                assert names.count("remote-user") == 1


@pytest.mark.parametrize("name", ["X Our", "X-Our;", "X-{Our}", "$x", "X_Our", "X-Our\n", ""])
def test_what_is_no_name_of_a_header_is_never_written(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a header"):
        render_configuration(reported(name), stack=STACK, upstreams=["a:1"])


@pytest.mark.parametrize("text", ["it's", "a\\b", "$a", "a\nb", "a\0b"])
def test_what_would_end_its_quotes_is_never_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="would interpret"):
        in_single_quotes(text)


@pytest.mark.parametrize("stack", ["prod", "my_stack", "eu-1.blue"])
def test_every_name_that_pulumi_gives_a_stack_can_be_written(stack: str) -> None:
    settings = StackSettings()
    text = render_configuration(settings, stack=stack, upstreams=["a:1"])
    assert text.startswith(f"# Nginx for the stack {stack}, ")


@pytest.mark.parametrize("upstream", ["a:1; return 200", "a:1\n}", "a:$port", ""])
def test_no_value_adds_a_directive(upstream: str) -> None:
    settings = StackSettings()
    with pytest.raises(ValueError, match="needs quotes"):
        render_configuration(settings, stack=STACK, upstreams=[upstream])


@pytest.mark.parametrize("value", ["a b", "a;b", "a{b", "a}b", "$a", 'a"b', "a'b", "a\\b", "a\nb", "a#b", ""])
def test_what_does_not_mean_itself_in_nginx_is_never_written(value: str) -> None:
    with pytest.raises(ValueError, match="needs quotes"):
        token(value)


def test_whoever_asks_for_a_token_over_plain_http_finds_the_place(case: Case, tmp_path: Path) -> None:
    challenged: set[str] = set()
    for server in within(parsed(rendered(case), tmp_path), "http", "server"):
        names = {name for directive in within(server["block"], "server_name") for name in directive["args"]}
        plain = any(
            directive["args"][0] == f"127.0.0.1:{PORTS_INSIDE[0]}" for directive in within(server["block"], "listen")
        )
        paths = [directive["args"][-1] for directive in within(server["block"], "location")]
        if "/.well-known/acme-challenge/" in paths:
            assert "_" not in names
            challenged |= names if plain else set()
    required = {f"[{host}]" if ":" in host else host for host in case.acme_challenges}
    assert challenged >= required
    assert bool(challenged) == bool(required)
