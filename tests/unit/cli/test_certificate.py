"""What `make certificate` shows of what is served."""

import json
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.cli import certificate, commands
from open_webui_edge.cli.certificate import CertificateConfig
from open_webui_edge.cli.site import SiteClient
from tests.support.certificates import Issued, authority, server
from tests.support.fake_engine import FakeDocker

NAMES = ["localhost", "127.0.0.1"]
STATE: dict[str, Any] = {
    "wanted": ["chat.example.com", "www.example.com"],
    "names": ["chat.example.com"],
    "renew_from": "2027-01-10T04:00:00+00:00",
    "next_attempt": "2026-12-01T10:30:00+00:00",
    "attempts": 3,
    "last_attempt": {
        "at": "2026-11-30T22:30:00+00:00",
        "kind": "issue",
        "directory": "https://acme.example.com/directory",
        "error": "DNS problem:\n\x1b[31mNXDOMAIN",
        "hint": "make the name lead here",
    },
}


def config(mode: str = "self-signed", **settings: Any) -> CertificateConfig:
    return CertificateConfig.from_settings({"certificate": {"mode": mode, **settings}})


def rows(
    issued: Issued, want: CertificateConfig, *, state: Mapping[str, Any] | None = None, days: float = 0
) -> dict[str, str]:
    text = certificate.table(
        issued.certificate, want, how="served at 127.0.0.1:8443", state=state, now=datetime.now(UTC) + timedelta(days)
    )
    return dict(re.split(r" {2,}", line, maxsplit=1) for line in text.splitlines())


def own() -> Issued:
    """Return a certificate as the stack's own authority signs it."""
    issuer = authority("edge-certificate local CA")
    signed = server(NAMES, issuer, days=(-1, 396))
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "edge-certificate local CA"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "open-webui-edge"),
        ],
    )
    extension = signed.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    built = (
        x509.CertificateBuilder()
        .subject_name(signed.certificate.subject)
        .issuer_name(name)
        .public_key(signed.key.public_key())
        .serial_number(0xABC)
        .not_valid_before(signed.certificate.not_valid_before_utc)
        .not_valid_after(signed.certificate.not_valid_after_utc)
        .add_extension(extension.value, extension.critical)
        .sign(issuer.key, signed.certificate.signature_hash_algorithm)  # pyright: ignore[reportArgumentType] - SHA-256
    )
    return Issued(built, signed.key)


def test_the_stack_s_own_is_renewed_in_its_last_third() -> None:
    shown = rows(own(), config())
    assert shown["names"] == "localhost, 127.0.0.1"
    assert shown["mode"] == "self-signed"
    assert shown["issuer"] == "edge-certificate local CA of open-webui-edge, this stack's own CA"
    assert shown["serial"] == "abc"
    assert shown["days left"] == "395 (a warning from 14 days on)"
    renewal = datetime.now(UTC) + timedelta(days=396 - 397 / 3)
    assert shown["next renewal"] == f"by any `make up` from {renewal:%Y-%m-%d %H:%M} UTC on"
    assert "last attempt" not in shown


@pytest.mark.parametrize("domain", ["chat.example.com", "2001:db8::1"])
def test_the_site_is_asked_for_its_certificate_by_its_name(monkeypatch: pytest.MonkeyPatch, domain: str) -> None:
    asked: list[str | None] = []

    def connect(client: SiteClient) -> ssl.SSLSocket:
        asked.append(urlsplit(client.url).hostname)
        assert (client.address, urlsplit(client.url).port) == ("127.0.0.1", 8443)
        raise OSError("enough is known")

    monkeypatch.setattr(SiteClient, "connect", connect)
    ports = {"443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8443"}]}
    with pytest.raises(OSError, match="enough is known"):
        certificate.served(
            Engine("unix:///run/invented.sock", "", ("docker",)),
            {"Name": "/edge-local-nginx", "NetworkSettings": {"Ports": ports}},
            CertificateConfig.from_settings({"site": {"domain": domain}}),
        )
    assert asked == [domain]


@pytest.mark.parametrize(
    ("days", "settings", "said"),
    [
        (74.5, {}, "14 (a warning from 14 days on)"),
        (75.5, {}, "13: WARNING, a warning from 14 days on"),
        (75.5, {"warn_before": "7d"}, "13 (a warning from 7 days on)"),
        (88.8, {"warn_before": "6h"}, "0: WARNING, a warning from 6 hours on"),
        (89.5, {}, "0: EXPIRED, browsers refuse it"),
        (-2, {}, "90: NOT YET VALID, or this machine's clock is wrong"),
        (75.5, {"warn_before": "soon"}, "13: WARNING, a warning from 14 days on"),
    ],
)
def test_the_days_left_are_counted_and_warned_about(days: float, settings: dict[str, str], said: str) -> None:
    assert rows(server(NAMES, None), config("provided", **settings), days=days)["days left"] == said


def test_a_provided_one_is_renewed_by_hand() -> None:
    shown = rows(server(NAMES, authority("A company's root")), config("provided"))
    assert shown["issuer"] == "A company's root"
    assert shown["next renewal"] == "by hand: provide a new certificate and run `make up`"


def test_an_attempt_that_failed_is_told_with_what_to_do() -> None:
    shown = rows(own(), config("lets-encrypt"), state=STATE)
    assert shown["placeholder"] == "served until the issuer's certificate arrives"
    assert shown["next renewal"] == "2027-01-10 04:00 UTC, next attempt 2026-12-01 10:30 UTC"
    assert shown["last attempt"] == "issue, 2026-11-30 22:30 UTC, https://acme.example.com/directory"
    assert shown["error"] == "DNS problem: [31mNXDOMAIN"
    assert shown["in a row"] == "3 attempts failed"
    assert shown["what to do"] == "make the name lead here"
    assert shown["still missing"] == "www.example.com"


@pytest.mark.parametrize("state", [None, {}, {"last_attempt": None}, {"last_attempt": {"at": "?", "error": None}}])
def test_a_state_that_says_little_is_no_fault(state: dict[str, Any] | None) -> None:
    shown = rows(server(NAMES, authority("An issuer")), config("lets-encrypt"), state=state)
    assert shown["next renewal"].startswith("unknown")
    assert "placeholder" not in shown


def container(port: int, status: str = "running") -> str:
    ports = {"443/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    return json.dumps([{"Name": "/edge-local-nginx", "State": {"Status": status}, "NetworkSettings": {"Ports": ports}}])


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "There is no proxy of the stack local; `make up STACK=local` starts it."),
        ("exited", "The proxy of local is down (exited), so nothing is served; `make up STACK=local` starts it"),
    ],
)
def test_a_stack_that_is_not_there_or_down_is_said(docker: FakeDocker, state: str | None, said: str) -> None:
    docker.answers(
        ("*ps*role=nginx*", 0, "c0ffee" if state else ""),
        ("*inspect*", 0, container(1, state or "running")),
        ("*info*", 0, "20.10"),
        ("*version*", 0, "20.10"),
    )
    with pytest.raises(ProblemError) as refused:
        commands.certificate("local")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("self-signed", "this stack's own CA renews it in any `make up` during the last third of its lifetime"),
        ("provided", "you provide it, and `make up` validates it before it changes anything"),
    ],
)
def test_a_dry_run_without_an_issuer_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str, why: str
) -> None:
    monkeypatch.setattr("open_webui_edge.cli.stack.settings_of", lambda _: {"certificate": {"mode": mode}})
    assert commands.certificate_dry_run("local") == 0
    assert capsys.readouterr().err == f"There is nothing to renew: the certificate of local is {mode}, so {why}.\n"


def test_a_dry_run_is_certbot_s_with_its_exit_code(
    docker: FakeDocker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("open_webui_edge.cli.stack.settings_of", lambda _: {"certificate": {"mode": "lets-encrypt"}})
    docker.answers(
        ("*ps*role=certbot*", 0, "c0ffee"), ("*inspect*", 0, container(1)),
        ("*exec*obtain*dry-run*", 3, "The dry run failed"), ("*info*", 0, "20.10"), ("*version*", 0, "20.10"),
    )  # fmt: skip
    assert commands.certificate_dry_run("local") == 3
    assert "The dry run failed" in capfd.readouterr().err
    docker.answers(("*ps*", 0, ""), ("*info*", 0, "20.10"), ("*version*", 0, "20.10"))
    with pytest.raises(ProblemError, match="certbot's container of local does not run"):
        commands.certificate_dry_run("local")
