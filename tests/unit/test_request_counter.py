"""What becomes of the lines that Nginx logs: which count, in which series, whatever happens to the file."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.runtime.open_webui import request_counter
from open_webui_edge.runtime.open_webui.request_counter import (
    CACHE_RESULTS,
    COUNTERS,
    HISTOGRAMS,
    KINDS,
    LOCATIONS,
    PREFIX,
    PROTOCOLS,
    Counts,
    Log,
    Server,
    follow,
)

LINES = """\
pages answer 200 0.012 0.000 0.011 - 1200 400 HTTP/2.0
pages answer 200 0.030 0.001 0.030 - 800 400 HTTP/3.0
frontend answer 200 0.000 - - HIT 1000 40 HTTP/2.0
frontend answer 200 0.002 0.000 0.002 MISS 1000 40 HTTP/2.0
models stream 200 3.100 0.001 0.402 - 5000 900 HTTP/1.1
sockets socket 101 75.000 0.001 0.002 - 9000 600 HTTP/1.1
sockets answer 400 0.000 - - - 607 35 HTTP/1.1
files answer 413 0.000 - - - 300 100 OTHER
""".splitlines()
LINE = LINES[0]
"""One that counts."""


def counted(lines: Sequence[str]) -> dict[str, float]:
    """Return what Prometheus is told: a series, without what all names begin with -> its value."""
    counts = Counts()
    for line in lines:
        counts.add(line)
    return series_in(counts.text())


def series_in(text: str) -> dict[str, float]:
    series = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix(PREFIX): float(value) for name, value in series}


def requests_in(counts: Counts) -> float:
    return sum(value for name, value in series_in(counts.text()).items() if name.startswith("requests_total"))


def test_lines_become_counts_by_place_kind_and_status() -> None:
    counts = counted(LINES)
    requests = {name: value for name, value in counts.items() if name.startswith("requests_total")}
    assert requests == {
        'requests_total{kind="answer",location="pages",status="200"}': 2,
        'requests_total{kind="answer",location="frontend",status="200"}': 2,
        'requests_total{kind="stream",location="models",status="200"}': 1,
        'requests_total{kind="socket",location="sockets",status="101"}': 1,
        'requests_total{kind="answer",location="sockets",status="400"}': 1,
        'requests_total{kind="answer",location="files",status="413"}': 1,
    }
    assert counts['sent_bytes_total{location="pages"}'] == 2000
    assert counts['received_bytes_total{location="frontend"}'] == 80
    assert [counts[f'cache_total{{location="frontend",result="{result}"}}'] for result in ("HIT", "MISS")] == [1, 1]
    assert [counts[f'protocol_total{{protocol="{name}"}}'] for name in ("HTTP/1.1", "HTTP/2.0", "OTHER")] == [3, 3, 1]


def test_times_are_counted_by_how_long_they_were() -> None:
    counts = counted(LINES)
    # Each bucket holds those below it, too.
    pages = [
        counts[f'request_seconds_bucket{{location="pages",le="{le}"}}'] for le in ("0.01", "0.025", "0.05", "+Inf")
    ]
    assert pages == [0, 1, 2, 2]
    # What Nginx answered itself has no time of the application.
    assert 'first_byte_seconds_count{location="files"}' not in counts
    assert counts['first_byte_seconds_count{location="frontend"}'] == 1
    assert counts["connect_seconds_count"] == 5
    # A stream and a socket are no whole answers, and have their own.
    assert 'request_seconds_count{location="models"}' not in counts
    assert (counts["stream_seconds_count"], counts["stream_seconds_sum"]) == (1, 3.1)
    assert (counts["socket_seconds_count"], counts["socket_seconds_sum"]) == (1, 75)


def test_an_answer_that_took_no_time_is_in_every_bucket() -> None:
    # As most from the cache do.
    counts = counted(["frontend answer 200 0.000 - - HIT 1000 40 HTTP/2.0"])
    buckets = [value for name, value in counts.items() if name.startswith("request_seconds_bucket")]
    assert buckets == [1] * (len(HISTOGRAMS["request_seconds"][1]) + 1)


@pytest.mark.parametrize(("seconds", "bound"), [("0.005", "0.005"), ("0.006", "0.01"), ("60.000", "60")])
def test_a_bound_belongs_to_its_bucket(seconds: str, bound: str) -> None:
    counts = counted([f"api answer 200 {seconds} - - - 1 1 HTTP/1.1"])
    buckets = [name for name, value in counts.items() if name.startswith("request_seconds_bucket") and value]
    assert buckets[0] == f'request_seconds_bucket{{location="api",le="{bound}"}}'


def test_what_has_no_labels_is_shown_before_anything_is_counted() -> None:
    assert counted([]) == {
        **{
            f'{name}_seconds_bucket{{le="{bound}"}}': 0
            for name in ("stream", "socket", "connect")
            for bound in (*HISTOGRAMS[f"{name}_seconds"][1], "+Inf")
        },
        **{f"{name}_seconds_{part}": 0 for name in ("stream", "socket", "connect") for part in ("sum", "count")},
    }


@pytest.mark.parametrize(
    "line",
    [
        "",
        "/api/v1/users?token=hunter22 answer 200 0.012 0.000 0.011 - 1200 400 HTTP/2.0",
        "pages answer 200 0.012 0.000 0.011 - 1200 400",
        "pages answer two 0.012 0.000 0.011 - 1200 400 HTTP/2.0",
        "mine answer 200 0.012 0.000 0.011 - 1200 400 HTTP/2.0",
        "pages mine 200 0.012 0.000 0.011 - 1200 400 HTTP/2.0",
        "pages answer 200 0.012 0.000 0.011 MINE 1200 400 HTTP/2.0",
        "pages answer 200 0.012 0.000 0.011 - 1200 400 HTTP/9.0",
        "pages answer 200 nan 0.000 0.011 - 1200 400 HTTP/2.0",
        "pages answer 200 0.012 0.000 0.011 - -1 400 HTTP/2.0",
        f"pages answer 200 0.012 0.000 0.011 - {'9' * 5000} 400 HTTP/2.0",
        "pages answer ٢٠٠ 0.012 0.000 0.011 - 1200 400 HTTP/2.0",
        f" {LINE}",
        f"{LINE} ",
        f"{LINE}\r",
        f'{LINE}"}} 1',
    ],
)
def test_what_is_no_such_line_counts_for_nothing(line: str) -> None:
    assert counted([line]) == counted([])


def test_hostile_lines_make_no_more_series_than_there_are_words() -> None:
    chance = random.Random(14)  # noqa: S311 - no secret
    words = ["pages", "answer", "200", "101", "0.001", "-", "HIT", "1", "HTTP/2.0", "\x00", "é", "{", '"', "9" * 99]
    lines = [" ".join(chance.choices(words, k=10)) for _ in range(20_000)]
    lines += [f"{chance.choice(LOCATIONS)}{number} answer 200 0.1 - - - 1 1 OTHER" for number in range(1000)]
    every = [
        f"{location} {kind} {status:03} 0.001 0.001 0.001 {cache} 1 1 {protocol}"
        for location in LOCATIONS
        for kind in KINDS
        for status in range(1000)
        for cache, protocol in [(chance.choice(CACHE_RESULTS), chance.choice(PROTOCOLS))]
    ]
    counts = counted([*lines, *every])
    by_label = {"location": LOCATIONS, "kind": KINDS, "status": range(1000), "result": CACHE_RESULTS}
    by_label |= {"protocol": PROTOCOLS}
    for name, (labels, _) in COUNTERS.items():
        most = 1
        for label in labels:
            most *= len(by_label[label])
        assert sum(series.startswith(f"{name}{{") for series in counts) <= most, name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "requests.log"


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    """A log that Nginx has not written to yet."""
    log = Log(path)
    yield log
    log.close()


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_a_log_that_is_not_there_yet_is_read_from_its_beginning(log: Log, path: Path) -> None:
    assert log.lines() == []
    append(path, "one", "two")
    assert log.lines() == ["one", "two"]
    append(path, "three")
    assert [log.lines(), log.lines()] == [["three"], []]


def test_what_was_there_before_is_not_counted_a_second_time(path: Path) -> None:
    append(path, "before")
    log = Log(path)
    append(path, "after")
    assert log.lines() == ["after"]
    log.close()


def test_a_line_that_is_half_written_waits_for_its_end(log: Log, path: Path) -> None:
    path.write_text("one\ntw")
    assert log.lines() == ["one"]
    append(path, "o")
    assert log.lines() == ["two"]


def test_a_log_that_was_emptied_goes_on(log: Log, path: Path) -> None:
    append(path, "one", "two")
    assert log.lines() == ["one", "two"]
    path.write_text("")
    assert log.lines() == []
    append(path, "three")
    assert log.lines() == ["three"]
    # And at once, with a line in it by the next look.
    path.write_text("4\n")
    assert log.lines() == ["4"]


@pytest.mark.parametrize("gone_between", [False, True], ids=["renamed over", "removed, then made"])
def test_a_log_that_was_replaced_is_read_to_its_end_first(log: Log, path: Path, *, gone_between: bool) -> None:
    append(path, "one")
    assert log.lines() == ["one"]
    old = path.rename(path.with_suffix(".1"))
    append(old, "two")
    assert log.lines() == ["two"]
    if gone_between:
        assert log.lines() == []
    append(path, "three")
    assert [log.lines(), log.lines()] == [[], ["three"]]


def test_a_line_without_end_takes_little_memory_and_counts_for_nothing(log: Log, path: Path) -> None:
    with path.open("w") as file:
        for _ in range(8):
            file.write("a" * (1 << 18))
            file.flush()
            assert log.lines() == []
            # There is more to read, and no need to wait for it.
            assert not log.at_end
            assert len(log._rest) <= 1 << 12  # noqa: SLF001 - what is measured
        # However it ends.
        file.write(f" {LINE}\n{LINE}\n")
    assert log.lines() == [LINE]


def test_bytes_that_are_no_text_are_no_failure(log: Log, path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\n" + LINE.encode() + b"\n")
    assert log.lines()[-1] == LINE


def test_a_log_that_may_not_be_read_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Log(tmp_path / "file" / "requests.log")


def asked(counts: Counts, *clients: Callable[[Path], Awaitable[str]], folder: Path) -> list[str]:
    """Return what each client got, all of them at the same time, of a server of these counts."""

    async def serve() -> list[str]:
        socket = folder / "socket"
        server = await asyncio.start_unix_server(Server(counts).serve, socket, limit=1 << 13)
        async with server:
            return list(await asyncio.gather(*(client(socket) for client in clients)))

    return asyncio.run(serve())


async def get(socket: Path, head: str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") -> str:
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(head.encode())
    try:
        return (await reader.read()).decode()
    except ConnectionResetError:
        return ""
    finally:
        writer.close()


def test_counts_are_shown_in_prometheus_text_format(tmp_path: Path) -> None:
    counts = Counts()
    counts.add(LINE)
    (answer,) = asked(counts, get, folder=tmp_path)
    head, _, body = answer.partition("\r\n\r\n")
    assert head == (
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close"
    )
    assert body == counts.text()
    for name in (*COUNTERS, *HISTOGRAMS):
        assert f"# TYPE {PREFIX}{name} {'counter' if name in COUNTERS else 'histogram'}\n" in body


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK"),
        ("\r\n\r\n", "HTTP/1.1 404 Not Found"),
        (f"GET /{'a' * 9000} HTTP/1.1\r\n\r\n", ""),
    ],
    ids=["another path", "another method", "with a query", "nothing", "too long"],
)
def test_whatever_is_asked_is_answered_or_closed(head: str, answer: str, tmp_path: Path) -> None:
    (said,) = asked(Counts(), lambda socket: get(socket, head), folder=tmp_path)
    assert said.partition("\r\n")[0] == answer


def test_clients_that_say_nothing_are_closed_and_shut_no_other_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_counter, "_REQUEST_TIMEOUT", 0.2)

    async def silent(socket: Path) -> str:
        return await get(socket, "GET /metr")

    async def again_and_again(socket: Path) -> str:
        said = ""
        while not said:
            said = await get(socket)
        return said

    said = asked(Counts(), *[silent] * 100, again_and_again, folder=tmp_path)
    assert said[:100] == [""] * 100
    assert said[100].startswith("HTTP/1.1 200 OK")


def test_what_is_appended_is_counted_until_it_ends(log: Log, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_counter, "POLL_INTERVAL", 0.001)
    counts = Counts()

    async def until_both() -> None:
        following = asyncio.create_task(follow(log, counts))
        for expected in (1, 2):
            append(path, LINE)
            await asyncio.to_thread(
                wait_until, lambda least=expected: requests_in(counts) >= least, what=f"{expected}", every=0.001
            )
        following.cancel()

    asyncio.run(until_both())
    assert requests_in(counts) == 2
