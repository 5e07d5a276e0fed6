"""What came of a run, in words, tables and drawings."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import page_load
from benchmarks.contenders import BARE, CACHING, DIRECT, HAPROXY, OURS, TITLES
from benchmarks.drawing import Bar, Panel, draw
from benchmarks.early_hints import EARLY_HINTS, LINK_HEADER
from benchmarks.lines import LINES, NOISE, Line, Standing
from benchmarks.results import Results, quartiles

COMMAND = "make bench"
TABLE_DRAWING, PAGES_DRAWING = "benchmarks.svg", "page-load.svg"
_NETWORKS: Mapping[str, str] = {"near": "this machine", "far": "40 ms, 20 Mbit/s"}
_CACHES: Mapping[str, str] = {"cold": "empty cache", "warm": "second visit"}
_CACHED = (
    "HAProxy is ahead with files where it answers from the memory that its threads share; ours keeps them on disk, "
    "where they survive a restart, and reads them from the system's cache: a system call for the head of a file, and "
    "one for each 64 KiB of it. With HTTP/2 Nginx also compresses each header of each answer anew (RFC 7541, Huffman "
    "code), a bare Nginx too; HAProxy copies them as they are."
)
_IDLE = (
    "HAProxy is ahead with idle WebSockets: it gives their buffers back. Nginx keeps one for TLS records (16 KiB) and "
    "one for each direction (`proxy_buffer_size`) for as long as a connection lives, a bare Nginx too."
)
# Prefix of a line's key -> who may be ahead there, and why.
_WHY: Mapping[str, tuple[str, str]] = {
    "chunk": (HAPROXY, _CACHED),
    "image": (HAPROXY, _CACHED),
    "websocket": (HAPROXY, _IDLE),
}
_HINTED: Mapping[str, str] = {OURS: "neither", LINK_HEADER: "`Link` header", EARLY_HINTS: "103 Early Hints"}


def write(results: Results, folder: Path) -> Sequence[Path]:
    """Write the page and its drawings into a folder; return their paths."""
    texts = {
        "benchmarks.md": page(results),
        TABLE_DRAWING: _table_drawing(results),
        PAGES_DRAWING: _pages_drawing(results),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def page(results: Results) -> str:
    """Return the whole page as Markdown."""
    sections = [
        _head(results),
        _table(results),
        _targets(results),
        _standings(results),
        _pages(results),
        _hints(results),
        _method(results),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def summary(results: Results) -> str:
    """Return the targets that were missed, and how many there are, for a terminal."""
    judged = [(line, target, target.verdict(line, results)) for line in LINES for target in line.targets]
    missed = [f"{line.title}: {target.words(line)}" for line, target, verdict in judged if verdict == "missed"]
    met = sum(verdict == "met" for _, _, verdict in judged)
    return "\n".join([f"{met} of {met + len(missed)} targets met", *(f"missed: {words}" for words in missed)])


def _head(results: Results) -> str:
    known = results.circumstances
    versions = known["versions"]
    peers = ", ".join(f"{TITLES[name]} {versions[name]}" for name in ("caddy", "haproxy") if name in versions)
    return (
        "# What the proxy costs, and what it gains\n\n"
        f"Written by `{COMMAND}`, which measures all of it in one run: on {known['date']}, {known['machine']}, Docker "
        f"{known['engine']}; Open WebUI {versions.get(DIRECT)}, Nginx {versions.get(OURS)}, {peers}, OpenSSL "
        f"{known['openssl']} in all but Caddy. Clients and servers share the machine.\n\n"
        f"![The table below as bars]({TABLE_DRAWING})"
    )


def _table(results: Results) -> str:
    names = list(TITLES)
    rows = [["", *(TITLES[name] for name in names)], ["---", *("---:" for _ in names)]]
    for line in LINES:
        cells = [_cell(results, line, name) for name in names]
        if any(cell for cell in cells):
            rows.append([f"{line.title} ({line.unit})", *cells])
    return "## Side by side\n\n" + _markdown(rows)


def _cell(results: Results, line: Line, name: str) -> str:
    value = results.median(line.key, name)
    if value is None or name not in line.contenders:
        return "–" if name not in line.contenders else ""
    text = f"{value:,.{line.decimals}f}"
    return f"**{text}**" if name == OURS else text


def _targets(results: Results) -> str:
    rows = [["what is to be reached", "reached", ""], ["---", "---:", "---"]]
    for line in LINES:
        for target in line.targets:
            reached, verdict = target.reached(line, results), target.verdict(line, results)
            if reached is None or verdict is None:
                continue
            # Enough digits that what is written does not read as the other verdict.
            figure = f"{reached:+.2f} {line.unit}" if target.margin is not None else f"{reached:.2f} ×"
            if target.against == DIRECT and BARE in line.contenders:
                figure += f" (the limit: {_to(DIRECT, BARE, line, results):.0f} ×)"
            if target.against == BARE and results.of(line.key, CACHING):
                figure += f" (its limit with these headers: {_to(BARE, CACHING, line, results):.2f} ×)"
            rows.append([f"{line.title}: {target.words(line)}", figure, verdict.value])
    return (
        "## Targets\n\n"
        "Ratios and differences are taken within each round, and the median of the rounds counts. "
        f"“No worse” allows {NOISE:.0%} for the noise. What limits a file's line is a bare Nginx: without a cache to "
        "keep, and without the security headers that every answer of ours has; or with both.\n\n" + _markdown(rows)
    )


def _to(base: str, limit: str, line: Line, results: Results) -> float:
    """Return what a limit itself comes to beside a contender, in the median of the rounds."""
    rounds = zip(results.of(line.key, limit), results.of(line.key, base), strict=True)
    return statistics.median(ours / theirs for ours, theirs in rounds)


def _standings(results: Results) -> str:
    rows = [["", *(f"beside {TITLES[peer]}" for peer in ("caddy", "haproxy"))], ["---", "---", "---"]]
    for line in LINES:
        standings = [line.standing(peer, results) for peer in line.peers]
        if None not in standings:
            rows.append([line.title, *(_standing(standing) for standing in standings)])
    return (
        "## Beside the other proxies\n\n"
        "“Level”: the rounds do not agree who is ahead, or the difference is below the noise.\n\n"
        + _markdown(rows)
        + "".join(f"\n\n{reason}" for reason in _reasons(results))
    )


def _reasons(results: Results) -> Sequence[str]:
    """Say why a peer is ahead, once for each reason."""
    behind = [
        reason
        for line in LINES
        for prefix, (peer, reason) in _WHY.items()
        if line.key.startswith(prefix) and line.standing(peer, results) is Standing.BEHIND
    ]
    return list(dict.fromkeys(behind))


def _standing(standing: Standing | None) -> str:
    return f"**{standing}**" if standing is Standing.BEHIND else str(standing)


def _pages(results: Results) -> str:
    rows = [
        ["page", "network", "cache", "through", "first paint", "usable", "requests", "from cache", "304", "KiB"],
        ["---", "---", "---", "---", *("---:" for _ in range(6))],
    ]
    for page_name, network, cache in itertools.product(page_load.PAGES, _NETWORKS, _CACHES):
        for name in (DIRECT, OURS):
            key = f"page-{page_name}-{network}-{cache}"
            if results.median(f"{key}-visible", name) is None:
                continue
            rows.append(
                [
                    page_name,
                    _NETWORKS[network],
                    _CACHES[cache],
                    TITLES[name],
                    f"{_of(results, key, 'first_paint', name):.0f} ms",
                    f"{_of(results, key, 'visible', name):.0f} ms",
                    *(
                        f"{_of(results, key, what, name):.0f}"
                        for what in ("requests", "from_cache", "revalidated", "kibibytes")
                    ),
                ]
            )
    if len(rows) == 2:  # noqa: PLR2004 - its head
        return ""
    return (
        "## Loading a page\n\n"
        "Chromium, a new profile for each visit; direct over HTTP, through the proxy over HTTPS and HTTP/2. “Usable” "
        "is when the password field, or the box to write in, can be seen. Medians.\n\n"
        f"![Page loads as bars]({PAGES_DRAWING})\n\n" + _markdown(rows)
    )


def _hints(results: Results) -> str:
    rows = [["sign-in page, empty cache", "network", "first paint", "usable"], ["---", "---", "---:", "---:"]]
    for network, name in itertools.product(_NETWORKS, _HINTED):
        key = f"page-{page_load.SIGN_IN}-{network}-cold"
        cells = [_spread(results.of(f"{key}-{what}", name)) for what in ("first_paint", "visible")]
        if all(cells):
            rows.append([_HINTED[name], _NETWORKS[network], *cells])
    if len(rows) == 2:  # noqa: PLR2004 - its head
        return ""
    return (
        "### Naming files before the page comes\n\n"
        "The modules that the page preloads by itself, named once more in its header, or ahead of it; median and "
        "quartiles. [Decision 8](decisions/0008-no-early-hints.md) is what follows.\n\n" + _markdown(rows)
    )


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    lower, middle, upper = quartiles(values)
    return f"{middle:.0f} ms ({lower:.0f}–{upper:.0f})"


def _method(results: Results) -> str:
    assets = results.circumstances.get("assets", {})
    said = "; ".join(
        f"{of[OURS]['path']}, {of[OURS]['bytes']:,} bytes"
        + (f" as {of[OURS]['encoding']}" if of[OURS]["encoding"] else "")
        for of in assets.values()
        if OURS in of
    )
    return (
        "## How it is measured\n\n"
        "- Every contender runs in a container of its own in one network, with the same certificate (ECDSA P-256), as "
        "many workers as cores, and one Open WebUI behind all of them. Their configurations: "
        "[benchmarks/configurations](../benchmarks/configurations), and ours as `pulumi up` renders it for a stack "
        "that says nothing.\n"
        "- “Direct” is Open WebUI's own server, which speaks plain HTTP/1.1: it has no TLS to pay for, and its figure "
        "stands in the lines of HTTP/2 too. “Textbook” is what tutorials give. “Bare Nginx” is the limit: the same "
        "bytes from disk (sendfile, open_file_cache, no log), or nothing but `proxy_pass` for a WebSocket. The column "
        "before it is the limit of a proxy: `proxy_cache` in the place of files, and the headers that ours sends. What "
        "lies between these two is the price of a cache and of those headers, whoever sends them; what lies between it "
        "and ours is that of our rules.\n"
        f"- Files, asked for as Chromium asks: {said or 'none in this run'}. `h2load`, 8 connections, with HTTP/2 10 "
        "streams on each, one thread; rounds in turn. It does not reconnect, so Nginx's `keepalive_requests` (1000 by "
        "default, ours too) is lifted in every Nginx.\n"
        "- `/api/config`: one open connection to each, asked in turn, medians of batches; once as anybody, whose "
        "answer ours keeps for a second, and once as somebody. Tokens: a model's server that says when it sent each, "
        "10 ms apart; the first from the question on, over an open connection.\n"
        "- WebSockets: 1000 that sent one message; what the proxy's processes have more memory for themselves, each. "
        "Handshakes: two `openssl s_time`, no session resumed, nothing asked; the processor time is the proxy's alone, "
        "which the clients' share cannot hide.\n"
        "- The far network is a relay in front of the contender: 40 ms there and back, 20 Mbit/s for all connections "
        "together, no loss.\n"
        "- Raw values: `build/bench/results.json`. Load on the machine before the run: "
        f"{results.circumstances['load_before']:.1f}."
    )


def _of(results: Results, key: str, what: str, name: str) -> float:
    value = results.median(f"{key}-{what}", name)
    return 0.0 if value is None else value


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _table_drawing(results: Results) -> str:
    panels: list[Panel] = []
    for line in LINES:
        bars = [
            Bar(TITLES[name], value, f"{value:,.{line.decimals}f}", is_ours=name == OURS)
            for name in line.contenders
            if (value := results.median(line.key, name)) is not None
        ]
        if bars:
            better = "more is better" if line.more_is_better else "less is better"
            # A cache is a hundred times as fast as none.
            cached = BARE in line.contenders and DIRECT in line.contenders
            panels.append(Panel(f"{line.title.replace('`', '')}, {line.unit}; {better}", bars, logarithmic=cached))
    return draw("Open WebUI direct, behind this proxy and behind others", panels)


def _pages_drawing(results: Results) -> str:
    panels: list[Panel] = []
    for page_name, network in itertools.product(page_load.PAGES, _NETWORKS):
        bars: list[Bar] = []
        for cache, name in itertools.product(_CACHES, (DIRECT, OURS)):
            value = results.median(f"page-{page_name}-{network}-{cache}-visible", name)
            if value is not None:
                bars.append(Bar(f"{TITLES[name]}, {_CACHES[cache]}", value, f"{value:,.0f} ms", is_ours=name == OURS))
        if bars:
            panels.append(Panel(f"{page_name} page until usable; {_NETWORKS[network]}", bars))
    return draw("Loading a page: direct, and through the proxy", panels)
