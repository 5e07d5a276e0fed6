"""Load from a container of the run: as many requests, or TLS handshakes, as a contender can take."""

import re
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.application import BROWSER_ENCODINGS
from benchmarks.contenders import Contender
from benchmarks.testbed import Running

_FINISHED = re.compile(r"finished in .*?, (?P<rate>[\d.]+) req/s")
_STATUSES = re.compile(r"status codes: (?P<good>\d+) 2xx, (?P<moved>\d+) 3xx, (?P<wrong>\d+) 4xx, (?P<failed>\d+) 5xx")
_ERRORS = re.compile(r"requests: .* (?P<failed>\d+) failed, (?P<errored>\d+) errored, (?P<late>\d+) timeout")
_HANDSHAKES = re.compile(r"(?m)^(?P<count>\d+) connections in [\d.]+s;")
_ELAPSED = re.compile(r"(?m)^elapsed (?P<nanoseconds>\d+)$")


class Protocol(StrEnum):
    """How requests are sent."""

    HTTP1 = "h1"
    HTTP2 = "h2"


# One thread of the client: it takes less of the machine than the contender does. Eight connections keep two workers
# busy; with HTTP/2 a browser's few requests at a time go over each.
_CLIENT = {
    Protocol.HTTP1: ("--h1", "--clients=8"),
    Protocol.HTTP2: ("--alpn-list=h2", "--clients=8", "--max-concurrent-streams=10"),
}


class LoadError(Exception):
    """What was measured is not what was asked for; the text says what came."""


@dataclass(frozen=True)
class Rate:
    """What a contender did under load."""

    per_second: float
    cpu_microseconds: float
    """Processor time of the contender for each."""


def request_rate(tools: Running, contender: Contender, path: str, protocol: Protocol, seconds: float) -> Rate:
    """Ask for one path as often as possible.

    Raises:
        LoadError: an answer was not a good one.

    """
    before = contender.running.cpu_seconds()
    report = tools.execute(
        *("h2load", *_CLIENT[protocol], "--threads=1", f"--duration={seconds * 1000:.0f}ms", "--warm-up-time=0"),
        *("--header", f"Accept-Encoding: {BROWSER_ENCODINGS}", f"{contender.address.url}{path}"),
    )
    used = contender.running.cpu_seconds() - before
    rate = read_h2load(report)
    return Rate(rate, used / (rate * seconds) * 1e6)


def read_h2load(report: str) -> float:
    """Return the requests a second of a report of h2load.

    Raises:
        LoadError: the report tells of an answer that was not a good one, or of none.

    """
    finished, statuses, errors = _FINISHED.search(report), _STATUSES.search(report), _ERRORS.search(report)
    if finished is None or statuses is None or errors is None or statuses["good"] == "0":
        raise LoadError(f"h2load measured nothing:\n{report[-1000:]}")
    # Requests under way when the time is over count as started, not as failed.
    if any(int(count) for count in (statuses["moved"], statuses["wrong"], statuses["failed"], *errors.groups())):
        raise LoadError(f"not every answer was a good one: {statuses[0]}; {errors[0]}")
    return float(finished["rate"])


def handshake_rate(tools: Running, contender: Contender, seconds: int) -> Rate:
    """Shake hands as often as two clients can, in full each time, and ask for nothing.

    Raises:
        LoadError: a client counted none.

    """
    # In whole seconds, so the time is taken around it.
    script = (
        'began=$(date +%s%N); for client in 1 2; do openssl s_time -new -connect "$0:443" -time "$1" & done; wait;'
        ' echo "elapsed $(($(date +%s%N) - began))"'
    )
    before = contender.running.cpu_seconds()
    report = tools.execute("sh", "-c", script, contender.address.host, str(seconds))
    used = contender.running.cpu_seconds() - before
    count, elapsed = read_s_time(report)
    return Rate(count / elapsed, used / count * 1e6)


def read_s_time(report: str) -> tuple[int, float]:
    """Return how many handshakes the clients counted, and the seconds that all of them took.

    Raises:
        LoadError: they counted none.

    """
    counts = [int(found["count"]) for found in _HANDSHAKES.finditer(report)]
    elapsed = _ELAPSED.search(report)
    if elapsed is None or not counts or not all(counts):
        raise LoadError(f"no handshake was counted:\n{report[-1000:]}")
    return sum(counts), int(elapsed["nanoseconds"]) / 1e9
