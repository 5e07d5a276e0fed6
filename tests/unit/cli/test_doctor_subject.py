"""The doctor's subject, from a stack's state alone."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from open_webui_edge.cli import doctor_fixes, doctor_subject
from open_webui_edge.cli.doctor import without_secrets
from open_webui_edge.diagnostics.finding import Finding, Hop, Remedy, Severity
from open_webui_edge.diagnostics.inside.deployment import DeploymentAccess, Publication
from open_webui_edge.diagnostics.question import Diagnosis
from open_webui_edge.diagnostics.subject import Subject

_MARK = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}


def secret(value: object) -> dict[str, Any]:
    return {**_MARK, "plaintext": json.dumps(value)}


def container(**outputs: Any) -> dict[str, Any]:
    labels = [{"label": "role", "value": "nginx"}, {"label": "stack", "value": "a"}]
    common = {"name": "edge-a-nginx", "image": "sha256:aaaa", "labels": labels, "memory": 512, "mustRun": True}
    return {
        "type": "docker:index/container:Container",
        "urn": "urn:pulumi:a::edge::docker:index/container:Container::edge-nginx-server",
        "id": "1111",
        "outputs": {**common, "restart": "unless-stopped", **outputs},
    }


def test_a_container_of_the_state_is_what_the_engine_must_have() -> None:
    made = doctor_subject.container_from_state(
        container(
            networksAdvanced=[{"name": "edge-a-network"}],
            networkMode="bridge",
            ports=[{"external": 8443, "internal": 443, "ip": "127.0.0.1", "protocol": "tcp"}],
            uploads=[{"file": "/run/a", "content": "text"}],
        )
    )
    assert (made.name, made.role, made.identity, made.memory) == ("edge-a-nginx", "nginx", "1111", 512 << 20)
    assert made.networks == {"edge-a-network"}
    assert made.publications == {Publication("127.0.0.1", 8443, 443)}
    assert made.files == {"/run/a": hashlib.sha256(b"text").hexdigest()}
    assert not made.runs_once


@pytest.mark.parametrize(
    ("mode", "networks"), [("host", {"host"}), ("bridge", {"bridge"}), ("container:2222", set[str]()), ("", {"bridge"})]
)
def test_a_container_without_a_network_of_the_stack_has_the_engines(mode: str, networks: set[str]) -> None:
    assert doctor_subject.container_from_state(container(networkMode=mode, networksAdvanced=[])).networks == networks


def test_every_secret_of_a_state_is_known_and_what_is_none_is_not() -> None:
    given = json.dumps(
        {
            "environment": {
                "WEBUI_SECRET_KEY": "the-secret-key",
                "WEBUI_URL": "https://chat.example.com",
                "ENABLE_API_KEYS": "true",
                "WEBUI_ADMIN_EMAIL": "admin@example.com",
                "DATABASE_URL": "postgresql://u:database%2Dpassword@postgres/db",
            },
            "saved_settings": {"openai.api_keys": ["sk-provider"], "openai.api_base_urls": ["https://api.example.com"]},
        }
    )
    resource = {
        "inputs": {"memory": 512},
        "outputs": {"uploads": secret([{"file": "/run/a", "content": given}]), "password": secret("admin-password")},
    }
    secrets = set(doctor_subject.secrets_in([resource]))
    assert {"the-secret-key", "database-password", "sk-provider", "admin-password"} <= secrets
    assert (
        not {"https://chat.example.com", "https://api.example.com", "512", "true", "admin@example.com", "/run/a"}
        & secrets
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:p@host:6379/0", "redis://host:6379/0"),
        ("postgresql://u:p@[::1]:5432/db?sslmode=require", "postgresql://[::1]:5432/db"),
        ("https://api.example.com/v1", "https://api.example.com/v1"),
    ],
)
def test_an_address_is_shown_without_who_asks(url: str, shown: str) -> None:
    assert doctor_subject.without_password(url) == shown


def test_no_report_quotes_a_secret_of_the_stack() -> None:
    finding = Finding("a", Severity.FAILURE, Hop.REDIS, "it said: hunter22", "hunter22", "write hunter22")
    subject = Subject("https://a", inside=DeploymentAccess("a", secrets=frozenset({"hunter22"})))
    (redacted,) = without_secrets(Diagnosis(subject, (finding,))).findings
    assert "hunter22" not in str(redacted)


# What FIX=yes does


def troubled(*remedies: Remedy | None) -> Diagnosis:
    findings = tuple(
        Finding(f"check.{number}", Severity.FAILURE, Hop.PROXY, "seen", remedy=remedy)
        for number, remedy in enumerate(remedies)
    )
    return Diagnosis(Subject("https://a"), findings)


@pytest.fixture
def done() -> list[str]:
    """What remedies did."""
    return []


@pytest.fixture
def remedy(done: list[str]) -> Callable[..., Remedy]:
    def make(name: str, *, asks: bool = False, fails: bool = False) -> Remedy:
        def apply() -> str:
            if fails:
                raise RuntimeError("the engine refused")
            done.append(name)
            return f"{name} is done"

        return Remedy(name, apply, asks=asks)

    return make


def test_each_remedy_is_shown_and_applied_once_and_it_is_looked_again(
    remedy: Callable[..., Remedy], done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    well = troubled()
    assert doctor_fixes.apply_fixes(troubled(remedy("start"), remedy("start"), None), lambda: well) is well
    assert done == ["start"]
    said = capsys.readouterr().err
    assert said.index("What can be fixed:\n  start") < said.index("done: start is done") < said.index("Looking again.")


def test_what_changes_more_is_done_last_and_only_with_consent(
    remedy: Callable[..., Remedy],
    done: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("YES", raising=False)
    monkeypatch.setattr("sys.stdin", None)
    diagnosis = troubled(remedy("pulumi up", asks=True), remedy("start"))
    doctor_fixes.apply_fixes(diagnosis, lambda: diagnosis)
    assert done == ["start"]
    assert "Confirmation is needed and there is no terminal; set YES=1 to confirm." in capsys.readouterr().err

    monkeypatch.setenv("YES", "1")
    doctor_fixes.apply_fixes(diagnosis, troubled)
    assert done == ["start", "start", "pulumi up"]


def test_a_remedy_that_does_not_work_is_said_and_not_tried_for_ever(
    remedy: Callable[..., Remedy], done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    diagnosis = troubled(remedy("start", fails=True))
    assert doctor_fixes.apply_fixes(diagnosis, lambda: diagnosis) is diagnosis
    assert done == []
    assert capsys.readouterr().err.count("failed: start: the engine refused") == 1


def test_what_follows_from_something_else_is_not_mended_beside_it(
    remedy: Callable[..., Remedy], done: list[str]
) -> None:
    cause = Finding("a", Severity.FAILURE, Hop.REDIS, "seen", remedy=remedy("start redis"), explains=("b",))
    effect = Finding("b", Severity.FAILURE, Hop.APPLICATION, "seen", remedy=remedy("restart the application"))
    doctor_fixes.apply_fixes(Diagnosis(Subject("https://a"), (effect, cause)), troubled)
    assert done == ["start redis"]
