"""Which replicas get requests: what an answer does to a replica, and what the name server says."""

import socket
import struct

import pytest

from components.readiness import watch
from components.readiness.watch import Found, Replica, Watch

NAME = "open-webui"
ADDRESSES = {"one": "10.0.0.1", "two": "10.0.0.2"}


def question(name: str, kind: int = 1, identity: int = 7) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", identity, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def code(answer: bytes | None) -> int:
    assert answer is not None
    return answer[3] & 0xF


@pytest.fixture
def both() -> Watch:
    watched = Watch(NAME, list(ADDRESSES), clock=lambda: 0.0)
    for replica in watched.replicas:
        replica.address = ADDRESSES[replica.name]
    return watched


@pytest.mark.parametrize(
    ("heard", "takes_requests"),
    [
        ([Found.READY], True),
        ([Found.NOT_READY], False),
        ([Found.READY, Found.NOT_READY], False),
        ([Found.READY, Found.GONE], False),
        ([Found.READY, Found.SILENT], True),
        ([Found.READY, Found.SILENT, Found.SILENT], False),
        ([Found.READY, Found.SILENT, Found.READY, Found.SILENT], True),
        ([Found.READY, Found.SILENT, Found.SILENT, Found.READY], True),
        ([Found.READY, Found.DRAINING], True),
        ([Found.READY, Found.DRAINING, Found.GONE], False),
        ([Found.SILENT], False),
    ],
    ids=lambda value: "-".join(found.name for found in value) if isinstance(value, list) else str(value),
)
def test_what_was_heard_decides(heard: list[Found], *, takes_requests: bool) -> None:
    replica = Replica("one")
    for found in heard:
        replica.hear(found)
    assert replica.takes_requests is takes_requests


def test_only_changes_are_logged_with_their_reason() -> None:
    replica = Replica("one")
    lines = [
        replica.hear(Found.GONE, "refused"),
        replica.hear(Found.READY),
        replica.hear(Found.READY),
        replica.hear(Found.DRAINING),
        replica.hear(Found.GONE, "refused"),
    ]
    assert lines == [
        None,
        "one is in: it answers /ready",
        None,
        "one is draining: it is about to end",
        "one is out: it accepts no connection (refused)",
    ]


def test_what_is_about_to_end_is_given_only_when_there_is_no_other(both: Watch) -> None:
    one, two = both.replicas
    assert both.addresses() == []
    one.hear(Found.DRAINING)
    assert both.addresses() == ["10.0.0.1"]
    two.hear(Found.READY)
    assert both.addresses() == ["10.0.0.2"]


def test_the_name_has_the_addresses_of_those_that_are_ready_for_one_second(both: Watch) -> None:
    for replica in both.replicas:
        replica.hear(Found.READY)
    answer = both.answer(question(NAME))
    assert answer is not None
    assert watch.parse_addresses(answer) == ["10.0.0.1", "10.0.0.2"]
    assert answer[:2] == b"\0\7"
    assert struct.pack("!HHIH", 1, 1, 1, 4) + socket.inet_aton("10.0.0.1") in answer


def test_the_name_does_not_exist_while_nobody_is_ready(both: Watch) -> None:
    for replica in both.replicas:
        replica.hear(Found.NOT_READY)
    assert code(both.answer(question(NAME))) == watch.NO_SUCH_NAME


def test_before_each_replica_was_asked_nobody_is_told_that_none_is_ready(both: Watch) -> None:
    one, two = both.replicas
    assert code(both.answer(question(NAME))) == watch.SERVER_FAILED
    one.hear(Found.NOT_READY)
    assert code(both.answer(question(NAME))) == watch.SERVER_FAILED
    # That it is slow at first is no word of its own.
    two.hear(Found.SILENT)
    assert code(both.answer(question(NAME))) == watch.SERVER_FAILED
    two.hear(Found.SILENT)
    assert code(both.answer(question(NAME))) == watch.NO_SUCH_NAME


def test_one_that_is_ready_is_told_before_the_others_were_asked(both: Watch) -> None:
    both.replicas[0].hear(Found.READY)
    answer = both.answer(question(NAME))
    assert answer is not None
    assert watch.parse_addresses(answer) == ["10.0.0.1"]


def test_other_names_do_not_exist(both: Watch) -> None:
    both.replicas[0].hear(Found.READY)
    assert code(both.answer(question("example.com"))) == watch.NO_SUCH_NAME


def test_the_name_has_no_ipv6_addresses(both: Watch) -> None:
    both.replicas[0].hear(Found.READY)
    answer = both.answer(question(NAME, kind=28))
    assert answer is not None
    assert (code(answer), watch.parse_addresses(answer)) == (watch.NO_ERROR, [])


def test_names_have_no_case(both: Watch) -> None:
    both.replicas[0].hear(Found.READY)
    assert code(both.answer(question("Open-WebUI"))) == watch.NO_ERROR


@pytest.mark.parametrize(
    "message",
    [b"", b"\0" * 11, b"\0" * 12, question(NAME)[:-3], question(NAME)[:20], question("é".encode().decode("latin-1"))],
    ids=["empty", "short", "no question", "cut", "cut in the name", "not ascii"],
)
def test_what_is_no_question_gets_no_answer(both: Watch, message: bytes) -> None:
    assert both.answer(message) is None


def test_an_answer_is_no_question(both: Watch) -> None:
    answer = both.answer(question(NAME))
    assert answer is not None
    assert both.answer(answer) is None


def test_a_watch_that_asks_nobody_any_more_says_so() -> None:
    now = 0.0
    watched = Watch(NAME, ["one"], clock=lambda: now)
    watched.replicas[0].address = "10.0.0.1"
    watched.replicas[0].hear(Found.READY)
    now = watch.STALE + 1
    assert code(watched.answer(question(NAME))) == watch.SERVER_FAILED


Answer = tuple[int, bytes] | Exception
READY = (200, b'{"status":true}')


@pytest.mark.parametrize(
    ("ready", "draining", "found"),
    [
        (READY, (200, b'{"draining": false}'), Found.READY),
        (READY, OSError("refused"), Found.READY),
        (READY, (200, b'{"draining": true}'), Found.DRAINING),
        ((200, b"<!doctype html>"), OSError(), Found.NOT_READY),
        ((200, b'{"status":false}'), OSError(), Found.NOT_READY),
        ((200, b'{"status":1, "more": 2}'), OSError(), Found.NOT_READY),
        ((503, b'{"detail":"Database not ready"}'), OSError(), Found.NOT_READY),
        ((503, b'{"status":true}'), OSError(), Found.NOT_READY),
        (ConnectionRefusedError("refused"), OSError(), Found.GONE),
        (TimeoutError(), OSError(), Found.SILENT),
    ],
    ids=repr,
)
def test_a_replica_is_asked_for_its_body(
    monkeypatch: pytest.MonkeyPatch, ready: Answer, draining: Answer, found: Found
) -> None:
    def get(_address: str, port: int, path: str) -> tuple[int, bytes]:
        answer = {(8080, "/ready"): ready, (8079, "/"): draining}[port, path]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(watch, "look_up", lambda _: "10.0.0.1")
    monkeypatch.setattr(watch, "get", get)
    assert watch.probe(Replica("one"))[0] is found


def test_a_replica_whose_container_is_gone_is_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> str:
        raise LookupError("no container of its name runs")

    monkeypatch.setattr(watch, "look_up", gone)
    replica = Replica("one", address="10.0.0.1", takes_requests=True)
    assert watch.probe(replica)[0] is Found.GONE


def test_a_busy_name_server_does_not_take_a_known_replica_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_: str) -> str:
        raise TimeoutError

    monkeypatch.setattr(watch, "look_up", silent)
    monkeypatch.setattr(watch, "get", lambda *_: READY)
    assert watch.probe(Replica("one", address="10.0.0.1"))[0] is Found.READY
    assert watch.probe(Replica("two"))[0] is Found.SILENT
