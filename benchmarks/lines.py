"""The lines of the results table: metric, unit and target."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from open_webui_edge.benchmarks.contenders import BARE, CACHING, CADDY, DIRECT, HAPROXY, OURS, TITLES
from open_webui_edge.benchmarks.results import Results, quartiles

PEERS = (CADDY, HAPROXY)
"""Proxies with which ours is compared."""
NOISE = 0.03
"""Noise: a relative difference between two medians below this is not significant on one machine."""


class Verdict(StrEnum):
    """The verdict on a target."""

    MET = "met"
    MISSED = "missed"


@dataclass(frozen=True)
class Target:
    """A target: our value compared with another contender's, per round."""

    against: str
    factor: float | None = None
    """At least (of a rate) or at most (of a cost) this many times the other's."""
    margin: float | None = None
    """At most so much more than the other's."""

    def words(self, line: "Line") -> str:
        """Describe the target."""
        other = TITLES[self.against]
        if self.margin is not None:
            return f"≤ {other} + {self.margin:g} {line.unit}"
        if self.factor == 1:
            return f"no worse than {other}"
        return f"{'≥' if line.more_is_better else '≤'} {self.factor:g} × {other}"

    def reached(self, line: "Line", results: Results) -> float | None:
        """Return the median over the rounds of our ratio, or difference, to the other; None where one is missing."""
        ours, others = results.of(line.key, OURS), results.of(line.key, self.against)
        pairs = list(zip(ours, others, strict=False))
        if not pairs:
            return None
        compared = [our - other if self.margin is not None else our / other for our, other in pairs]
        return quartiles(compared)[1]

    def verdict(self, line: "Line", results: Results) -> Verdict | None:
        """Return the verdict; "no worse than another" allows for noise."""
        reached = self.reached(line, results)
        if reached is None:
            return None
        if self.margin is not None:
            good = reached <= self.margin
        else:
            bound = self.factor or 1.0
            noise = NOISE if bound == 1 else 0.0
            good = reached >= bound - noise if line.more_is_better else reached <= bound + noise
        return Verdict.MET if good else Verdict.MISSED


class Standing(StrEnum):
    """Our standing compared with a peer."""

    AHEAD = "ahead"
    LEVEL = "level"
    LAGGING = "behind"


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    key: str
    title: str
    unit: str
    contenders: Sequence[str]
    targets: Sequence[Target]
    decimals: int = 0
    more_is_better: bool = False

    def standing(self, peer: str, results: Results) -> Standing | None:
        """Compare with a peer: level if the rounds disagree, or if the difference is noise."""
        pairs = list(zip(results.of(self.key, OURS), results.of(self.key, peer), strict=False))
        if not pairs:
            return None
        lower, middle, upper = quartiles([our - other if self.more_is_better else other - our for our, other in pairs])
        scale = abs(results.median(self.key, peer) or 0.0)
        if lower <= 0 <= upper or abs(middle) <= NOISE * scale:
            return Standing.LEVEL
        return Standing.AHEAD if middle > 0 else Standing.LAGGING


_ALL = tuple(TITLES)
_WITHOUT_DIRECT = tuple(name for name in TITLES if name not in {DIRECT, CACHING})
_WITHOUT_LIMIT = tuple(name for name in TITLES if name not in {BARE, CACHING})


def _asset(key: str, title: str, protocol: str) -> Line:
    # Uvicorn speaks HTTP/1.1 only: its rate there is what the other protocol is compared with too.
    targets = (Target(BARE, factor=0.9), Target(DIRECT, factor=70))
    return Line(f"{key}-{protocol}", f"{title}, {protocol}", "requests/s", _ALL, targets, more_is_better=True)


def _delay(key: str, title: str, *, decimals: int, margin: float) -> Line:
    return Line(key, title, "ms", _WITHOUT_LIMIT, (Target(DIRECT, margin=margin),), decimals)


def _beside_limit(key: str, title: str, unit: str, *, decimals: int = 0, more_is_better: bool = False) -> Line:
    return Line(key, title, unit, _WITHOUT_DIRECT, (Target(BARE, factor=1),), decimals, more_is_better)


LINES: Sequence[Line] = (
    _asset("chunk", "script of 450 KB", "h1"),
    _asset("chunk", "script of 450 KB", "h2"),
    _asset("image", "image of 21 KB", "h1"),
    _asset("image", "image of 21 KB", "h2"),
    _delay("config", "`/api/config`, p50", decimals=2, margin=0.3),
    _delay("config-user", "`/api/config`, signed in, p50", decimals=2, margin=0.3),
    _delay("sse-first", "first token, SSE", decimals=1, margin=2),
    _delay("sse-token", "delay of a token, SSE, p50", decimals=2, margin=0.3),
    _delay("socket-first", "first token, Socket.IO", decimals=1, margin=2),
    _delay("socket-token", "delay of a token, Socket.IO, p50", decimals=2, margin=0.3),
    _beside_limit("websocket", "memory of an idle WebSocket", "KiB", decimals=1),
    _beside_limit("handshake", "new TLS handshakes", "handshakes/s", more_is_better=True),
    _beside_limit("handshake-cpu", "processor time of a TLS handshake", "µs"),
)
