"""Counts the requests that Nginx logs, and serves the counts to Prometheus.

Runs in a container of its own with Python's standard library and nothing else of this project. The argument is
the log that components/reverse_proxy/templates/log.conf.j2 describes; GET /metrics on PORT answers in Prometheus' text
format. Nginx writes into a file, so nothing that happens here slows it down.

A line consists of numbers and of words from short lists. Other lines are ignored, so that the number of series is
bounded, whatever the file contains.
"""

import asyncio
import os
import re
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path

PORT = 3903
PREFIX = "open_webui_edge_"
LOCATIONS = (
    *("api", "extra", "files", "frontend", "health", "models", "oauth", "other_sockets", "pages", "sign_in", "sockets"),
)
KINDS = ("answer", "stream", "socket")
CACHE_RESULTS = ("MISS", "BYPASS", "EXPIRED", "STALE", "UPDATING", "REVALIDATED", "HIT")
"""All that Nginx's $upstream_cache_status can be."""
PROTOCOLS = ("HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0", "OTHER")
_SECONDS = r"\d{1,12}\.\d{3}"
_BYTES = r"\d{1,18}"
LINE = re.compile(
    rf"(?P<location>{'|'.join(LOCATIONS)}) (?P<kind>{'|'.join(KINDS)}) (?P<status>\d\d\d) (?P<seconds>{_SECONDS})"
    rf" (?P<connect>-|{_SECONDS}) (?P<first_byte>-|{_SECONDS}) (?P<cache>-|{'|'.join(CACHE_RESULTS)})"
    rf" (?P<sent>{_BYTES}) (?P<received>{_BYTES}) (?P<protocol>{'|'.join(map(re.escape, PROTOCOLS))})",
    re.ASCII,
)
COUNTERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "requests_total": (("kind", "location", "status"), "Requests that were answered."),
    "sent_bytes_total": (("location",), "Bytes sent to clients, with the heads of answers."),
    "received_bytes_total": (("location",), "Bytes received from clients, with the heads of requests."),
    "cache_total": (("location", "result"), "Requests that Nginx looked up in its cache."),
    "protocol_total": (("protocol",), "Requests by the version of HTTP."),
}
"""Name -> names of its labels, and help text."""
_ANSWER = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
HISTOGRAMS: Mapping[str, tuple[tuple[str, ...], tuple[float, ...], str]] = {
    # Streams and sockets last as long as a person wants them to, and so have their own.
    "request_seconds": (("location",), _ANSWER, "From the first byte of a request to the last of its whole answer."),
    "stream_seconds": ((), (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600), "How long streamed answers lasted."),
    "socket_seconds": ((), (1, 10, 60, 300, 1800, 3600, 14400, 43200, 86400), "How long WebSockets lasted."),
    "connect_seconds": ((), (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 10), "Until the upstream accepted the connection."),
    "first_byte_seconds": (("location",), _ANSWER, "Until the head of the upstream's answer was there."),
}
"""Name -> names of its labels, upper bounds of its buckets, and help text."""
POLL_INTERVAL = 0.25
"""Seconds between two reads of a log that has not grown."""
_CHUNK = 1 << 18
"""Bytes per read: some thousand lines, which take a few hundredths of a second."""
_MAX_LINE_BYTES = 1 << 12
_REQUEST_TIMEOUT = 4.0
"""Seconds for a client to send its request and read the response."""
_MAX_CLIENTS = 16
_MAX_REQUEST_BYTES = 1 << 13


class Histogram:
    """How often values fell below each bound."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Start with none."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """Yield suffix, bound and value of each sample; the bound is "" where there is none."""
        total = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            yield "_bucket", bound, total
        yield "_sum", "", self._sum
        yield "_count", "", total


class Counts:
    """The counts since this program started."""

    def __init__(self) -> None:
        """Start with none."""
        self._counters: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in COUNTERS}
        self._histograms: dict[str, dict[tuple[str, ...], Histogram]] = {
            # One without labels is there from the start, at zero.
            name: {} if labels else {(): Histogram(bounds)}
            for name, (labels, bounds, _) in HISTOGRAMS.items()
        }

    def add(self, line: str) -> None:
        """Count a line of the log; ignore any other line."""
        match = LINE.fullmatch(line)
        if match is None:
            return
        location, kind, status, seconds, connect, first_byte, cache, sent, received, protocol = match.groups()
        counters = self._counters
        counters["requests_total"][kind, location, status] += 1
        counters["sent_bytes_total"][location,] += int(sent)
        counters["received_bytes_total"][location,] += int(received)
        counters["protocol_total"][protocol,] += 1
        if cache != "-":
            counters["cache_total"][location, cache] += 1
        if kind == "answer":
            self._observe("request_seconds", seconds, location)
        else:
            self._observe(f"{kind}_seconds", seconds)
        if connect != "-":
            self._observe("connect_seconds", connect)
        if first_byte != "-":
            self._observe("first_byte_seconds", first_byte, location)

    def _observe(self, name: str, seconds: str, *labels: str) -> None:
        series = self._histograms[name]
        if labels not in series:
            series[labels] = Histogram(HISTOGRAMS[name][1])
        series[labels].observe(float(seconds))

    def text(self) -> str:
        """Return everything in Prometheus' text format."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for name, (names, says) in COUNTERS.items():
            yield from _head(name, "counter", says)
            for labels, value in self._counters[name].items():
                yield f"{PREFIX}{name}{_labels(names, labels)} {value}"
        for name, (names, _, says) in HISTOGRAMS.items():
            yield from _head(name, "histogram", says)
            for labels, histogram in self._histograms[name].items():
                for suffix, bound, value in histogram.samples():
                    bounded = ((*names, "le"), (*labels, bound)) if bound else (names, labels)
                    yield f"{PREFIX}{name}{suffix}{_labels(*bounded)} {value:.15g}"


def _head(name: str, kind: str, says: str) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {says}"
    yield f"# TYPE {PREFIX}{name} {kind}"


def _labels(names: Iterable[str], values: Iterable[str]) -> str:
    pairs = ",".join(f'{name}="{value}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


class Log:
    """The lines appended to a file that may be truncated, replaced or missing."""

    at_end = True
    """Whether the last read returned nothing."""

    def __init__(self, path: Path) -> None:
        """Start at the end: earlier lines belong to an earlier run."""
        self._path = path
        self._rest = b""
        self._file = self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> list[str]:
        """Return the next lines; none if there are no new ones.

        Raises:
            OSError: the file is there and cannot be read.

        """
        if self._file is None:
            self._file = self._open()
        elif os.fstat(self._file.fileno()).st_size < self._file.tell():
            # Truncated in place, as the proxy's scripts do.
            self._file.seek(0)
            self._rest = b""
        chunk = b"" if self._file is None else self._file.read(_CHUNK)
        self.at_end = not chunk
        if self._file is not None and not chunk and self._was_replaced(self._file):
            self.close()
        *complete, self._rest = (self._rest + chunk).split(b"\n")
        # Of an overlong line only the beginning is stored until its end arrives.
        self._rest = self._rest[:_MAX_LINE_BYTES]
        return [line.decode("ascii", "replace") for line in complete if len(line) < _MAX_LINE_BYTES]

    def close(self) -> None:
        """Close the file; the next read opens the current file of that name."""
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def _open(self) -> FileIO | None:
        try:
            return self._path.open("rb", buffering=0)
        except FileNotFoundError:
            return None

    def _was_replaced(self, file: FileIO) -> bool:
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False


async def follow(log: Log, counts: Counts) -> None:
    """Count appended lines until cancelled."""
    while True:
        for line in log.lines():
            counts.add(line)
        # Yields to clients between two chunks.
        await asyncio.sleep(POLL_INTERVAL if log.at_end else 0)


class Server:
    """Answers GET /metrics, with limits on the number of clients and their time."""

    def __init__(self, counts: Counts) -> None:
        """Serve these counts."""
        self._counts = counts
        self._clients = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close the connection."""
        self._clients += 1
        try:
            if self._clients <= _MAX_CLIENTS:
                async with asyncio.timeout(_REQUEST_TIMEOUT):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self.answer(head))
                    writer.close()
                    await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # It timed out, or sent no valid request.
            pass
        finally:
            self._clients -= 1
            writer.transport.abort()

    def answer(self, head: bytes) -> bytes:
        """Return the response to a request with this head."""
        method, path, *_ = [*head.split(b"\r\n", 1)[0].split(b" "), b"", b""]
        body = ""
        if path.split(b"?", 1)[0] != b"/metrics":
            status = "404 Not Found"
        elif method != b"GET":
            status = "405 Method Not Allowed"
        else:
            status, body = "200 OK", self._counts.text()
        return (
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
        ).encode()


async def main(path: Path) -> None:
    """Count and answer until the container stops."""
    counts = Counts()
    server = await asyncio.start_server(Server(counts).serve, port=PORT, limit=_MAX_REQUEST_BYTES)
    print(f"request-counter: reading {path}, answering at port {PORT}", flush=True)  # noqa: T201 - the container's log
    async with server:
        await follow(Log(path), counts)


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1])))
    except OSError as fault:
        sys.exit(f"request-counter: {fault}")
