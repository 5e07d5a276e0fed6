"""What is made of what was seen inside a stack: plain data in, findings out."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from open_webui_edge.diagnostics.finding import Finding, Hop, Remedy, redact, redacted
from open_webui_edge.diagnostics.inside import application, containers, disks, proxy, services, streams
from open_webui_edge.diagnostics.inside.containers import Container
from open_webui_edge.diagnostics.inside.deployment import (
    Authenticator,
    Change,
    DeploymentAccess,
    ExpectedContainer,
    Publication,
)
from open_webui_edge.diagnostics.inside.questions import QUESTIONS, judge_clock, judge_pending
from open_webui_edge.diagnostics.question import ranked
from open_webui_edge.diagnostics.subject import Subject
from open_webui_edge.runtime.open_webui import probe

HTTPS = Publication("127.0.0.1", 8443, 443)
NGINX = ExpectedContainer(
    "edge-a-nginx",
    "nginx",
    "1111",
    "sha256:aaaa",
    networks=frozenset({"edge-a-network"}),
    publications=frozenset({HTTPS}),
    memory=512 << 20,
)
APPLICATION = replace(NGINX, name="edge-a-open-webui", role="open-webui", identity="2222", publications=frozenset())
POSTGRES = replace(APPLICATION, name="edge-a-postgres", role="postgres", identity="3333")
NOTHING = Remedy("nothing", lambda: "")


def here(made: ExpectedContainer, **differs: Any) -> Container:
    """Return a container as it was made, but for what differs."""
    container = Container(
        made.name,
        made.identity,
        "running",
        "healthy",
        image=made.image,
        labels=made.labels,
        networks=made.networks,
        publications=made.publications,
        memory=made.memory or 0,
        restart=made.restart,
    )
    return replace(container, **differs)


def judged(*there: Container, made: Iterable[ExpectedContainer] = (NGINX, APPLICATION)) -> list[Finding]:
    return list(containers.judge(tuple(made), {one.name: one for one in there}, lambda _: NOTHING, NOTHING))


def test_containers_that_run_and_are_healthy_are_well() -> None:
    assert [(one.check, one.severity) for one in judged(here(NGINX), here(APPLICATION))] == [("containers.well", "ok")]


@pytest.mark.parametrize(
    ("differs", "check", "words"),
    [
        ({"status": "exited", "exit_code": 3}, "containers.stopped", "does not run: it is exited, exit code 3."),
        ({"status": "paused"}, "containers.stopped", "does not run: it is paused."),
        (
            {"status": "exited", "exit_code": 137, "killed_for_memory": True},
            "containers.stopped",
            "exit code 137, because it reached its memory limit.",
        ),
        ({"status": "restarting", "restarts": 7}, "containers.restarting", "ends and is started again and again (7"),
        ({"health": "starting", "restarts": 3}, "containers.restarting", "(3 times so far)"),
        (
            {"health": "unhealthy", "check": "Nginx does not answer"},
            "containers.unhealthy",
            "its last health check said: Nginx does not answer.",
        ),
        ({"health": "starting"}, "containers.starting", "is still starting."),
    ],
)
def test_a_container_that_is_not_well_is_named_with_its_state(differs: dict[str, Any], check: str, words: str) -> None:
    (result,) = judged(here(NGINX, **differs), here(APPLICATION))
    assert result.check == check
    assert "edge-a-nginx" in result.seen
    assert words in result.seen


def test_a_removed_container_is_made_anew_by_an_update() -> None:
    (result,) = judged(here(APPLICATION))
    assert (result.check, result.hop, result.remedy) == ("containers.missing", Hop.PROXY, NOTHING)


def test_what_others_lean_on_comes_first_and_explains_them() -> None:
    result = judged(
        here(APPLICATION, health="unhealthy"),
        here(POSTGRES, status="exited"),
        here(NGINX),
        made=(NGINX, APPLICATION, POSTGRES),
    )
    outside = Finding("app.dead", result[0].severity, Hop.APPLICATION, "nobody answers")
    (first, *others) = ranked([outside, *result])
    assert (first.finding.hop, others) == (Hop.DATABASE, [])
    assert {one.check for one in first.explained} == {"app.dead", "containers.unhealthy"}


def test_one_of_several_replicas_is_a_warning_while_another_carries_on() -> None:
    second = replace(APPLICATION, name="edge-a-open-webui-2", identity="4444")
    gone = here(APPLICATION, status="exited")
    (result,) = judged(gone, here(second), here(NGINX), made=(NGINX, APPLICATION, second))
    assert (result.check, result.severity) == ("containers.stopped", "warning")
    assert "app.*" not in result.explains
    result = judged(gone, here(second, health="unhealthy"), here(NGINX), made=(NGINX, APPLICATION, second))
    assert {one.severity for one in result} == {"failure"}


def test_memory_near_its_limit_names_the_setting() -> None:
    used = {NGINX.name: 95.0, APPLICATION.name: 20.0}
    there = {one.name: here(one) for one in (NGINX, APPLICATION)}
    (result,) = containers.judge_memory((NGINX, APPLICATION), there, used, {"nginx": "proxy.memory"})
    assert (result.check, result.setting) == ("containers.memory", "proxy.memory")
    assert "uses 95 % of its memory limit of 512 MiB" in result.seen
    there[NGINX.name] = here(NGINX, killed_for_memory=True)
    (result,) = containers.judge_memory((NGINX, APPLICATION), there, {NGINX.name: 5.0}, {"nginx": "proxy.memory"})
    assert result.check == "containers.out_of_memory"


@pytest.mark.parametrize(
    ("differs", "words", "severity"),
    [
        ({"image": "sha256:bbbb"}, "it runs the image bbbb, pinned is aaaa", "warning"),
        ({"identity": "9999"}, "it was recreated by hand (its id is 9999, not 1111)", "warning"),
        ({"networks": frozenset()}, "its networks are none, made with edge-a-network", "failure"),
        (
            {"networks": frozenset({"edge-a-network", "other"})},
            "its networks are edge-a-network, other, made with edge-a-network",
            "warning",
        ),
        ({"publications": frozenset()}, "it publishes none, made with 127.0.0.1:8443->443/tcp", "warning"),
        ({"memory": 1 << 30}, "its memory limit is 1024 MiB, made with 512 MiB", "warning"),
        ({"restart": "no"}, "its restart policy is no, made with unless-stopped", "warning"),
    ],
)
def test_what_was_changed_by_hand_is_named(differs: dict[str, Any], words: str, severity: str) -> None:
    (result,) = containers.judge_drift((NGINX,), {NGINX.name: here(NGINX, **differs)}, lambda _: None)
    assert (result.check, result.severity) == ("containers.changed", severity)
    assert words in result.seen


def test_what_is_as_it_was_made_is_well_and_strangers_are_a_note() -> None:
    there = {one.name: here(one) for one in (NGINX, APPLICATION)}
    result = list(containers.judge_drift((NGINX,), there, lambda _: None))
    assert [(one.check, one.severity) for one in result] == [
        ("containers.strangers", "note"),
        ("containers.as_made", "ok"),
    ]
    assert APPLICATION.name in result[0].seen


def test_inspect_is_read_as_the_engine_writes_it() -> None:
    document = {
        "Name": "/edge-a-nginx",
        "Id": "1111",
        "Image": "sha256:aaaa",
        "RestartCount": 2,
        "State": {
            "Status": "running",
            "ExitCode": 0,
            "OOMKilled": False,
            "StartedAt": "2026-01-02T03:04:05.123456789Z",
            "Health": {"Status": "unhealthy", "Log": [{"Output": "first"}, {"Output": "  last\nwords "}]},
        },
        "Config": {"Labels": {"role": "nginx"}},
        "HostConfig": {
            "Memory": 512 << 20,
            "RestartPolicy": {"Name": "unless-stopped"},
            "PortBindings": {"443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8443"}], "80/tcp": None},
        },
        "NetworkSettings": {"Networks": {"edge-a-network": {"IPAddress": "172.20.0.2"}}},
    }
    result = containers.read(document)
    assert (result.name, result.check, result.restarts, result.address) == (
        "edge-a-nginx",
        "last words",
        2,
        "172.20.0.2",
    )
    assert (result.publications, result.networks) == (frozenset({HTTPS}), frozenset({"edge-a-network"}))


# Disks


def test_a_disk_is_read_as_df_writes_it() -> None:
    text = "Filesystem 1-blocks Used Available Capacity Mounted on\noverlay 1000 600 300 67% /\n"
    disk = disks.read(text, "edge-a-nginx:/")
    assert disk == disks.Disk("overlay", 900, 300, ("edge-a-nginx:/",))
    assert disks.read("df: no such file", "x") is None


@pytest.mark.parametrize(
    ("free", "severity"),
    [(60 << 30, "ok"), (20 << 30, "warning"), (5 << 30, "failure"), (100 << 20, "failure")],
)
def test_a_disk_is_told_full_before_it_is(free: int, severity: str) -> None:
    # With much left a percentage says nothing: 60 GiB of 250 are 76 %, and 60 of 600 are 90 %.
    size = 600 << 30 if free == 60 << 30 else 250 << 30 if free > 1 << 30 else 200 << 20
    (result,) = disks.judge([disks.Disk("/dev/vda", size, free, ("edge-a-open-webui:/",))], percent=85)
    assert result.severity == severity
    assert bool(result.explains) == (severity == "failure")


def test_one_file_system_is_named_once_with_all_its_places() -> None:
    one, other = (
        disks.Disk("overlay", 1 << 40, 9 << 30, ("a:/",)),
        disks.Disk("/dev/vda", 1 << 40, 9 << 30, ("b:/data",)),
    )
    assert [disk.places for disk in disks.together([one, other])] == [("a:/", "b:/data")]


# Database, Redis, models

POSTGRESQL = {
    "kind": "postgresql",
    "version": "18.1",
    "vector": "0.8.7",
    "vector_available": "0.8.7",
    "connections": 10,
    "limit": 100,
    "size": 1,
    "read_only": False,
    "vectors_here": True,
    "seconds": 0.1,
}
EXTERNAL = "postgresql://db.example.com:5432/chat"


@pytest.mark.parametrize(
    ("changes", "checks"),
    [
        ({}, ["database.answers"]),
        ({"vector": None}, ["database.answers", "database.vector"]),
        ({"vector": None, "vectors_here": False}, ["database.answers"]),
        ({"connections": 80}, ["database.answers", "database.connections"]),
        ({"read_only": True}, ["database.answers", "database.read_only"]),
        ({"seconds": 2.0}, ["database.answers", "database.slow"]),
    ],
)
def test_a_database_that_answers_has_what_it_needs(changes: dict[str, Any], checks: list[str]) -> None:
    assert [one.check for one in services.judge_database({**POSTGRESQL, **changes}, EXTERNAL)] == checks


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("refused", "refuses the user or password"),
        ("full", "has no connection left"),
        ("no_database", "has no database of that name"),
        ("disk", "disk below the database is full"),
        ("name", "has no address"),
        ("damaged", "file is damaged"),
        ("unreachable", "cannot be reached"),
    ],
)
def test_a_database_that_does_not_answer_says_how(fault: str, words: str) -> None:
    for configured in (None, EXTERNAL):
        (result,) = services.judge_database({"fault": fault, "words": "as psycopg says"}, configured)
        assert (result.severity, result.hop) == ("failure", Hop.DATABASE)
        assert words in result.seen
        assert result.fix
        assert result.setting == (None if configured is None else "data.postgres.url")


@pytest.mark.parametrize(
    ("facts", "checks"),
    [
        ({"seconds": 0.001, "role": "master"}, ["redis.answers"]),
        (
            {"seconds": 0.001, "memory": 90, "memory_limit": 100, "policy": "noeviction"},
            ["redis.answers", "redis.memory"],
        ),
        ({"seconds": 0.001, "clients": 9000, "clients_limit": 10000}, ["redis.answers", "redis.clients"]),
        ({"seconds": 0.001, "role": "slave"}, ["redis.answers", "redis.read_only"]),
        ({"seconds": 0.001, "writes_fail": True}, ["redis.answers", "redis.writes"]),
        ({"seconds": 0.001, "unsaid": "NOPERM"}, ["redis.answers", "redis.room"]),
    ],
)
def test_a_redis_that_answers_has_room(facts: dict[str, Any], checks: list[str]) -> None:
    assert [one.check for one in services.judge_redis(facts, None)] == checks


@pytest.mark.parametrize("fault", ["refused", "full", "loading", "name", "unreachable"])
def test_a_redis_that_does_not_answer_explains_the_rest(fault: str) -> None:
    (result,) = services.judge_redis({"fault": fault, "words": "as redis says"}, None)
    assert (result.check, result.severity) == ("redis.answers", "failure")
    assert ranked([result, replace(result, check="app.ready", explains=())])[0].explained


@pytest.mark.parametrize(
    ("facts", "severity", "words", "setting"),
    [
        ({"status": 200, "models": 3}, "ok", "has 3 model(s)", None),
        ({"status": 401}, "failure", "does not accept the key", "models.providers[0].api_key"),
        ({"status": 403}, "failure", "does not accept the key", "models.providers[0].api_key"),
        ({"status": 404}, "warning", "with 404", "models.providers[0].url"),
        ({"status": 200, "odd": True}, "warning", "200 and no JSON", "models.providers[0].url"),
        (
            {"status": 404, "rather": "https://api.example.com/v1"},
            "failure",
            "https://api.example.com/v1 has",
            "models.providers[0].url",
        ),
        ({"status": 429}, "failure", "too many requests", "models.providers[0].url"),
        ({"status": 503}, "failure", "trouble of its own", "models.providers[0].url"),
        ({"fault": "refused", "words": "x"}, "failure", "accepts no connections", "models.providers[0].url"),
        ({"fault": "name", "words": "x"}, "failure", "has no address", "models.providers[0].url"),
        ({"fault": "tls", "words": "x"}, "failure", "certificate", "models.providers[0].url"),
        ({"fault": "silent", "words": "x"}, "failure", "does not answer in time", "models.providers[0].url"),
    ],
)
def test_a_providers_answer_tells_key_path_and_way_apart(
    facts: dict[str, Any], severity: str, words: str, setting: str | None
) -> None:
    result = services.judge_provider({"url": "https://api.example.com", **facts}, "models.providers[0]")
    assert (result.severity, result.setting) == (severity, setting)
    assert words in result.seen


def test_a_deployment_without_models_is_a_warning() -> None:
    (result,) = services.judge_models({"owner": "panel", "providers": [], "ollama": None})
    assert (result.check, result.severity) == ("models.none", "warning")
    empty = {"url": "http://ollama:11434", "status": 200, "models": 0}
    result = list(services.judge_models({"owner": "stack", "providers": [], "ollama": empty}))
    assert [one.check for one in result] == ["models.ollama", "models.none"]


def test_an_ollama_on_the_host_that_nobody_started_is_a_warning_with_the_setting() -> None:
    facts = {"url": "http://host.docker.internal:11434", "fault": "refused", "words": "Connection refused"}
    result = services.judge_ollama(facts)
    assert (result.severity, result.setting, result.value) == ("warning", "models.ollama.mode", "none")


READY = {"status": 200, "body": '{"status":true}'}


def test_a_replica_out_of_rotation_is_named() -> None:
    names = ["a-1", "a-2", "a-3"]
    answers = dict.fromkeys(names, READY)
    assert [one.severity for one in services.judge_replicas(names, answers, names)] == ["ok", "ok"]
    (_, out) = services.judge_replicas(names, answers, ["a-1", "a-3"])
    assert (out.check, out.severity) == ("replicas.rotation", "warning")
    assert out.seen.startswith("a-2 is ready")
    (_, unserved) = services.judge_replicas(names, answers, [])
    assert unserved.severity == "failure"


def test_a_replica_that_is_not_ready_is_no_fault_of_the_rotation() -> None:
    result = list(services.judge_replicas(["a-1", "a-2"], {"a-1": READY, "a-2": {"status": 503, "body": ""}}, ["a-1"]))
    assert [(one.check, one.severity) for one in result] == [
        ("application.ready", "warning"),
        ("replicas.rotation", "ok"),
    ]


# The proxy

SEEN = proxy.Seen(
    in_force="g1", named="g1", served="g1", configuration="hash", certificate="pem", source="own",
    installed_serial="AB", served_serial="AB", workers=2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "checks"),
    [
        ({}, ["ok"]),
        ({"configuration": "other", "named": "g2"}, ["proxy.configuration"]),
        ({"named": "g2"}, ["proxy.generation_changed"]),
        ({"served": "g0"}, ["proxy.generation"]),
        ({"served": ""}, ["proxy.generation"]),
    ],
)
def test_a_configuration_that_is_not_the_stacks_is_told_from_one_not_taken_up(
    changes: dict[str, Any], checks: list[str]
) -> None:
    result = list(proxy.judge_configuration(replace(SEEN, **changes), "hash", lambda: NOTHING, NOTHING))
    assert [one.check if one.severity != "ok" else "ok" for one in result] == checks


def test_killed_workers_are_warned_of_for_a_week() -> None:
    now = datetime(2026, 3, 10, tzinfo=UTC)
    days = [datetime(2026, 3, day, 12, tzinfo=UTC).timestamp() for day in (1, 5, 8)]
    seen = proxy.read(f"in_force=g1\nkilled={' '.join(f'{time:.0f}' for time in days)} \nworkers=2")
    assert seen.killed == tuple(days)
    (result,) = proxy.judge_workers(seen, now)
    assert (result.check, result.severity, result.setting) == ("proxy.killed_workers", "warning", "proxy.memory")
    assert "2 times in the last 7 days, last at 2026-03-08 12:00 UTC" in result.seen
    (result,) = proxy.judge_workers(replace(SEEN, killed=(days[-1],)), now)
    assert " once " in result.seen
    for killed in ((), days[:1]):
        (result,) = proxy.judge_workers(replace(SEEN, killed=tuple(killed)), now)
        assert result.severity == "ok"


def test_a_certificate_in_the_volume_is_compared_with_the_one_served() -> None:
    def first(seen: proxy.Seen) -> Finding:
        return next(iter(proxy.judge_certificate(seen, "pem", lambda: NOTHING, None)))

    assert first(SEEN).severity == "ok"
    result = first(replace(SEEN, installed_serial="CD", certificate="other"))
    assert (result.check, result.severity, result.remedy) == ("certificate.served", "failure", NOTHING)
    assert "serves the certificate AB, and the one in its volume is CD" in result.seen
    assert first(replace(SEEN, certificate="other")).severity == "warning"
    assert first(replace(SEEN, served_serial="")).seen.startswith("Nginx shows no certificate")
    # Of one that another container obtains the stack knows nothing.
    assert first(replace(SEEN, certificate="other", source="offered")).severity == "ok"


def test_a_failed_renewal_is_worse_the_nearer_the_end() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    failed = {"at": "2026-03-01", "directory": "https://acme", "error": "no\nway", "hint": "Open port 80."}
    state = {"last_attempt": failed, "served": {"not_after": "2026-03-20T00:00:00+00:00"}, "next_attempt": "later"}
    (result,) = proxy.judge_renewal(state, now)
    assert (result.severity, result.fix) == ("warning", "Open port 80.")
    assert "no way" in result.seen
    (result,) = proxy.judge_renewal({**state, "served": {"not_after": "2026-02-01T00:00:00+00:00"}}, now)
    assert result.severity == "failure"
    (result,) = proxy.judge_renewal({"last_attempt": {"error": None}, "next_attempt": "later"}, now)
    assert result.severity == "ok"
    (result,) = proxy.judge_renewal(None, now)
    assert result.severity == "warning"


AUTHENTICATOR = Authenticator("http://authelia:9091/api/authz/auth-request", "https://chat.example.com", 10)


@pytest.mark.parametrize("status", [200, 204, 401, 403])
def test_authenticator_that_decides_is_well(status: int) -> None:
    assert proxy.judge_authenticator(AUTHENTICATOR, status, "").severity == "ok"


@pytest.mark.parametrize(
    ("status", "words", "seen"),
    [
        (
            0,
            "curl: (6) Could not resolve host: authelia",
            "does not answer the proxy within 10 s: curl: (6) Could not resolve host: authelia.",
        ),
        (302, "302", "answers 302, and only 2xx admits a request and 401 or 403 refuses one."),
        (500, "500", "answers 500, and only 2xx admits a request and 401 or 403 refuses one."),
    ],
)
def test_authenticator_that_decides_nothing_is_named_and_explains_what_is_seen_outside(
    status: int, words: str, seen: str
) -> None:
    result = proxy.judge_authenticator(AUTHENTICATOR, status, words)
    assert (result.check, result.severity) == ("proxy.authenticator", "failure")
    assert result.seen == f"The authenticator at http://authelia:9091/api/authz/auth-request {seen}"
    outside = Finding("app.authenticator", result.severity, Hop.PROXY, "The proxy answers 503")
    (first, *others) = ranked([outside, result])
    assert (first.finding, others) == (result, [])


def test_authenticator_is_asked_as_nginx_asks_it() -> None:
    command = proxy.ask_authenticator(AUTHENTICATOR)
    assert command[0] == "curl"
    assert command[-1] == AUTHENTICATOR.url
    assert {"X-Original-URL: https://chat.example.com/", "X-Original-Method: GET", "10"} < set(command)


@pytest.mark.parametrize(
    ("silences", "promised", "severity", "words"),
    [
        ({"Nginx": 1800.0}, 1800.0, "ok", "30 min"),
        ({"the load balancer": 60.0, "Nginx": 1800.0}, 1800.0, "warning", "the load balancer ends an answer"),
        ({"Nginx": 60.0}, 60.0, "warning", "Nginx ends an answer that is silent for 1 min"),
    ],
)
def test_the_hop_that_ends_a_silence_first_is_named(
    silences: dict[str, float], promised: float, severity: str, words: str
) -> None:
    (result,) = proxy.judge_silence(silences, promised)
    assert result.severity == severity
    assert words in result.seen


# The application


def test_a_saved_setting_that_overrules_names_the_stacks_setting() -> None:
    facts = {
        "owned": 9,
        "differ": [
            {"key": "webui.url", "variables": ["WEBUI_URL"], "now": "http://a", "stack": "https://b"},
            {"key": "rag.top_k", "variables": ["RAG_TOP_K"], "now": "9", "stack": "3"},
            {"key": "openai.api_keys", "variables": [], "now": None, "stack": None},
        ],
    }
    result = list(application.judge_settings(facts, lambda _: NOTHING))
    assert [one.setting for one in result] == ["site.domain", "open_webui.environment.RAG_TOP_K", "models.providers"]
    assert [one.severity for one in result] == ["warning", "warning", "failure"]
    assert "is 'http://a', and the stack says 'https://b'" in result[0].seen
    assert "is another value: " in result[2].seen


@pytest.mark.parametrize(
    ("text", "value", "same"),
    [
        ("https://a", "https://a", True),
        ("https://a", "https://b", False),
        ("1024", 1024, True),
        ("0.5", 0.5, True),
        ("3", 3.0, True),
        ("3", 4, False),
        ("true", True, True),
        ("False", False, True),
        ("true", False, False),
        ("1", True, False),
        ("a;b", ["a", "b"], True),
        ("a, b", ["a", "b"], True),
        ('{"a": 1}', {"a": 1}, True),
        ("", None, True),
        ("", "x", False),
    ],
)
def test_a_variable_is_compared_as_it_is_read(text: str, value: object, same: bool) -> None:  # noqa: FBT001 - a table
    assert probe.means(text, value) is same


@pytest.mark.parametrize(
    "key", ["openai.api_keys", "oauth.client_secret", "ldap.app_password", "tool_server.connections"]
)
def test_what_may_be_a_secret_is_not_shown(key: str) -> None:
    assert probe.displayable(key, "anything") is None
    assert probe.displayable("webui.url", "redis://:secret@host") is None
    assert probe.displayable("webui.url", "https://a") == "https://a"
    # An address that grants access by itself, and a URL that may contain a key.
    assert probe.displayable("webhook_url", "https://hooks.example.com/T0/B0/x") is None
    assert probe.displayable("openai.api_configs", {"0": {"headers": "x"}}) is None


def test_replicas_sign_with_one_key() -> None:
    def severity(**keys: tuple[str | None, int]) -> tuple[str, str]:
        facts = {name: {"mark": mark, "length": length} for name, (mark, length) in keys.items()}
        (result,) = application.judge_keys(facts)
        return result.severity, result.seen

    assert severity(a=("x", 40), b=("x", 40))[0] == "ok"
    assert severity(a=("x", 40), b=("y", 40)) == ("failure", "2 replicas have 2 different WEBUI_SECRET_KEYs.")
    assert severity(a=("x", 10))[0] == "warning"
    assert severity(a=(None, 0))[0] == "failure"


def test_a_given_file_that_was_changed_is_named() -> None:
    made = replace(APPLICATION, files={"/run/a": "1", "/run/b": "2"})
    (result,) = application.judge_files((made,), {made.name: {"/run/a": "1", "/run/b": "9"}}, lambda _: NOTHING)
    assert (result.check, result.remedy) == ("containers.files", NOTHING)
    assert "/run/b was changed" in result.seen
    (result,) = application.judge_files((made,), {made.name: {"/run/a": "1", "/run/b": "2"}}, lambda _: NOTHING)
    assert result.severity == "ok"


def test_a_changed_password_leaves_the_rest_unknown_and_is_no_trouble() -> None:
    assert application.judge_sign_in({"fault": "x", "status": 400}).severity == "unknown"
    assert application.judge_sign_in({"token": "t"}).severity == "ok"


# Streams, addresses, clocks

APART = {"moments": [0.1 * number for number in range(30)]}
LUMP = {"moments": [3.0 + 0.001 * number for number in range(30)]}


@pytest.mark.parametrize(
    ("direct", "proxied", "severity"),
    [
        (APART, APART, "ok"),
        (APART, LUMP, "failure"),
        (LUMP, LUMP, "unknown"),
        (APART, {"moments": [], "fault": "the answer is 504"}, "failure"),
        (APART, {"moments": [], "fault": "certificate has expired", "distrusted": True}, "unknown"),
        ({"moments": [], "fault": "the application answers 500"}, APART, "unknown"),
    ],
)
def test_a_lump_is_the_proxys_only_where_the_model_wrote_in_pieces(
    direct: dict[str, Any], proxied: dict[str, Any], severity: str
) -> None:
    for check in ("stream.buffered", "stream.socket"):
        result = streams.judge_stream(check, direct, proxied, "a-model")
        assert (result.check, result.severity) == (check, severity)


def test_a_claimed_address_must_not_reach_the_application() -> None:
    assert streams.judge_client(['172.18.0.1:0 - "GET /api?mark"'], "mark").severity == "ok"
    assert streams.judge_client(['203.0.113.77:0 - "GET /api?mark"'], "mark").severity == "failure"
    assert streams.judge_client(["another line"], "mark").severity == "unknown"
    believed = streams.judge_client(['203.0.113.77:0 - "GET /api?mark"'], "mark", trusted=["172.16.0.0/12"])
    assert believed.severity == "unknown"


@pytest.mark.parametrize(
    ("said", "severity"),
    [
        ("2026-01-01T00:00:00.123456789Z", "ok"),
        ("2026-01-01T01:00:01.5+01:00", "ok"),
        ("2026-01-01T00:00:20.5Z", "warning"),
        ("2025-12-31T23:50:00.5Z", "failure"),
        ("yesterday", "unknown"),
    ],
)
def test_a_clock_that_is_off_is_said(said: str, severity: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert judge_clock(said, now, now + 1).severity == severity


def test_what_an_update_would_change_is_listed() -> None:
    assert judge_pending("a", [], None).severity == "ok"
    result = judge_pending("a", [Change("replace", f"edge-{number}") for number in range(8)], NOTHING)
    assert (result.severity, result.remedy) == ("warning", NOTHING)
    assert "replace edge-0" in result.seen
    assert result.seen.endswith("replace edge-5 and 2 more.")


# The whole


def test_a_secret_is_in_no_finding_also_as_a_url_writes_it() -> None:
    assert redact("at postgresql://u:p%20w%2Fd@h and p w/d", ["p w/d"]) == "at postgresql://u:[secret]@h and [secret]"
    finding = replace(Hop.ENGINE.ok("a", "seen hunter22"), why="hunter22", fix="hunter22", value="hunter22")
    assert "hunter22" not in str(redacted(finding, ["hunter22"]))
    # What is too short to be one would be in every text.
    assert redact("true", ["true"[:3]]) == "true"


def test_each_question_has_a_name_of_its_own_and_waits_for_ones_that_exist() -> None:
    from open_webui_edge.diagnostics import outside  # noqa: PLC0415 - only here

    names = [question.id for question in QUESTIONS]
    assert len(names) == len(set(names))
    known = {*names, *(question.id for question in outside.QUESTIONS)}
    assert {need for question in QUESTIONS for need in question.needs} <= known


def test_no_secret_is_in_the_repr_of_a_subject() -> None:
    # A failed assertion and a traceback show it.
    def pending(_key: str) -> list[Change]:
        return []

    inside = DeploymentAccess("unit", pending=partial(pending, "MARK-passphrase"))
    assert "MARK" not in repr(Subject("https://chat.example.com", token="MARK-token", inside=inside))
