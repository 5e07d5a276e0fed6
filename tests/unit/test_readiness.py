"""Which replicas get requests: what an answer does to a replica, and what the name server says."""

import socket
import struct

import pytest

from open_webui_edge.runtime.readiness import replica_dns
from open_webui_edge.runtime.readiness.replica_dns import ProbeResult, Replica, Upstream

NAME = "open-webui"
ADDRESSES = {"one": "10.0.0.1", "two": "10.0.0.2"}


def question(name: str, kind: int = 1, identity: int = 7) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", identity, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def code(answer: bytes | None) -> int:
    assert answer is not None
    return answer[3] & 0xF


@pytest.fixture
def both() -> Upstream:
    upstream = Upstream(NAME, list(ADDRESSES), clock=lambda: 0.0)
    for replica in upstream.replicas:
        replica.address = ADDRESSES[replica.name]
    return upstream


@pytest.mark.parametrize(
    ("results", "takes_requests"),
    [
        ([ProbeResult.READY], True),
        ([ProbeResult.NOT_READY], False),
        ([ProbeResult.READY, ProbeResult.NOT_READY], False),
        ([ProbeResult.READY, ProbeResult.GONE], False),
        ([ProbeResult.READY, ProbeResult.SILENT], True),
        ([ProbeResult.READY, ProbeResult.SILENT, ProbeResult.SILENT], False),
        ([ProbeResult.READY, ProbeResult.SILENT, ProbeResult.READY, ProbeResult.SILENT], True),
        ([ProbeResult.READY, ProbeResult.SILENT, ProbeResult.SILENT, ProbeResult.READY], True),
        ([ProbeResult.READY, ProbeResult.DRAINING], True),
        ([ProbeResult.READY, ProbeResult.DRAINING, ProbeResult.GONE], False),
        ([ProbeResult.SILENT], False),
    ],
    ids=lambda value: "-".join(result.name for result in value) if isinstance(value, list) else str(value),
)
def test_probe_results_decide(results: list[ProbeResult], *, takes_requests: bool) -> None:
    replica = Replica("one")
    for result in results:
        replica.record(result)
    assert replica.takes_requests is takes_requests


def test_only_changes_are_logged_with_their_reason() -> None:
    replica = Replica("one")
    lines = [
        replica.record(ProbeResult.GONE, "refused"),
        replica.record(ProbeResult.READY),
        replica.record(ProbeResult.READY),
        replica.record(ProbeResult.DRAINING),
        replica.record(ProbeResult.GONE, "refused"),
    ]
    assert lines == [
        None,
        "one is in: it answers /ready",
        None,
        "one is draining: it is about to end",
        "one is out: it accepts no connection (refused)",
    ]


def test_what_is_about_to_end_is_given_only_when_there_is_no_other(both: Upstream) -> None:
    one, two = both.replicas
    assert both.addresses() == []
    one.record(ProbeResult.DRAINING)
    assert both.addresses() == ["10.0.0.1"]
    two.record(ProbeResult.READY)
    assert both.addresses() == ["10.0.0.2"]


def test_what_stopped_answering_in_time_is_given_only_when_there_is_no_other(both: Upstream) -> None:
    one, two = both.replicas
    for replica in (one, two):
        replica.record(ProbeResult.READY)
        replica.record(ProbeResult.SILENT)
    two.record(ProbeResult.SILENT)
    assert both.addresses() == ["10.0.0.1"]
    one.record(ProbeResult.SILENT)
    assert both.addresses() == ["10.0.0.1", "10.0.0.2"]
    one.record(ProbeResult.DRAINING)
    assert both.addresses() == ["10.0.0.1"]
    one.record(ProbeResult.GONE)
    assert both.addresses() == ["10.0.0.2"]
    # It accepts connections again, after it had none: it starts.
    two.record(ProbeResult.GONE)
    two.record(ProbeResult.SILENT)
    two.record(ProbeResult.SILENT)
    assert both.addresses() == []


def test_the_name_has_the_addresses_of_those_that_are_ready_for_one_second(both: Upstream) -> None:
    for replica in both.replicas:
        replica.record(ProbeResult.READY)
    answer = both.answer(question(NAME))
    assert answer is not None
    assert replica_dns.parse_addresses(answer) == ["10.0.0.1", "10.0.0.2"]
    assert answer[:2] == b"\0\7"
    assert struct.pack("!HHIH", 1, 1, 1, 4) + socket.inet_aton("10.0.0.1") in answer


def test_the_name_does_not_exist_while_nobody_is_ready(both: Upstream) -> None:
    for replica in both.replicas:
        replica.record(ProbeResult.NOT_READY)
    assert code(both.answer(question(NAME))) == replica_dns.NO_SUCH_NAME


def test_before_each_replica_was_asked_nobody_is_told_that_none_is_ready(both: Upstream) -> None:
    one, two = both.replicas
    assert code(both.answer(question(NAME))) == replica_dns.SERVER_FAILED
    one.record(ProbeResult.NOT_READY)
    assert code(both.answer(question(NAME))) == replica_dns.SERVER_FAILED
    # That it is slow at first is no word of its own.
    two.record(ProbeResult.SILENT)
    assert code(both.answer(question(NAME))) == replica_dns.SERVER_FAILED
    two.record(ProbeResult.SILENT)
    assert code(both.answer(question(NAME))) == replica_dns.NO_SUCH_NAME


def test_one_that_is_ready_is_told_before_the_others_were_asked(both: Upstream) -> None:
    both.replicas[0].record(ProbeResult.READY)
    answer = both.answer(question(NAME))
    assert answer is not None
    assert replica_dns.parse_addresses(answer) == ["10.0.0.1"]


def test_other_names_do_not_exist(both: Upstream) -> None:
    both.replicas[0].record(ProbeResult.READY)
    assert code(both.answer(question("example.com"))) == replica_dns.NO_SUCH_NAME


def test_the_name_has_no_ipv6_addresses(both: Upstream) -> None:
    both.replicas[0].record(ProbeResult.READY)
    answer = both.answer(question(NAME, kind=28))
    assert answer is not None
    assert (code(answer), replica_dns.parse_addresses(answer)) == (replica_dns.NO_ERROR, [])


def test_names_have_no_case(both: Upstream) -> None:
    both.replicas[0].record(ProbeResult.READY)
    assert code(both.answer(question("Open-WebUI"))) == replica_dns.NO_ERROR


@pytest.mark.parametrize(
    "message",
    [b"", b"\0" * 11, b"\0" * 12, question(NAME)[:-3], question(NAME)[:20], question("é".encode().decode("latin-1"))],
    ids=["empty", "short", "no question", "cut", "cut in the name", "not ascii"],
)
def test_what_is_no_question_gets_no_answer(both: Upstream, message: bytes) -> None:
    assert both.answer(message) is None


def test_an_answer_is_no_question(both: Upstream) -> None:
    answer = both.answer(question(NAME))
    assert answer is not None
    assert both.answer(answer) is None


def test_a_stuck_sidecar_reports_a_server_failure() -> None:
    now = 0.0
    upstream = Upstream(NAME, ["one"], clock=lambda: now)
    upstream.replicas[0].address = "10.0.0.1"
    upstream.replicas[0].record(ProbeResult.READY)
    now = replica_dns.STALE_AFTER + 1
    assert code(upstream.answer(question(NAME))) == replica_dns.SERVER_FAILED


Answer = tuple[int, bytes] | Exception
READY = (200, b'{"status":true}')


@pytest.mark.parametrize(
    ("ready", "draining", "result"),
    [
        (READY, (200, b'{"draining": false}'), ProbeResult.READY),
        (READY, OSError("refused"), ProbeResult.READY),
        (READY, (200, b'{"draining": true}'), ProbeResult.DRAINING),
        ((200, b"<!doctype html>"), OSError(), ProbeResult.NOT_READY),
        ((200, b'{"status":false}'), OSError(), ProbeResult.NOT_READY),
        ((200, b'{"status":1, "more": 2}'), OSError(), ProbeResult.NOT_READY),
        ((503, b'{"detail":"Database not ready"}'), OSError(), ProbeResult.NOT_READY),
        ((503, b'{"status":true}'), OSError(), ProbeResult.NOT_READY),
        (ConnectionRefusedError("refused"), OSError(), ProbeResult.GONE),
        (TimeoutError(), OSError(), ProbeResult.SILENT),
    ],
    ids=repr,
)
def test_a_replica_is_asked_for_its_body(
    monkeypatch: pytest.MonkeyPatch, ready: Answer, draining: Answer, result: ProbeResult
) -> None:
    def get(_address: str, port: int, path: str) -> tuple[int, bytes]:
        answer = {(8080, "/ready"): ready, (8079, "/"): draining}[port, path]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(replica_dns, "look_up", lambda _: "10.0.0.1")
    monkeypatch.setattr(replica_dns, "get", get)
    assert replica_dns.probe(Replica("one"))[0] is result


def test_a_replica_whose_container_is_gone_is_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> str:
        raise LookupError("no container of its name runs")

    monkeypatch.setattr(replica_dns, "look_up", gone)
    replica = Replica("one", address="10.0.0.1", takes_requests=True)
    assert replica_dns.probe(replica)[0] is ProbeResult.GONE


def test_a_busy_name_server_does_not_take_a_known_replica_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_: str) -> str:
        raise TimeoutError

    monkeypatch.setattr(replica_dns, "look_up", silent)
    monkeypatch.setattr(replica_dns, "get", lambda *_: READY)
    assert replica_dns.probe(Replica("one", address="10.0.0.1"))[0] is ProbeResult.READY
    assert replica_dns.probe(Replica("two"))[0] is ProbeResult.SILENT
