"""Command line: runs the renewal loop, the health check or a dry run."""

import sys
from datetime import UTC, datetime

from . import state


def _run(command: str) -> int:
    # The health check runs every few seconds, so it imports as little as possible.
    if command == "health":
        document = state.read_status(state.TMP_COPY) or state.read_status()
        healthy, words = state.judge(document, datetime.now(UTC))
        print(words)  # noqa: T201 - its answer
        return 0 if healthy else 1
    if command == "dry-run":
        from .certbot import dry_run  # noqa: PLC0415

        return dry_run()
    from .renewal_loop import main  # noqa: PLC0415

    return main()


if __name__ == "__main__":
    sys.exit(_run("".join(sys.argv[1:])))
