"""What the loop in certbot's container decides: names, times, what is remembered, what is healthy."""

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from open_webui_edge.runtime.certbot import certbot, handover, key_pair, renewal_loop, settings, state
from open_webui_edge.runtime.certbot.settings import Timing

NOW = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
STEADY = Timing(jitter=0)
GIVEN: dict[str, Any] = {
    "names": ["chat.example.com"],
    "challenge": "http-01",
    "issuers": [{"directory": settings.LETS_ENCRYPT}],
}


@pytest.mark.parametrize(
    ("names", "remaining"),
    [
        (["chat.example.com", "www.example.com"], ("chat.example.com", "www.example.com")),
        (["Chat.Example.com", "chat.example.com"], ("chat.example.com",)),
        (["chat.example.com", "*.example.com"], ("*.example.com",)),
        (["example.com", "*.example.com"], ("example.com", "*.example.com")),
        (["a.b.example.com", "*.example.com"], ("a.b.example.com", "*.example.com")),
        (["*.b.example.com", "*.example.com"], ("*.b.example.com", "*.example.com")),
    ],
)
def test_names_that_a_wildcard_covers_are_not_asked_for(names: list[str], remaining: tuple[str, ...]) -> None:
    assert settings.without_redundant(names) == remaining


@pytest.mark.parametrize(
    ("directory", "given", "staging"),
    [
        (settings.LETS_ENCRYPT, None, settings.LETS_ENCRYPT_STAGING),
        (settings.LETS_ENCRYPT_STAGING, None, settings.LETS_ENCRYPT_STAGING),
        ("https://acme.zerossl.com/v2/DV90", None, None),
        ("https://acme.corp/dir", "https://acme.corp/try", "https://acme.corp/try"),
    ],
)
def test_where_to_practise_is_known_of_lets_encrypt_alone(
    directory: str, given: str | None, staging: str | None
) -> None:
    read = settings.parse({**GIVEN, "issuers": [{"directory": directory, "staging_directory": given}]})
    assert read.issuers[0].staging == staging


def test_a_changed_setting_begins_anew_and_a_changed_time_does_not() -> None:
    fingerprint = settings.parse(GIVEN).fingerprint
    assert settings.parse({**GIVEN, "timing": {"jitter": 0.5}}).fingerprint == fingerprint
    account = {"key_id": "k", "hmac_key": "another"}
    bound = [{**GIVEN["issuers"][0], "external_account": account}]
    assert settings.parse({**GIVEN, "issuers": bound}).fingerprint != fingerprint


@pytest.mark.parametrize(
    ("lifetime", "wait"),
    [
        (timedelta(days=90), timedelta(hours=12)),
        (timedelta(days=6), timedelta(hours=1, minutes=26, seconds=24)),
        (timedelta(hours=24), timedelta(minutes=14, seconds=24)),
        (timedelta(minutes=10), timedelta(minutes=1)),
    ],
    ids=str,
)
def test_how_often_is_looked_fits_the_lifetime(lifetime: timedelta, wait: timedelta) -> None:
    assert renewal_loop.next_check(NOW, NOW + lifetime, STEADY) == wait


def test_waits_double_up_to_a_limit_and_vary() -> None:
    waits = [renewal_loop.back_off(failures, (60, 3600), STEADY).total_seconds() for failures in (1, 2, 3, 7, 100_000)]
    assert waits == [60, 120, 240, 3600, 3600]
    varied = {renewal_loop.back_off(1, (60, 3600), Timing()).total_seconds() for _ in range(20)}
    assert len(varied) > 1
    assert all(54 <= seconds <= 66 for seconds in varied)


def test_what_is_remembered_is_about_the_same_settings(tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    memory = state.Memory("one", attempts=3, issued={"serial": "0A", "directory": "d", "profile": None})
    memory.for_issuer("d").failures = 2
    state.save(memory, file)
    assert state.load("one", file) == memory
    # Whose certificate it is stays known.
    assert state.load("two", file) == state.Memory("two", issued=memory.issued)
    file.write_text("{")
    assert state.load("one", file) == state.Memory("one")
    assert file.stat().st_mode & 0o777 == 0o600


def shown(names: list[str] | tuple[str, ...] = ("chat.example.com",), **changed: Any) -> dict[str, Any]:
    last = {"at": "then", "kind": "renewal", "directory": "d", "error": None, "hint": None}
    served = {"serial": "0A", "names": ["chat.example.com"], "not_after": (NOW + timedelta(days=5)).isoformat()}
    return {
        "wanted": [*names], "served": served, "last_attempt": last, "next_attempt": "soon", **changed,
    }  # fmt: skip


FAILED = {"at": "then", "kind": "renewal", "directory": "d", "error": "why", "hint": "what helps"}


@pytest.mark.parametrize(
    ("document", "well", "words"),
    [
        (None, False, "no attempt yet"),
        (shown(served=None, last_attempt=None), False, "no certificate yet: the first attempt is in progress"),
        (
            shown(served=None, last_attempt=FAILED),
            False,
            "renewal at d failed at then: why -- what helps Next attempt: soon.",
        ),
        (shown(), True, "chat.example.com: 5 days left"),
        (
            shown(last_attempt=FAILED),
            True,
            "chat.example.com: 5 days left; renewal at d failed at then: why -- what helps",
        ),
        (shown(["chat.example.com", "b.example.com"]), False, "no certificate for b.example.com yet"),
        (
            shown(served={"serial": "0A", "names": ["*.example.com"], "not_after": "2026-11-25T07:59:00+00:00"}),
            False,
            "the certificate expired at 2026-11-25T07:59:00+00:00; it is being renewed",
        ),
        (
            shown(served={"serial": "0A", "names": ["*.example.com"], "not_after": "2026-11-25T09:30:00+00:00"}),
            True,
            "chat.example.com: 1.5 hours left",
        ),
    ],
)
def test_health(document: dict[str, Any] | None, well: bool, words: str) -> None:  # noqa: FBT001 - a table
    healthy, said = state.judge(document, NOW)
    assert healthy is well
    assert said.startswith(words)


def made(*names: str, key: ec.EllipticCurvePrivateKey | None = None) -> tuple[bytes, bytes]:
    own = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(own.public_key())
        .serial_number(0xABC)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True)
        .sign(own, hashes.SHA256())
    )
    private = (key or own).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), private


@pytest.mark.parametrize(
    ("required", "after", "fault"),
    [
        (["chat.example.com"], timedelta(days=1), None),
        (["any.example.org"], timedelta(days=1), None),
        (["b.example.com"], timedelta(days=1), "is for chat.example.com, *.example.org and not for b.example.com"),
        (["chat.example.com"], timedelta(days=-1), "is valid only from 2026-11-25 08:00:00"),
        (["chat.example.com"], timedelta(days=90), "expired at 2027-02-23 08:00:00"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_not_offered(required: list[str], after: timedelta, fault: str | None) -> None:
    error = key_pair.read(*made("chat.example.com", "*.example.org")).validation_error(required, NOW + after)
    assert error is None if fault is None else fault in str(error)


def test_a_serial_number_is_written_as_openssl_writes_it() -> None:
    assert key_pair.read(*made("a.test")).serial == "0ABC"


def test_certbots_own_rule_is_known() -> None:
    pair = key_pair.read(*made("a.test"))
    assert pair.renew_from == NOW + timedelta(days=60)


def test_a_key_of_another_certificate_is_no_pair() -> None:
    with pytest.raises(key_pair.UnusableError, match="the private key does not belong to the certificate"):
        key_pair.read(*made("a.test", key=ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(key_pair.UnusableError, match="cannot be read"):
        key_pair.read(b"", b"")


def test_an_offer_that_finds_no_room_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "PUBLISHED", tmp_path)
    before, after = key_pair.read(*made("a.test")), key_pair.read(*made("b.test"))
    handover.publish(before)
    assert handover.published() == before

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as filled:
        filled.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            handover.publish(after)
    assert handover.published() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0ABC", "current"]
    handover.publish(after)
    assert handover.published() == after
    assert (tmp_path / "current/private_key.pem").stat().st_mode & 0o777 == 0o600


def test_a_state_that_finds_no_room_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state.json"
    state.write_status({"a": 1}, file)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        state.write_status({"a": 2}, file)
    assert json.loads(file.read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


# Like certbot's, with the issuer's advice in the middle.
RENEWAL = """version = 5.5.0
[renewalparams]
account = 1
[[webroot_map]]
a.test = /var/www
{advice}"""
ADVICE = "[acme_renewal_info]\nari_retry_after = 2026-11-25T15:00:00\n"
REFUSES_NONCES = """#!/bin/sh
echo run >> "$RUNS"
grep -q ari_retry_after "$RENEWAL" && exit 2
printf '[acme_renewal_info]\\nari_retry_after = 2026-11-25T15:00:00\\n' >> "$RENEWAL"
[ "$(wc -l < "$RUNS")" -le "$REFUSED" ] || exit 0
echo "acme.messages.Error: urn:ietf:params:acme:error:$PROBLEM :: words" > "$LOG"
exit 1
"""


@pytest.mark.parametrize(
    ("problem", "refused", "runs", "succeeded"),
    [("badNonce", 1, 2, True), ("badNonce", 2, 3, True), ("badNonce", 9, 3, False), ("caa", 1, 1, False)],
)
def test_refused_nonces_are_no_failure_yet(  # noqa: PLR0913, PLR0917 - a table
    problem: str,
    refused: int,
    runs: int,
    succeeded: bool,  # noqa: FBT001 - a table
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "certbot"
    program.write_text(REFUSES_NONCES)
    program.chmod(0o755)
    log, count, renewal = tmp_path / "log", tmp_path / "runs", tmp_path / "edge.conf"
    renewal.write_text(RENEWAL.format(advice=ADVICE))
    monkeypatch.setattr(certbot, "_RENEWAL", renewal)
    for name, value in {"RUNS": count, "LOG": log, "RENEWAL": renewal, "REFUSED": refused, "PROBLEM": problem}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(certbot, "PRIVATE", tmp_path / "private")
    monkeypatch.setattr(certbot, "_LOG", log)
    read = settings.parse(GIVEN)
    ended = certbot.Certbot(read).issue(read.issuers[0], renew=False)
    assert (ended.succeeded, len(count.read_text().splitlines())) == (succeeded, runs)
    # After a failure certbot must ask for the advice again, or a renewal would wait for hours.
    assert renewal.read_text() == RENEWAL.format(advice="") + (ADVICE if succeeded else "")
