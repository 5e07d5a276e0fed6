"""Answers that are silent while a model thinks: for as long as the settings allow, and no longer."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.nginx.conftest import Variants
from tests.nginx.nginx_under_test import Answer, NginxUnderTest
from tests.nginx.test_security_headers import SECURITY

MINUTE = 60
SHORT = {"timeouts": {"read": "10s"}}
PROTOCOLS = ["http/1.1", "h2"]


def ask_patiently(nginx: NginxUnderTest, protocol: str, path: str) -> Answer:
    """Wait for an answer for ever; raises httpx.RemoteProtocolError where it breaks off."""
    with nginx.client(protocol) as client:
        answer = client.post(path, extensions={"sni_hostname": nginx.domain}, timeout=None)
        return Answer(answer.status_code, answer.headers.multi_items(), answer.content)


def seconds_of(what: Callable[[], Answer]) -> tuple[Answer | None, float]:
    """Do it, and return how long it took; None where the answer broke off."""
    begun = time.monotonic()
    try:
        answer = what()
    except httpx.RemoteProtocolError:
        answer = None
    return answer, time.monotonic() - begun


def test_silence_ends_when_the_setting_says(variants: Variants) -> None:
    short, usual = variants.of(proxy=SHORT), variants.of()
    with ThreadPoolExecutor() as clients:
        cut = [
            clients.submit(seconds_of, lambda protocol=protocol: ask_patiently(short, protocol, "/api/slow"))
            for protocol in PROTOCOLS
        ]
        broken = clients.submit(
            seconds_of, lambda: ask_patiently(short, "http/1.1", "/api/silent?begin=yes&seconds=11")
        )
        heard = [
            clients.submit(
                seconds_of, lambda protocol=protocol: ask_patiently(usual, protocol, "/api/silent?seconds=11")
            )
            for protocol in PROTOCOLS
        ]
    for answer, seconds in [one.result() for one in cut]:
        assert answer is not None
        assert answer.status == 504
        assert "said nothing for 10s" in answer.json()["detail"]
        assert {name: answer.header(name) for name in SECURITY} == SECURITY
        assert 9.5 < seconds < 30
    answer, seconds = broken.result()
    assert answer is None
    assert 9.5 < seconds < 30
    for answer, _ in [one.result() for one in heard]:
        assert answer is not None
        assert (answer.status, answer.body) == (200, b"ends\n")


@pytest.mark.long
def test_silence_of_six_and_of_thirty_one_minutes_is_waited_out(variants: Variants) -> None:
    usual, longer = variants.of(), variants.of(proxy={"timeouts": {"read": "32m"}})
    cases = [
        (nginx, protocol, f"/api/chat/completions/silent?seconds={minutes * MINUTE}{begin}")
        for nginx, minutes in ((usual, 6), (longer, 31))
        for protocol in PROTOCOLS
        for begin in ("", "&begin=yes")
    ]
    with ThreadPoolExecutor(len(cases)) as clients:
        answers = [clients.submit(ask_patiently, *case) for case in cases]
    for (_, _, path), answer in zip(cases, [one.result() for one in answers], strict=True):
        assert answer.status == 200
        assert answer.body == (b"begins\nends\n" if "begin=yes" in path else b"ends\n")
