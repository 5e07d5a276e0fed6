"""Active health checks: probes each replica each second, and serves the addresses of the ready ones to Nginx by DNS.

Runs in a container of its own with Python's standard library and nothing else of this project. `replica_dns.py NAME
REPLICA…` answers DNS queries for NAME with the addresses of the ready replicas, which it probes by their host names;
`replica_dns.py check` is the container's health check. Open-source Nginx has no active health checks, but it resolves
the names of upstream servers each second.
"""

import http.client
import json
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import Enum

from open_webui_edge.runtime.contract import PORT

DNS_PORT = 5353
"""UDP port of the DNS server."""
DRAIN_PORT = 8079
"""Port on which a replica's launcher reports whether it is draining."""
PROBE_INTERVAL = 1.0
"""Seconds between two probes of a replica."""
PROBE_TIMEOUT = 2.0
"""Seconds for an answer to a probe."""
TIMEOUTS_UNTIL_OUT = 2
"""Time-outs in a row until a replica is out: a single one may be a busy moment."""
STALE_AFTER = 30.0
"""Seconds without a probe of a replica after which this program is stuck."""
TTL = 1
ADDRESS, IN_INTERNET = 1, 1
NO_ERROR, SERVER_FAILED, NO_SUCH_NAME = 0, 2, 3
NAME_SERVER = "127.0.0.11"
"""Docker's DNS server in every user-defined network."""


class ProbeResult(Enum):
    """Result of a probe."""

    READY = "answers /ready"
    NOT_READY = "does not answer /ready with its body"
    DRAINING = "is about to end"
    GONE = "accepts no connection"
    SILENT = "does not answer in time"


@dataclass
class Replica:
    """The last known state of a replica."""

    name: str
    address: str | None = None
    takes_requests: bool = False
    draining: bool = False
    silent: bool = False
    """Whether it was in until it stopped answering in time."""
    timeouts: int = 0
    probed_at: float = 0.0
    seen: bool = False
    """Whether a probe has had a result; a first time-out is none."""

    def record(self, result: ProbeResult, words: str = "") -> str | None:
        """Record a probe, and return a line for the log if the state changes."""
        before = (self.takes_requests, self.draining, self.silent)
        self.timeouts = self.timeouts + 1 if result is ProbeResult.SILENT else 0
        if 0 < self.timeouts < TIMEOUTS_UNTIL_OUT:
            return None
        self.seen = True
        # A draining replica still answers, and a silent one may: they are used if there is no other.
        self.silent = result is ProbeResult.SILENT and (self.takes_requests or self.silent)
        self.takes_requests = result in {ProbeResult.READY, ProbeResult.DRAINING}
        self.draining = result is ProbeResult.DRAINING
        if before == (self.takes_requests, self.draining, self.silent):
            return None
        state = "draining" if self.draining else "in" if self.takes_requests else "out"
        return f"{self.name} is {state}: it {result.value}{f' ({words})' if words else ''}"


class Upstream:
    """All replicas of the application."""

    def __init__(self, name: str, replicas: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        """Start with no replica in; `clock` returns seconds."""
        self.name = name
        self.replicas = [Replica(replica, probed_at=clock()) for replica in replicas]
        self._clock = clock

    def addresses(self) -> list[str]:
        """Return the addresses for requests: draining replicas only if there is no other, then the silent ones."""
        up = [replica for replica in self.replicas if replica.takes_requests]
        staying = [replica for replica in up if not replica.draining]
        silent = [replica for replica in self.replicas if replica.silent]
        return [replica.address for replica in staying or up or silent if replica.address]

    def is_stuck(self) -> bool:
        """Return whether a replica has had no probe for STALE_AFTER seconds."""
        return any(self._clock() - replica.probed_at > STALE_AFTER for replica in self.replicas)

    def initializing(self) -> bool:
        """Return whether no replica is in, and some have had no result yet."""
        return not self.addresses() and not all(replica.seen for replica in self.replicas)

    def probe(self, replica: Replica) -> ProbeResult:
        """Probe a replica once, record the result and return it."""
        result, words = probe(replica)
        replica.probed_at = self._clock()
        line = replica.record(result, words)
        if line is not None:
            say(f"{line}; now {', '.join(self.addresses()) or 'none'}")
        return result

    def answer(self, question: bytes) -> bytes | None:
        """Return the response to a DNS query (RFC 1035); None for a message that is no query."""
        parsed = parse_question(question)
        if parsed is None:
            return None
        name, kind, section = parsed
        # On NXDOMAIN Nginx drops all addresses; on SERVFAIL it keeps using those that it has.
        if self.is_stuck() or (name == self.name and self.initializing()):
            return _message(question, section, SERVER_FAILED, [])
        addresses = self.addresses()
        if name != self.name or not addresses:
            return _message(question, section, NO_SUCH_NAME, [])
        return _message(question, section, NO_ERROR, addresses if kind == ADDRESS else [])


def probe(replica: Replica) -> tuple[ProbeResult, str]:
    """Probe whether a replica takes requests; return the result, and the reason if it does not."""
    try:
        replica.address = look_up(replica.name)
    except LookupError as gone:
        return ProbeResult.GONE, str(gone)
    except OSError:
        # The name server is busy; the address may still be right.
        if replica.address is None:
            return ProbeResult.SILENT, "its name has no address yet"
    address = replica.address or ""
    try:
        status, body = get(address, PORT, "/ready")
        draining = _draining(address)
    except TimeoutError:
        return ProbeResult.SILENT, f"{PROBE_TIMEOUT:g} s"
    except (OSError, http.client.HTTPException) as error:
        return ProbeResult.GONE, str(error)
    # The body decides: the application answers unknown paths with 200 too.
    if status != http.client.OK or _json(body) != {"status": True}:
        return ProbeResult.NOT_READY, f"status {status}"
    return (ProbeResult.DRAINING, "") if draining else (ProbeResult.READY, "")


def _draining(address: str) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return _json(get(address, DRAIN_PORT, "/")[1]) == {"draining": True}
    return False


def _json(body: bytes) -> object:
    with suppress(ValueError):
        return json.loads(body)
    return None


def get(address: str, port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of a response; raises OSError or HTTPException."""
    with closing(http.client.HTTPConnection(address, port, timeout=PROBE_TIMEOUT)) as connection:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 16)


def look_up(name: str) -> str:
    """Return the address of a container on this network.

    Not by the C library: for a container that is gone it would wait for the host's name servers.

    Raises:
        LookupError: there is no such container at the moment.
        OSError: Docker's DNS server does not answer.

    """
    addresses = parse_addresses(_query(NAME_SERVER, 53, name, timeout=1))
    if not addresses:
        raise LookupError("no container of its name runs")
    return addresses[0]


def _query(server: str, port: int, name: str, timeout: float) -> bytes:
    """Ask a DNS server for the addresses of a name, and return its response."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, ADDRESS, IN_INTERNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(timeout)
        asking.connect((server, port))
        asking.send(question)
        return asking.recv(4096)


def parse_question(message: bytes) -> tuple[str, int, bytes] | None:
    """Return name, type and bytes of the only question of a message; None if it is no such query."""
    try:
        _, flags, questions, *_ = struct.unpack_from("!HHHHHH", message)
        if flags & 0x8000 or questions != 1:
            return None
        at, labels = 12, list[str]()
        while length := message[at]:
            labels.append(message[at + 1 : at + 1 + length].decode("ascii").lower())
            at += 1 + length
        kind, _ = struct.unpack_from("!HH", message, at + 1)
        return ".".join(labels), kind, message[12 : at + 5]
    except (struct.error, IndexError, UnicodeDecodeError):
        return None


def parse_addresses(message: bytes) -> list[str]:
    """Return the IPv4 addresses in a response."""
    try:
        _, _, questions, answers, *_ = struct.unpack_from("!HHHHHH", message)
        at = 12
        for _ in range(questions):
            at = _after_name(message, at) + 4
        addresses: list[str] = []
        for _ in range(answers):
            at = _after_name(message, at)
            kind, _, _, length = struct.unpack_from("!HHIH", message, at)
            if kind == ADDRESS and length == 4:  # noqa: PLR2004 - bytes of an IPv4 address
                addresses.append(socket.inet_ntoa(message[at + 10 : at + 14]))
            at += 10 + length
    except (struct.error, IndexError):
        return []
    return addresses


def _after_name(message: bytes, at: int) -> int:
    while length := message[at]:
        if length & 0xC0:
            # A compression pointer: two bytes.
            return at + 2
        at += 1 + length
    return at + 1


def _message(question: bytes, section: bytes, code: int, addresses: Sequence[str]) -> bytes:
    (identity, asked) = struct.unpack_from("!HH", question)
    # An authoritative response; recursion desired as in the query, and available.
    flags = 0x8480 | (asked & 0x0100) | code
    head = struct.pack("!HHHHHH", identity, flags, 1, len(addresses), 0, 0)
    # 0xC00C: a pointer to the name at byte 12, in the question.
    records = (struct.pack("!HHHIH", 0xC00C, ADDRESS, IN_INTERNET, TTL, 4) + socket.inet_aton(a) for a in addresses)
    return head + section + b"".join(records)


def say(words: str) -> None:
    """Write into the container's log."""
    print(f"readiness: {words}", flush=True)  # noqa: T201 - the container's log


def check() -> int:
    """Query this container's own DNS server, as its health check; return an exit code."""
    (_, flags) = struct.unpack_from("!HH", _query("127.0.0.1", DNS_PORT, "health", PROBE_TIMEOUT))
    return 0 if flags & 0xF == NO_SUCH_NAME else 1


def main(name: str, replicas: Sequence[str]) -> None:
    """Probe and answer until the container stops."""
    upstream = Upstream(name, replicas)

    def keep_probing(replica: Replica) -> None:
        while True:
            began = time.monotonic()
            # After a time-out there is no need to wait: it lasted longer than the interval.
            if upstream.probe(replica) is not ProbeResult.SILENT or replica.address is None:
                time.sleep(max(0.0, PROBE_INTERVAL - (time.monotonic() - began)))

    for replica in upstream.replicas:
        threading.Thread(target=keep_probing, args=(replica,), daemon=True).start()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            message, answering = self.request
            answer = upstream.answer(message)
            if answer is not None:
                answering.sendto(answer, self.client_address)

    say(f"asking {', '.join(replicas)}")
    with socketserver.UDPServer(("", DNS_PORT), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        sys.exit(check())
    main(sys.argv[1], sys.argv[2:])
