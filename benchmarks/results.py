"""What a run measured: for each line of the table and each contender, one value a round."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass
class Results:
    """All values of a run, and the circumstances they were taken under."""

    circumstances: dict[str, Any] = field(default_factory=dict[str, Any])
    """Versions, machine, date, what was asked for."""
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict[str, dict[str, list[float]]])
    """Line -> contender -> a value a round."""

    def add(self, line: str, contender: str, value: float) -> None:
        """Keep the value of one round."""
        self.series.setdefault(line, {}).setdefault(contender, []).append(value)

    def of(self, line: str, contender: str) -> Sequence[float]:
        """Return the values of a contender, one a round; none where it was not measured."""
        return self.series.get(line, {}).get(contender, [])

    def median(self, line: str, contender: str) -> float | None:
        """Return the median of a contender's rounds."""
        values = self.of(line, contender)
        return statistics.median(values) if values else None

    def write(self, file: Path) -> None:
        """Write them as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        rounded = {
            line: {name: [round(value, 4) for value in values] for name, values in contenders.items()}
            for line, contenders in self.series.items()
        }
        text = json.dumps({"circumstances": self.circumstances, "series": rounded}, indent=1, sort_keys=True)
        file.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what `write` wrote."""
        content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return cls(dict(content["circumstances"]), dict(content["series"]))


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, middle, upper
