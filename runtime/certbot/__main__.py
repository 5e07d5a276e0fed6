"""Command line: runs the renewal loop, the health check or a dry run."""

import sys


def _run(command: str) -> int:
    # The health check runs every few seconds, so it imports as little as possible.
    if command == "health":
        from .health import check as run  # noqa: PLC0415
    elif command == "dry-run":
        from .dry_run import dry_run as run  # noqa: PLC0415
    else:
        from .renewal_loop import main as run  # noqa: PLC0415
    return run()


if __name__ == "__main__":
    sys.exit(_run("".join(sys.argv[1:])))
