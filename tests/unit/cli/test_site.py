"""A running deployment as the engine and a browser see it."""

from pathlib import Path
from typing import Any

import pytest

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli import containers, site
from open_webui_edge.cli.site import SiteClient


def _container(*, status: str, health: str | None = None, code: int = 0, restart: str = "no") -> dict[str, Any]:
    return {
        "Name": "/edge-local-nginx",
        "State": {"Status": status, "ExitCode": code, **({"Health": {"Status": health}} if health else {})},
        "HostConfig": {"RestartPolicy": {"Name": restart}},
        "Config": {"Labels": {"role": "nginx"}, "Image": "sha256:0123456789abcdef"},
        "NetworkSettings": {"Ports": {"8443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8443"}], "80/tcp": None}},
    }


@pytest.mark.parametrize(
    ("container", "well"),
    [
        (_container(status="running", health="healthy"), True),
        (_container(status="running"), True),
        (_container(status="running", health="starting"), False),
        (_container(status="running", health="unhealthy"), False),
        (_container(status="restarting", restart="unless-stopped"), False),
        (_container(status="exited", code=0), True),
        (_container(status="exited", code=1), False),
        (_container(status="exited", code=0, restart="unless-stopped"), False),
        (_container(status="created"), False),
    ],
    ids=["healthy", "no check", "starting", "unhealthy", "restarting", "done", "failed", "stopped", "never started"],
)
def test_a_container_is_well_or_not(container: dict[str, Any], *, well: bool) -> None:
    assert containers.is_healthy(container) is well


def test_the_table_has_a_line_a_container() -> None:
    assert containers.table([_container(status="running", health="healthy")]).splitlines() == [
        "ROLE   NAME              STATE    HEALTH   PORTS                     IMAGE",
        "nginx  edge-local-nginx  running  healthy  127.0.0.1:8443->8443/tcp  0123456789ab",
    ]


@pytest.mark.parametrize(
    ("published", "address"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("", "127.0.0.1"), ("10.1.2.3", "10.1.2.3")],
)
def test_the_proxy_is_asked_where_it_listens_whatever_its_name_resolves_to(published: str, address: str) -> None:
    container = _container(status="running")
    container["NetworkSettings"]["Ports"]["8443/tcp"][0]["HostIp"] = published
    assert site.listening_address([container], "https://chat.example.com:8443") == address


def test_a_port_that_nobody_publishes_has_no_address() -> None:
    assert site.listening_address([_container(status="running")], "https://chat.example.com") is None


def test_an_application_that_does_not_get_ready_is_told_with_its_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SiteClient, "get", lambda *_: (503, '{"status":false}'))
    monkeypatch.setattr("time.sleep", lambda _: None)
    clock = iter(range(100))
    with pytest.raises(ProblemError) as late:
        SiteClient("https://localhost:8443", None, None).wait_until_ready(3, now=lambda: next(clock))
    assert str(late.value) == (
        'https://localhost:8443/ready did not say that Open WebUI is ready within 3 s (last: 503 {"status":false}); '
        "`make status` and `make logs` (STACK=…) show more."
    )


@pytest.mark.parametrize("answer", [(200, "<html>"), (200, '{"status":false}'), (502, '{"status":true}'), (200, "[]")])
def test_an_answer_that_does_not_say_ready_is_none(answer: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SiteClient, "get", lambda *_: answer)
    monkeypatch.setattr("time.sleep", lambda _: None)
    clock = iter(range(100))
    with pytest.raises(ProblemError):
        SiteClient("https://localhost", None, None).wait_until_ready(2, now=lambda: next(clock))


def test_the_next_thing_follows_from_what_there_is() -> None:
    url = "https://localhost:8443"
    with_admin = site.next_steps(stack="local", url=url, admin="me@example.com", no_account_yet=False, has_models=True)
    assert with_admin[0] == f"Sign in at {url} as me@example.com."
    assert "pulumi stack output admin_password --show-secrets --stack local" in with_admin[1]
    fresh = site.next_steps(stack="local", url=url, admin=None, no_account_yet=True, has_models=False)
    assert fresh[0] == f"Open {url} and create the first account: it becomes the administrator."
    assert fresh[1].startswith("Then add a model provider")
    later = site.next_steps(stack="local", url=url, admin=None, no_account_yet=False, has_models=True)
    assert later == [f"Open {url} and sign in."]


def test_the_ca_is_handed_over_as_a_file(tmp_path: Path) -> None:
    file = site.write_ca("PEM", tmp_path / "build", "local")
    assert (file.name, file.read_text()) == ("local-ca.pem", "PEM")
