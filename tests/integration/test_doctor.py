"""The doctor at a real stack that is broken on purpose: the right finding first, and nothing once it is fixed.

Most ways to break the stack are marked long: unit tests and tests/diagnostics check the same findings without a stack.
"""

import json
import re
from collections.abc import Iterator

import pytest

from open_webui_edge.benchmarks.model_server import ModelServer
from open_webui_edge.benchmarks.waiting import wait_until
from tests.integration.conftest import answered_by
from tests.support.doctor import Doctor, all_questions, at_home, causes
from tests.support.stack import StackUnderTest, Workshop

KEY = "sk-MARK-of-the-doctor-3d8f"
PASSWORD = "MARK-of-the-doctor-p'a\"s"
CONFIGURATION = "/etc/open-webui-edge/current"


@pytest.fixture(scope="module")
def provider(bridge_address: str) -> Iterator[ModelServer]:
    """A provider that this module alone turns off."""
    with ModelServer(bridge_address, keys=[KEY]) as server:
        yield server


@pytest.fixture(scope="module")
def stack(workshop: Workshop, provider: ModelServer) -> Iterator[StackUnderTest]:
    stack = StackUnderTest(
        workshop,
        "it-doctor",
        {"open_webui": {"admin": {"email": "admin@example.com"}}, "models": answered_by(provider)},
        secrets={"models.providers[0].api_key": KEY, "open_webui.admin.password": PASSWORD},
    )
    with stack.running():
        yield stack


@pytest.fixture(scope="module")
def doctor(stack: StackUnderTest) -> Iterator[Doctor]:
    stack.wait_until_ready()
    with at_home(stack):
        yield Doctor(stack, secrets=[KEY, PASSWORD]).learn()


def shell(stack: StackUnderTest, role: str, script: str) -> None:
    """Run a script in a container; fail when it fails."""
    stack.read(role, "sh", "-ec", script)


def test_a_healthy_stack_has_nothing_to_fix(doctor: Doctor) -> None:
    diagnosis = doctor.look(all_questions())
    assert causes(diagnosis) == []
    assert diagnosis.exit_code == 0
    well = {finding.check for finding in diagnosis.findings if finding.severity == "ok"}
    assert {"stream.buffered", "stream.socket", "client.address", "stack.pending", "models.provider"} <= well


@pytest.mark.long
def test_a_wrong_key_is_told_from_a_provider_that_is_gone(
    doctor: Doctor, stack: StackUnderTest, provider: ModelServer
) -> None:
    provider.keys = {"another"}
    try:
        ended = stack.workshop.run("make", "doctor", f"STACK={stack.name}", "JSON=yes")
    finally:
        provider.keys = {KEY}
    assert (ended.code, "Traceback" in ended.output) == (2, False), ended.output
    # What make says of the code stands behind it.
    result, _ = json.JSONDecoder().raw_decode(ended.output[ended.output.index("\n{") + 1 :])
    assert result["exit_code"] == 2
    first = result["findings"][0]
    assert (first["check"], first["severity"], first["hop"]) == ("models.provider", "failure", "models")
    assert first["setting"] == "models.providers[0].api_key"
    assert "answers 401: it does not accept the key that the application has" in first["seen"]
    html = (stack.workshop.directory / f"build/doctor-{stack.name}.html").read_text()
    for secret in (KEY, PASSWORD):
        assert secret not in ended.output
        assert secret not in html

    provider.__exit__()
    try:
        (fault, *others) = causes(doctor.look())
    finally:
        revived = ModelServer(provider.host, provider.port, keys=[KEY])
        provider.__dict__.update(revived.__dict__)
        provider.__enter__()
    assert (fault.check, others) == ("models.provider", [])
    assert "accepts no connections" in fault.seen


@pytest.mark.long
def test_a_saved_setting_that_overrules_the_stack(doctor: Doctor, stack: StackUnderTest) -> None:
    with stack.client() as admin:
        admin.sign_in("admin@example.com", PASSWORD)
        saved = admin.request("GET", "/api/v1/auths/admin/config")
        admin.request("POST", "/api/v1/auths/admin/config", {**saved, "WEBUI_URL": "https://elsewhere.example.com"})
        diagnosis = doctor.look()
        (fault,) = causes(diagnosis)
        assert (fault.check, fault.setting, diagnosis.exit_code) == ("settings.webui.url", "site.domain", 1)
        assert f"is 'https://elsewhere.example.com', and the stack says '{stack.url}'" in fault.seen
        assert fault.remedy is not None
        fault.remedy.apply()
        assert admin.request("GET", "/api/v1/auths/admin/config")["WEBUI_URL"] == stack.url

        # A key is not shown, neither the one in force nor the stack's.
        keys = admin.openai_settings()["OPENAI_API_KEYS"]
        changed = {"OPENAI_API_KEYS": ["sk-MARK-of-a-user"]}
        admin.request("POST", "/openai/config/update", admin.openai_settings() | changed)
        doctor.secrets = [*doctor.secrets, "sk-MARK-of-a-user"]
        (fault,) = causes(doctor.look())
        assert (fault.check, fault.setting) == ("settings.openai.api_keys", "models.providers")
        assert fault.remedy is not None
        fault.remedy.apply()
        assert admin.openai_settings()["OPENAI_API_KEYS"] == keys


@pytest.mark.long
def test_a_proxy_that_was_stopped(doctor: Doctor, stack: StackUnderTest) -> None:
    stack.container("nginx").stop()
    diagnosis = doctor.look()
    (fault,) = causes(diagnosis)
    assert fault.check == "containers.stopped"
    assert f"edge-{stack.name}-nginx does not run: it is exited, exit code 0." in fault.seen
    assert "port.open" in {finding.check for finding in diagnosis.ranked[0].explained}
    assert fault.remedy is not None
    assert fault.remedy.apply() == f"edge-{stack.name}-nginx was started, and is healthy"


@pytest.mark.long
def test_a_configuration_that_was_changed_by_hand(doctor: Doctor, stack: StackUnderTest) -> None:
    reload = f"nginx -s reload -c {CONFIGURATION}/nginx.conf"
    change = f"cp {CONFIGURATION}/nginx.conf /run/nginx/before; sed -i 's/proxy_buffering off/proxy_buffering on/'"
    shell(stack, "nginx", f"{change} {CONFIGURATION}/nginx.conf; {reload}")
    expected = [question for question in all_questions() if question.id != "stack.pending"]
    try:
        diagnosis = doctor.look(expected)
    finally:
        shell(stack, "nginx", f"cat /run/nginx/before > {CONFIGURATION}/nginx.conf; {reload}")
    assert [finding.check for finding in causes(diagnosis)] == ["proxy.configuration"]
    (first, *_) = diagnosis.ranked
    # What people see of it, and why, are one finding.
    assert "stream.buffered" in {finding.check for finding in first.explained if finding.severity == "failure"}


@pytest.mark.long
def test_a_certificate_that_is_not_the_one_served(doctor: Doctor, stack: StackUnderTest) -> None:
    pem = f"{CONFIGURATION}/tls/certificate.pem"
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=x -days 9"
    shell(stack, "nginx", f"cp {pem} /run/nginx/before; {new} -out /run/nginx/after; cat /run/nginx/after > {pem}")
    try:
        result = causes(doctor.look())
    finally:
        shell(stack, "nginx", f"cat /run/nginx/before > {pem}")
    assert [finding.check for finding in result] == ["certificate.served"]
    assert re.match(r"Nginx serves the certificate [0-9A-F]+, and the one in its volume is [0-9A-F]+\.", result[0].seen)


@pytest.mark.long
def test_a_full_disk(doctor: Doctor, stack: StackUnderTest) -> None:
    # No disk can be filled for a test: `df` in the container says what it would say.
    says = "#!/bin/sh\necho overlay 1000000000 995000000 5000000 99% /"
    shell(stack, "open-webui", f"echo '{says}' > /usr/local/bin/df; chmod +x /usr/local/bin/df")
    try:
        result = causes(doctor.look())
    finally:
        shell(stack, "open-webui", "rm /usr/local/bin/df")
    assert [finding.check for finding in result] == ["disk.room"]
    assert f"edge-{stack.name}-open-webui:/app/backend/data is 100 % full" in result[0].seen


@pytest.mark.long
def test_what_the_application_was_given_was_changed_by_hand(doctor: Doctor, stack: StackUnderTest) -> None:
    given = "/run/open-webui-edge/environment.json"
    shell(stack, "open-webui", f"cp {given} {given}.before; echo >> {given}")
    try:
        result = causes(doctor.look())
    finally:
        shell(stack, "open-webui", f"cat {given}.before > {given}; rm {given}.before")
    assert [finding.check for finding in result] == ["containers.files"]
    assert given in result[0].seen


@pytest.mark.long
def test_a_container_that_was_cut_off_or_limited_by_hand(doctor: Doctor, stack: StackUnderTest) -> None:
    network = stack.engine.networks.get(f"edge-{stack.name}-network")
    application = stack.container("open-webui")
    network.disconnect(application)
    try:
        diagnosis = doctor.look()
    finally:
        network.connect(application, aliases=["open-webui", "open-webui-1"])
    assert causes(diagnosis)[0].check == "containers.changed"
    assert f"its networks are none, made with edge-{stack.name}-network" in causes(diagnosis)[0].seen
    stack.wait_until_ready()

    application.update(mem_limit="3g", memswap_limit="3g")
    try:
        (fault,) = causes(doctor.look())
    finally:
        application.update(mem_limit="4g", memswap_limit="4g")
    assert (fault.check, fault.severity) == ("containers.changed", "warning")
    assert "its memory limit is 3072 MiB, made with 4096 MiB" in fault.seen


def test_a_stack_file_that_cannot_be_read(doctor: Doctor, stack: StackUnderTest) -> None:
    before = stack.file.read_text()
    stack.file.write_text(before.replace("open-webui-edge:site:", "open-webui-edge:seite:"))
    try:
        result = causes(doctor.learn().look())
    finally:
        stack.file.write_text(before)
        doctor.learn()
    # What runs is looked at all the same, and is well.
    assert [finding.check for finding in result] == ["stack.settings"]
    assert "seite" in result[0].seen


def test_an_engine_that_does_not_answer_leaves_what_is_seen_from_outside(doctor: Doctor, stack: StackUnderTest) -> None:
    stack.config["platform"] = {"docker": {"host": "unix:///nowhere/docker.sock"}}
    stack.write()
    try:
        diagnosis = doctor.learn().look()
    finally:
        del stack.config["platform"]
        stack.write()
        doctor.learn()
    assert [finding.check for finding in causes(diagnosis)] == ["engine.answers"]
    assert {"app.answers", "app.ready"} <= {one.check for one in diagnosis.findings if one.severity == "ok"}


def test_a_stack_that_is_not_up_says_what_to_do(workshop: Workshop, stack: StackUnderTest) -> None:
    new = StackUnderTest(workshop, "it-doctor-new", {}).create()
    with at_home(stack):
        (fault, *others) = causes(Doctor(new, secrets=[]).learn().look())
    assert (fault.check, others) == ("stack.up", [])
    assert fault.fix == "`make up STACK=it-doctor-new` brings it up."


@pytest.mark.long
def test_fix_does_what_it_says(doctor: Doctor, stack: StackUnderTest) -> None:
    stack.container("nginx").remove(force=True)
    asked = stack.workshop.run("make", "doctor", f"STACK={stack.name}", "FIX=yes")
    assert asked.code == 2, asked.output
    assert f"not done: pulumi up for the stack {stack.name}" in asked.output

    stack.container("open-webui").stop(timeout=15)
    ended = stack.workshop.run("make", "doctor", f"STACK={stack.name}", "FIX=yes", "YES=1").succeeded()
    assert f"There is no container edge-{stack.name}-nginx: it was removed." in ended.output
    assert f"docker start edge-{stack.name}-open-webui" in ended.output
    assert "done: the stack is updated" in ended.output
    for secret in (KEY, PASSWORD):
        assert secret not in ended.output
    wait_until(lambda: doctor.learn().result() == [], what="a stack with nothing to fix", deadline=30)


@pytest.fixture(scope="module")
def three(workshop: Workshop, provider: ModelServer) -> Iterator[StackUnderTest]:
    """Three replicas with a PostgreSQL and a Redis of their own."""
    stack = StackUnderTest(
        workshop,
        "it-doctor-three",
        {
            "open_webui": {"admin": {"email": "admin@example.com"}, "replicas": 3, "drain": "10s"},
            "data": {"postgres": {"mode": "container"}, "redis": {"mode": "container"}},
            "models": answered_by(provider),
        },
        secrets={"models.providers[0].api_key": KEY, "open_webui.admin.password": PASSWORD},
    )
    with stack.running():
        yield stack


def wait_until_fixed(doctor: Doctor) -> None:
    """Wait until nothing is left to fix: the engine looks at its containers each five seconds."""
    wait_until(lambda: doctor.result() == [], what="a stack with nothing to fix", deadline=180)


@pytest.mark.long
def test_three_replicas_broken_one_way_after_another(three: StackUnderTest) -> None:
    three.wait_until_ready()
    with at_home(three):
        doctor = Doctor(three, secrets=[KEY, PASSWORD]).learn()
        diagnosis = doctor.look(all_questions())
        assert causes(diagnosis) == []
        well = {finding.check for finding in diagnosis.findings if finding.severity == "ok"}
        assert {"database.answers", "redis.answers", "replicas.rotation", "secret.key", "stream.socket"} <= well

        for role in ("redis", "postgres"):
            three.container(role).stop()
            (fault, *others) = causes(doctor.look())
            assert (fault.check, fault.severity, others) == ("containers.stopped", "failure", [])
            assert f"edge-{three.name}-{role} does not run" in fault.seen
            assert fault.remedy is not None
            fault.remedy.apply()
            wait_until_fixed(doctor)

        given = "$(cat /run/open-webui-edge/password)"
        ask = 'REDISCLI_AUTH={} valkey-cli CONFIG SET requirepass "{}"'
        shell(three, "redis", ask.format(given, "another"))
        try:
            (fault, *_) = causes(doctor.look())
        finally:
            shell(three, "redis", ask.format("another", given))
        assert (fault.check, fault.hop) == ("redis.answers", "redis")
        assert "refuses the password" in fault.seen
        wait_until_fixed(doctor)

        three.container("open-webui-2").stop(timeout=20)
        (fault,) = causes(doctor.look())
        assert (fault.check, fault.severity) == ("containers.stopped", "warning")
        assert fault.remedy is not None
        fault.remedy.apply()
        wait_until_fixed(doctor)

        # Its workers stand still, its first process does not: the health check alone notices.
        still = (
            "for each in /proc/[0-9]*; do case $(tr '\\0' ' ' < $each/cmdline) in"
            " 'nginx: worker'*) kill -STOP ${each#/proc/} ;; esac; done"
        )
        shell(three, "nginx", still)
        nginx = three.container("nginx")

        def unhealthy() -> bool:
            nginx.reload()
            return nginx.health == "unhealthy"

        wait_until(unhealthy, what="an unhealthy proxy", deadline=120)
        (fault,) = causes(doctor.look())
        assert fault.check == "containers.unhealthy"
        assert "its last health check said: Nginx does not answer" in fault.seen
        assert fault.remedy is not None
        fault.remedy.apply()
        wait_until_fixed(doctor)

        three.config["proxy"] = {"maintenance": True}
        three.write()
        assert [finding.check for finding in causes(doctor.learn().look(all_questions()))][:1] == ["stack.pending"]
        three.up().succeeded()
        assert doctor.learn().result() == ["app.maintenance"]
