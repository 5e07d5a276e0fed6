"""Measure, and write down what came of it: `python -m benchmarks`."""

import argparse
import fcntl
import signal
import sys
from pathlib import Path

from open_webui_edge.benchmarks import report, run
from open_webui_edge.benchmarks.results import Results

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
RESULTS = BUILD / "results.json"


def main() -> int:
    """Run what the command line asks for; what is drawn is written from the results, and can be written again."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measures the proxy beside others.")
    parser.add_argument("--quick", action="store_true", help="only see that everything works; docs stay as they are")
    parser.add_argument("--only", action="append", default=[], choices=list(run.PARTS), help="a part; docs stay")
    parser.add_argument("--report", action="store_true", help="write docs from the last whole run, measure nothing")
    asked = parser.parse_args()
    # `kill` ends the run as an interrupt does: with nothing left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    BUILD.mkdir(parents=True, exist_ok=True)
    whole = not asked.quick and not asked.only
    if asked.report:
        results = Results.read(RESULTS)
    else:
        with (BUILD / "lock").open("w", encoding="utf-8") as lock:
            # Two runs would measure each other.
            fcntl.flock(lock, fcntl.LOCK_EX)
            results = run.run(run.Plan.quick() if asked.quick else run.Plan(), asked.only)
        results.write(RESULTS if whole else BUILD / "partial.json")
    written = report.write(results, ROOT / "docs" if whole else BUILD)
    say = sys.stdout.write
    say(f"{report.summary(results)}\n{', '.join(str(file.relative_to(ROOT)) for file in written)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
