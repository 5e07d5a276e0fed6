"""Load tests from a container: the maximum rate of requests, or of TLS handshakes, of a contender."""

import re
from dataclasses import dataclass
from enum import StrEnum

from open_webui_edge.benchmarks.application import BROWSER_ENCODINGS
from open_webui_edge.benchmarks.contenders import Contender
from open_webui_edge.benchmarks.testbed import Running

_FINISHED = re.compile(r"finished in .*?, (?P<rate>[\d.]+) req/s")
_STATUSES = re.compile(r"status codes: (?P<good>\d+) 2xx, (?P<moved>\d+) 3xx, (?P<wrong>\d+) 4xx, (?P<failed>\d+) 5xx")
_ERRORS = re.compile(r"requests: .* (?P<failed>\d+) failed, (?P<errored>\d+) errored, (?P<late>\d+) timeout")
_HANDSHAKES = re.compile(r"(?m)^(?P<count>\d+) connections in [\d.]+s;")
_ELAPSED = re.compile(r"(?m)^elapsed (?P<nanoseconds>\d+)$")


class Protocol(StrEnum):
    """The protocol of requests."""

    HTTP1 = "h1"
    HTTP2 = "h2"


# One thread of the client: it takes less of the machine than the contender does. Eight connections keep two workers
# busy; with HTTP/2 a browser's few requests at a time go over each.
_CLIENT = {
    Protocol.HTTP1: ("--h1", "--clients=8"),
    Protocol.HTTP2: ("--alpn-list=h2", "--clients=8", "--max-concurrent-streams=10"),
}


class LoadError(Exception):
    """The load test did not run as intended; the text says why."""


@dataclass(frozen=True)
class Rate:
    """The result of a load test."""

    per_second: float
    cpu_microseconds: float
    """Processor time of the contender for each."""


def request_rate(tools: Running, contender: Contender, path: str, protocol: Protocol, seconds: float) -> Rate:
    """Request one path at the maximum rate; raises LoadError if an answer is not a good one."""
    before = contender.running.cpu_seconds()
    report = tools.execute(
        *("h2load", *_CLIENT[protocol], "--threads=1", f"--duration={seconds * 1000:.0f}ms", "--warm-up-time=0"),
        *("--header", f"Accept-Encoding: {BROWSER_ENCODINGS}", f"{contender.address.url}{path}"),
    )
    used = contender.running.cpu_seconds() - before
    rate = read_h2load(report)
    return Rate(rate, used / (rate * seconds) * 1e6)


def read_h2load(report: str) -> float:
    """Return the requests per second of a report of h2load; raises LoadError unless all answers were good ones."""
    finished, statuses, errors = _FINISHED.search(report), _STATUSES.search(report), _ERRORS.search(report)
    if finished is None or statuses is None or errors is None or statuses["good"] == "0":
        raise LoadError(f"h2load measured nothing:\n{report[-1000:]}")
    # Requests under way when the time is over count as started, not as failed.
    if any(int(count) for count in (statuses["moved"], statuses["wrong"], statuses["failed"], *errors.groups())):
        raise LoadError(f"not every answer was a good one: {statuses[0]}; {errors[0]}")
    return float(finished["rate"])


def handshake_rate(tools: Running, contender: Contender, seconds: int) -> Rate:
    """Make full TLS handshakes, and no requests, at the maximum rate of two clients; raises LoadError without any."""
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
    """Return the number of handshakes, and their total seconds; raises LoadError if none was counted."""
    counts = [int(match["count"]) for match in _HANDSHAKES.finditer(report)]
    elapsed = _ELAPSED.search(report)
    if elapsed is None or not counts or not all(counts):
        raise LoadError(f"no handshake was counted:\n{report[-1000:]}")
    return sum(counts), int(elapsed["nanoseconds"]) / 1e9
