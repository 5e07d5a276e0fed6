"""Asks each replica each second whether it takes requests, and is the name server that tells the proxy.

Runs in a container of its own with Python's standard library and nothing of this program beside it:
`watch.py NAME REPLICA…` answers questions for NAME with the addresses of those replicas that are ready, and asks them
by their names on the network; `watch.py check` says by its exit code whether it does. Open-source Nginx asks no server
how it is, but it asks a name server for the servers each second.
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
from dataclasses import dataclass
from enum import Enum

PORT = 5353
"""Where it answers, by UDP."""
APPLICATION_PORT = 8080
DRAIN_PORT = 8079
"""Where a replica's launcher says whether it is about to end."""
EVERY = 1.0
"""Seconds between two questions to a replica."""
PATIENCE = 2.0
"""Seconds for an answer."""
TIME_OUTS = 2
"""In a row, until a replica counts as gone: one alone may be a busy moment."""
STALE = 30.0
"""Seconds after which a replica that nobody asked any more means that this program is stuck."""
TTL = 1
ADDRESS, IN_INTERNET = 1, 1
NO_ERROR, SERVER_FAILED, NO_SUCH_NAME = 0, 2, 3
NAME_SERVER = "127.0.0.11"
"""Of every user-defined Docker network."""


class Found(Enum):
    """What a question to a replica found."""

    READY = "answers /ready"
    NOT_READY = "does not answer /ready with its body"
    DRAINING = "is about to end"
    GONE = "accepts no connection"
    SILENT = "does not answer in time"


@dataclass
class Replica:
    """One replica as it was last heard of."""

    name: str
    address: str | None = None
    takes_requests: bool = False
    draining: bool = False
    silences: int = 0
    asked_at: float = 0.0
    known: bool = False
    """Whether it was ever found to be anything; a first time-out says nothing."""

    def hear(self, found: Found, words: str = "") -> str | None:
        """Take in what a question found, and return a line for the log when that changes anything."""
        before = (self.takes_requests, self.draining)
        if found is Found.SILENT:
            self.silences += 1
            if self.silences < TIME_OUTS:
                return None
        else:
            self.silences = 0
        self.known = True
        # What is about to end still answers: it is there when no other is.
        self.takes_requests = found in {Found.READY, Found.DRAINING}
        self.draining = found is Found.DRAINING
        if before == (self.takes_requests, self.draining):
            return None
        state = "draining" if self.draining else "in" if self.takes_requests else "out"
        return f"{self.name} is {state}: it {found.value}{f' ({words})' if words else ''}"


class Watch:
    """All replicas of one application."""

    def __init__(self, name: str, replicas: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none in; `clock` is seconds."""
        self.name = name
        self.replicas = [Replica(replica, asked_at=clock()) for replica in replicas]
        self._clock = clock

    def addresses(self) -> list[str]:
        """Return where requests may go: to those that are about to end only when there is no other."""
        up = [replica for replica in self.replicas if replica.takes_requests and replica.address]
        staying = [replica for replica in up if not replica.draining]
        return [replica.address for replica in staying or up if replica.address]

    def stuck(self) -> bool:
        """Whether a replica has not been asked for long."""
        return any(self._clock() - replica.asked_at > STALE for replica in self.replicas)

    def has_just_begun(self) -> bool:
        """Whether nobody is known to be in, and not of each replica that it is out."""
        return not self.addresses() and not all(replica.known for replica in self.replicas)

    def ask(self, replica: Replica) -> Found:
        """Ask a replica once and take in what that found; return it."""
        found, words = probe(replica)
        replica.asked_at = self._clock()
        line = replica.hear(found, words)
        if line is not None:
            say(f"{line}; now {', '.join(self.addresses()) or 'nobody'}")
        return found

    def answer(self, question: bytes) -> bytes | None:
        """Return the answer to a question of the protocol (RFC 1035); None for what is no question."""
        parsed = parse_question(question)
        if parsed is None:
            return None
        name, kind, section = parsed
        # Who hears that there is no such name forgets all addresses; who hears this goes on with those that it has.
        if self.stuck() or (name == self.name and self.has_just_begun()):
            return _message(question, section, SERVER_FAILED, [])
        addresses = self.addresses()
        if name != self.name or not addresses:
            return _message(question, section, NO_SUCH_NAME, [])
        return _message(question, section, NO_ERROR, addresses if kind == ADDRESS else [])


def probe(replica: Replica) -> tuple[Found, str]:
    """Ask a replica whether it takes requests; with why not, in the words of whoever said so."""
    try:
        replica.address = look_up(replica.name)
    except LookupError as gone:
        return Found.GONE, str(gone)
    except OSError:
        # The name server is busy; the address may still be right.
        if replica.address is None:
            return Found.SILENT, "its name has no address yet"
    address = replica.address or ""
    try:
        status, body = get(address, APPLICATION_PORT, "/ready")
        draining = _draining(address)
    except TimeoutError:
        return Found.SILENT, f"{PATIENCE:g} s"
    except (OSError, http.client.HTTPException) as error:
        return Found.GONE, str(error)
    # GET with its body: it answers unknown paths with 200 too.
    if status != http.client.OK or _json(body) != {"status": True}:
        return Found.NOT_READY, f"status {status}"
    return (Found.DRAINING, "") if draining else (Found.READY, "")


def _draining(address: str) -> bool:
    try:
        return _json(get(address, DRAIN_PORT, "/")[1]) == {"draining": True}
    except (OSError, http.client.HTTPException):
        return False


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None


def get(address: str, port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of one answer; raises what sockets and HTTP raise."""
    connection = http.client.HTTPConnection(address, port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 16)
    finally:
        connection.close()


def look_up(name: str) -> str:
    """Return the address of a container on this network.

    Not by the C library: for a container that is gone it would wait for name servers beyond the network.

    Raises:
        LookupError: there is no such container at the moment.
        OSError: the network's name server does not answer.

    """
    question = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 0) + _encode(name) + struct.pack("!HH", ADDRESS, IN_INTERNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(1)
        asking.connect((NAME_SERVER, 53))
        asking.send(question)
        answer = asking.recv(4096)
    found = parse_addresses(answer)
    if not found:
        raise LookupError("no container of its name runs")
    return found[0]


def _encode(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def parse_question(message: bytes) -> tuple[str, int, bytes] | None:
    """Return name, type and the bytes of the one question of a message; None when it is something else."""
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
    """Return the addresses in an answer."""
    try:
        _, _, questions, answers, *_ = struct.unpack_from("!HHHHHH", message)
        at = 12
        for _ in range(questions):
            at = _after_name(message, at) + 4
        found: list[str] = []
        for _ in range(answers):
            at = _after_name(message, at)
            kind, _, _, length = struct.unpack_from("!HHIH", message, at)
            if kind == ADDRESS and length == 4:  # noqa: PLR2004 - bytes of an IPv4 address
                found.append(socket.inet_ntoa(message[at + 10 : at + 14]))
            at += 10 + length
    except (struct.error, IndexError):
        return []
    return found


def _after_name(message: bytes, at: int) -> int:
    while length := message[at]:
        if length & 0xC0:
            # The rest of it stands elsewhere; this is two bytes long.
            return at + 2
        at += 1 + length
    return at + 1


def _message(question: bytes, section: bytes, code: int, addresses: Sequence[str]) -> bytes:
    (identity, asked) = struct.unpack_from("!HH", question)
    # An answer, with authority, recursion as it was asked for and available.
    flags = 0x8480 | (asked & 0x0100) | code
    head = struct.pack("!HHHHHH", identity, flags, 1, len(addresses), 0, 0)
    # 0xC00C: the name stands at byte 12, in the question.
    records = (struct.pack("!HHHIH", 0xC00C, ADDRESS, IN_INTERNET, TTL, 4) + socket.inet_aton(a) for a in addresses)
    return head + section + b"".join(records)


def say(words: str) -> None:
    """Write into the container's log."""
    print(f"readiness: {words}", flush=True)  # noqa: T201 - the container's log


def check() -> int:
    """Ask this container's own name server, as its health check; return an exit code."""
    question = struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + _encode("health") + struct.pack("!HH", ADDRESS, IN_INTERNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(PATIENCE)
        asking.connect(("127.0.0.1", PORT))
        asking.send(question)
        (_, flags) = struct.unpack_from("!HH", asking.recv(4096))
    return 0 if flags & 0xF == NO_SUCH_NAME else 1


def main(name: str, replicas: Sequence[str]) -> None:
    """Watch and answer until the container ends."""
    watch = Watch(name, replicas)

    def keep_asking(replica: Replica) -> None:
        while True:
            began = time.monotonic()
            # After a silence there is no need to wait: it has lasted longer than that already.
            if watch.ask(replica) is not Found.SILENT or replica.address is None:
                time.sleep(max(0.0, EVERY - (time.monotonic() - began)))

    for replica in watch.replicas:
        threading.Thread(target=keep_asking, args=(replica,), daemon=True).start()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            message, answering = self.request
            answer = watch.answer(message)
            if answer is not None:
                answering.sendto(answer, self.client_address)

    say(f"asking {', '.join(replicas)}")
    with socketserver.UDPServer(("", PORT), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        sys.exit(check())
    main(sys.argv[1], sys.argv[2:])
